"""The tree's budget: no interleaving exceeds a limit, none leaks a reservation."""

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor, wait

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet_rlm.errors import TreeStopped
from fleet_rlm.runtime.execution.budget import Cost, Lease, LimitReached, TreeBudget
from fleet_rlm.runtime.execution.events import Limits
from fleet_rlm.runtime.execution.leases import Reservation
from fleet_rlm.runtime.execution.spending import Share
from fleet_rlm.runtime.execution.stops import Stop


def work(lease: Lease, wants: int, made: list[int]) -> str:
    """A run that makes `wants` calls and then its final one when it is cut short."""
    try:
        for _ in range(wants):
            reservation = lease.reserve(tokens=10)
            made.append(1)
            reservation.settle(Cost(prompt_tokens=3, completion_tokens=2, micro_usd=5))
        return "ok"
    except TreeStopped:
        try:
            lease.reserve(tokens=10, final=True).settle(Cost(prompt_tokens=3, completion_tokens=2, micro_usd=5))
            made.append(1)
        except TreeStopped:
            return "nothing"
        return "partial"
    finally:
        lease.close()


@given(limit=st.integers(1, 60), children=st.integers(1, 40), wants=st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_calls_never_exceed_the_limit_under_threads(limit: int, children: int, wants: int) -> None:
    tree = TreeBudget(Limits(calls=limit))
    root = tree.root()
    made: list[int] = []
    outcomes: list[str] = []

    def child() -> None:
        try:
            outcomes.append(work(root.child(), wants, made))
        except LimitReached:
            outcomes.append("refused")

    threads = [threading.Thread(target=child) for _ in range(children)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    root.reserve(final=True).settle(Cost(micro_usd=1))  # the root always has its last word
    root.close()
    state = tree.snapshot()
    assert state.spent.calls == len(made) + 1 <= limit
    assert state.reserved_calls == 0 and state.held_calls == 0
    assert "nothing" not in outcomes
    if limit >= children * (wants + 1) + 1:
        assert outcomes == ["ok"] * children


@given(limit=st.integers(1, 500), sizes=st.lists(st.integers(1, 60), min_size=1, max_size=30))
@settings(max_examples=100, deadline=None)
def test_tokens_are_reserved_before_and_refunded_after(limit: int, sizes: list[int]) -> None:
    tree = TreeBudget(Limits(tokens=limit))
    lease = tree.root()
    used = 0
    for size in sizes:
        try:
            reservation = lease.reserve(tokens=size)
        except TreeStopped as stop:
            assert stop.limit == "tokens" and used + size > limit
            continue
        if size % 3 == 0:
            reservation.refund()
        else:
            reservation.settle(Cost(prompt_tokens=size))
            used += size
    assert tree.usage().prompt_tokens == used <= limit
    assert tree.snapshot().left_tokens == limit - used


LARGE, SMALL = {"tokens": 80, "micro_usd": 800_000}, {"tokens": 30, "micro_usd": 300_000}
"""Not both at once, one after the other they may fit."""
TIGHT = pytest.mark.parametrize("limits", [Limits(tokens=100), Limits(cost_usd=1.0)], ids=["tokens", "cost"])


@TIGHT
@pytest.mark.parametrize("whose", ["tree", "share"])
def test_what_is_only_promised_is_waited_for(limits: Limits, whose: str) -> None:
    if whose == "tree":
        lease = TreeBudget(limits).root()
    else:
        lease = TreeBudget(Limits()).root().child(Share(tokens=limits.tokens, cost_usd=limits.cost_usd))
    with ThreadPoolExecutor(1) as pool:
        first = lease.reserve(**LARGE)
        second = pool.submit(lease.reserve, **SMALL)
        assert not wait([second], 0.1).done, "it may fit yet"
        first.settle(Cost(prompt_tokens=10, micro_usd=100_000))
        second.result(10).settle(Cost(prompt_tokens=10, micro_usd=100_000))
    assert lease.tree.exhausted is None and lease.usage().calls == 2


@TIGHT
def test_what_is_spent_after_all_is_the_limit(limits: Limits) -> None:
    tree = TreeBudget(limits)
    lease = tree.root()
    with ThreadPoolExecutor(1) as pool:
        first = lease.reserve(**LARGE)
        second = pool.submit(lease.reserve, **SMALL)
        assert not wait([second], 0.1).done
        first.settle(Cost(prompt_tokens=80, micro_usd=800_000))
        with pytest.raises(TreeStopped):
            second.result(10)
    assert tree.exhausted in ("tokens", "cost")


@TIGHT
def test_what_can_never_fit_waits_for_nothing(limits: Limits) -> None:
    lease = TreeBudget(limits).root()
    lease.reserve(**SMALL).settle(Cost(prompt_tokens=30, micro_usd=300_000))
    lease.reserve(**SMALL)
    with pytest.raises(TreeStopped):
        lease.reserve(**LARGE)


@pytest.mark.parametrize("end", ["run", "tree", "time"])
def test_who_waits_for_what_is_promised_ends_with_its_run(end: str) -> None:
    tree = TreeBudget(Limits(tokens=100, wall_s=1.0 if end == "time" else None))
    lease, stop = tree.root(), Future[TreeStopped]()
    lease.reserve(**LARGE)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(lease.reserve, **SMALL, stop=stop)
        assert not wait([waiting], 0.1).done
        if end == "run":
            stop.set_result(TreeStopped("cancelled"))
        elif end == "tree":
            tree.stop(TreeStopped("cancelled"))
        with pytest.raises(TreeStopped) as ended:
            waiting.result(10)
    assert (ended.value.reason, ended.value.limit) == (("limit", "wall") if end == "time" else ("cancelled", None))


def test_two_that_need_several_at_once_do_not_wait_for_each_other() -> None:
    """A request with n answers holds the first while it takes the second, so it is refused as before."""
    lease = TreeBudget(Limits(tokens=100)).root()
    lease.reserve(tokens=40)
    lease.reserve(tokens=40)
    with pytest.raises(TreeStopped):
        lease.reserve(tokens=40, with_it=1)


def test_a_cost_limit_stops_parallel_calls_at_the_last_that_fits() -> None:
    tree = TreeBudget(Limits(cost_usd=1.0))
    lease = tree.root()
    made: list[int] = []

    def call() -> None:
        try:
            reservation = lease.reserve()
        except TreeStopped:
            return
        time.sleep(0.01)
        made.append(1)
        reservation.settle(Cost(micro_usd=300_000))

    threads = [threading.Thread(target=call) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 3
    assert tree.exhausted == "cost"


def test_an_unknown_price_is_unknown_and_not_zero() -> None:
    tree = TreeBudget(Limits())
    lease = tree.root()
    lease.reserve().settle(Cost(micro_usd=10))
    assert tree.usage().cost_usd == pytest.approx(10e-6)
    lease.reserve().settle(Cost(micro_usd=None))
    assert tree.usage().cost_usd is None


def test_depth_children_and_time_refuse_a_child() -> None:
    tree = TreeBudget(Limits(depth=2, children=1))
    child = tree.root().child()
    with pytest.raises(LimitReached) as refused:
        child.child()
    assert refused.value.unit == "depth"
    with pytest.raises(LimitReached) as refused:
        tree.root().child()
    assert refused.value.unit == "children"


def test_the_agent_is_no_level_of_the_recursion() -> None:
    tree = TreeBudget(Limits(depth=2), root_is_agent=True)
    tree.root().child().child()  # agent -> RLM -> RLM
    with pytest.raises(LimitReached):
        tree.root().child().child().child()


def test_the_deadline_stops_the_tree_and_keeps_seconds_for_the_last_word() -> None:
    now = [0.0]
    tree = TreeBudget(Limits(wall_s=10.0), clock=lambda: now[0])
    lease = tree.root()
    now[0] = 9.5
    with pytest.raises(TreeStopped) as stop:
        lease.reserve()
    assert stop.value.limit == "wall"
    lease.reserve(final=True).settle(Cost())


def test_the_hard_deadline_ends_waiting_runs() -> None:
    tree = TreeBudget(Limits(wall_s=0.05))
    tree.start_clock()
    assert tree.stopped.result(timeout=5).limit == "wall"
    with pytest.raises(TreeStopped):
        tree.root().reserve(final=True)


@pytest.mark.parametrize("wall_s", [1e10, 9.9e11])
def test_a_time_limit_beyond_what_a_timer_can_wait(wall_s: float) -> None:
    """The clock, and who waits for room, wait a part of it; a lower limit still ends the tree."""
    tree = TreeBudget(Limits(tokens=100, wall_s=wall_s))
    before = set(threading.enumerate())
    tree.start_clock()
    (timer,) = set(threading.enumerate()) - before
    lease = tree.root()
    lease.reserve(**LARGE)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(lease.reserve, **SMALL)
        assert not wait([waiting], 0.2).done and timer.is_alive()
        tree.set_limits(Limits(tokens=100, wall_s=3.0))
        with pytest.raises(TreeStopped) as ended:
            waiting.result(10)
    assert ended.value.limit == "wall" and tree.stopped.result(timeout=5).limit == "wall"


def test_a_race_with_more_patience_than_there_is() -> None:
    first: Future[None] = Future()
    with ThreadPoolExecutor(1) as pool:
        racing = pool.submit(Stop(Future[TreeStopped]()).race, first, 9.9e11)
        assert not wait([racing], 0.2).done
        first.set_result(None)
        assert racing.result(10)


def test_cancel_wins_over_everything_that_comes_later() -> None:
    tree = TreeBudget(Limits(calls=1))
    lease = tree.root()
    tree.stop(TreeStopped("cancelled"))
    for final in (False, True):
        with pytest.raises(TreeStopped) as stop:
            lease.reserve(final=final)
        assert stop.value.reason == "cancelled"


def test_warnings_and_exhaustion_are_told_once() -> None:
    told: list[object] = []
    tree = TreeBudget(
        Limits(calls=10), on_warn=lambda unit, at: told.append((unit, at)), on_exhausted=lambda unit: told.append(unit)
    )
    lease = tree.root()
    for _ in range(9):
        lease.reserve().settle(Cost())
    for _ in range(3):
        with pytest.raises(TreeStopped):
            lease.reserve()
    assert told == [("calls", 0.7), ("calls", 0.9), "calls"]


def test_usage_of_a_run_rolls_up_its_children() -> None:
    tree = TreeBudget(Limits(depth=3))
    root = tree.root()
    child = root.child()
    for lease, tokens in ((root, 1), (child, 10), (child.child(), 100)):
        lease.reserve().settle(Cost(prompt_tokens=tokens, micro_usd=0))
    assert (root.usage().prompt_tokens, child.usage().prompt_tokens) == (111, 110)
    assert root.usage().calls == 3


@pytest.mark.parametrize("limits", [Limits(calls=2), Limits(tokens=100), Limits(cost_usd=0.5), Limits(wall_s=10.0)])
def test_a_limit_that_a_call_ahead_meets_is_not_met(limits: Limits) -> None:
    """It is refused at once: nothing is waited for, nobody is asked, no limit is noted."""
    now, asked = [0.0], list[str]()
    tree = TreeBudget(limits, clock=lambda: now[0])
    tree.on_limit = lambda unit, _: bool(asked.append(unit))
    lease = tree.root()
    promised = lease.reserve(tokens=80)
    now[0] = 9.5
    with pytest.raises(TreeStopped):
        lease.reserve(tokens=30, ahead=True)
    assert not asked and tree.exhausted is None
    promised.settle(Cost(prompt_tokens=80, micro_usd=400_000))
    with pytest.raises(TreeStopped):
        lease.reserve(tokens=30)
    assert len(asked) == 1 and tree.exhausted == asked[0]


def test_near_a_limit_fewer_are_asked_ahead() -> None:
    lease = TreeBudget(Limits(calls=10)).root()

    def begin() -> list[Reservation]:
        begun: list[Reservation] = []
        with pytest.raises(TreeStopped):
            while True:
                begun.append(lease.reserve(ahead=True))
        return begun

    first = begin()
    assert len(first) == 3, "of nine, one is held back"
    for each in first[:2]:
        each.settle(Cost())
    first[2].refund()
    assert len(begin()) == 2
    assert len([lease.reserve() for _ in range(5)]) == 5, "the loop itself may have the last"


def test_the_one_call_of_a_turn_that_has_no_more_is_made() -> None:
    tree = TreeBudget(Limits(calls=1))
    root = tree.root()
    root.reserve(tokens=10).settle(Cost())
    with pytest.raises(TreeStopped):
        root.reserve(tokens=10)
    with pytest.raises(TreeStopped):
        root.reserve(tokens=10, final=True)
    root.close()
    assert (tree.snapshot().spent.calls, tree.snapshot().held_calls) == (1, 0)


def test_of_the_one_call_that_earlier_turns_left_the_last_word_is_made() -> None:
    tree = TreeBudget(Limits(calls=3))
    tree.carry([Cost(), Cost()])
    root = tree.root()
    with pytest.raises(TreeStopped):
        root.reserve(tokens=10)
    root.reserve(tokens=10, final=True).settle(Cost())
    root.close()
    assert tree.snapshot().spent.calls == 3
