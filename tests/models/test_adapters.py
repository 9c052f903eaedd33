"""Adapters: what is left of a reply that has not the form that was asked for."""

from typing import Any

import dspy
import pytest
from dspy.primitives.repl_types import REPLHistory
from dspy.utils.exceptions import AdapterParseError
from tests.scripted import action

from fleet_rlm.runtime.models.adapters import Chat, Json
from fleet_rlm.runtime.models.rlm import salvage


@pytest.mark.parametrize("code", ["names = {f'child {i}' for i in range(9)}", 'found = {"a": 1}\nprint(found)'])
def test_code_with_braces_is_taken_out_of_a_reply_that_is_no_json(code: str) -> None:
    with pytest.raises(AdapterParseError) as caught:
        Json().parse(dspy.Signature("task -> reasoning, code"), action(code))
    found = salvage(caught.value.lm_response)
    assert found is not None and found.code.strip() == code


class Told(dspy.Signature):
    """Do it."""

    task: str = dspy.InputField()
    steps: REPLHistory = dspy.InputField()
    names: str = dspy.InputField()
    numbers: list[int] = dspy.InputField()
    more: dict[str, float] | None = dspy.InputField()
    answer: int = dspy.OutputField()


@pytest.mark.parametrize(
    "inputs",
    [
        {"task": 'say "ü"\n\nnow', "steps": REPLHistory(), "names": ["a", "b"], "numbers": [1, 2], "more": None},
        {"task": " x ", "steps": REPLHistory().append(code="1", output="2"), "names": "n", "numbers": []},
        {"task": {"a": ["b"]}, "names": 3.5, "more": {"x": 1.0}},
    ],
)
def test_a_prompt_is_written_as_dspy_writes_it(inputs: dict[str, Any]) -> None:
    theirs, ours = dspy.ChatAdapter(), Chat()
    assert ours.format(Told, [], inputs) == theirs.format(Told, [], inputs)
    one = {"inputs": inputs, "prefix": "before", "suffix": "after"}
    assert ours.format_user_message_content(Told, **one) == theirs.format_user_message_content(Told, **one)
