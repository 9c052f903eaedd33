"""Models ask the person, from the REPL of a real sandbox and as the agent; the library answers by a callable."""

import time

import pytest
from tests.engine.conftest import events_of
from tests.engine.sse_model import sse_model
from tests.engine.test_agent_tools import offered, script
from tests.engine.test_policy import question_of
from tests.scripted import action, scripted

import fleet_rlm
from fleet_rlm.runtime.execution.requests import TurnRequest
from fleet_rlm.runtime.factory import Workspace

CODE = "got = ask_user('Which year?', ['1984', '2001'])\nSUBMIT(answer=f'{type(got).__name__} {got or got.error} {getattr(got, \"message\", \"\")}')"


def asking():
    return scripted(lambda _: action(CODE))


def test_code_gets_the_persons_answer_as_text(workspace: Workspace) -> None:
    turn = workspace.submit(TurnRequest(question="go", mode="rlm", model=asking()))
    asked = question_of(workspace, turn.session)
    assert (asked.data.kind, asked.data.choices) == ("question", ["1984", "2001"])
    workspace.answer(turn.turn, asked.data.id, "2001")
    assert workspace.wait(turn.turn, 60).answer.strip() == "str 2001"


def test_where_nobody_is_there_code_is_told_so_at_once(workspace: Workspace) -> None:
    began = time.monotonic()
    turn = workspace.submit(TurnRequest(question="go", mode="rlm", model=asking(), present=False))
    assert workspace.wait(turn.turn, 60).answer == "Failure no_answer nobody is there to answer"
    assert time.monotonic() - began < 60


def test_a_turn_that_waits_for_a_person_can_be_cancelled(workspace: Workspace) -> None:
    turn = workspace.submit(TurnRequest(question="go", mode="rlm", model=asking()))
    question_of(workspace, turn.session)
    assert workspace.cancel(turn.turn)
    assert workspace.wait(turn.turn, 60).status == "cancelled"
    ends = [e.data.status for e in events_of(workspace, turn.session) if e.type == "approval.resolved"]
    assert ends == ["cancelled"]


def test_the_agent_asks_where_somebody_is_there(workspace: Workspace) -> None:
    with sse_model(script([("ask_user", {"question": "Which year?"})])) as model:
        turn = workspace.submit(TurnRequest(question="go", model=model.lm()))
        workspace.answer(turn.turn, question_of(workspace, turn.session).data.id, "1984")
        assert workspace.wait(turn.turn, 60).answer == '["1984"]'
        assert "ask_user" in offered(model)
        alone = workspace.submit(TurnRequest(question="go", model=model.lm(), present=False))
        workspace.wait(alone.turn, 60)
        assert "ask_user" not in offered(model)


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")
def test_what_is_no_text_leaves_it_to_the_rule_at_once(caplog: pytest.LogCaptureFixture) -> None:
    async def late(_: object) -> str:
        return "1984"

    for wrong, kind in ((lambda _: True, "bool"), (lambda _: 5, "int"), (late, "coroutine")):
        caplog.clear()
        left = fleet_rlm.run("go", mode="rlm", lm=asking(), on_approval=wrong)
        assert left.answer == "Failure no_answer nobody answered in time"
        ends = [event.data for event in left.journal if event.type == "approval.resolved"]
        assert [(end.who, end.status) for end in ends] == [("rule", "expired")]
        assert f"an answer is a text, not a {kind}" in caplog.text


def test_a_callable_of_the_program_answers() -> None:
    seen = []
    result = fleet_rlm.run("go", mode="rlm", lm=asking(), on_approval=lambda asked: seen.append(asked) or "1984")
    assert result.answer.strip() == "str 1984" and [asked.question for asked in seen] == ["Which year?"]
    for wrong in (lambda _: None, lambda _: "1999", lambda asked: asked.nothing):
        left = fleet_rlm.run("go", mode="rlm", lm=asking(), on_approval=wrong)
        assert left.answer == "Failure no_answer nobody answered in time"
    assert fleet_rlm.run("go", mode="rlm", lm=asking()).answer == "Failure no_answer nobody is there to answer"
