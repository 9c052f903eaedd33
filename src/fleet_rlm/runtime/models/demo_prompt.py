"""Reading a request the way a model would: which fields are given, which are wanted, what happened before."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Literal, cast

from dspy import lm15

Style = Literal["chat", "json", "raw"]
AnswerKind = Literal["text", "ranking", "lines", "impossible"]

_FIELD_LINE = re.compile(r"^\d+\. `(\w+)` \((.*?)\):", re.MULTILINE)
_STEP = re.compile(r"^=== Step \d+ ===$", re.MULTILINE)
_OUTPUT = re.compile(r"\n```\nOutput \([\d,]+ chars\):\n")
_VARIABLE = re.compile(r"Variable: `(\w+)`.*?\n\s*Type: ([^\n]*).*?Total length: ([\d,]+) characters", re.DOTALL)
_INPUTS = re.compile(r"following outputs given the inputs ([^\n]*):\n")
_WANTED = re.compile(r"^\s*- \{(\w+)\}(?:\s*# note: ([^\n]*))?$", re.MULTILINE)
_OFFERED = re.compile(r"`(\w+)\(")
_ITERATION = re.compile(r"(\d+)/(\d+)")


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a tool of the agent gave back."""

    name: str
    text: str
    is_error: bool


@dataclass(frozen=True, slots=True)
class Prompt:
    """A request, read. `fields` are the newest message's input fields; `wanted` the output fields with their types.

    `results` are the tool results since the newest question; `tools` the native tools that are offered.
    """

    style: Style
    system: str
    text: str
    fields: dict[str, str]
    wanted: dict[str, str]
    tools: tuple[str, ...]
    results: tuple[ToolResult, ...]
    chars: int


@dataclass(frozen=True, slots=True)
class Action:
    """An RLM's action prompt, read. `outputs` are what its cells printed, `sizes` characters per variable."""

    outputs: tuple[str, ...]
    sizes: dict[str, int]
    inputs: tuple[str, ...]
    wanted: dict[str, AnswerKind]
    offered: frozenset[str]
    iteration: int
    limit: int


def read_request(request: lm15.Request) -> Prompt:
    """The request as a Prompt."""
    system = request.system if isinstance(request.system, str) else _text_of(request.system or ())
    given, _, wanted_part = system.partition("Your output fields are:")
    inputs = [name for name, _ in _FIELD_LINE.findall(given)]
    wanted = dict(_FIELD_LINE.findall(wanted_part.partition("All interactions will be")[0]))
    texts = [(message.role, _text_of(message.parts)) for message in request.messages]
    marker = f"[[ ## {inputs[0]} ## ]]" if inputs else ""
    asked = [number for number, (role, text) in enumerate(texts) if role == "user" and text.startswith(marker)]
    newest = asked[-1] if asked else len(texts) - 1
    style: Style = "raw" if not wanted else "json" if "Outputs will be a JSON object" in system else "chat"
    return Prompt(
        style=style,
        system=system,
        text=texts[newest][1],
        fields=_split_fields(texts[newest][1], inputs),
        wanted=wanted,
        tools=tuple(tool.name for tool in request.tools),
        results=tuple(_results(request.messages[newest + 1 :])),
        chars=len(system) + sum(len(text) for _, text in texts),
    )


def read_action(prompt: Prompt) -> Action:
    """The prompt of an RLM's next action: its variables, its history, its place."""
    names = _INPUTS.search(prompt.system)
    place = _ITERATION.search(prompt.fields.get("iteration", ""))
    offered_part = prompt.system[names.start() if names else 0 :]
    return Action(
        outputs=tuple(outputs_in(prompt.fields.get("repl_history", ""))),
        sizes=sizes_in(prompt.fields.get("variables_info", "")),
        inputs=tuple(re.findall(r"`(\w+)`", names[1])) if names else (),
        wanted=_wanted_of_action(prompt.system),
        offered=frozenset(_OFFERED.findall(offered_part)),
        iteration=int(place[1]) if place else 1,
        limit=int(place[2]) if place else 1,
    )


def outputs_in(history: str) -> list[str]:
    """What each cell of a `repl_history` printed, in order."""
    outputs: list[str] = []
    for step in _STEP.split(history)[1:]:
        found = _OUTPUT.search(step)
        outputs.append(step[found.end() :].rstrip("\n") if found else "")
    return outputs


def sizes_in(variables_info: str) -> dict[str, int]:
    """Characters of each variable, as the prompt tells them."""
    return {name: int(size.replace(",", "")) for name, _, size in _VARIABLE.findall(variables_info)}


def kind_of_type(name: str) -> AnswerKind:
    """What to answer where a value of this Python type is wanted."""
    bare = name.replace(" ", "")
    if bare in ("str", "Any", "Union[str,NoneType]", "Optional[str]"):
        return "text"
    if bare.startswith("list"):
        return (
            "lines"
            if bare == "list[str]"
            else "ranking"
            if bare == "list" or "dict" in bare or "Any" in bare
            else ("impossible")
        )
    return "impossible"


def _wanted_of_action(system: str) -> dict[str, AnswerKind]:
    wanted_part = system.partition("following outputs given the inputs")[2].partition("You have access to")[0]
    return {name: _kind_of_note(note) for name, note in _WANTED.findall(wanted_part)}


def _kind_of_note(note: str) -> AnswerKind:
    if not note:
        return "text"
    try:
        schema = json.loads(note[note.index("{") :])
    except ValueError:
        return "impossible"
    if not isinstance(schema, dict) or cast("dict[str, Any]", schema).get("type") != "array":
        return "impossible"
    items = cast("dict[str, Any]", schema).get("items") or {}
    kind = cast("dict[str, Any]", items).get("type", "object")
    return "lines" if kind == "string" else "ranking" if kind == "object" else "impossible"


def _split_fields(text: str, names: list[str]) -> dict[str, str]:
    """The values between the markers of the declared fields.

    What a run has seen may hold such markers too: its own fields are found from the end, where its place stands, all
    others from the beginning.
    """
    from_end = "repl_history" in names
    places: list[tuple[str, int, int]] = []
    low, high = 0, len(text)
    for name in reversed(names) if from_end else names:
        marker = f"[[ ## {name} ## ]]"
        found = text.rfind(marker, 0, high) if from_end else text.find(marker, low)
        if found >= 0:
            places.append((name, found, found + len(marker)))
            low, high = found + len(marker), found
    places.sort(key=lambda place: place[1])
    values: dict[str, str] = {}
    for number, (name, _, begin) in enumerate(places):
        last = number + 1 == len(places)
        end = text.rfind("\n\nRespond with") if last else places[number + 1][1]
        values[name] = text[begin : end if end > begin else len(text)].strip()
    return values


def _results(messages: tuple[lm15.Message, ...]) -> list[ToolResult]:
    return [
        ToolResult(part.name or "", _text_of(part.content), part.is_error)
        for message in messages
        for part in message.parts
        if isinstance(part, lm15.ToolResultPart)
    ]


def _text_of(parts: Any) -> str:
    return "\n".join(part.text for part in parts if isinstance(part, lm15.TextPart))
