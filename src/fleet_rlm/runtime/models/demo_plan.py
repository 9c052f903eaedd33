"""What the demo program does next in a run: look, split, search, bring together, answer. Pure functions.

look        iteration 1 of a run that owes an answer in words: sizes and budget, printed
split       large input and depth left: pieces to child runs, their rankings brought together
rescue      pieces whose child failed are searched here
local       small input, no depth left, or a child run: rank the lines and submit
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Final, cast

from fleet_rlm.runtime.models.demo_prompt import Action, AnswerKind
from fleet_rlm.runtime.models.demo_search import RANK_AND_MERGE_CODE, RANK_CODE, SPLIT_AND_MERGE_CODE

SPLIT_CHARS: Final = 200_000
"""Inputs below this are searched in one piece."""
LARGE_CHARS: Final = 1_000_000
MIN_PIECES: Final = 8
MAX_PIECES: Final = 32
CHILD_SPLIT_CHARS: Final = 8_000_000
"""A child run splits again only above this."""

LOOKED: Final = "LOOK "
FAILED: Final = "FAILED CHILD RUNS: "
PARTIAL: Final = "ANSWER SO FAR:"

_QUESTION_NAMES: Final = ("task", "question", "query")
_ERROR = "[Error]"

NO_CONTEXT = (
    "**Demo search program** (not an AI model): it searches texts and cannot answer without one. Attach a file, a "
    "folder or a text and ask again, or choose a language model in the settings (or `--model`)."
)


@dataclass(frozen=True, slots=True)
class Cell:
    """The next action: why, and the code."""

    reasoning: str
    code: str


def next_cell(action: Action) -> Cell | None:
    """The next cell, or None where the wanted type is one that a search cannot give."""
    kinds = set(action.wanted.values())
    if not kinds or "impossible" in kinds or len(kinds) > 1:
        return None
    kind = kinds.pop()
    names = _Names.of(action)
    if not names.context:
        return Cell("There is no context to search.", _submit(action, repr(NO_CONTEXT if kind == "text" else [])))
    errors = sum(output.startswith(_ERROR) for output in action.outputs)
    searched = next((output for output in reversed(action.outputs) if PARTIAL in output), None)
    last_chance = action.iteration >= action.limit
    if searched is not None and (errors or last_chance or failed_children(searched) == 0):
        return Cell("All pieces are searched; the answer stands in `answer`.", _submit(action, "answer"))
    if errors >= 2:
        return _give_up(action, kind)
    if searched is not None:
        return _rescue(action, names, kind)
    looked = look_of(action.outputs)
    if not action.outputs and kind == "text" and not last_chance:
        return _look(action, names)
    parts = 0 if errors or last_chance else pieces_for(action, names, looked, kind)
    return _split(names, kind, parts) if parts else _local(action, names, kind)


def pieces_for(action: Action, names: _Names, looked: dict[str, Any], kind: AnswerKind) -> int:
    """Into how many pieces to split; 0 = search here. Bounded by what the budget leaves for child runs."""
    if "rlm_query_batched" not in action.offered:
        return 0
    chars = looked.get("chars") or sum(action.sizes.get(name, 0) for name in names.context)
    if chars < (SPLIT_CHARS if kind == "text" else CHILD_SPLIT_CHARS):
        return 0
    wanted = chars // 150_000 if chars < LARGE_CHARS else max(MIN_PIECES, chars // 500_000)
    budget = cast("dict[str, Any]", looked.get("budget") or {})
    if budget.get("depth_left") == 0:
        return 0
    calls, children = budget.get("calls_left"), budget.get("children_left")
    affordable = (int(calls) - 3) // 2 if isinstance(calls, int) else MAX_PIECES  # a child keeps a call in reserve
    affordable = min(affordable, int(children) if isinstance(children, int) else MAX_PIECES)
    parts = min(wanted, MAX_PIECES, affordable)
    return parts if parts >= 2 else 0


def look_of(outputs: tuple[str, ...]) -> dict[str, Any]:
    """What the look printed, or an empty dict."""
    for output in outputs:
        place = output.find(LOOKED)
        if place >= 0:
            try:
                value = json.loads(output[place + len(LOOKED) :].splitlines()[0])
            except ValueError:
                continue
            if isinstance(value, dict):
                return cast("dict[str, Any]", value)
    return {}


def failed_children(output: str) -> int:
    """How many pieces the cell that printed this could not get searched."""
    found = re.search(rf"^{FAILED}(\d+)", output, re.MULTILINE)
    return int(found[1]) if found else 0


def partial_answer(outputs: tuple[str, ...]) -> str | None:
    """The newest answer that a cell has printed, for a run that is cut short."""
    for output in reversed(outputs):
        if PARTIAL in output:
            return output.partition(PARTIAL)[2].strip() or None
    return None


@dataclass(frozen=True, slots=True)
class _Names:
    """The variables: the question's, and those to search."""

    question: str
    context: tuple[str, ...]

    @classmethod
    def of(cls, action: Action) -> _Names:
        names = action.inputs or tuple(action.sizes)
        question = next((name for name in _QUESTION_NAMES if name in names), names[-1] if names else "task")
        return cls(question, tuple(name for name in names if name != question))

    @property
    def value(self) -> str:
        """The expression for everything that is to be searched."""
        if len(self.context) == 1:
            return self.context[0]
        return "{" + ", ".join(f"{name!r}: {name}" for name in self.context) + "}"


def _look(action: Action, names: _Names) -> Cell:
    if "context_info" in action.offered:
        measure = (
            "info = context_info()\n"
            'look = {"chars": sum(item["chars"] for item in info.values()),\n'
            '        "lines": sum(item.get("lines", 0) for item in info.values()),\n'
            '        "files": sum(len(item.get("files", ())) for item in info.values())}\n'
        )
    else:
        sizes = ", ".join(f"len({name})" for name in names.context)
        measure = f'look = {{"chars": sum([{sizes}]), "lines": None}}\n'
    budget = 'look["budget"] = budget()\n' if "budget" in action.offered else ""
    return Cell(
        "I am a search program. First I look at how large the input is and what budget is left.",
        f"import json\n\n{measure}{budget}print({LOOKED!r} + json.dumps(look, default=str))",
    )


def _split(names: _Names, kind: AnswerKind, parts: int) -> Cell:
    code = f"""{SPLIT_AND_MERGE_CODE}


pieces = split({names.value}, {parts})
found = rlm_query_batched(tasks={names.question}, contexts=pieces, schema="list[dict]")
failed = [number for number, item in enumerate(found) if not is_ranking(item)]
for number, item in enumerate(found):
    state = f"{{len(item) - 1}} passages" if is_ranking(item) else f"failed: {{item!r}}"[:200]
    print(f"piece {{number + 1}}: {{state}}")
ranking = combine([item for item in found if is_ranking(item)])
how = f"by {{len(pieces)}} child runs"
notes = [f"{{len(failed)}} pieces could not be searched: {{found[failed[0]]!r}}"[:300]] if failed else []
answer = {_value(kind, "compose(ranking, how, notes)")}
print({FAILED!r} + str(len(failed)))
print({PARTIAL!r})
print(answer if isinstance(answer, str) else len(answer))"""
    reason = f"The input is large: I split it into about {parts} pieces and give each to a child run, then merge."
    return Cell(reason, code)


def _rescue(action: Action, names: _Names, kind: AnswerKind) -> Cell:
    code = f"""{RANK_CODE}


reason = repr(found[failed[0]])[:160]
for number in failed:
    found[number] = rank({names.question}, pieces[number])
ranking = combine(found)
how = f"by {{len(pieces) - len(failed)}} child runs"
how += f"; {{len(failed)}} failed ({{reason}}) and their pieces were searched here"
answer = {_value(kind, "compose(ranking, how, [])")}
{_submit(action, "answer")}"""
    return Cell("Some child runs failed: I search their pieces here.", code)


def _local(action: Action, names: _Names, kind: AnswerKind) -> Cell:
    library = RANK_CODE if kind == "ranking" else RANK_AND_MERGE_CODE
    code = f"""{library}


ranking = rank({names.question}, {names.value})
answer = {_value(kind, 'compose(ranking, "in one piece", [])')}
{_submit(action, "answer")}"""
    return Cell("I rank the lines of the input by the words of the task and submit the best.", code)


def _give_up(action: Action, kind: AnswerKind) -> Cell:
    error = next(output for output in reversed(action.outputs) if output.startswith(_ERROR))
    said = f"**Demo search program**: the search failed: {' '.join(error.split())[:300]}"
    value = repr(said) if kind == "text" else repr([{"error": said}]) if kind == "ranking" else "[]"
    return Cell("The search failed twice; I say so.", _submit(action, value))


def _value(kind: AnswerKind, text: str) -> str:
    if kind == "text":
        return text
    return (
        "ranking"
        if kind == "ranking"
        else "[f\"{item['path']}:{item['line']} {item['text']}\" for item in ranking[1:]]"
    )


def _submit(action: Action, expression: str) -> str:
    return "SUBMIT(" + ", ".join(f"{name}={expression}" for name in action.wanted) + ")"
