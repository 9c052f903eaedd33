"""One workspace on real sandboxes for all faults; each test points it at a model server of its own."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from faults.broken_model import BrokenModel
from fleet_rlm.runtime.config import load_settings
from fleet_rlm.runtime.execution import events as ev
from fleet_rlm.runtime.execution.requests import TurnRequest, TurnResult
from fleet_rlm.runtime.factory import Workspace, open_workspace
from fleet_rlm.runtime.models.prices import Price

PATIENCE_S = 100.0


@pytest.fixture(scope="session")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    home: Path = tmp_path_factory.mktemp("faults-home")
    with open_workspace(load_settings(home=home, environ={})) as opened:
        yield opened


@pytest.fixture
def ask(workspace: Workspace) -> Callable[..., tuple[TurnResult, list[ev.Event]]]:
    """Ask a broken model; gives the result and the whole journal, which is checked by its rules. `price`: its own."""

    def go(
        broken: BrokenModel | None, question: str = "what?", /, *, price: Price | None = None, **options: Any
    ) -> tuple[TurnResult, list[ev.Event]]:
        if broken is not None:
            given = {"model": "openai/tiny", "api_base": broken.address}
            settings = load_settings(home=workspace.settings.home, environ={}, overrides=given)
            workspace.configure(replace(settings, prices={"openai/tiny": price} if price else {}))
        submitted = workspace.submit(TurnRequest(question=question, **{"limits": ev.Limits(calls=50), **options}))
        result = workspace.wait(submitted.turn, timeout=PATIENCE_S)
        workspace.journal.flush()
        events = workspace.journal.read(submitted.session, 0, 100_000)
        check_orderly(events)
        assert nothing_left(workspace, submitted.turn)
        return result, events

    return go


def check_orderly(events: list[ev.Event]) -> None:
    """No gaps, every start has its end, no run outlives its parent, and the turn's end is the last word of it."""
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    balance: Counter[tuple[str, str]] = Counter()
    running: dict[str, str | None] = {}
    for event in events:
        kind, _, step = event.type.rpartition(".")
        name = event.run if kind == "run" else event.turn if kind == "turn" else getattr(event.data, "id", None)
        if step in ("started", "requested"):
            balance[kind, name or ""] += 1
        elif step in ("finished", "released", "resolved"):  # a lost sandbox is released as well
            balance[kind, name or ""] -= 1
        if event.type == "run.started":
            assert event.parent is None or event.parent in running
            running[event.run or ""] = event.parent
        elif event.type == "run.finished":
            del running[event.run or ""]
            assert event.run not in running.values()
    # Whose process died is only lost: nobody was there to release it.
    lost = {("sandbox", event.data.id) for event in events if isinstance(event.data, ev.SandboxLost)}
    assert not {key for key, count in balance.items() if count != 0 and not (key in lost and count == 1)}
    assert events[-1].type == "turn.finished"


def nothing_left(workspace: Workspace, turn: str, patience_s: float = 10.0) -> bool:
    """Whether no sandbox of the turn is there any more, at the latest after `patience_s`."""
    deadline = time.monotonic() + patience_s
    while workspace.sandboxes.list({"fleet.turn": turn}):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
