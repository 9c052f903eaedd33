"""Roles and choice of models in whole turns: who is called, what may be named, and what the judge says."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.engine.conftest import events_of
from tests.engine.test_again import of_turn
from tests.scripted import action, field, scripted

from faults.broken_model import BrokenModel, Reply, refuses, says
from fleet_rlm.runtime.config import load_settings
from fleet_rlm.runtime.execution import events as ev
from fleet_rlm.runtime.execution.events import Limits
from fleet_rlm.runtime.execution.normalised import first_difference
from fleet_rlm.runtime.execution.requests import TurnRequest, TurnResult
from fleet_rlm.runtime.factory import Workspace, open_workspace

Opens = Callable[..., Workspace]


@pytest.fixture
def opens(tmp_path: Path) -> Iterator[Opens]:
    opened: list[Workspace] = []

    def make(**variables: str) -> Workspace:
        opened.append(open_workspace(load_settings(home=tmp_path, environ=variables)))
        return opened[-1]

    yield make
    for workspace in opened:
        workspace.close()


def ask(workspace: Workspace, **options: object) -> TurnResult:
    submitted = workspace.submit(TurnRequest(question="what?", **{"limits": Limits(), **options}))
    return workspace.wait(submitted.turn, timeout=100)


def calls_of(workspace: Workspace, result: TurnResult) -> list[tuple[str, str]]:
    return [(e.data.role, e.data.model) for e in events_of(workspace, result.session) if e.type == "call.started"]


def warnings_of(workspace: Workspace, result: TurnResult) -> list[tuple[str, str]]:
    return [(e.data.code, e.data.message) for e in events_of(workspace, result.session) if e.type == "warning"]


def test_code_names_the_models_of_its_turn_and_those_on_the_list_and_no_others(opens: Opens) -> None:
    workspace = opens(FLEET_MODELS_ALLOWED="demo/search, openai/gpt-5-mini")
    code = """
said = [llm_query('one', model='root'), llm_query('two', model='sub'), llm_query('three')]
said += llm_query_batched(['four', 'five'], model='root')
said.append(bool(llm_query('six', model='demo/search')))
for name in ['anthropic/claude-opus-4-1', 'openai/gpt-5-mini', 7]:
    try:
        llm_query('seven', model=name)
    except Exception as error:
        said.append(str(error))
SUBMIT(answer='|'.join(map(str, said)))
"""
    root = scripted(lambda prompt: action(code) if "REPL" in prompt else "R")
    sub = scripted(lambda _: "S")
    result = ask(workspace, mode="rlm", model=root, sub_model=sub)
    assert result.status == "ok" and result.answer is not None
    said = result.answer.split("|")
    assert said[:6] == ["R", "S", "S", "R", "R", "True"]
    assert "'anthropic/claude-opus-4-1' is not allowed here" in said[6] and "root, sub" in said[6]
    assert "needs a key of OpenAI" in said[7]
    assert "'7' is not allowed here" in said[8]
    assert ("sub", "demo/search") in calls_of(workspace, result)


def test_a_child_run_is_driven_by_the_model_that_was_named(opens: Opens) -> None:
    def root_reply(prompt: str) -> str:
        if "Your task: CHILD" in prompt:
            return action("SUBMIT(answer='by root')")
        return action("a = rlm_query('CHILD', model='root')\nb = rlm_query('CHILD')\nSUBMIT(answer=a + ', ' + b)")

    sub = scripted(lambda _: action("SUBMIT(answer='by sub')"))
    workspace = opens()
    result = ask(workspace, mode="rlm", model=scripted(root_reply), sub_model=sub)
    assert result.answer == "by root, by sub"


def test_the_prompt_names_further_models_only_where_there_are_some(opens: Opens) -> None:
    lm = scripted(lambda _: action("SUBMIT(answer='x')"))
    ask(opens(), mode="rlm", model=lm)
    assert "Sub-calls take model=" not in lm.engine.prompts[0]
    ask(opens(FLEET_MODELS_ALLOWED="openai/gpt-5-mini"), mode="rlm", model=lm)
    assert 'Sub-calls take model="root", "sub" or one of openai/gpt-5-mini.' in lm.engine.prompts[-1]


def judge(verdict: str, reason: str) -> Callable[[str], str]:
    def reply(prompt: str) -> str:
        if "Check an answer" in prompt:
            return field("reason", reason).replace("[[ ## completed ## ]]", f"[[ ## verdict ## ]]\n{verdict}")
        return field("answer", "It is 42.")

    return reply


@pytest.mark.parametrize(
    ("verdict", "told"),
    [("yes", None), ("partly", "only in part: The year is open."), ("no", "not at all: The year is open.")],
)
def test_the_judge_looks_once_and_tells_its_doubts(opens: Opens, verdict: str, told: str | None) -> None:
    workspace = opens(FLEET_VERIFY="judge")
    lm = scripted(judge(verdict, "The year\nis open."))
    result = ask(workspace, mode="direct", model=lm)
    assert (result.status, result.answer, result.usage.calls) == ("ok", "It is 42.", 2)
    assert [role for role, _ in calls_of(workspace, result)] == ["root", "judge"]
    assert "what?" in lm.engine.prompts[1] and "It is 42." in lm.engine.prompts[1]
    messages = warnings_of(workspace, result)
    assert messages == (
        [] if told is None else [("verify", f"the judge (test/scripted) finds the answer borne out {told}")]
    )
    runs = [e for e in events_of(workspace, result.session) if e.type == "run.finished"]
    assert [e.data.status for e in runs] == ["ok", "ok"]


def test_the_judge_has_its_own_model_and_sees_the_cited_passages(opens: Opens) -> None:
    workspace = opens(FLEET_VERIFY="judge", FLEET_JUDGE_MODEL="demo/search")
    ref = workspace.contexts.add_text("a.txt", "first\nthe needle is blue\n")
    lm = scripted(lambda _: field("answer", "Blue, see a.txt:2."))
    result = ask(workspace, mode="direct", model=lm, contexts=(ref,))
    assert calls_of(workspace, result)[-1] == ("judge", "demo/search")
    judged = [e.data for e in events_of(workspace, result.session) if e.type == "call.started"][-1]
    assert isinstance(judged, ev.CallStarted) and "a.txt:2: the needle is blue" in judged.prompt.head
    ((code, message),) = warnings_of(workspace, result)  # the demo program is no judge and says so
    assert code == "verify" and result.status == "ok"
    assert message


def test_the_judge_stays_within_the_budget_and_what_is_not_checked_is_told(opens: Opens, tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text('[prices."test/scripted"]\ninput_usd_per_million = 1\n')
    with (tmp_path / "settings.toml").open("a") as file:
        file.write("output_usd_per_million = 10\n")
    workspace = opens(FLEET_VERIFY="judge")
    lm = scripted(judge("yes", "x"), max_tokens=100)
    whole = ask(workspace, mode="direct", model=lm, limits=Limits(calls=2))
    assert (whole.status, whole.usage.calls, warnings_of(workspace, whole)) == ("ok", 2, [])
    for unit, limits in {"calls": Limits(calls=1), "cost": Limits(cost_usd=0.0014)}.items():  # one is the answer's
        cut = ask(workspace, mode="direct", model=lm, limits=limits)
        assert (cut.status, cut.answer) == ("ok", "It is 42."), unit
        assert (cut.usage.calls, [role for role, _ in calls_of(workspace, cut)]) == (1, ["root"])
        assert warnings_of(workspace, cut) == [("verify", f"the answer was not checked: the {unit} limit was reached")]
        again = workspace.wait(workspace.replay(cut.turn).turn, timeout=100)
        assert first_difference(of_turn(workspace, cut), of_turn(workspace, again)) is None


def test_a_weak_model_is_called_so_in_plain_words_when_an_agent_is_asked_for(opens: Opens) -> None:
    variables = {"FLEET_MODEL": "openai/gpt-4", "OPENAI_API_KEY": "sk-none", "OPENAI_BASE_URL": ""}
    workspace = opens(**variables)
    root = scripted(lambda _: action("SUBMIT(answer='x')"))
    result = ask(workspace, mode="rlm", model=root, sub_model="openai/gpt-4")
    ((code, message),) = warnings_of(workspace, result)
    assert code == "model.weak"
    assert message.startswith("openai/gpt-4 is likely too weak for agents: it sees 8,192 tokens at once")
    assert warnings_of(workspace, ask(workspace, mode="direct", model=scripted(str), sub_model="openai/gpt-4")) == []


def only_root_answers(root: Reply) -> Callable[[int, str], Reply]:
    refused = refuses(401, "no such key")
    return lambda number, prompt: lambda handler, body: (root if body["model"] == "tiny" else refused)(handler, body)


def test_a_sub_model_that_fails_is_named_as_the_one_that_failed(opens: Opens) -> None:
    code = (
        "run = rlm_query('do it')\ncall = llm_query_batched(['x'])[0]\nSUBMIT(answer=f'{run.message}|{call.message}')"
    )
    with BrokenModel(only_root_answers(says(action(code)))) as model:
        workspace = opens(FLEET_MODEL="openai/tiny", FLEET_SUB_MODEL="openai/sub", FLEET_API_BASE=model.address)
        result = ask(workspace, mode="rlm")
    assert result.status == "ok" and result.answer is not None, result.error
    assert [said.partition(" at ")[0] for said in result.answer.split("|")] == ["openai/sub refused the key"] * 2
    events = events_of(workspace, result.session)
    failed = [e.data.error for e in events if e.type in ("run.finished", "call.finished") and e.data.error]
    assert len(failed) == 3 and all(each.message.startswith("openai/sub refused the key") for each in failed)


def test_a_judge_that_fails_is_named_as_the_one_that_failed(opens: Opens) -> None:
    with BrokenModel(only_root_answers(says(field("answer", "Ada did it.")))) as model:
        workspace = opens(
            FLEET_MODEL="openai/tiny",
            FLEET_JUDGE_MODEL="openai/judge",
            FLEET_VERIFY="judge",
            FLEET_API_BASE=model.address,
        )
        result = ask(workspace, mode="direct")
    assert (result.status, result.answer) == ("ok", "Ada did it."), result.error
    said = dict(warnings_of(workspace, result))["verify"]
    assert said.startswith("the answer was not checked: openai/judge refused the key")
