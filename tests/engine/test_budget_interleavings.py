"""The budget under real threads and random interleavings: no limit exceeded by one unit, nothing leaked."""

import random
import threading
from collections.abc import Generator
from contextlib import contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet_rlm.errors import InvalidInput, TreeStopped
from fleet_rlm.runtime.execution.budget import Cost, Lease, LimitReached, TreeBudget
from fleet_rlm.runtime.execution.events import Limits
from fleet_rlm.runtime.execution.leases import Reservation, Size
from fleet_rlm.runtime.execution.spending import Share

PRICE = 7
"""Micro-dollars a call; its tokens are at most SIZE."""
SIZE = 10

limits_ = st.builds(
    Limits,
    calls=st.one_of(st.none(), st.integers(1, 40)),
    tokens=st.one_of(st.none(), st.integers(1, 400)),
    cost_usd=st.one_of(st.none(), st.integers(1, 300).map(lambda micro: micro / 1e6)),
    children=st.one_of(st.none(), st.integers(1, 20)),
    depth=st.just(4),
)
shares = st.one_of(
    st.none(),
    st.builds(
        Share,
        calls=st.one_of(st.none(), st.integers(2, 12)),
        tokens=st.one_of(st.none(), st.integers(1, 120)),
        cost_usd=st.one_of(st.none(), st.integers(1, 90).map(lambda micro: micro / 1e6)),
    ),
)


def within(tree: TreeBudget, leases: list[Lease]) -> None:
    """Every limit of the tree and of each share holds for what is spent and promised together."""
    with tree._changed:
        _within(tree, leases)


def _within(tree: TreeBudget, leases: list[Lease]) -> None:
    for account in (tree._all, *(lease.account for lease in leases)):
        share = account.limits
        assert share.calls is None or account.spent.calls + account.in_flight <= share.calls
        assert share.tokens is None or account.tokens <= share.tokens
        assert share.micro_usd is None or account.micro_usd <= share.micro_usd
        assert min(account.in_flight, account.held, account.reserved_tokens, account.reserved_micro) >= 0
    assert tree.limits.children is None or tree.snapshot().children <= tree.limits.children


class Runs:
    """A random tree of runs that reserve, settle, refund, try again, open children and close, in any order."""

    def __init__(self, tree: TreeBudget, seed: int, share: Share | None) -> None:
        self.tree = tree
        self.random = random.Random(seed)
        self.share = share
        self.leases = [tree.root()]
        self.promised: list[Reservation] = []
        self.lock = threading.Lock()

    def step(self, what: int) -> None:
        with self.lock:
            lease = self.random.choice(self.leases)
            promise = self.promised.pop(self.random.randrange(len(self.promised))) if self.promised else None
        if promise is not None:
            self.end(promise, what)
        try:
            if what < 4:
                one = lease.reserve(tokens=SIZE, micro_usd=PRICE, final=what == 3)
                with self.lock:
                    self.promised.append(one)
            elif what == 4:
                child = lease.child(self.share)
                with self.lock:
                    self.leases.append(child)
            elif what == 5:
                lease.close()
        except (TreeStopped, LimitReached):
            pass

    @contextmanager
    def answered(self) -> Generator[None]:
        """Calls under way end by themselves, now and then, whoever waits for what was promised to them."""
        over = threading.Event()

        def answer() -> None:
            chance = random.Random(0)
            while not over.wait(0.002):
                with self.lock:
                    promise = self.promised.pop() if self.promised else None
                if promise is not None:
                    self.end(promise, chance.randrange(3))

        provider = threading.Thread(target=answer)
        provider.start()
        try:
            yield
        finally:
            over.set()
            provider.join()

    def end(self, promise: Reservation, what: int) -> None:
        if what % 3 == 0:
            promise.refund()
            promise.settle(Cost(1_000, 1_000, 0, 1_000_000))  # too late: it counts once only
        elif what % 3 == 1:
            promise.again(self.random.choice((Cost(micro_usd=0), Cost())))  # refused, or nobody knows
            promise.settle(Cost(prompt_tokens=SIZE - 3, completion_tokens=3, micro_usd=PRICE))
        else:
            promise.settle(Cost())  # abandoned: what was reserved goes on counting
            promise.refund()

    def finish(self) -> None:
        for promise in self.promised:
            promise.refund()
        for lease in self.leases:
            lease.close()


@given(limits=limits_, share=shares, steps=st.lists(st.integers(0, 6), max_size=120), seed=st.integers(0, 1_000))
@settings(max_examples=150, deadline=None)
def test_no_order_of_steps_exceeds_a_limit_or_leaks(
    limits: Limits, share: Share | None, steps: list[int], seed: int
) -> None:
    tree = TreeBudget(limits)
    runs = Runs(tree, seed, share)
    with runs.answered():
        for what in steps:
            runs.step(what)
            within(tree, runs.leases)
    runs.finish()
    account = tree._all
    assert (account.in_flight, account.held, account.reserved_tokens, account.reserved_micro) == (0, 0, 0, 0)


@given(limits=limits_, share=shares, seed=st.integers(0, 1_000))
@settings(max_examples=25, deadline=None)
def test_no_interleaving_of_threads_exceeds_a_limit_or_leaks(limits: Limits, share: Share | None, seed: int) -> None:
    tree = TreeBudget(limits)
    runs = Runs(tree, seed, share)
    chance = random.Random(seed)
    plans = [[chance.randrange(7) for _ in range(40)] for _ in range(8)]
    start = threading.Barrier(9)

    def work(plan: list[int]) -> None:
        start.wait()
        for what in plan:
            runs.step(what)

    threads = [threading.Thread(target=work, args=(plan,)) for plan in plans]
    for thread in threads:
        thread.start()
    with runs.answered():
        start.wait()
        if seed % 3 == 0:
            tree.stop(TreeStopped("cancelled"))
        for thread in threads:
            thread.join(30)
            assert not thread.is_alive()
    within(tree, runs.leases)
    runs.finish()
    account = tree._all
    assert (account.in_flight, account.held, account.reserved_tokens, account.reserved_micro) == (0, 0, 0, 0)


def test_a_share_ends_its_child_and_not_the_tree() -> None:
    tree = TreeBudget(Limits(calls=100, depth=4))
    root = tree.root()
    child = root.child(Share(calls=3))
    grandchild = child.child()
    child.reserve().settle(Cost(micro_usd=0))
    with pytest.raises(TreeStopped) as stop:
        grandchild.reserve()
    assert stop.value.limit == "calls" and tree.exhausted is None, "two of three are held back"
    grandchild.reserve(final=True).settle(Cost(micro_usd=0))
    grandchild.close()
    with pytest.raises(LimitReached) as refused:
        child.child()
    assert refused.value.own
    child.reserve(final=True).settle(Cost(micro_usd=0))
    child.close()
    assert child.usage().calls == 3
    root.reserve().settle(Cost(micro_usd=0))
    assert tree.usage().calls == 4


def test_a_call_takes_the_largest_answer_that_leaves_room_for_others() -> None:
    tree = TreeBudget(Limits(tokens=10_000))
    lease = tree.root()
    sizes = [Size(answer, None, answer) for answer in (8_000, 2_000, 500)]
    got = [lease.reserve(sizes=sizes).size.answer for _ in range(5)]
    assert got == [2_000, 2_000, 500, 500, 500]


def test_what_an_abandoned_call_may_have_used_still_counts() -> None:
    tree = TreeBudget(Limits(tokens=100, cost_usd=1.0))
    lease = tree.root()
    lease.reserve(tokens=80, micro_usd=900_000).settle(Cost())
    assert tree.usage().prompt_tokens == 0 and tree.usage().cost_usd is None
    with pytest.raises(TreeStopped):
        lease.reserve(tokens=30, micro_usd=0)
    with pytest.raises(TreeStopped):
        lease.reserve(tokens=10, micro_usd=200_000)


def test_limits_can_be_raised_and_not_lowered_below_what_is_spent() -> None:
    told: list[object] = []
    tree = TreeBudget(
        Limits(calls=4), on_warn=lambda unit, at: told.append((unit, at)), on_exhausted=lambda unit: told.append(unit)
    )
    lease = tree.root()
    for _ in range(3):
        lease.reserve().settle(Cost())
    with pytest.raises(TreeStopped):
        lease.reserve()
    with pytest.raises(InvalidInput, match="the calls limit cannot be 2: 3 calls are made or under way already"):
        tree.set_limits(Limits(calls=2))
    tree.set_limits(Limits(calls=8))
    for _ in range(4):
        lease.reserve().settle(Cost())
    with pytest.raises(TreeStopped):
        lease.reserve()
    assert told == [("calls", 0.7), "calls", ("calls", 0.7), "calls"], "told again for the new limit"
    tree.set_limits(Limits(calls=None))
    lease.reserve().settle(Cost())


def test_a_raised_time_limit_moves_the_deadline() -> None:
    tree = TreeBudget(Limits(wall_s=1.5))
    tree.start_clock()
    tree.set_limits(Limits(wall_s=600.0))
    with pytest.raises(TimeoutError):
        tree.stopped.result(timeout=2.0)
    with pytest.raises(InvalidInput, match="the time limit cannot be 0.5"):
        tree.set_limits(Limits(wall_s=0.5))
    tree.set_limits(Limits(wall_s=tree.usage().wall_s + 1.5))
    assert tree.stopped.result(timeout=60).limit == "wall"
    tree.close()


def test_marks_of_the_wall_time_are_told_while_nothing_else_happens() -> None:
    told: list[object] = []
    tree = TreeBudget(Limits(wall_s=0.5), on_warn=lambda unit, at: told.append((unit, at)))
    tree.start_clock()
    tree.stopped.result(timeout=10)
    assert told == [("wall", 0.7), ("wall", 0.9)]
