"""Work side by side, and what is let go when its run is stopped."""

import threading
import time

import pytest
from tests.engine.conftest import events_of
from tests.engine.test_cancel_run import start
from tests.engine.test_turns import check_journal
from tests.scripted import action

from fleet_rlm.errors import TreeStopped
from fleet_rlm.runtime.execution import events as ev
from fleet_rlm.runtime.execution.batch import Batch
from fleet_rlm.runtime.execution.budget import TreeBudget
from fleet_rlm.runtime.execution.stops import Stop
from fleet_rlm.runtime.factory import Workspace

CANCELLED = TreeStopped("cancelled")


def new_stop() -> Stop:
    return Stop(TreeBudget(ev.Limits()).stopped)


def test_results_come_in_order_and_no_more_work_at_once_than_allowed() -> None:
    at_work, most = threading.Semaphore(4), list[bool]()

    def work(item: int, _: object) -> int:
        most.append(at_work.acquire(blocking=False))
        time.sleep(0.001 * (item % 3))
        at_work.release()
        return item * item

    assert Batch(work, range(200), new_stop()).run(4) == [n * n for n in range(200)]
    assert all(most) and len(most) == 200


def test_the_first_error_in_order_is_raised_after_all_have_ended() -> None:
    ended: list[int] = []

    def work(item: int, _: object) -> None:
        time.sleep(0.02 * (4 - item))
        ended.append(item)
        if item in (1, 3):
            raise ValueError(f"item {item}")

    with pytest.raises(ValueError, match="item 1"):
        Batch(work, range(4), new_stop()).run(4)
    assert sorted(ended) == [0, 1, 2, 3]


def test_a_stop_lets_go_what_is_held_and_begins_nothing_more() -> None:
    stop, engine, begun = new_stop(), threading.Event(), threading.Semaphore(0)
    late: list[int] = []

    def work(item: int, let_go: object) -> None:
        assert callable(let_go)
        stop.watch(let_go)
        begun.release()
        assert engine.wait(30)
        assert not stop.unwatch(let_go)
        late.append(item)

    def cancel() -> None:
        for _ in range(3):
            begun.acquire()
        stop.set(CANCELLED)

    threading.Thread(target=cancel, daemon=True).start()
    began = time.monotonic()
    with pytest.raises(TreeStopped):
        Batch(work, range(100), stop).run(3)
    assert time.monotonic() - began < 10 and not late
    engine.set()
    deadline = time.monotonic() + 10
    while len(late) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert sorted(late) == [0, 1, 2], "no thread of it begins another item"


def test_a_batch_that_begins_when_its_run_is_stopped_does_nothing() -> None:
    stop, done = new_stop(), list[int]()
    stop.set(CANCELLED)
    with pytest.raises(TreeStopped):
        Batch(lambda item, _: done.append(item), range(10), stop).run(4)
    assert not done


def test_who_watches_a_stop_is_told_once_or_takes_it_back() -> None:
    """Whatever comes first: no watcher is told after it was taken back, and none is forgotten."""
    for _ in range(300):
        stop, told = new_stop(), threading.Semaphore(0)
        watch = told.release
        stop.watch(watch)
        setter = threading.Thread(target=stop.set, args=(CANCELLED,))
        setter.start()
        mine = stop.unwatch(watch)
        setter.join()
        assert told.acquire(blocking=False) is not mine and not told.acquire(blocking=False)
    late = threading.Event()
    stop.watch(late.set)
    assert late.is_set() and not stop.unwatch(late.set)


def test_who_is_told_of_a_stop_hears_of_it_before_who_waits() -> None:
    above = new_stop()
    stop, order = Stop(above), list[str]()
    stop.watch(lambda: order.append("child" if not stop.done else "late"))
    above.watch(lambda: order.append("parent" if stop.done and not above.done else "late"))
    above.set(CANCELLED)
    assert order == ["child", "parent"]


BATCH = "got = llm_query_batched(['item %d' % n for n in range(100)])\nSUBMIT(answer=str(got))"
ONE = "got = llm_query('one')\nSUBMIT(answer=str(got))"
LOOP = "got = [llm_query('item %d' % n) for n in range(100)]\nSUBMIT(answer=str(got))"


@pytest.mark.parametrize(("code", "least", "most"), [(BATCH, 60, 64), (ONE, 1, 1), (LOOP, 2, 2)])
def test_a_cancel_does_not_wait_for_an_engine_that_holds_its_threads(
    workspace: Workspace, code: str, least: int, most: int
) -> None:
    """Each call has its end before the run has; what the engine brings later changes nothing."""
    answer, asked = threading.Event(), threading.Semaphore(0)

    def sub(_prompt: str) -> str:
        asked.release()
        assert answer.wait(60)
        return "too late"

    turn = start(workspace, lambda _: action(code), sub)
    for _ in range(least):
        assert asked.acquire(timeout=60)
    began = time.monotonic()
    workspace.cancel(turn.turn)
    assert workspace.wait(turn.turn, 30).status == "cancelled"
    assert time.monotonic() - began < 10
    events = events_of(workspace, turn.session)
    check_journal(events)
    calls = [e.data.status for e in events if isinstance(e.data, ev.CallFinished)]
    assert set(calls[1:]) == {"cancelled"} and least <= len(calls) - 1 <= most
    spent = next(e.data.usage for e in reversed(events) if isinstance(e.data, ev.TurnFinished))
    assert spent.calls == len(calls), "what was sent is spent"
    answer.set()
    time.sleep(0.3)
    assert events_of(workspace, turn.session) == events
    again = start(workspace, lambda _: action("SUBMIT(answer=str(len(llm_query_batched(['a', 'b', 'c']))))"), str)
    assert workspace.wait(again.turn, 60).answer == "3"
