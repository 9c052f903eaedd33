"""At a limit a person is asked, and limits are set while a turn runs."""

import math
import time

import pytest
from tests.engine.conftest import events_of
from tests.engine.test_turns import check_journal, task_of
from tests.scripted import action, field, scripted

from fleet_rlm.errors import Conflict, InvalidInput, NotFound
from fleet_rlm.runtime.execution import events as ev
from fleet_rlm.runtime.execution.events import Limits
from fleet_rlm.runtime.execution.requests import ForkEdit, Submitted, TurnRequest
from fleet_rlm.runtime.factory import Workspace


def fan_out(n: int):
    """A root that asks `n` different things at once, and then says how many answers it has."""

    def reply(prompt: str) -> str:
        if "extract the final outputs" in prompt:
            return field("answer", "cut short")
        if "You have not interacted" in prompt:
            return action(f"got = llm_query_batched(['part %d' % i for i in range({n})])\nprint(len(got))")
        return action("SUBMIT(answer=str(len(got)))") if "REPL" in prompt else "yes"

    return scripted(reply, delay_s=0.02)


def begin(workspace: Workspace, limits: Limits, n: int = 12, at_limit: str = "ask") -> Submitted:
    return workspace.submit(
        TurnRequest(question="q", mode="rlm", model=fan_out(n), limits=limits, at_limit=at_limit, title="t")
    )


def seen(workspace: Workspace, submitted: Submitted, kind: str, seconds: float = 60) -> list[ev.Event]:
    """The turn's events of a type, as soon as there is one."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = [e for e in events_of(workspace, submitted.session) if e.type == kind and e.turn == submitted.turn]
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"no {kind}")


def test_a_limit_that_is_raised_while_the_turn_waits_lets_it_go_on(workspace: Workspace) -> None:
    submitted = begin(workspace, Limits(calls=5))
    (asked,) = seen(workspace, submitted, "approval.requested")
    assert (asked.data.kind, asked.data.unit, asked.data.choices) == ("limit", "calls", ["raise", "finish"])
    assert "The limit of 5 model calls is reached. Raise it to 10" in asked.data.question
    now = workspace.set_limits(submitted.turn, {"calls": 50})
    assert now.calls == 50
    result = workspace.wait(submitted.turn, timeout=60)
    assert (result.status, result.answer, result.limit) == ("ok", "12", None)
    events = events_of(workspace, submitted.session)
    check_journal(events)
    (resolved,) = [e.data for e in events if e.type == "approval.resolved"]
    assert (resolved.status, resolved.answer) == ("answered", "raise")
    assert any(e.data.limits.calls == 50 for e in events if e.type == "budget.updated")
    assert not [e for e in events if e.type == "budget.exhausted"]


def test_raise_adds_once_more_what_there_was(workspace: Workspace) -> None:
    submitted = begin(workspace, Limits(calls=8))
    (asked,) = seen(workspace, submitted, "approval.requested")
    workspace.answer(submitted.turn, asked.data.id, "raise")
    result = workspace.wait(submitted.turn, timeout=60)
    assert (result.status, result.answer) == ("ok", "12") and result.usage.calls == 14
    events = events_of(workspace, submitted.session)
    assert [e.type for e in events].count("approval.requested") == 1, "one question, however many calls waited"
    assert max(e.data.limits.calls for e in events if e.type == "budget.updated") == 16


def test_another_limit_set_meanwhile_does_not_take_the_place_of_the_raise(workspace: Workspace) -> None:
    submitted = begin(workspace, Limits(calls=8, tokens=1_000_000))
    (asked,) = seen(workspace, submitted, "approval.requested")
    workspace.set_limits(submitted.turn, {"tokens": 2_000_000})
    workspace.answer(submitted.turn, asked.data.id, "raise")
    result = workspace.wait(submitted.turn, timeout=60)
    assert (result.status, result.answer) == ("ok", "12")
    events = events_of(workspace, submitted.session)
    assert [e.type for e in events].count("approval.requested") == 1, "what was raised is not asked about again"
    last = [e.data.limits for e in events if e.type == "budget.updated"][-1]
    assert (last.calls, last.tokens) == (16, 2_000_000)


def test_a_fork_keeps_the_limits_that_were_raised(workspace: Workspace) -> None:
    submitted = begin(workspace, Limits(calls=8))
    (asked,) = seen(workspace, submitted, "approval.requested")
    workspace.answer(submitted.turn, asked.data.id, "raise")
    workspace.wait(submitted.turn, timeout=60)
    forked = workspace.fork(submitted.turn, ForkEdit(question="and now?"), lm=fan_out(2))
    assert workspace.wait(forked.turn, timeout=60).answer == "2"
    (accepted,) = [e.data for e in events_of(workspace, forked.session) if e.type == "turn.accepted"]
    assert accepted.limits.calls == 16, "what a fork does not change stays as it was"


def test_finish_ends_with_the_partial_answer_and_names_the_limit(workspace: Workspace) -> None:
    submitted = begin(workspace, Limits(calls=5))
    (asked,) = seen(workspace, submitted, "approval.requested")
    workspace.answer(submitted.turn, asked.data.id, "finish")
    result = workspace.wait(submitted.turn, timeout=60)
    assert (result.status, result.limit) == ("limit", "calls") and result.usage.calls <= 5
    events = events_of(workspace, submitted.session)
    check_journal(events)
    assert [e.type for e in events].count("approval.requested") == 1
    assert [e.data.unit for e in events if e.type == "budget.exhausted"] == ["calls"]


def test_a_cancel_ends_the_question(workspace: Workspace) -> None:
    submitted = begin(workspace, Limits(calls=5))
    seen(workspace, submitted, "approval.requested")
    workspace.cancel(submitted.turn)
    assert workspace.wait(submitted.turn, timeout=30).status == "cancelled"
    check_journal(events_of(workspace, submitted.session))


def test_without_the_setting_nobody_is_asked(workspace: Workspace) -> None:
    submitted = begin(workspace, Limits(calls=5), at_limit="finish")
    result = workspace.wait(submitted.turn, timeout=60)
    assert result.status == "limit"
    assert not [e for e in events_of(workspace, submitted.session) if e.type == "approval.requested"]


def test_more_children_can_be_allowed_as_well(workspace: Workspace) -> None:
    def reply(prompt: str) -> str:
        if "leaf" in task_of(prompt):
            return action("SUBMIT(answer='x')")
        return action("SUBMIT(answer=''.join(rlm_query_batched(['leaf %d' % i for i in range(4)])))")

    submitted = workspace.submit(
        TurnRequest(
            question="q", mode="rlm", model=scripted(reply), limits=Limits(children=2), at_limit="ask", title="t"
        )
    )
    (asked,) = seen(workspace, submitted, "approval.requested")
    assert "2 child runs" in asked.data.question and asked.data.unit == "children"
    workspace.answer(submitted.turn, asked.data.id, "raise")
    assert workspace.wait(submitted.turn, timeout=60).answer == "xxxx"


def test_what_cannot_be_set_is_refused_in_one_line(workspace: Workspace) -> None:
    submitted = begin(workspace, Limits(calls=5))
    seen(workspace, submitted, "approval.requested")
    for bad, said in (
        ({"calls": 3}, r"the calls limit cannot be 3: \d calls are made or under way already"),
        ({"calls": 0}, "the limit calls cannot be 0"),
        ({"calls": 7.5}, "the limit calls must be a whole number, not 7.5"),
        ({"wall_s": math.nan}, "the limit wall_s must be a number, not nan"),
        ({"depth": None}, "the limit depth must be a whole number, not None"),
        ({"speed": 9}, "unknown limit 'speed'"),
        ({}, "no limit is given"),
    ):
        with pytest.raises(InvalidInput, match=said):
            workspace.set_limits(submitted.turn, bad)
    assert repr(workspace.set_limits(submitted.turn, {"tokens": 1e6}).tokens) == "1000000"
    workspace.cancel(submitted.turn)
    workspace.wait(submitted.turn, timeout=30)
    with pytest.raises(Conflict, match="over"):
        workspace.set_limits(submitted.turn, {"calls": 100})
    with pytest.raises(NotFound):
        workspace.set_limits("trn_nope", {"calls": 100})


def test_a_child_with_a_share_of_its_own_stops_there(workspace: Workspace) -> None:
    def reply(prompt: str) -> str:
        if "hungry" in task_of(prompt):
            if "extract the final outputs" in prompt:
                return field("answer", "enough")
            return action("print(budget()['calls_left'])")
        return action(
            "got = rlm_query('hungry', budget={'calls': 3})\nwhy = []\n"
            "for bad in ({'call': 3}, {'cost_usd': float('nan')}, {'cost_usd': float('inf')}, {'tokens': 10**400}):\n"
            "    try:\n        rlm_query('hungry', budget=bad)\n"
            "    except Exception as error:\n        why.append('budget' in str(error))\n"
            "SUBMIT(answer=f'{got} {budget()[\"calls_left\"]} {why}')"
        )

    lm = scripted(reply)
    submitted = workspace.submit(TurnRequest(question="q", mode="rlm", model=lm, limits=Limits(calls=50), title="t"))
    result = workspace.wait(submitted.turn, timeout=60)
    assert result.answer == f"enough {50 - 4 - 1} {[True] * 4}" and result.status == "ok"
    children = [e for e in events_of(workspace, submitted.session) if e.type == "run.finished" and e.depth == 1]
    assert [(e.data.status, e.data.limit, e.data.usage.calls) for e in children] == [("limit", "calls", 3)]


def test_one_second_is_one_second_inside_a_cell_of_four(workspace: Workspace) -> None:
    lm = scripted(lambda prompt: action("import time\ntime.sleep(4)"))
    submitted = workspace.submit(TurnRequest(question="q", mode="rlm", model=lm, limits=Limits(wall_s=1.0), title="t"))
    result = workspace.wait(submitted.turn, timeout=60)
    assert (result.status, result.limit) == ("limit", "wall")
    events = events_of(workspace, submitted.session)
    check_journal(events)
    (cell,) = [e.data for e in events if e.type == "cell.finished"]
    assert cell.status in ("interrupted", "lost") and cell.ms < 3_000, "the timer reached into the cell"
    assert result.usage.wall_s < 3
