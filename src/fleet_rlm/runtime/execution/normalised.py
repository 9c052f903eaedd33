"""A turn's events without what differs each time it runs: ids, times, and how parallel work interleaved.

Two runs of the same turn over the same answers have the same normalised events; `first_difference` names where two
turns part.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from typing import Any, cast

import msgspec

from fleet_rlm.runtime.execution import events as ev
from fleet_rlm.runtime.execution.paths import ROOT

_TIMES = frozenset(("ms", "queued_ms", "model_ms", "sandbox_ms", "wall_s", "deadline", "ts"))
_OF_THE_RUN = frozenset(("replayed", "cached", "shared", "origin", "before", "command", "provider", "objects"))
"""How an answer came, not what it was."""
_LEFT_OUT = ("budget.updated", "sandbox.", "message.", "reasoning.", "context.added")
"""Told by a clock, or by who was first; the text of messages stands in answers and responses."""
_LOOSE = ("call.", "tool.", "budget.", "approval.", "warning", "context.read", "memory.", "artifact.")
_ID = re.compile(r"\b(?:run|cel|cal|tol|itr|msg|rsn|sbx|apr|art|trn|ses)_[0-9a-z]{6,}(?:\.\d+)?\b")
_ADDRESS = re.compile(r"\b0x[0-9a-f]{6,16}\b")

Line = tuple[str, str]
"""An event's type and its data as JSON."""


def normalised(events: Iterable[ev.Event]) -> dict[str, list[Line]]:
    """By run path (the turn's own events under ""), the run's events in order; a cell's parallel ones sorted."""
    paths: dict[str, str] = {}
    runs: defaultdict[str, list[ev.EventData]] = defaultdict(list)
    for event in events:
        if isinstance(event.data, ev.RunStarted) and event.run is not None:
            paths[event.run] = event.data.path or ROOT
        if not event.type.startswith(_LEFT_OUT):
            path = paths.get(event.run, "?") if event.run is not None else ""
            runs[path].append(event.data)
    return {path: _in_order(found) for path, found in runs.items()}


def _in_order(run: list[ev.EventData]) -> list[Line]:
    """Calls and tools of one cell run side by side, and it may print meanwhile: their order says nothing."""
    ordered: list[Line] = []
    loose: list[Line] = []
    printed: dict[str, str] = {}
    for data in run:
        if isinstance(data, ev.CellOutput):
            printed[data.stream] = printed.get(data.stream, "") + data.text
        elif data.type.startswith(_LOOSE):
            loose.append((data.type, _text(data)))
        else:
            ordered += [*sorted(loose), *sorted(("cell.output", f"{k}: {v}") for k, v in printed.items())]
            ordered.append((data.type, _text(data)))
            loose, printed = [], {}
    return [*ordered, *sorted(loose)]


def _text(data: ev.EventData) -> str:
    plain = _without_times(msgspec.to_builtins(data))
    text = msgspec.json.encode(plain, order="sorted").decode()
    return _ADDRESS.sub("0x", _ID.sub("ID", text))


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        items = cast("dict[str, Any]", value).items()
        return {key: _without_times(item) for key, item in items if key not in _TIMES and key not in _OF_THE_RUN}
    if isinstance(value, list):
        return [_without_times(item) for item in cast("list[Any]", value)]
    return value


def first_difference(one: Iterable[ev.Event], other: Iterable[ev.Event]) -> str | None:
    """Where the second turn parts from the first, in one line; None when they are the same."""
    one, other = list(one), list(other)
    whole = _taken_whole(one) | _taken_whole(other)
    mine, theirs = _shown(normalised(one), whole), _shown(normalised(other), whole)
    for path in [*mine, *(path for path in theirs if path not in mine)]:
        if path not in theirs:
            return f"{path}: this run is missing"
        if path not in mine:
            return f"{path}: this run is new"
        for number, (left, right) in enumerate(zip(mine[path], theirs[path], strict=False), 1):
            if left != right:
                return f"{path or 'the turn'}, event {number}: {_parted(left, right)}"
        if len(mine[path]) != len(theirs[path]):
            return f"{path or 'the turn'}: {len(mine[path])} events, then {len(theirs[path])}"
    return None


def _taken_whole(events: Iterable[ev.Event]) -> set[str]:
    """The paths of runs that were not worked off again: nothing of what is in them is told."""
    paths: dict[str, str] = {}
    whole: set[str] = set()
    for event in events:
        if isinstance(event.data, ev.RunStarted) and event.run is not None:
            paths[event.run] = event.data.path or ROOT
        elif isinstance(event.data, ev.RunFinished) and event.data.replayed:
            whole.add(paths.get(event.run or "", "?"))
    return whole


def _shown(runs: dict[str, list[Line]], whole: set[str]) -> dict[str, list[Line]]:
    """What can be compared: of runs that one of the two took whole their beginning and their end."""
    shown: dict[str, list[Line]] = {}
    for path, lines in runs.items():
        if path in whole:
            shown[path] = [line for line in lines if line[0].startswith("run.")]
        elif not any(path.startswith(f"{above}/") for above in whole):
            shown[path] = lines
    return shown


def _parted(left: Line, right: Line) -> str:
    if left[0] != right[0]:
        return f"{left[0]} has become {right[0]}"
    at = next((i for i, (a, b) in enumerate(zip(left[1], right[1], strict=False)) if a != b), 0)
    start = max(0, at - 20)
    return f"{left[0]} differs: …{left[1][start : at + 60]} has become …{right[1][start : at + 60]}"
