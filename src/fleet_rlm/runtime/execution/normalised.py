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
from fleet_rlm.runtime.execution.stops import UNHEARD

_TIMES = frozenset(("ms", "queued_ms", "model_ms", "sandbox_ms", "wall_s", "deadline", "ts"))
_OF_THE_RUN = frozenset(
    ("replayed", "cached", "shared", "origin", "before", "command", "provider", "objects", "isolation")
)
"""How an answer came, not what it was."""
_LEFT_OUT = ("budget.updated", "sandbox.", "message.", "reasoning.", "context.added", "memory.")
"""Told by a clock, or by who was first; the text of messages stands in answers and responses, and an edit of the memory
in the tool that made it: a resumed turn tells no edit once more."""
_LOOSE = ("call.", "tool.", "budget.", "approval.", "warning", "context.read", "artifact.", "run.refused")
_ASKED = ("turn.", "run.", "call.", "tool.", "budget.", "approval.", "warning")
_STOPPED = ("cancelled", "interrupted")
_ID = re.compile(r"\b(?:run|cel|cal|tol|itr|msg|rsn|sbx|apr|art|trn|ses)_[0-9a-z]{6,}(?:\.\d+)?\b")
_ADDRESS = re.compile(r"\b0x[0-9a-f]{6,16}\b")

Line = tuple[str, str]
"""An event's type and its data as JSON."""


def normalised(events: Iterable[ev.Event]) -> dict[str, list[Line]]:
    """By run path (the turn's own events under ""), the run's events in order; a cell's parallel ones sorted."""
    return {path: _in_order(found) for path, found in _by_path(events).items()}


def _by_path(events: Iterable[ev.Event]) -> dict[str, list[ev.EventData]]:
    paths: dict[str, str] = {}
    runs: defaultdict[str, list[ev.EventData]] = defaultdict(list)
    for event in events:
        if isinstance(event.data, ev.RunStarted) and event.run is not None:
            paths[event.run] = event.data.path or ROOT
        if not event.type.startswith(_LEFT_OUT):
            path = paths.get(event.run, "?") if event.run is not None else ""
            runs[path].append(event.data)
    return runs


def _in_order(run: list[ev.EventData]) -> list[Line]:
    """Calls and tools of one cell run side by side, and it may print meanwhile: their order says nothing. What a cell
    had printed that was lost with its sandbox is chance, and what it had asked for may end long after it."""
    ordered: list[Line] = []
    loose: list[Line] = []
    printed: dict[str, str] = {}
    lost = {data.id for data in run if isinstance(data, ev.CellFinished) and data.status == "lost"}
    late = False
    for data in run:
        if isinstance(data, ev.CellOutput):
            if data.id not in lost:
                printed[data.stream] = printed.get(data.stream, "") + data.text
        elif data.type.startswith(_LOOSE):
            loose.append((data.type, _text(data)))
        elif late or (isinstance(data, ev.CellFinished) and data.status == "lost"):
            late = True
            ordered += sorted(("cell.output", f"{k}: {v}") for k, v in printed.items())
            bare = ev.CellFinished(id="", status="lost", ms=0.0, output_chars=0, shown=0)
            ordered.append((data.type, _text(bare if getattr(data, "id", "") in lost else data)))
            printed = {}
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
    first, second = _by_path(one), _by_path(other)
    for path in first.keys() & second.keys():
        if all(_stopped(run) or _out_of_time(run) for run in (first[path], second[path])):
            cells = min(_whole_cells(first[path]), _whole_cells(second[path]))
            first[path], second[path] = _before_stop(first[path], cells), _before_stop(second[path], cells)
    mine, theirs = (_shown({path: _in_order(run) for path, run in runs.items()}, whole) for runs in (first, second))
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


def _stopped(run: list[ev.EventData]) -> bool:
    """Whether it (or the turn) was stopped from outside: by a person, or with its process."""
    ends = (data.status for data in reversed(run) if isinstance(data, ev.RunFinished | ev.TurnFinished))
    return next(ends, "") in _STOPPED


def _out_of_time(run: list[ev.EventData]) -> bool:
    """Whether a deadline ended it: how far its last cell had come then is the clock's."""
    return any(isinstance(data, ev.RunFinished | ev.TurnFinished) and data.limit == "wall" for data in run)


def _whole_cells(run: list[ev.EventData]) -> int:
    """How many of its cells came to their end; what ends in a stop is the last one."""
    ends = [data.status for data in run if isinstance(data, ev.CellFinished)]
    return len(ends) - (ends[-1:] == ["lost"] or ends[-1:] == ["interrupted"])


def _before_stop(run: list[ev.EventData], cells: int) -> list[ev.EventData]:
    """A run that was stopped, as far as its stop says nothing of it: what came up to the end of so many cells, and
    after that only what was asked and answered. Where in a cell or tool a stop meets it is not the same twice, nor
    which of several lost cells was the first to stop it. What a run said last that was out of time holds."""
    ended, found = 0, list[ev.EventData]()
    cut = {d.id for d in run if isinstance(d, ev.ToolFinished | ev.ApprovalResolved) and d.status == "cancelled"}
    for data in run:
        if isinstance(data, ev.RunFinished | ev.TurnFinished) and data.status not in _STOPPED:
            found.append(data)
        elif isinstance(data, ev.RunFinished):
            own = data.error if data.status == "cancelled" and data.error != UNHEARD else None
            found.append(ev.RunFinished(status="cancelled", usage=data.usage, error=own))
        elif isinstance(data, ev.TurnFinished):
            depth = data.max_depth_reached
            found.append(
                ev.TurnFinished(
                    status="cancelled", answer=None, usage=data.usage, runs=data.runs, max_depth_reached=depth
                )
            )
        elif ended < cells or (data.type.startswith(_ASKED) and getattr(data, "id", "") not in cut):
            found.append(data)
        ended += isinstance(data, ev.CellFinished)
    return found


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
