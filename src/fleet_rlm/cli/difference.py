"""Two compared turns as lines of text."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Iterator

import msgspec

from fleet_rlm.cli.plain import clock, one_line, printable
from fleet_rlm.runtime.execution.diff import RunPair, Side, SideRun, TurnDiff

_SIGNS = {"changed": "~", "added": "+", "removed": "-", "same": "="}


def as_json(found: TurnDiff) -> str:
    """The whole difference as one JSON object; usage that is zero is left out."""
    return msgspec.json.encode(found).decode()


def lines_of(found: TurnDiff) -> Iterator[str]:
    """Numbers, question and answer, then each run that differs with its code and output."""
    a, b = found.a, found.b
    yield f"- {a.turn}  ({a.session})"
    yield f"+ {b.turn}  ({b.session})"
    numbers = _numbers(b)
    for name, before in _numbers(a).items():
        after = numbers[name]
        yield f"  {name:<10} {before}" if before == after else f"  {name:<10} {before} -> {after}"
    yield from _texts("question", a.question, b.question)
    yield from _texts("answer", a.answer or "", b.answer or "")
    different = [pair for pair in found.runs if pair.change != "same"]
    same = len(found.runs) - len(different)
    yield f"runs: {len(different)} different, {same} the same"
    for pair in different:
        yield from _run(pair)


def _numbers(side: Side) -> dict[str, str]:
    usage = side.usage
    return {
        "status": side.status,
        "model": one_line(side.model, 100),
        "cost": "unknown" if usage.cost_usd is None else f"${usage.cost_usd:.4f}",
        "time": clock(usage.wall_s),
        "tokens": f"{usage.prompt_tokens + usage.completion_tokens:,}",
        "calls": f"{usage.calls:,}",
        "runs": f"{side.runs:,}",
        "iterations": f"{side.iterations:,}",
    }


def _run(pair: RunPair) -> Iterator[str]:
    a, b = pair.a, pair.b
    shown = b or a
    task = one_line(shown.task, 100) if shown is not None else ""
    yield f"{_SIGNS[pair.change]} {one_line(pair.path, 200)}  {task}"
    if a is None or b is None:
        return
    if (a.status, a.model) != (b.status, b.model):
        yield f"    {_state(a)} -> {_state(b)}"
    for name, before, after in _parts(a, b):
        yield from (f"    {line}" for line in _texts(name, before, after))


def _state(run: SideRun) -> str:
    return f"{run.status} ({one_line(run.model, 100)})"


def _parts(a: SideRun, b: SideRun) -> Iterator[tuple[str, str, str]]:
    yield "task", a.task, b.task
    if not (a.replayed or b.replayed):  # one of them was not run again
        for number, (before, after) in enumerate(itertools.zip_longest(a.cells, b.cells, fillvalue=""), 1):
            yield f"cell {number}", before, after
    yield "output", a.output or "", b.output or ""


def _texts(name: str, before: str, after: str) -> Iterator[str]:
    """The lines that differ, with two around them; nothing when the texts are the same."""
    if before == after:
        return
    yield f"{name}:"
    old, new = printable(before).splitlines(), printable(after).splitlines()
    for line in itertools.islice(difflib.unified_diff(old, new, lineterm="", n=2), 2, None):  # after its two heads
        yield f"  {line}"
