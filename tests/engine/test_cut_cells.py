"""A limit that strikes inside a cell: what the cell had shown by then counts for the run's last word."""

import re

import msgspec
import pytest
from tests.engine.conftest import events_of
from tests.engine.test_again import finished, of_turn
from tests.engine.test_turns import ask, check_journal, task_of
from tests.scripted import ScriptedEngine, action, field, scripted

from fleet_rlm.runtime.execution import events as ev
from fleet_rlm.runtime.execution.events import Limits
from fleet_rlm.runtime.execution.normalised import first_difference
from fleet_rlm.runtime.execution.requests import TurnRequest
from fleet_rlm.runtime.factory import Workspace

LOOP = "i = 0\nwhile i < 50:\n    print('found', llm_query(f'item {i}'))\n    i += 1"


def reply(prompt: str) -> str:
    if "extract the final outputs" in prompt:
        return field("answer", "all of " + " ".join(re.findall(r"found (\d+)", prompt)))
    if item := re.fullmatch(r".*item (\d+)\s*", prompt, re.DOTALL):
        return item[1]
    if task_of(prompt) == "child":
        return action(LOOP)
    if task_of(prompt) == "ask a child":
        return action("SUBMIT(answer=rlm_query('child', budget={'calls': 5}))")
    two_cells = task_of(prompt) == "in the second cell" and "You have not interacted" in prompt
    return action("print('found', 4711)" if two_cells else LOOP)


def last_prompt(engine: ScriptedEngine) -> str:
    (prompt,) = [each for each in engine.prompts if "extract the final outputs" in each]
    return prompt


@pytest.mark.parametrize(("question", "found"), [("in the first cell", "0 1 2"), ("in the second cell", "4711 0 1")])
def test_a_limit_inside_a_cell_leaves_what_it_had_printed(workspace: Workspace, question: str, found: str) -> None:
    lm = scripted(reply)
    turn = workspace.submit(TurnRequest(question=question, mode="rlm", model=lm, limits=Limits(calls=5)))
    result = finished(workspace, turn)
    assert (result.status, result.limit, result.usage.calls) == ("limit", "calls", 5)
    assert result.answer is not None and f"all of {found}" in result.answer
    said = last_prompt(lm.engine)
    assert "while i < 50" in said and "cut short: the limit of calls was reached" in said
    check_journal(events_of(workspace, result.session))
    again = finished(workspace, workspace.replay(turn.turn))
    assert (again.status, again.answer, len(lm.engine.prompts)) == ("limit", result.answer, 5)
    assert first_difference(of_turn(workspace, result), of_turn(workspace, again)) is None


def test_a_child_whose_share_is_used_up_inside_a_cell_gives_what_it_had(workspace: Workspace) -> None:
    result = ask(workspace, "ask a child", mode="rlm", model=scripted(reply))
    assert (result.status, result.answer) == ("ok", "all of 0 1 2")


def test_a_limit_before_a_cell_adds_no_step(workspace: Workspace) -> None:
    lm = scripted(lambda prompt: field("answer", "x") if "extract the final" in prompt else action("print('found 1')"))
    assert ask(workspace, mode="rlm", model=lm, limits=Limits(calls=3)).status == "limit"
    assert "cut short" not in last_prompt(lm.engine)


GATHER = "found = []\nwhile True:\n    found.append('v' + llm_query(f'item {len(found)}'))"


def gathering(prompt: str) -> str:
    if "extract the final outputs" in prompt:
        return field("answer", "all of " + " ".join(re.findall(r"'v(\d+)'", prompt.split("assigned by then")[-1])))
    if item := re.fullmatch(r".*item (\d+)\s*", prompt, re.DOTALL):
        return item[1]
    return action(GATHER if task_of(prompt) == "gather" else "SUBMIT(answer=rlm_query('gather', budget={'calls': 6}))")


@pytest.mark.parametrize(("question", "status"), [("gather", "limit"), ("ask a child", "ok")])
def test_a_limit_inside_a_cell_leaves_what_it_had_assigned(workspace: Workspace, question: str, status: str) -> None:
    """The code printed nothing, and what its calls brought was paid for."""
    lm = scripted(gathering)
    limits = Limits(calls=6 if status == "limit" else 50)
    result = finished(workspace, workspace.submit(TurnRequest(question=question, mode="rlm", model=lm, limits=limits)))
    assert result.status == status and result.answer is not None and "all of 0 1 2 3" in result.answer
    assert "found (list of 4) = ['v0'" in last_prompt(lm.engine)
    check_journal(events_of(workspace, result.session))
    made = len(lm.engine.prompts)
    again = finished(workspace, workspace.replay(result.turn))
    assert (again.status, again.answer, len(lm.engine.prompts)) == (status, result.answer, made)
    assert first_difference(of_turn(workspace, result), of_turn(workspace, again)) is None


def test_the_last_word_of_an_older_journal_holds(workspace: Workspace) -> None:
    """It was asked for without the variables of the cell, so in other words."""
    lm = scripted(gathering)
    request = TurnRequest(question="gather", mode="rlm", model=lm, limits=Limits(calls=6))
    first = finished(workspace, workspace.submit(request))
    events, made = of_turn(workspace, first), len(lm.engine.prompts)
    last = [event for event in events if isinstance(event.data, ev.CallStarted)][-1]
    older = msgspec.structs.replace(last, data=msgspec.structs.replace(last.data, request="0" * 64))
    again = finished(workspace, workspace.replay_events([older if each is last else each for each in events]))
    assert (again.status, again.limit, again.answer) == (first.status, first.limit, first.answer), again.error
    assert len(lm.engine.prompts) == made
