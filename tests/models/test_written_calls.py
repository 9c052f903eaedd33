"""Tool calls in a model's text: which forms are read, and what is left alone."""

import pytest

from fleet_rlm.runtime.models.visible import Visible, visible
from fleet_rlm.runtime.models.written_calls import MAX_CALLS, Written, begun_at, written_calls

TAGGED = '<tool_call>\n{"name": "look", "arguments": {"what": "x"}}\n</tool_call>'
FENCED = '```json\n{"name": "look", "arguments": {"what": "x"}}\n```'
ACTED = 'Action: look\nAction Input: {"what": "x"}'
LOOK = ("look", {"what": "x"})


@pytest.mark.parametrize(
    ("text", "before", "calls"),
    [
        (TAGGED, "", [LOOK]),
        (f"Let me see.\n{TAGGED}\n{TAGGED}\n", "Let me see.", [LOOK, LOOK]),
        (TAGGED.removesuffix("</tool_call>"), "", [LOOK]),
        (f"Let me see.\n\n{FENCED}", "Let me see.", [LOOK]),
        (FENCED.replace("json", ""), "", [LOOK]),
        (f"```json\n[{FENCED[8:-4]}, {FENCED[8:-4]}]\n```", "", [LOOK, LOOK]),
        ('{"name": "look", "parameters": {"what": "x"}}', "", [LOOK]),
        ('{"name": "look", "arguments": "{\\"what\\": \\"x\\"}"}', "", [LOOK]),
        (f"Thought: hm\n{ACTED}", "Thought: hm", [LOOK]),
        (f"{ACTED}\nObservation: I made this up\n{ACTED}", "", [LOOK]),
        ('<tool_call>{"name": "look", "arguments": {"what": "two\nlines"}}</tool_call>', "", [("look", {"what": "two\nlines"})]),
    ],
)  # fmt: skip
def test_calls_at_the_end_of_a_reply_are_read(text: str, before: str, calls: list[tuple[str, dict[str, str]]]) -> None:
    assert written_calls(text) == Written(before, tuple(calls))
    assert begun_at(text) is not None or text.startswith("{")


@pytest.mark.parametrize(
    "text",
    [
        "It is Tokyo.",
        f"{TAGGED}\nis how Qwen calls a tool.",
        f"It writes `{TAGGED}`",
        f"{FENCED}\nis how a call looks.",
        f"{ACTED}\nis the form of ReAct.",
        "Action: look\nAction Input: x",
        "<tool_call>look</tool_call>",
        '{"name": "Tokyo", "country": "Japan"}',
        '```json\n{"name": "Tokyo", "args": 3}\n```',
        "```python\nprint(1)\n```",
        '```json\n{"a": 1}\n```',
        "<tool_call>" + "[" * 100_000,
        "\n".join([TAGGED] * (MAX_CALLS + 1)),
    ],
)
def test_what_is_no_call_is_left_alone(text: str) -> None:
    assert written_calls(text) is None
    assert visible(text, done=True).answer in (text.strip(), "")


@pytest.mark.parametrize("text", [TAGGED, FENCED, ACTED, f"{ACTED}\nObservation: x"])
def test_a_call_is_not_shown_as_an_answer_while_it_is_written(text: str) -> None:
    said = f"Let me see.\n{text}"
    for n in range(len(said) + 1):
        assert "Let me see.".startswith(visible(said[:n], done=False).answer), said[:n]
    assert visible(said, done=True) == Visible()


@pytest.mark.parametrize(
    "text",
    [
        "Action: none\nis needed.",
        '```json\n{"name": "a"}\n```\nis its package.json.',
        "<b>bold</b> text",
        "```python\nprint(1)\n```\nprints 1.",
    ],
)
def test_what_only_looks_like_a_call_at_first_is_shown(text: str) -> None:
    assert visible(text, done=False).answer == text == visible(text, done=True).answer


def test_the_answer_of_a_written_submit_is_the_answer() -> None:
    text = '<tool_call>{"name": "submit", "arguments": {"answer": "Tokyo"}}</tool_call>'
    assert visible(text, done=True) == Visible(answer="Tokyo")
