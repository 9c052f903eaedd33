"""What a person may already see of a reply that is being written: the thought before it, and the answer.

A model writes in one of four ways: as the argument of the `submit` tool, as a JSON object, between DSPy's field
markers, or as plain text, at whose end may stand a tool call in a form of its own (`written_calls.py`). Everything here
works on the text so far and gives a longer beginning each time.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic_core import from_json

from fleet_rlm.runtime.models.written_calls import begun_at, written_calls

ANSWER = "answer"
THOUGHTS = ("next_thought", "reasoning")
_MARK = re.compile(r"\[\[ ## (\w+) ## \]\]")
_BEGUN_MARK = re.compile(r"\[(\[[ #\w]{0,64}\]?)?\Z")
_FENCE = re.compile(r"\A```\w*\n|\n?```\s*\Z")


@dataclass(frozen=True, slots=True)
class Visible:
    """The parts of a reply that are for people."""

    thought: str = ""
    answer: str = ""


def visible(text: str, tools: Sequence[tuple[str, str]] = (), *, done: bool, speaks: bool = True) -> Visible:
    """The reply as far as it is written.

    Args:
        tools: (name, arguments so far) of native tool calls.
        done: nothing more will come.
        speaks: plain text is meant for the person; else it is what the model thinks before its code.
    """
    for name, arguments in tools:
        if name == "submit":
            return Visible(answer=_text(_json(arguments), ANSWER))
    if tools:
        return Visible()
    start = text.lstrip()
    if start.startswith("{"):
        return _of_fields(_json(start))
    if _MARK.search(text):
        return _marked(text, done=done)
    if start.startswith("[[") or not start:
        return Visible()
    if not speaks:
        return Visible(thought=_before_code(_without_mark(text, done=done).strip(), done=done))
    return _spoken(text, done=done)


def plain_answer(reply: str) -> str:
    """What a reply that does not parse says to a person: what was shown of it, where its fields are marked."""
    if not _MARK.search(reply):
        return reply
    seen = _marked(reply, done=True)
    meant = seen.answer if "tool_calls" in _MARK.findall(reply) else seen.answer or seen.thought
    return meant or reply


def _spoken(text: str, *, done: bool) -> Visible:
    """A plain text; of calls that it ends with, only the answer of a `submit` is for people."""
    if done:
        written = written_calls(text)
        if written is None:
            return Visible(answer=text.strip())
        return Visible(answer=next((_text(given, ANSWER) for name, given in written.calls if name == "submit"), ""))
    begun = begun_at(text)
    return Visible(answer=_without_mark(text if begun is None else text[:begun], done=done).strip())


def _marked(text: str, *, done: bool) -> Visible:
    """Sections between markers; the last one may still be growing."""
    pieces = _MARK.split(text)
    sections = {name: body.strip() for name, body in zip(pieces[1::2], pieces[2::2], strict=True)}
    last = pieces[-2]
    sections[last] = _without_mark(pieces[-1], done=done).strip()
    thought = next((sections[name] for name in THOUGHTS if name in sections), "")
    # A model that marks only the end of its reply has said its answer before that.
    answer = sections.get(ANSWER, "") or (pieces[0].strip() if sections.keys() == {"completed"} else "")
    if not answer and "tool_calls" in sections:
        answer = _submitted({"tool_calls": _json(_FENCE.sub("", sections["tool_calls"]))})
    return Visible(thought, answer)


def _of_fields(value: dict[str, Any]) -> Visible:
    thought = next((found for name in THOUGHTS if (found := _text(value, name))), "")
    return Visible(thought, _text(value, ANSWER) or _submitted(value))


def _submitted(value: dict[str, Any]) -> str:
    """The answer inside text tool calls: `{"tool_calls": {"tool_calls": [{"name": "submit", "args": {...}}]}}`."""
    calls: Any = value.get("tool_calls")
    while isinstance(calls, dict):
        calls = calls.get("tool_calls")
    for call in calls if isinstance(calls, list) else []:
        if isinstance(call, dict) and call.get("name") == "submit":
            arguments = call.get("args")
            return _text(arguments, ANSWER) if isinstance(arguments, dict) else ""
    return ""


def _json(text: str) -> dict[str, Any]:
    try:  # as bytes: of a text with half a surrogate pair pydantic raises TypeError
        value: Any = from_json(text.encode("utf-8", "replace"), allow_partial="trailing-strings")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {"tool_calls": value}


def _text(value: dict[str, Any], name: str) -> str:
    found = value.get(name)
    if isinstance(found, dict):  # DSPy's own type for thoughts
        found = found.get("content")
    return found if isinstance(found, str) else ""


def _without_mark(text: str, *, done: bool) -> str:
    """Without a beginning of a marker that may still be coming."""
    begun = None if done else _BEGUN_MARK.search(text)
    return text[: begun.start()] if begun else text


def _before_code(text: str, *, done: bool) -> str:
    """Without the code block that a run's model writes after its thought."""
    cut = text.find("```")
    if cut >= 0:
        return text[:cut].rstrip()
    return text if done else text.rstrip("`").rstrip()
