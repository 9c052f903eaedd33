"""Tool calls that a model writes into its text, in a form that it learnt and nobody asked it for.

Models without tools of their own, or behind a server that does not read their calls, write
`<tool_call>{...}</tool_call>` (Hermes, Qwen), a fenced or bare JSON object (Llama) or `Action:` and `Action Input:`
(ReAct). Only what ends a reply counts: who quotes a call goes on talking.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, cast

MAX_CHARS = 200_000
"""A longer reply is not searched."""
MAX_CALLS = 16
_TAG, _ACTION = "<tool_call>", "Action:"
_TAGGED = re.compile(rf"^[ \t]*{_TAG}", re.MULTILINE)
_ACTED = re.compile(rf"^[ \t]*{_ACTION}[ \t]*`?([\w.-]+)`?[ \t]*\n\s*Action Input:\s*", re.MULTILINE)
_FENCE = "```"
_LANGUAGE = re.compile(r"\w*\s")
_ARGUMENTS = ("arguments", "parameters", "args")


def _begins(word: str) -> str:
    return "|".join(re.escape(word[:n]) for n in range(1, len(word)))


_NAMED = rf'"name"(?:(?!{_FENCE}).)*(?:{_FENCE}\s*)?|{_begins(chr(34) + "name" + chr(34))}'
_BEGUN = re.compile(
    rf"^[ \t]*(?:(?:{_begins(_TAG)}|{_begins(_ACTION)}|`{{1,2}})\Z|{_TAG}"
    rf"|{_ACTION}[^\n]*(?:\n\s*(?:Action Input:.*|{_begins('Action Input:')})?)?\Z"
    rf"|{_FENCE}\w*(?:\s+(?:[\[{{][\s\[{{]*(?:{_NAMED})?)?)?\Z)",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Written:
    """A text that ends with calls: what was said before them, and (name, arguments) of each."""

    before: str
    calls: tuple[tuple[str, dict[str, Any]], ...]


def written_calls(text: str) -> Written | None:
    """The calls with which a reply ends, whatever their names; None when it does not end with any that can be read."""
    text = text.strip()
    if len(text) > MAX_CHARS:
        return None
    tagged, acted = _TAGGED.search(text), _ACTED.search(text)
    if tagged is not None:
        bodies = text[tagged.end() :].split(_TAG, MAX_CALLS)
        return _written(text[: tagged.start()], [_read(body.strip().removesuffix("</tool_call>")) for body in bodies])
    if acted is not None:
        return _written(text[: acted.start()], [_acted(acted.group(1), text[acted.end() :])])
    if text.endswith(_FENCE) and (start := text.rfind(_FENCE, 0, -len(_FENCE))) >= 0:
        body = text[start + len(_FENCE) : -len(_FENCE)]
        return _written(text[:start], [_read(_LANGUAGE.sub("", body, count=1) if _LANGUAGE.match(body) else body)])
    return _written("", [_read(text)]) if text.startswith(("{", "[")) else None


def begun_at(text: str) -> int | None:
    """Where in a growing text a call may have begun; None when what is there so far can be none."""
    found = _BEGUN.search(text)
    return None if found is None else found.start()


def _written(before: str, values: list[Any]) -> Written | None:
    items = [item for value in values for item in (cast("list[Any]", value) if isinstance(value, list) else [value])]
    calls = [_call(item) for item in items[: MAX_CALLS + 1]]
    whole = tuple(call for call in calls if call is not None)
    return Written(before.strip(), whole) if whole and len(whole) == len(calls) <= MAX_CALLS else None


def _call(value: Any) -> tuple[str, dict[str, Any]] | None:
    if not isinstance(value, dict):
        return None
    fields = cast("dict[str, Any]", value)
    name, given = fields.get("name"), next((fields[key] for key in _ARGUMENTS if key in fields), None)
    arguments: Any = _read(given) if isinstance(given, str) else given
    return (name, arguments) if isinstance(name, str) and isinstance(arguments, dict) else None


def _acted(name: str, rest: str) -> Any:
    """A call of the ReAct form. What follows it may only be the result that the model made up."""
    try:
        arguments, end = json.JSONDecoder(strict=False).raw_decode(rest)
    except (ValueError, RecursionError):
        return None
    after = rest[end:].strip()
    return {"name": name, "arguments": arguments} if not after or after.startswith("Observation:") else None


def _read(text: str) -> Any:
    """The JSON value that the text is; None when it is none. Models write line ends into strings as they are."""
    try:
        return json.loads(text, strict=False)
    except (ValueError, RecursionError):
        return None
