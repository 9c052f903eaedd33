"""The engine on the real local sandbox server: one workspace for the whole run of these tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet_rlm.runtime.config import load_settings
from fleet_rlm.runtime.execution.events import Event
from fleet_rlm.runtime.factory import Workspace, open_workspace


@pytest.fixture(scope="session")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    home: Path = tmp_path_factory.mktemp("fleet-home")
    with open_workspace(load_settings(home=home, environ={})) as opened:
        yield opened


def events_of(workspace: Workspace, session: str) -> list[Event]:
    """All events of a session, in order."""
    workspace.journal.flush()
    return workspace.journal.read(session, 0, 100_000)
