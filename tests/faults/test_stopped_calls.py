"""Calls that nobody waits for any more are closed, not only abandoned."""

from __future__ import annotations

import threading
import time

from tests.scripted import action

from faults.broken_model import BrokenModel, Reply, hangs, says
from fleet_rlm.runtime.execution import events as ev


def finished_calls(events: list[ev.Event]) -> list[str]:
    return [event.data.status for event in events if isinstance(event.data, ev.CallFinished)]


def test_a_time_limit_ends_a_call_that_hangs(ask) -> None:
    began = time.monotonic()
    with BrokenModel(lambda number, prompt: hangs) as model:
        result, events = ask(model, mode="auto", limits=ev.Limits(wall_s=1.0))
        assert model.gone.wait(30), "the connection of a call that nobody waits for is closed"
    assert (result.status, result.limit) == ("limit", "wall") and time.monotonic() - began < 60
    assert finished_calls(events) == ["cancelled"]


def test_a_cancel_ends_calls_that_hang(workspace, ask) -> None:
    asked = threading.Event()

    def script(number: int, prompt: str) -> Reply:
        if number == 0:
            return says(action("llm_query_batched(['a', 'b', 'c'])"))
        asked.set()
        return hangs

    with BrokenModel(script) as model:
        session = workspace.sessions.create("to be cancelled").sid

        def cancel() -> None:
            asked.wait(60)
            workspace.cancel(workspace.active_turn(session))

        threading.Thread(target=cancel, daemon=True).start()
        result, events = ask(model, mode="rlm", session=session)
        assert result.status == "cancelled"
        deadline = time.monotonic() + 30
        while model.in_flight and time.monotonic() < deadline:
            time.sleep(0.05)
        assert model.in_flight == 0, "requests of a cancelled turn are closed"
    assert set(finished_calls(events)) == {"ok", "cancelled"}
