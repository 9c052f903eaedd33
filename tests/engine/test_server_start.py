"""The first turn of a process meets a sandbox server that still starts."""

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.engine.conftest import events_of
from tests.engine.test_turns import FREE, ask, check_journal
from tests.scripted import action, scripted

from fleet_rlm.runtime.config import load_settings
from fleet_rlm.runtime.execution.requests import TurnRequest
from fleet_rlm.runtime.factory import open_workspace

WAITS = """
import os, sys, time
if "fleet_rlm.sandboxd" in sys.orig_argv:
    while not os.path.exists({gate!r}):
        time.sleep(0.02)
"""


@pytest.fixture
def gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A file; a server that is started waits at its very beginning until it is there."""
    gate = tmp_path / "gate"
    (tmp_path / "sitecustomize.py").write_text(WAITS.format(gate=str(gate)))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    yield gate
    gate.touch()


def test_a_turn_is_cancelled_while_the_server_starts_and_the_next_one_uses_it(
    tmp_path_factory: pytest.TempPathFactory, gate: Path
) -> None:
    lm = scripted(lambda _: action("SUBMIT(answer='x')"))
    with open_workspace(load_settings(home=tmp_path_factory.mktemp("home"), environ={})) as workspace:
        opens = threading.Timer(20, gate.touch)  # so that a run which waits for the server fails this, and ends
        opens.start()
        turn = workspace.submit(TurnRequest(question="go", mode="rlm", model=lm, limits=FREE))
        deadline = time.monotonic() + 10
        while "run.started" not in [e.type for e in events_of(workspace, turn.session)]:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        workspace.cancel(turn.turn)
        result = workspace.wait(turn.turn, timeout=60)
        assert not gate.exists(), "it waited for the server"
        opens.cancel()
        assert (result.status, len(lm.engine.prompts)) == ("cancelled", 0)
        check_journal(events_of(workspace, turn.session))
        gate.touch()
        assert ask(workspace, mode="rlm", model=lm).answer == "x"
