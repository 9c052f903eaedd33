"""Two turns beside each other: their numbers, answers, and their trees run by run.

Runs stand for each other by their place in the tree (`RunScope.path`). A place has a hash of what was asked in it; runs
with other words at the same place stand for each other too, in the order in which they began. Pure: from events.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Literal

import msgspec

from fleet_rlm.errors import InvalidInput
from fleet_rlm.runtime.execution import events as ev
from fleet_rlm.runtime.execution.paths import ROOT

Change = Literal["same", "changed", "added", "removed"]
State = Literal["running"] | ev.TurnStatus
MAX_TEXT_CHARS = 20_000
"""Of a task, a cell or an output; what is longer is cut, and says so."""

_HASH = re.compile(r":[0-9a-f]{8}(?=$|[#\[/])")


class Side(msgspec.Struct, frozen=True, kw_only=True):
    """One of the two turns."""

    session: str
    turn: str
    question: str
    model: str
    status: State
    answer: str | None
    usage: ev.Usage
    runs: int
    iterations: int


class SideRun(msgspec.Struct, frozen=True, kw_only=True):
    """A run of one of the turns. `cells`: the code of its cells, in order.

    `replayed`: its output came from an earlier turn's journal, so it has no cells and no runs below it.
    """

    run: str
    task: str
    kind: ev.RunKind
    model: str
    status: State
    usage: ev.Usage
    output: str | None
    cells: list[str]
    replayed: bool = False


class RunPair(msgspec.Struct, frozen=True, kw_only=True):
    """A place of the tree in both turns; None where there is no run at it. `path`: without hashes, unique."""

    path: str
    change: Change
    a: SideRun | None
    b: SideRun | None


class TurnDiff(msgspec.Struct, frozen=True, kw_only=True):
    """Two turns beside each other; `runs` in the order in which they began, those of `a` first."""

    a: Side
    b: Side
    runs: list[RunPair]


def turn_diff(a: Iterable[ev.Event], b: Iterable[ev.Event], text_of: Callable[[ev.Text], str]) -> TurnDiff:
    """The difference of two turns, each given by all its events; one that still runs is taken as it is now.

    Errors: InvalidInput when events are not those of a turn from its beginning.
    """
    before, after = list(a), list(b)
    return TurnDiff(a=_side(before), b=_side(after), runs=_pairs(_runs(before, text_of), _runs(after, text_of)))


def _side(events: list[ev.Event]) -> Side:
    first = next((event for event in events if isinstance(event.data, ev.TurnAccepted)), None)
    if first is None or not isinstance(first.data, ev.TurnAccepted):
        raise InvalidInput("these events are not a turn from its beginning")
    end = next((event.data for event in reversed(events) if isinstance(event.data, ev.TurnFinished)), None)
    return Side(
        session=first.sid,
        turn=first.turn or "",
        question=first.data.question,
        model=first.data.model,
        status="running" if end is None else end.status,
        answer=None if end is None else end.answer,
        usage=ev.Usage() if end is None else end.usage,
        runs=sum(event.type == ev.RunStarted.type for event in events),
        iterations=sum(event.type == ev.IterationStarted.type for event in events),
    )


def _runs(events: list[ev.Event], text_of: Callable[[ev.Text], str]) -> dict[str, SideRun]:
    """The runs by their whole path, in the order in which they began."""
    started: dict[str, tuple[str, ev.RunStarted]] = {}
    ended: dict[str, ev.RunFinished] = {}
    cells: defaultdict[str, list[str]] = defaultdict(list)
    for event in events:
        run = event.run or ""
        match event.data:
            case ev.RunStarted() as data:
                started[run] = (data.path or ROOT, data)
            case ev.RunFinished() as data:
                ended[run] = data
            case ev.CellStarted(code=code):
                cells[run].append(_cut(text_of(code)))
            case _:
                continue
    found: dict[str, SideRun] = {}
    for run, (path, data) in started.items():
        end = ended.get(run)
        found[path] = SideRun(
            run=run,
            task=_cut(data.task),
            kind=data.kind,
            model=data.model,
            status="running" if end is None else end.status,
            usage=ev.Usage() if end is None else end.usage,
            output=None if end is None or end.output is None else _cut(text_of(end.output)),
            cells=cells[run],
            replayed=end is not None and end.replayed,
        )
    return found


def _cut(text: str) -> str:
    if len(text) <= MAX_TEXT_CHARS:
        return text
    return f"{text[:MAX_TEXT_CHARS]}\n… {len(text) - MAX_TEXT_CHARS:,} more characters"


# -- which runs stand for each other ----------------------------------------------------------------------------------


def _pairs(before: dict[str, SideRun], after: dict[str, SideRun]) -> list[RunPair]:
    partner = _partners(before, after)
    taken = set(partner.values())
    whole = [_below(path) for path, other in partner.items() if before[path].replayed != after[other].replayed]
    rows = [(path, before[path], after.get(partner.get(path, ""))) for path in before]
    rows += [(path, None, after[path]) for path in after if path not in taken]
    pairs: list[RunPair] = []
    seen: defaultdict[str, int] = defaultdict(int)
    for path, a, b in rows:
        place = _HASH.sub("", path)
        if (a is None or b is None) and any(place.startswith(above) for above in whole):
            continue  # the other turn took the run above from the journal: there is nothing to compare
        seen[place] += 1
        name = place if seen[place] == 1 else f"{place}~{seen[place]}"
        pairs.append(RunPair(path=name, change=_change(a, b), a=a, b=b))
    return pairs


def _partners(before: dict[str, SideRun], after: dict[str, SideRun]) -> dict[str, str]:
    """For paths of the first turn those of the second: the same path, else the next one left at the same place."""
    left: defaultdict[str, list[str]] = defaultdict(list)
    for path in after:
        if path not in before:
            left[_HASH.sub("", path)].append(path)
    partner: dict[str, str] = {}
    for path in before:
        rest = left[_HASH.sub("", path)]
        if path in after:
            partner[path] = path
        elif rest:
            partner[path] = rest.pop(0)
    return partner


def _below(path: str) -> str:
    return f"{_HASH.sub('', path)}/"


def _change(a: SideRun | None, b: SideRun | None) -> Change:
    if a is None:
        return "added"
    if b is None:
        return "removed"
    same = (a.task, a.model, a.status, a.output) == (b.task, b.model, b.status, b.output)
    if same and (a.replayed or b.replayed or a.cells == b.cells):
        return "same"
    return "changed"
