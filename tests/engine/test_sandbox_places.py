"""Live sandboxes: one limit over the tree, and no parent that waits keeps its children from getting theirs."""

import threading
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.engine.conftest import events_of
from tests.engine.test_turns import ask, check_journal, task_of
from tests.scripted import action, scripted

from fleet_rlm.errors import TreeStopped
from fleet_rlm.runtime.execution.budget import LimitReached, TreeBudget
from fleet_rlm.runtime.execution.events import Limits
from fleet_rlm.runtime.execution.sandbox_gate import SandboxGate
from fleet_rlm.runtime.execution.stops import Stop
from fleet_rlm.runtime.factory import Workspace

Tree = Sequence["Tree"]
trees = st.recursive(st.just(()), lambda below: st.lists(below, max_size=4), max_leaves=25)


def depth_of(tree: Tree) -> int:
    return 1 + max((depth_of(below) for below in tree), default=0)


def live_through(gate: SandboxGate, stop: Stop, tree: Tree, level: int, deepest: int, ended: list[int]) -> None:
    """A run that holds its place while its children, all at once, live theirs."""
    if level > deepest:
        return
    with gate.held(level, stop):
        children = [
            threading.Thread(target=live_through, args=(gate, stop, below, level + 1, deepest, ended), daemon=True)
            for below in tree
        ]
        for child in children:
            child.start()
        for child in children:
            child.join(30)
    ended.append(level)


def count(tree: Tree, levels: int) -> int:
    return 0 if levels < 0 else 1 + sum(count(below, levels - 1) for below in tree)


@given(roots=st.lists(trees, min_size=1, max_size=4), limit=st.integers(1, 6))
@settings(max_examples=60, deadline=None)
def test_any_tree_gets_through_any_limit_and_never_exceeds_it(roots: list[Tree], limit: int) -> None:
    depth = max(depth_of(tree) for tree in roots)
    budget = TreeBudget(Limits(depth=depth, sandboxes=limit))
    gate, stop = SandboxGate(budget), Stop(budget.stopped)
    ended: list[int] = []
    threads = [
        threading.Thread(target=live_through, args=(gate, stop, tree, 0, budget.deepest_level, ended), daemon=True)
        for tree in roots
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive(), "a parent starves its child"
    assert gate.most_live <= limit and gate.live == 0
    assert len(ended) == sum(count(tree, budget.deepest_level) for tree in roots)


def test_a_level_that_could_never_have_a_sandbox_is_refused() -> None:
    tree = TreeBudget(Limits(depth=3, sandboxes=2))
    child = tree.root().child()
    with pytest.raises(LimitReached) as refused:
        child.child()
    assert refused.value.unit == "sandboxes"


def test_the_agents_own_sandbox_leaves_one_for_whom_it_asks() -> None:
    budget = TreeBudget(Limits(depth=2, sandboxes=2), root_is_agent=True)
    gate, stop = SandboxGate(budget), Stop(budget.stopped)
    gate.take(-1, stop)
    gate.take(0, stop)
    assert budget.deepest_level == 0 and gate.live == 2
    alone = TreeBudget(Limits(depth=2, sandboxes=1), root_is_agent=True)
    with pytest.raises(LimitReached):
        SandboxGate(alone).take(-1, Stop(alone.stopped))


def test_a_wait_for_a_place_ends_with_its_run() -> None:
    budget = TreeBudget(Limits(depth=1, sandboxes=1))
    gate, above = SandboxGate(budget), Stop(budget.stopped)
    gate.take(0, above)
    below, raised = Stop(above), threading.Event()

    def wait() -> None:
        try:
            gate.take(0, below)
        except TreeStopped:
            raised.set()

    thread = threading.Thread(target=wait)
    thread.start()
    below.set(TreeStopped("cancelled"))
    assert raised.wait(10)
    thread.join()
    gate.give_back(0)
    gate.take(0, above)
    assert gate.live == 1, "the one that left took nothing with it"


def test_three_levels_through_four_sandboxes(workspace: Workspace) -> None:
    def reply(prompt: str) -> str:
        task = task_of(prompt)
        if task.startswith("leaf"):
            return action("SUBMIT(answer='1')")
        below = "leaf" if task.startswith("branch") else "branch"
        return action(
            f"got = rlm_query_batched(['{below} %d' % i for i in range(3)])\n"
            "SUBMIT(answer=str(sum(int(g) for g in got)))"
        )

    limits = Limits(depth=3, sandboxes=4)
    result = ask(workspace, "count", mode="rlm", model=scripted(reply), limits=limits)
    assert (result.status, result.answer, result.runs) == ("ok", "9", 13), result
    events = events_of(workspace, result.session)
    check_journal(events)
    live = most = 0
    for event in events:
        live += {"sandbox.ready": 1, "sandbox.released": -1}.get(event.type, 0)
        most = max(most, live)
    assert 3 <= most <= 4
