"""Limits that change while a turn runs: within the policy, each change whole, and none that could stop the turn dead."""

import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.engine.test_at_limit import begin, seen
from tests.engine.test_policy import finished
from tests.engine.test_turns import check_journal
from tests.scripted import action, field, scripted

from fleet_rlm.errors import InvalidInput
from fleet_rlm.runtime.config import load_settings
from fleet_rlm.runtime.execution.budget import LimitReached, TreeBudget
from fleet_rlm.runtime.execution.events import Limits
from fleet_rlm.runtime.execution.requests import TurnRequest
from fleet_rlm.runtime.execution.sandbox_gate import SandboxGate
from fleet_rlm.runtime.execution.stops import Stop
from fleet_rlm.runtime.factory import Workspace, open_workspace
from fleet_rlm.runtime.policy import Policy


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """A workspace whose settings the tests of this module change."""
    home: Path = tmp_path_factory.mktemp("limits-home")
    with open_workspace(load_settings(home=home, environ={})) as opened:
        yield opened


class Gate:
    """A gate with its budget, as a turn has them."""

    def __init__(self, limits: Limits) -> None:
        self.budget = TreeBudget(limits)
        self.gate, self.stop = SandboxGate(self.budget), Stop(self.budget.stopped)

    def change(self, **limits: int) -> None:
        wanted = Limits(**{"depth": self.budget.limits.depth, "sandboxes": self.budget.limits.sandboxes} | limits)
        self.gate.change(wanted, lambda: self.budget.set_limits(wanted))

    def asking(self, level: int) -> tuple[threading.Thread, list[object]]:
        """Ask for a place in a thread; the list gets None once it is there, or what was raised."""
        outcome: list[object] = []

        def work() -> None:
            try:
                outcome.append(self.gate.take(level, self.stop))
            except LimitReached as refused:
                outcome.append(refused)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        return thread, outcome


def test_a_turn_cannot_get_deeper_than_the_policy_by_a_change(own: Workspace) -> None:
    own.configure(replace(own.settings, policy=Policy(max_depth=2)))
    submitted = begin(own, Limits(calls=5))
    seen(own, submitted, "approval.requested")
    with pytest.raises(InvalidInput, match=r"depth of 3 is more than the policy allows \(2\)"):
        own.set_limits(submitted.turn, {"depth": 3})
    assert own.set_limits(submitted.turn, {"depth": 1, "calls": 50}).depth == 1
    assert own.wait(submitted.turn, 60).status == "ok"


def test_two_who_change_limits_at_once_lose_nothing(own: Workspace) -> None:
    own.configure(replace(own.settings, policy=Policy()))
    submitted = begin(own, Limits(calls=5))
    seen(own, submitted, "approval.requested")
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        names = ("tokens", "wall_s", "cost_usd", "children")

        def change(name: str) -> None:
            for n in range(40):
                now = own.set_limits(submitted.turn, {name: 10_000_000 + n})
                lost.extend([(name, n)] if getattr(now, name) != 10_000_000 + n else [])

        lost: list[tuple[str, int]] = []
        threads = [threading.Thread(target=change, args=(name,)) for name in names]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
        own.cancel(submitted.turn)
    assert not lost
    own.wait(submitted.turn, 30)


def test_a_sub_agent_of_model_written_code_waits_for_a_person_too(own: Workspace) -> None:
    own.configure(replace(own.settings, policy=Policy(ask_depth=1, ask_seconds=0)))
    code = "SUBMIT(answer=str(dspy.RLM('task -> answer')(task='below').answer))"

    def reply(prompt: str) -> str:
        if "was not allowed" in prompt:
            return action("SUBMIT(answer='I may not')")
        return field("answer", "cut") if "extract the final outputs" in prompt else action(code)

    turn = own.submit(TurnRequest(question="go", mode="rlm", model=scripted(reply), limits=Limits(calls=8, depth=3)))
    result = finished(own, turn.turn)
    assert (result.status, result.answer, result.runs) == ("ok", "I may not", 1), result
    events = own.journal.read(turn.session, 0, 1000)
    assert [e.data.kind for e in events if e.type == "approval.requested"] == ["depth"]
    check_journal(events)


def test_fewer_sandboxes_than_live_are_refused() -> None:
    turn = Gate(Limits(depth=2, sandboxes=8))
    for _ in range(7):
        turn.gate.take(0, turn.stop)
    with pytest.raises(InvalidInput, match="7 live, and some wait for deeper ones") as refused:
        turn.change(sandboxes=2)  # each of them may be waiting for a child, and none could ever come
    assert refused.value.hint is not None and "at least 8" in refused.value.hint
    assert turn.budget.limits.sandboxes == 8
    for _ in range(6):
        turn.gate.give_back(0)
    turn.change(sandboxes=2)
    turn.gate.take(1, turn.stop)
    assert turn.gate.live == 2


def test_more_depth_than_the_live_sandboxes_leave_room_for_is_refused() -> None:
    turn = Gate(Limits(depth=2, sandboxes=4))
    for level in (0, 0, 0, 1):
        turn.gate.take(level, turn.stop)
    with pytest.raises(InvalidInput, match="4 live sandboxes with a depth of 4 does not hold now"):
        turn.change(depth=4)  # the one at level 1 could open a child at level 2, which would wait for ever
    turn.change(depth=4, sandboxes=6)
    turn.gate.take(2, turn.stop)
    turn.gate.take(3, turn.stop)
    assert turn.gate.live == 6


def test_who_waits_at_a_level_that_has_no_place_any_more_is_refused() -> None:
    turn = Gate(Limits(depth=3, sandboxes=3))
    turn.gate.take(0, turn.stop)
    turn.gate.take(1, turn.stop)
    turn.gate.take(2, turn.stop)
    thread, outcome = turn.asking(2)
    thread.join(0.1)
    assert not outcome, "it waits"
    turn.gate.give_back(1)
    turn.gate.give_back(0)
    thread.join(10)
    assert outcome == [None]
    turn.gate.give_back(2)
    turn.gate.give_back(2)
    turn.gate.take(0, turn.stop)
    turn.gate.take(1, turn.stop)
    with pytest.raises(InvalidInput):
        turn.change(sandboxes=1)
    turn.change(sandboxes=2)
    with pytest.raises(LimitReached, match="limit of 2 live sandboxes leaves none for this depth"):
        turn.gate.take(2, turn.stop)  # its lease was opened before


def test_less_depth_keeps_the_total_although_deeper_ones_live() -> None:
    turn = Gate(Limits(depth=4, sandboxes=4))
    for level in range(4):
        turn.gate.take(level, turn.stop)
    turn.change(depth=1)
    thread, outcome = turn.asking(0)
    thread.join(0.1)
    assert not outcome and turn.gate.live == 4, "four live, and four may"
    turn.gate.give_back(3)
    thread.join(10)
    assert outcome == [None] and turn.gate.live == 4


class Run:
    """A run that lives with its children, in a tree of which the limits change."""

    def __init__(self, turn: Gate, width: int, ended: list[int]) -> None:
        self.turn, self.width, self.ended = turn, width, ended

    def live(self, level: int) -> None:
        if level > self.turn.budget.deepest_level:
            return  # its lease is refused
        try:
            with self.turn.gate.held(level, self.turn.stop):
                below = [threading.Thread(target=self.live, args=(level + 1,), daemon=True) for _ in range(self.width)]
                for thread in below:
                    thread.start()
                for thread in below:
                    thread.join(20)
                    assert not thread.is_alive()
        except LimitReached:
            return
        self.ended.append(level)


@given(
    start=st.tuples(st.integers(1, 4), st.integers(1, 6)),
    changes=st.lists(st.tuples(st.integers(1, 4), st.integers(1, 6)), max_size=6),
    width=st.integers(1, 2),
)
@settings(max_examples=40, deadline=None)
def test_whatever_the_limits_become_no_parent_starves_its_child(
    start: tuple[int, int], changes: list[tuple[int, int]], width: int
) -> None:
    turn = Gate(Limits(depth=start[0], sandboxes=start[1]))
    ended: list[int] = []
    roots = [threading.Thread(target=Run(turn, width, ended).live, args=(0,), daemon=True) for _ in range(3)]
    for root in roots:
        root.start()
    for depth, sandboxes in changes:
        try:
            turn.change(depth=depth, sandboxes=sandboxes)
        except InvalidInput:
            continue
        assert turn.gate.live <= turn.budget.limits.sandboxes
    for root in roots:
        root.join(30)
        assert not root.is_alive(), "a parent starves its child"
    assert turn.gate.live == 0 and ended.count(0) == 3


UNPRICED = {"FLEET_MODEL": "openai/nobody-knows", "FLEET_API_BASE": "http://127.0.0.1:9"}
"""A server of one's own, which nobody listens at."""


def unpriced(own: Workspace, **variables: str) -> None:
    own.configure(load_settings(home=own.settings.home, environ=variables | UNPRICED))


def test_no_cost_limit_for_a_judge_without_a_price(own: Workspace) -> None:
    unpriced(own, FLEET_VERIFY="judge", FLEET_JUDGE_MODEL="openai/nobody-knows")
    submitted = begin(own, Limits(calls=5))
    seen(own, submitted, "approval.requested")
    with pytest.raises(InvalidInput, match="the price of openai/nobody-knows is unknown"):
        own.set_limits(submitted.turn, {"cost_usd": 1.0})
    own.cancel(submitted.turn)
    own.wait(submitted.turn, 30)


@pytest.mark.parametrize("first", ["named", "limited"])
def test_no_cost_limit_for_a_named_model_without_a_price(own: Workspace, first: str) -> None:
    """Neither after it was named, nor may it be named when there is one."""
    unpriced(own, FLEET_MODELS_ALLOWED="openai/nobody-knows")
    code = (
        "if not {wait}: ask_user('ready?')\n"
        "try:\n    said = llm_query('x', model='openai/nobody-knows')\n"
        "except Exception as error:\n    said = str(error)\n"
        "if {wait}: ask_user('ready?')\n"
        "SUBMIT(answer=said)"
    ).format(wait=first == "named")
    submitted = own.submit(TurnRequest(question="q", mode="rlm", model=scripted(lambda _: action(code)), title="t"))
    (asked,) = seen(own, submitted, "approval.requested")
    if first == "named":
        with pytest.raises(InvalidInput, match="the price of openai/nobody-knows is unknown"):
            own.set_limits(submitted.turn, {"cost_usd": 1.0})
    else:
        own.set_limits(submitted.turn, {"cost_usd": 1.0})
    own.answer(submitted.turn, asked.data.id, "go")
    answer = own.wait(submitted.turn, 60).answer or ""
    assert ("the price of openai/nobody-knows is unknown" in answer) == (first == "limited"), answer
