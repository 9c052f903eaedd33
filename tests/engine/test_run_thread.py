"""A run ends at once also while the engine that drives it holds its thread, and what that brings later goes nowhere."""

from __future__ import annotations

import contextvars
import random
import threading
import time
from concurrent.futures import Future

import pytest
from tests.engine.conftest import events_of
from tests.engine.test_cancel_run import DONE_S, gone, run_of, statuses, stop
from tests.engine.test_turns import FREE, check_journal, task_of
from tests.scripted import action, scripted

from fleet_rlm.errors import TreeStopped
from fleet_rlm.runtime.execution import events as ev
from fleet_rlm.runtime.execution.requests import TurnRequest
from fleet_rlm.runtime.execution.run_thread import RunThread, leaving
from fleet_rlm.runtime.execution.stops import Stop
from fleet_rlm.runtime.factory import Workspace

CANCELLED = TreeStopped("cancelled")
number: contextvars.ContextVar[int] = contextvars.ContextVar("number")


def new_stop() -> Stop:
    above: Future[TreeStopped] = Future()
    return Stop(above)


def test_it_returns_and_raises_what_its_work_does_in_the_context_of_who_waits() -> None:
    number.set(7)
    assert RunThread[int](new_stop()).run(number.get) == 7
    with pytest.raises(ZeroDivisionError):
        RunThread[float](new_stop()).run(lambda: 1 / 0)
    with pytest.raises(TreeStopped) as raised:
        RunThread[None](new_stop()).run(lambda: (_ for _ in ()).throw(TreeStopped("limit", "calls")))
    assert raised.value.limit == "calls"


def test_only_the_thread_of_that_very_run_can_be_left() -> None:
    mine, other = new_stop(), new_stop()
    assert leaving(mine) is None

    def work() -> tuple[bool, bool, bool]:
        below: list[bool] = []
        helper = threading.Thread(target=lambda: below.append(leaving(mine) is not None))
        helper.start()
        helper.join()
        return leaving(mine) is not None, leaving(other) is not None, below[0]

    assert RunThread[tuple[bool, bool, bool]](mine).run(work) == (True, False, False)
    assert leaving(mine) is None


def test_an_engine_and_a_stop_at_any_moment_make_one_end() -> None:
    """As `Sender._here` uses it: who is left waits for the stop; who is not, has its answer or the stop's error."""
    ends = {"answered": 0, "left": 0, "stopped": 0}
    for _ in range(400):
        run_stop, begun = new_stop(), threading.Event()
        thread = RunThread[str](run_stop)

        def work(run_stop: Stop = run_stop, begun: threading.Event = begun) -> str:
            leave = leaving(run_stop)
            assert leave is not None
            run_stop.watch(leave)
            begun.set()
            time.sleep(random.uniform(0, 0.0004))  # noqa: S311 - a moment, not a secret
            if not run_stop.unwatch(leave):
                run_stop.future.result()
            run_stop.check()
            return "answer"

        def set_it(run_stop: Stop = run_stop, begun: threading.Event = begun) -> None:
            begun.wait()
            time.sleep(random.uniform(0, 0.0004))  # noqa: S311
            run_stop.set(CANCELLED)

        setter = threading.Thread(target=set_it)
        setter.start()
        try:
            assert thread.run(work) == "answer" and not thread.left
            ends["answered"] += 1
        except TreeStopped:
            assert run_stop.done, "who waits for the run may rely on its stop"
            ends["left" if thread.left else "stopped"] += 1
        setter.join()
    assert ends["left"] > 0 and sum(ends.values()) == 400, ends


STEP = action("answer = 'half way'")


@pytest.mark.parametrize("step", [0, 1], ids=["first step", "second step"])
@pytest.mark.parametrize("what", ["run", "turn", "wall"])
def test_a_stop_does_not_wait_for_the_engine_that_drives_a_run(workspace: Workspace, step: int, what: str) -> None:
    answer, asked = threading.Event(), threading.Event()
    steps = iter(range(9))

    def reply(prompt: str) -> str:
        if task_of(prompt) == "go":
            return action("got = rlm_query('the child', context='x')\nSUBMIT(answer=f'{bool(got)} {got.error}')")
        if next(steps) < step:
            return STEP
        asked.set()
        assert answer.wait(60)
        return STEP

    limits = FREE if what != "wall" else ev.Limits(wall_s=3.0, calls=100)
    turn = workspace.submit(TurnRequest(question="go", mode="rlm", model=scripted(reply), limits=limits))
    child = run_of(workspace, turn.session, "the child")
    assert asked.wait(60)
    began = time.monotonic()
    if what == "run":
        assert stop(workspace, turn.turn, child.run) < DONE_S
    elif what == "turn":
        workspace.cancel(turn.turn)
    result = workspace.wait(turn.turn, 30)
    assert time.monotonic() - began < DONE_S + 3
    expected = {"run": ("ok", None), "turn": ("cancelled", None), "wall": ("limit", "wall")}[what]
    assert (result.status, result.limit) == expected
    events = events_of(workspace, turn.session)
    check_journal(events)
    assert statuses(events)["the child"] == ("limit" if what == "wall" else "cancelled")
    of_child = [event for event in events if event.run == child.run]
    assert of_child[-1].type == "run.finished"
    kinds = [event.type for event in of_child]
    assert kinds.count("iteration.started") == kinds.count("iteration.finished") == step + 1
    assert kinds.count("sandbox.released") == kinds.count("sandbox.requested") == 1
    finished = of_child[-1].data
    assert isinstance(finished, ev.RunFinished) and (finished.output is not None) is (step == 1)
    assert gone(workspace, child.run)
    answer.set()
    time.sleep(0.3)
    assert events_of(workspace, turn.session) == events, "what the engine brings later is heard by nobody"
