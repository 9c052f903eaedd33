"""The recursion tree of one turn as rows for a terminal: a view on the same Workbench that the page shows."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from fleet_rlm.runtime.execution.events import Event, Usage
from fleet_rlm.runtime.execution.views import RunView, TurnView, Workbench
from fleet_rlm.runtime.execution.workbench import reduce

SIBLINGS_SHOWN: Final = 12
"""More children than this of one parent are folded into one row."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the tree: either a run, or (`run` None) a number of folded siblings."""

    rails: str
    run: RunView | None
    folded: str = ""


@dataclass(frozen=True, slots=True)
class Totals:
    """The turn so far. `cost_usd` None: unknown."""

    runs: int
    running: int
    calls: int
    tokens: int
    cost_usd: float | None
    live_sandboxes: int


class RunTree:
    """The newest turn of one session. Fed from one thread, read from another."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._state: Workbench | None = None

    def apply(self, events: Sequence[Event]) -> None:
        """Take in events of one session, in order; the first may be any of its journal."""
        if not events:
            return
        with self._lock:
            if self._state is None:
                self._state = Workbench(sid=events[0].sid, seq=events[0].seq - 1)
            reduce(self._state, events)

    @property
    def warnings(self) -> list[str]:
        """What the turn warned of, in order."""
        with self._lock:
            turn = self._turn()
            return [notice.message for notice in turn.notices if notice.level == "warning"] if turn else []

    def totals(self) -> Totals:
        """What the turn has used so far."""
        with self._lock:
            turn, state = self._turn(), self._state
            if turn is None or state is None:
                return Totals(0, 0, 0, 0, None, 0)
            spent = turn.usage if turn.finished_ts else turn.budget.spent if turn.budget else Usage()
            runs = [state.runs[run] for run in turn.runs]
            seen = [state.calls[step.id] for run in runs for step in run.steps if step.kind == "call"]
            tokens = sum(call.prompt_tokens + call.completion_tokens for call in seen)
            return Totals(
                runs=len(runs),
                running=sum(run.finished_ts is None for run in runs),
                calls=max(spent.calls, len(seen)),
                tokens=max(spent.prompt_tokens + spent.completion_tokens, tokens),
                cost_usd=spent.cost_usd,
                live_sandboxes=sum(box.state == "ready" for box in state.sandboxes.values()),
            )

    def rows(self, limit: int) -> list[Row]:
        """At most `limit` rows: first whole, then without the children of finished runs, then cut with a count."""
        with self._lock:
            turn, state = self._turn(), self._state
            if turn is None or state is None:
                return []
            roots = [run for run in turn.runs if state.runs[run].parent not in state.runs]
            rows = [row for root in roots for row in _family(state.runs, root, whole=True)]
            if len(rows) > limit:
                rows = [row for root in roots for row in _family(state.runs, root, whole=False)]
        if len(rows) <= limit:
            return rows
        return [*rows[: limit - 1], Row("", None, f"… {len(rows) - limit + 1} more rows")]

    def _turn(self) -> TurnView | None:
        state = self._state
        return state.turns[state.turn_order[-1]] if state and state.turn_order else None


def _family(runs: dict[str, RunView], root: str, *, whole: bool) -> Iterator[Row]:
    yield Row("", runs[root])
    yield from _children(runs, runs[root], "", whole=whole)


def _children(runs: dict[str, RunView], parent: RunView, rails: str, *, whole: bool) -> Iterator[Row]:
    if parent.finished_ts is not None and not whole:
        return
    shown, hidden = _fold([runs[child] for child in parent.children])
    for index, run in enumerate(shown):
        last = index == len(shown) - 1 and not hidden
        yield Row(rails + ("└─ " if last else "├─ "), run)
        yield from _children(runs, run, rails + ("   " if last else "│  "), whole=whole)
    if hidden:
        counts = Counter(run.status for run in hidden)
        parts = ", ".join(f"{number} {status}" for status, number in sorted(counts.items()))
        yield Row(rails + "└─ ", None, f"… {len(hidden)} more: {parts}")


def _fold(siblings: list[RunView]) -> tuple[list[RunView], list[RunView]]:
    """Which siblings stand there and which are counted: running and failed ones are kept before finished ones."""
    if len(siblings) <= SIBLINGS_SHOWN:
        return siblings, []
    kept = {run.id for run in sorted(siblings, key=lambda run: run.status == "ok")[: SIBLINGS_SHOWN - 1]}
    return [run for run in siblings if run.id in kept], [run for run in siblings if run.id not in kept]
