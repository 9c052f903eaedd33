"""A turn whose depth or sandboxes were changed while it ran is run again as it was: each run is offered what it was."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.engine.conftest import events_of
from tests.engine.test_again import finished, of_kind, of_turn
from tests.engine.test_turns import check_journal, task_of
from tests.scripted import action, scripted

from fleet_rlm.runtime.execution import events as ev
from fleet_rlm.runtime.execution.normalised import first_difference
from fleet_rlm.runtime.execution.requests import Change, ForkEdit, Submitted, TurnRequest
from fleet_rlm.runtime.factory import Workspace

Reply = Callable[[str], str]


def deeper(workspace: Workspace, begun: list[Submitted], change: dict[str, int]) -> Reply:
    """A root that has one step before the limits change and then a child, which delegates again where it may."""

    def reply(prompt: str) -> str:
        task = task_of(prompt) if "Your task:" in prompt else ""
        if task == "go" and "You have not interacted" in prompt:
            return action("print('one step')")
        if task == "go":
            if "got =" in prompt:
                return action("SUBMIT(answer=got)")
            workspace.set_limits(begun[0].turn, change)
            return action("got = rlm_query('the child', context='x')\nprint(got)")
        if "child" in task:
            may = "rlm_query(" in prompt
            return action(f"SUBMIT(answer={'rlm_query(' + repr('the leaf') + ')' if may else repr('no deeper')})")
        return action("SUBMIT(answer='from below')")

    return reply


def begin(workspace: Workspace, reply: Reply, begun: list[Submitted], limits: ev.Limits) -> tuple[Submitted, list[str]]:
    lm = scripted(reply)
    begun.append(workspace.submit(TurnRequest(question="go", mode="rlm", model=lm, limits=limits)))
    return begun[0], lm.engine.prompts


CHANGES = [
    (ev.Limits(depth=2), {"depth": 3}, "from below"),
    (ev.Limits(depth=3), {"depth": 2}, "no deeper"),
    (ev.Limits(depth=3, sandboxes=2), {"sandboxes": 9}, "from below"),
]


@pytest.mark.parametrize(("limits", "change", "answer"), CHANGES)
def test_a_replay_of_a_turn_whose_limits_changed(
    workspace: Workspace, limits: ev.Limits, change: dict[str, int], answer: str
) -> None:
    begun: list[Submitted] = []
    turn, prompts = begin(workspace, deeper(workspace, begun, change), begun, limits)
    first = finished(workspace, turn)
    assert (first.status, first.answer) == ("ok", answer)
    made = len(prompts)
    for _ in range(2):
        again = finished(workspace, workspace.replay(turn.turn))
        assert (again.status, again.answer, again.error) == ("ok", answer, None)
        assert len(prompts) == made
        assert first_difference(of_turn(workspace, first), of_turn(workspace, again)) is None
        check_journal(events_of(workspace, again.session))
        turn = again


def steps(workspace: Workspace, begun: list[Submitted]) -> Reply:
    """A run that may delegate to nobody when it begins; before its second step it might."""

    def reply(prompt: str) -> str:
        if "You have not interacted" in prompt:
            return action("print('one step')")
        if "got =" in prompt:
            return action("SUBMIT(answer=got)")
        if begun:
            workspace.set_limits(begun[0].turn, {"depth": 2})
        return action("got = 'found'")

    return reply


@pytest.mark.parametrize("how", ["fork", "resume", "fork with other limits"])
def test_what_goes_on_from_such_a_turn_asks_nothing_twice(workspace: Workspace, how: str) -> None:
    begun: list[Submitted] = []
    limits = ev.Limits(depth=1, calls=3 if how == "resume" else None)
    turn, prompts = begin(workspace, steps(workspace, begun), begun, limits)
    first = finished(workspace, turn)
    lm = scripted(steps(workspace, []))
    if how == "resume":
        assert (first.status, first.limit, len(prompts)) == ("limit", "calls", 3)
        again = finished(workspace, workspace.resume(turn.turn, ev.Limits(depth=2, calls=9), lm=lm))
        expected = "found"
    else:
        assert (first.status, first.answer) == ("ok", "found")
        last = [e.data for e in of_turn(workspace, first) if isinstance(e.data, ev.CellStarted)][-1]
        new = ev.Limits(depth=3, calls=9) if how == "fork with other limits" else None
        edit = ForkEdit(cell=Change(last.id, "SUBMIT(answer=got.upper())"), limits=new)
        again = finished(workspace, workspace.fork(turn.turn, edit, lm=lm))
        expected = "FOUND"
    assert (again.status, again.answer) == ("ok", expected), again.error
    assert len(lm.engine.prompts) == {"fork": 0, "resume": 1, "fork with other limits": 3}[how]
    may = ["rlm_query(" in prompt for prompt in lm.engine.prompts]
    assert all(may) is (how == "fork with other limits") or not may
    warned = [w.code for w in of_kind(of_turn(workspace, again), ev.Warning)]
    assert "replay.diverged" not in warned, "what other limits bring about is meant"


@pytest.mark.parametrize("edit", [ForkEdit(limits=ev.Limits(depth=3)), ForkEdit(question="go on")])
def test_a_replay_of_a_fork_that_began_under_its_own_limits(workspace: Workspace, edit: ForkEdit) -> None:
    """There the runs were offered what those limits say, and not what the origin's were."""
    begun: list[Submitted] = []
    turn, _ = begin(workspace, steps(workspace, begun), begun, ev.Limits(depth=1))
    finished(workspace, turn)
    lm = scripted(steps(workspace, []))
    forked = finished(workspace, workspace.fork(turn.turn, edit, lm=lm))
    assert (forked.status, forked.answer, len(lm.engine.prompts)) == ("ok", "found", 3)
    assert all("rlm_query(" in prompt for prompt in lm.engine.prompts)
    turn = forked
    for _ in range(2):
        again = finished(workspace, workspace.replay(turn.turn))
        assert (again.status, again.answer) == ("ok", "found"), again.error
        assert len(lm.engine.prompts) == 3
        assert first_difference(of_turn(workspace, forked), of_turn(workspace, again)) is None
        turn = again
