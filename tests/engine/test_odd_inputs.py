"""What model-written code gives by mistake: halves of surrogate pairs, items that no child can be given, wrong types."""

from typing import Any

import dspy
import pytest
from tests.engine.conftest import events_of
from tests.engine.test_turns import ask, check_journal, task_of
from tests.scripted import action, scripted

from fleet_rlm.runtime.execution import events as ev
from fleet_rlm.runtime.execution.requests import TurnResult
from fleet_rlm.runtime.factory import Workspace


def run(workspace: Workspace, *codes: str, child: str = "SUBMIT(answer=task + str(context))") -> tuple[TurnResult, Any]:
    """The root runs `codes`, one a step; children run `child`."""
    left = iter(codes)

    def reply(prompt: str) -> str:
        if "[[ ## variables_info ## ]]" not in prompt:
            return f"got {prompt.split()[-1]}"
        return action(child if task_of(prompt).startswith("child") else next(left))

    lm = scripted(reply)
    result = ask(workspace, "go", mode="rlm", model=lm)
    check_journal(events_of(workspace, result.session))
    return result, lm.engine


def ends(workspace: Workspace, result: TurnResult) -> list[ev.RunFinished]:
    return [e.data for e in events_of(workspace, result.session) if isinstance(e.data, ev.RunFinished)]


def test_half_an_emoji_in_what_a_step_shows_is_sent_as_a_replacement_character(workspace: Workspace) -> None:
    raises = "import json\nraise RuntimeError('odd: ' + json.loads('\"\\\\ud83d\"'))"
    result, engine = run(workspace, raises, "SUBMIT(answer='went on')")
    assert result.answer == "went on", result.error
    assert "odd: \ufffd" in engine.prompts[1]


def test_one_odd_prompt_of_a_batch_is_asked_as_the_others_are(workspace: Workspace) -> None:
    result, _ = run(workspace, "SUBMIT(answer=' '.join(llm_query_batched(['a', '\\ud83d', 'c'])))")
    assert result.answer == "got a got \ufffd got c", result.error


def test_a_child_is_given_whole_characters(workspace: Workspace) -> None:
    code = (
        "got = rlm_query_batched('child \\ud83d', ['a', ['\\ude00 c', {'\\ud83d': 1}]])\nSUBMIT(answer=' '.join(got))"
    )
    result, _ = run(workspace, code)
    assert result.answer == "child \ufffda child \ufffd['\ufffd c', {'\ufffd': 1}]", result.error
    assert {each.status for each in ends(workspace, result)} == {"ok"}


def test_an_item_that_cannot_be_given_fails_alone(workspace: Workspace) -> None:
    code = (
        "deep = []\nfor _ in range(200): deep = [deep]\n"
        "a, bad, c = rlm_query_batched('child ', ['a', deep, 'c'])\nSUBMIT(answer=a + c + bad.error + ': ' + str(bad))"
    )
    result, _ = run(workspace, code)
    assert result.answer is not None and result.answer.startswith("child achild cinvalid_input: "), result.error
    assert "nested too deep" in result.answer


def test_a_model_that_no_child_may_have_is_no_failure_of_each(workspace: Workspace) -> None:
    code = "try: rlm_query_batched('child', ['a'], model='no such')\nexcept Exception as e: SUBMIT(answer=str(e))"
    result, _ = run(workspace, code)
    assert result.answer is not None and "'no such' is not allowed here" in result.answer


@pytest.mark.parametrize(
    ("call", "told"),
    [
        ("rlm_query_batched(5)", "rlm_query_batched takes a list of tasks"),
        ("rlm_query_batched({'a': 'child'})", "rlm_query_batched takes a list of tasks"),
        ("rlm_query_batched('child', contexts=5)", "contexts is a list"),
        ("rlm_query_batched('child', contexts={'a': 1})", "contexts is a list"),
        ("ask_user('q', choices=5)", "choices must be a list of texts"),
        ("ask_user('q', choices=[5])", "choices must be a list of texts"),
        ("save_artifact('/etc', 'x')", "'/etc' is a folder"),
        ("import pathlib; save_artifact(pathlib.Path('/etc'), 'x')", "'/etc' is a folder"),
    ],
)
def test_a_wrong_argument_is_told_in_one_line_that_names_it(workspace: Workspace, call: str, told: str) -> None:
    code = f"try:\n    {call}\n    SUBMIT(answer='taken')\nexcept Exception as e: SUBMIT(answer=str(e))"
    result, _ = run(workspace, code)
    assert result.answer is not None and told in result.answer and "\n" not in result.answer
    assert "pydantic" not in result.answer and not result.artifacts


def test_a_text_that_only_looks_like_a_path_is_saved(workspace: Workspace) -> None:
    result, _ = run(
        workspace, "a = save_artifact('/no/such/folder', 'x')\nb = save_artifact('etc', 'y')\nSUBMIT(answer='')"
    )
    assert [(each.name, each.bytes) for each in result.artifacts] == [("x", 15), ("y", 3)], result


class Broken(dspy.BaseLM):
    """An LM of the caller's own that raises what no LM should, for a child."""

    def __init__(self) -> None:
        super().__init__(model="test/broken")

    def forward(self, prompt: Any = None, messages: Any = None, **_: Any) -> Any:
        raise KeyError("not an LMError")


def test_a_run_that_an_unforeseen_error_ends_was_not_cancelled(workspace: Workspace) -> None:
    result = ask(workspace, "go", mode="rlm", model=Broken())
    assert result.status == "failed"
    (end,) = ends(workspace, result)
    assert end.status == "failed" and end.error is not None and end.error.code == "internal"
