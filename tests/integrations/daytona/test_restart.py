"""After a loss: a new sandbox, what was lost is told, nothing is run twice."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from dspy.primitives.code_interpreter import CodeExecutionError, CodeInterpreterError

from fleet_rlm.errors import SandboxLost
from fleet_rlm.integrations.daytona.binding import ContextValue
from fleet_rlm.integrations.daytona.interpreter import DaytonaInterpreter
from integrations.daytona.contexts import folder_of, store_text
from integrations.daytona.local_pty import LocalPtySource, kill_session

Make = Callable[..., DaytonaInterpreter]


class Teller:
    """A listener that remembers what happened to sandboxes."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def sandbox_requested(self, id: str, provider: str) -> None:
        self.told.append("requested")

    def sandbox_ready(self, *_: Any) -> None:
        self.told.append("ready")

    def sandbox_lost(self, id: str, reason: str) -> None:
        self.told.append("lost")

    def sandbox_released(self, id: str) -> None:
        self.told.append("released")

    def __getattr__(self, name: str) -> Any:
        if name == "tool_scope":
            from contextlib import nullcontext

            return lambda *_: nullcontext()
        if name.startswith("cell_"):
            return lambda *_: None
        raise AttributeError(name)


def lose(source: LocalPtySource) -> None:
    kill_session(source.terminals[-1].process.pid)


def test_restart_tells_what_was_lost(make: Make, pty_source: LocalPtySource) -> None:
    teller = Teller()
    it = make(listener=teller)
    calls: list[int] = []
    it.tools.update(cut=lambda: lose(pty_source), count=lambda: calls.append(1))
    it.execute("x = 1\ndef f(): return 2\n_hidden = 3", {"question": "q"})
    with pytest.raises(CodeInterpreterError) as caught:
        it.execute("y = 5\ncount()\ncut()\nimport time; time.sleep(60)")
    assert isinstance(caught.value.__cause__, SandboxLost)
    again = it.restart()
    assert (again.lost, again.epoch) == (("x", "f"), 2) and "terminal" in again.reason
    assert "These variables are gone: x, f." in str(again)
    assert it.execute("print(question, 'x' in globals())", {"question": "q"}) == "q False"
    it.execute("count()")
    assert calls == [1, 1]
    assert teller.told == ["requested", "ready", "lost", "released", "requested", "ready"]


class SlowTeller(Teller):
    """It takes a while to hear of a loss."""

    def __init__(self) -> None:
        super().__init__()
        self.hears = threading.Event()

    def sandbox_lost(self, id: str, reason: str) -> None:
        self.hears.set()
        time.sleep(0.3)
        super().sandbox_lost(id, reason)


@pytest.mark.parametrize("restarts", [0, 1])
def test_a_loss_is_told_before_anybody_meets_it(make: Make, pty_source: LocalPtySource, restarts: int) -> None:
    """Who then ends a run, or starts anew, tells of it after the loss."""
    teller = SlowTeller()
    it = make(listener=teller, restarts=restarts)
    it.execute("x = 1")
    lose(pty_source)
    assert teller.hears.wait(30)
    with pytest.raises(CodeExecutionError if restarts else CodeInterpreterError):
        it.execute("x")
    assert teller.told[:3] == ["requested", "ready", "lost"]
    it.shutdown()
    assert teller.told == ["requested", "ready", "lost", "released", *(["requested", "ready", "released"] * restarts)]


class Unlucky(DaytonaInterpreter):
    """Its first sandbox goes away at the very end of its start."""

    starts = 0

    async def _start(self, source: Any, session: Any) -> None:
        await super()._start(source, session)
        self.starts += 1
        if self.starts == 1:
            lose(source)
            while self._ended is None:
                await asyncio.sleep(0.001)


def test_a_sandbox_that_is_lost_as_soon_as_it_is_there_is_replaced(pty_source: LocalPtySource) -> None:
    teller = Teller()
    with Unlucky(runtime=pty_source, listener=teller, restarts=1) as it:
        assert it.execute("print(1 + 1)") == "2"
    assert teller.told == ["requested", "lost", "released", "requested", "ready", "released"]


def test_without_a_restart_of_its_own_the_caller_may_start_it_anew(pty_source: LocalPtySource) -> None:
    teller = Teller()
    it = Unlucky(runtime=pty_source, listener=teller)
    with pytest.raises(CodeInterpreterError):
        it.start()
    assert it.restart().lost == ()
    assert it.execute("print(1 + 1)") == "2"
    it.shutdown()
    assert teller.told == ["requested", "lost", "released", "requested", "ready", "released"]


class Ended(DaytonaInterpreter):
    """It is told to end while its sandbox is made."""

    async def _start(self, source: Any, session: Any) -> None:
        self.kill()
        await super()._start(source, session)


def test_who_is_told_to_end_while_its_sandbox_is_made_waits_for_no_python(pty_source: LocalPtySource) -> None:
    teller, before = Teller(), len(pty_source.terminals)
    it = Ended(runtime=pty_source, listener=teller)
    with pytest.raises(CodeInterpreterError, match="killed by the host"):
        it.start()
    assert len(pty_source.terminals) == before
    assert teller.told == ["requested", "released"]


def test_there_is_no_restart_without_a_loss(make: Make) -> None:
    it = make()
    it.execute("1")
    with pytest.raises(CodeInterpreterError, match="nothing was lost"):
        it.restart()
    it.kill()
    with pytest.raises(CodeInterpreterError, match="killed by the host"):
        it.restart()


def test_a_loss_in_a_cell_is_told_to_the_guest_once(make: Make, pty_source: LocalPtySource) -> None:
    it = make(restarts=1)
    it.tools["cut"] = lambda: lose(pty_source)
    it.execute("kept = [1]")
    with pytest.raises(CodeExecutionError, match="variables are gone: kept"):
        it.execute("cut()\nimport time; time.sleep(60)")
    assert it.execute("print('kept' in globals())") == "False"
    with pytest.raises(CodeInterpreterError) as caught:
        it.execute("cut()\nimport time; time.sleep(60)")
    assert not isinstance(caught.value, CodeExecutionError)


def test_a_loss_between_cells_runs_nothing(make: Make, pty_source: LocalPtySource) -> None:
    it = make(restarts=1)
    it.execute("x = 1")
    teller = it._session
    lose(pty_source)
    while teller is not None and teller._gone is None:
        os.sched_yield()
    ran: list[int] = []
    it.tools["ran"] = lambda: ran.append(1)
    with pytest.raises(CodeExecutionError, match="gone: x"):
        it.execute("ran()")
    assert ran == []
    it.execute("ran()")
    assert ran == [1]


def test_bound_contexts_are_there_again(make: Make, tmp_path: Path) -> None:
    sha = store_text(tmp_path, "t", "a context's text")
    source = LocalPtySource(folder_of(tmp_path, sha))
    try:
        it, value = make(runtime=source), ContextValue({"$context": sha}, "")
        it.tools["cut"] = lambda: lose(source)
        it.execute(value.sandbox_assignment("context", "_raw_context"), {"_raw_context": value.to_sandbox().decode()})
        with pytest.raises(CodeInterpreterError):
            it.execute("cut()\nimport time; time.sleep(60)")
        it.restart()
        assert it.execute("print(context)") == "a context's text"
    finally:
        source.close()
