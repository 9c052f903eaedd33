"""Which characters of the contexts were read: told as events by each run, and summed up over the turn.

"Read" means that code looked at the characters (see the worker's reads.py), that the agent read or searched them
through its tools, or that they were put into a prompt. Handing a piece on to a child run is not reading it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from fleet_rlm.runtime.execution import events as ev
from fleet_rlm.runtime.execution.observer import RunScope, TurnObserver
from fleet_rlm.runtime.execution.workbench import merged

MAX_SPANS = 1_000
"""Of one context in one event."""


@dataclass(frozen=True, slots=True)
class Covered:
    """How much of a context the turn has read, in characters."""

    name: str
    sha256: str
    read: int
    chars: int

    @property
    def fraction(self) -> float:
        """From 0 to 1."""
        return self.read / self.chars if self.chars else 1.0


class Coverage:
    """What the runs of one turn have read. Thread-safe."""

    def __init__(self, observer: TurnObserver, refs: Mapping[str, ev.ContextRef]) -> None:
        """`refs` are the turn's contexts by SHA-256; the mapping may still grow."""
        self._observer = observer
        self._refs = refs
        self._lock = threading.Lock()
        self._by_run: dict[tuple[str, str], list[ev.ReadSpan]] = {}
        self._all: dict[str, list[ev.ReadSpan]] = {}

    def note(self, scope: RunScope, sha256: str, spans: Iterable[tuple[int, int]]) -> None:
        """A run has read these characters [start, end) of a context.

        They may come from a sandbox: what the run was not given is dropped, what lies outside is cut. Told as an event
        when there is anything new in it.
        """
        ref = self._refs.get(sha256)
        if ref is None or sha256 not in scope.contexts:
            return
        cut = [ev.ReadSpan(start=max(0, start), end=min(end, ref.chars)) for start, end in spans]
        found = merged(span for span in cut if span.start < span.end)[:MAX_SPANS]
        with self._lock:
            before = self._by_run.get((scope.id, sha256), [])
            after = merged([*before, *found])
            if after == before:
                return
            self._by_run[scope.id, sha256] = after
            self._all[sha256] = merged([*self._all.get(sha256, []), *found])
        self._observer.emit(ev.ContextRead(sha256=sha256, spans=found), scope)

    def known(self, events: Iterable[ev.EventData]) -> None:
        """Take what runs read that are not run again. It was told then."""
        with self._lock:
            for each in events:
                if isinstance(each, ev.ContextRead):
                    self._all[each.sha256] = merged([*self._all.get(each.sha256, []), *each.spans])

    def of_turn(self) -> tuple[Covered, ...]:
        """Every context of the turn with what was read of it by any run."""
        with self._lock:
            return tuple(
                Covered(ref.name, sha, sum(span.end - span.start for span in self._all.get(sha, [])), ref.chars)
                for sha, ref in self._refs.items()
            )
