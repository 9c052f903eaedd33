"""A turn that was asked about its limits or its money, or whose limits were set while it ran, is replayed with that."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
from tests.engine.conftest import events_of
from tests.engine.test_again import finished, of_kind, of_turn
from tests.engine.test_at_limit import seen
from tests.engine.test_turns import check_journal, task_of
from tests.scripted import action, field, scripted

from fleet_rlm.runtime.execution import events as ev
from fleet_rlm.runtime.execution.events import Limits
from fleet_rlm.runtime.execution.normalised import first_difference
from fleet_rlm.runtime.execution.requests import Submitted, TurnRequest, TurnResult
from fleet_rlm.runtime.factory import Workspace

Reply = Callable[[str], str]


def steps(*cells: str) -> Reply:
    """A root that runs these cells, then submits; it says what it has when it is cut short. The rest says yes."""

    def reply(prompt: str) -> str:
        if "extract the final outputs" in prompt:
            return field("answer", "cut short")
        if "agent of its own" in prompt and "Your task:" not in prompt:
            return action("import time\ntime.sleep(4)\nSUBMIT(answer='xx')")
        if "REPL" not in prompt:
            return "yes"
        code = next((cell for number, cell in enumerate(cells) if f"# {number}\n" not in prompt), None)
        return action("SUBMIT(answer=str(len(got)))" if code is None else f"# {cells.index(code)}\n{code}")

    return reply


BATCH = "got = llm_query_batched(['part %d' % i for i in range(12)])\nprint(len(got))"
SERIAL = "got = [llm_query(f'part {i}') for i in range(6)]\nprint(len(got))"
AGENT = "import dspy\ngot = dspy.RLM('task -> answer')(task='agent of its own').answer\nprint(got)"
CHILDREN = "got = rlm_query_batched(['leaf %d' % i for i in range(4)])\nprint(len(got))"
SLOW = "import time\ntime.sleep(1.6)\ngot = 'xx'\nprint('done')"


def with_leaves(reply: Reply) -> Reply:
    def replying(prompt: str) -> str:
        leaf = "Your task:" in prompt and "leaf" in task_of(prompt)
        return action("SUBMIT(answer='x')") if leaf else reply(prompt)

    return replying


def submit(workspace: Workspace, reply: Reply, limits: Limits, at_limit: str = "ask") -> tuple[Submitted, list[str]]:
    lm = scripted(reply, delay_s=0.01)
    request = TurnRequest(question="q", mode="rlm", model=lm, limits=limits, at_limit=at_limit, title="t")
    return workspace.submit(request), lm.engine.prompts


def check_replays(workspace: Workspace, first: TurnResult, prompts: list[str]) -> list[ev.Event]:
    """It is replayed, and its replay is, without a call and with the same events. Gives those of the last."""
    made, turn = len(prompts), first
    for _ in range(2):
        again = finished(workspace, workspace.replay(turn.turn))
        assert (again.status, again.answer, again.limit) == (first.status, first.answer, first.limit), again.error
        assert len(prompts) == made
        assert first_difference(of_turn(workspace, first), of_turn(workspace, again)) is None
        check_journal(events_of(workspace, again.session))
        turn = again
    return of_turn(workspace, turn)


@pytest.mark.parametrize("answer", ["raise", "finish"])
@pytest.mark.parametrize(
    ("cells", "limits"),
    [
        ((BATCH,), Limits(calls=8)),
        ((SERIAL,), Limits(calls=6)),
        (("a = 1\nprint(a)", "b = 2\nprint(b)", "got = 'xx'\nprint(got)"), Limits(calls=3)),
        ((CHILDREN,), Limits(children=2)),
        ((SLOW,), Limits(wall_s=1.2)),
        ((AGENT,), Limits(wall_s=3.0)),
    ],
    ids=["batch", "serial", "step", "children", "wall", "wall of a sub-agent"],
)
def test_a_question_at_a_limit(workspace: Workspace, cells: tuple[str, ...], limits: Limits, answer: str) -> None:
    turn, prompts = submit(workspace, with_leaves(steps(*cells)), limits)
    (asked,) = seen(workspace, turn, "approval.requested")
    workspace.answer(turn.turn, asked.data.id, answer)
    first = finished(workspace, turn)
    assert first.status == ("ok" if answer == "raise" else "limit"), (first.limit, first.answer)
    again = check_replays(workspace, first, prompts)
    ended = [each.status for each in of_kind(again, ev.RunFinished)]
    assert answer == "raise" or cells != (AGENT,) or ended == ["limit", "limit"], "also of a sub-agent that was cut"
    (resolved,) = of_kind(again, ev.ApprovalResolved)
    assert (resolved.answer, resolved.who, resolved.replayed) == (answer, "person", True)
    if answer == "raise" and limits.calls is not None:
        assert of_kind(again, ev.BudgetUpdated)[-1].limits.calls == 2 * limits.calls, "what is shown follows"


def test_a_question_that_nobody_answered(workspace: Workspace) -> None:
    # Between two cells: one that is cut may be told as lost or as interrupted, whichever comes first.
    cells = ("a = 1\nprint(a)", "b = 2\nprint(b)", "got = 'xx'\nprint(got)")
    turn, prompts = submit(workspace, steps(*cells), Limits(calls=3))
    seen(workspace, turn, "approval.requested")
    workspace.cancel(turn.turn)
    first = finished(workspace, turn)
    assert first.status == "cancelled"
    (resolved,) = of_kind(check_replays(workspace, first, prompts), ev.ApprovalResolved)
    assert (resolved.status, resolved.who) == ("cancelled", "rule")


def test_a_question_that_is_asked_again_and_again(workspace: Workspace) -> None:
    turn, prompts = submit(workspace, steps(SERIAL, "got = got * 2\nprint(llm_query('more'))"), Limits(calls=3))
    answered: set[str] = set()
    done = threading.Event()

    def raise_always() -> None:
        while not done.wait(0.02):
            for event in events_of(workspace, turn.session):
                if isinstance(event.data, ev.ApprovalRequested) and event.data.id not in answered:
                    answered.add(event.data.id)
                    workspace.answer(turn.turn, event.data.id, "raise")

    thread = threading.Thread(target=raise_always)
    thread.start()
    first = finished(workspace, turn)
    done.set()
    thread.join()
    assert (first.status, first.answer) == ("ok", "12") and len(answered) >= 2
    again = check_replays(workspace, first, prompts)
    assert len(of_kind(again, ev.ApprovalResolved)) == len(answered)


def test_limits_that_were_set_from_outside(workspace: Workspace) -> None:
    begun: list[Submitted] = []
    reply = steps("got = 'xx'\nprint(1)", *(f"print({n})" for n in range(6)))

    def changing(prompt: str) -> str:
        if "# 3\n" in prompt and "# 4\n" not in prompt:
            workspace.set_limits(begun[0].turn, {"calls": 9})
        return reply(prompt)

    turn, prompts = submit(workspace, changing, Limits(calls=100))
    begun.append(turn)
    first = finished(workspace, turn)
    warned = [(each.unit, each.fraction) for each in of_kind(of_turn(workspace, first), ev.BudgetWarned)]
    assert first.status == "ok" and ("calls", 0.7) in warned, "seven of nine, and not of a hundred"
    check_replays(workspace, first, prompts)


def test_a_warning_of_the_time_that_passed(workspace: Workspace) -> None:
    turn, prompts = submit(workspace, steps("import time\ntime.sleep(4.3)\ngot = 'xx'\nprint(1)"), Limits(wall_s=6.0))
    first = finished(workspace, turn)
    assert first.status == "ok", first.limit
    assert [each.unit for each in of_kind(of_turn(workspace, first), ev.BudgetWarned)] == ["wall"]
    check_replays(workspace, first, prompts)


def test_a_replay_asks_nobody_whatever_the_settings_say(asking: Workspace) -> None:
    turn, prompts = submit(asking, steps(BATCH), Limits(calls=8), at_limit="finish")
    first = finished(asking, turn)
    assert first.status == "limit" and not of_kind(of_turn(asking, first), ev.ApprovalRequested)
    assert not of_kind(check_replays(asking, first, prompts), ev.ApprovalRequested)


@pytest.mark.parametrize("answer", ["once", "deny"])
def test_a_question_about_the_money(workspace: Workspace, answer: str) -> None:
    with settings(workspace, policy=replace(workspace.settings.policy, ask_cost_usd=0.5)):
        turn, prompts = submit(workspace, steps(SERIAL), Limits())
        (asked,) = seen(workspace, turn, "approval.requested")
        assert asked.data.kind == "cost", "the price is unknown, so the first call asks"
        workspace.answer(turn.turn, asked.data.id, asked.data.choices[0 if answer == "once" else -1])
        first = finished(workspace, turn)
    assert first.status == ("ok" if answer == "once" else "limit")
    (resolved,) = of_kind(check_replays(workspace, first, prompts), ev.ApprovalResolved)
    assert resolved.replayed


@pytest.fixture
def asking(workspace: Workspace) -> Iterator[Workspace]:
    with settings(workspace, at_limit="ask"):
        yield workspace


@contextmanager
def settings(workspace: Workspace, **changes: object) -> Iterator[None]:
    before = workspace.settings
    workspace.configure(replace(before, **changes))
    try:
        yield
    finally:
        workspace.configure(before)
