"""Turns what happens in a turn into events, and nothing else.

One `TurnObserver` per turn; every run has a `RunScope` that says where in the tree it stands. The current scope rides
in a context variable, so that a language-model call made anywhere below a run, in any thread, is charged to it and
appears under it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from fleet_rlm.errors import StorageError, TreeStopped
from fleet_rlm.runtime.execution import events as ev
from fleet_rlm.runtime.execution.budget import Lease, TreeBudget
from fleet_rlm.runtime.execution.paths import ROOT, Places
from fleet_rlm.runtime.execution.stops import Stop

BUDGET_EVERY_S = 0.1
"""budget.updated is emitted at most this often while a turn runs."""
UNWIND_S = 10.0
"""How long an ended run waits for what is below it to write its end. All of it is stopped; it takes milliseconds."""


class EventSink(Protocol):
    """Where drafts go: the journal."""

    def append(self, sid: str, drafts: list[ev.Draft], *, durable: bool = False) -> object: ...


class TextStore(Protocol):
    """Keeps large texts out of the events: the blob store."""

    def put_text(self, text: str) -> ev.Text: ...


@dataclass(slots=True)
class RunScope:
    """Where a run stands in the tree, and what it may use.

    `final`: calls use what was held back for the run's last word. `streams`: what the model writes is shown while it
    writes. `stop` ends this run and everything below it. `path`: see paths.py. `refused`: the limit that refused it a
    call. `failed`: what it ends with in a replay, where the recorded run failed.
    """

    id: str
    lease: Lease
    path: str = ROOT
    parent: RunScope | None = None
    cell: str | None = None
    iteration: int | None = None
    final: bool = False
    streams: bool = False
    partial: str | None = None
    refused: str | None = None
    failed: ev.ErrorInfo | None = None
    model_ms: float = 0.0
    sandbox_ms: float = 0.0
    contexts: frozenset[str] = field(default_factory=frozenset[str])
    line: tuple[str, ...] = field(init=False)
    stop: Stop = field(init=False)
    places: Places = field(init=False)
    _open: int = 0
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def __post_init__(self) -> None:
        """The run ends with what is above it: its parent, or the whole tree. `line`: the runs from the root to it."""
        self.line = (*(self.parent.line if self.parent is not None else ()), self.id)
        self.stop = Stop(self.parent.stop if self.parent is not None else self.lease.tree.stopped)
        self.places = Places(self.path)

    def part_opened(self) -> None:
        """A child run or a call has begun."""
        with self._changed:
            self._open += 1

    def part_closed(self) -> None:
        """Its end is written."""
        with self._changed:
            self._open -= 1
            if not self._open:
                self._changed.notify_all()

    def unwind(self, timeout: float = UNWIND_S) -> bool:
        """Its work is done, one way or another. What still runs below it, such as a call for a cell whose sandbox is
        lost, is stopped, and its end waited for: children finish before their parents."""
        self.stop.set(TreeStopped("cancelled"))
        with self._changed:
            return self._changed.wait_for(lambda: self._open == 0, timeout)

    @property
    def depth(self) -> int:
        """0 for the root run."""
        return self.lease.depth


SCOPE: ContextVar[RunScope] = ContextVar("fleet_run_scope")


@contextmanager
def entered(scope: RunScope) -> Generator[RunScope]:
    """Make `scope` the current one for this thread's context."""
    token = SCOPE.set(scope)
    try:
        yield scope
    finally:
        SCOPE.reset(token)


class Pieces:
    """A text that is told in pieces: without secrets, also those that two pieces share. Not thread-safe."""

    def __init__(self, clean: Callable[[str], str], settled: Callable[[str], int]) -> None:
        self._clean = clean
        self._settled = settled
        self._held = ""

    def add(self, piece: str) -> str:
        """What can be told now."""
        text = self._held + piece
        end = self._settled(text)
        self._held = text[end:]
        return self._clean(text[:end])

    def rest(self) -> str:
        """What was held back; nothing more will come."""
        rest, self._held = self._held, ""
        return self._clean(rest)


class TurnObserver:
    """Emits the events of one turn. Thread-safe; every method is quick.

    `redact` removes secrets from a text, `settled` tells how much of one that is still growing can be told (None: all
    of it).
    """

    def __init__(
        self,
        sink: EventSink,
        texts: TextStore,
        *,
        sid: str,
        turn: str,
        redact: Callable[[str], str],
        settled: Callable[[str], int] | None = None,
    ) -> None:
        self.sid = sid
        self.turn = turn
        self._sink = sink
        self._texts = texts
        self._redact = redact
        self._settled = settled or len
        self._lock = threading.Lock()
        self._budget_at = 0.0
        self.runs = 0
        self.max_depth = 0
        self.live_sandboxes = 0
        self.streamed: str | None = None
        """The text of the last message that was shown while a model wrote it."""

    def text(self, value: str) -> ev.Text:
        """A text for an event: secrets removed, the rest of a large one in a blob."""
        return self._texts.put_text(self._redact(value))

    def clean(self, value: str) -> str:
        """A short string for an event: secrets removed."""
        return self._redact(value)

    def so_far(self, text: str) -> str:
        """A growing text for an event: without secrets, and without an end that may become one."""
        return self._redact(text[: self._settled(text)])

    def pieces(self) -> Pieces:
        """For a text that is told in pieces."""
        return Pieces(self._redact, self._settled)

    def emit(self, data: ev.EventData, scope: RunScope | None = None, *, durable: bool = False) -> None:
        """Append one event under `scope` (None: the turn itself)."""
        self.emit_all((data,), scope, durable=durable)

    def emit_end(self, data: ev.EventData, scope: RunScope | None = None) -> None:
        """Append the end of something that has begun, durably. Errors: StorageError; then it is written as soon as the
        disk takes it, for what has begun must not stay open."""
        try:
            self.emit(data, scope, durable=True)
        except StorageError:
            self.emit(data, scope)
            raise

    def emit_all(self, items: Iterable[ev.EventData], scope: RunScope | None, *, durable: bool = False) -> None:
        """Append several events under one scope, in order and together."""
        run = parent = None
        depth = 0
        if scope is not None:
            run, depth, parent = scope.id, scope.lease.depth, scope.parent and scope.parent.id
        drafts = [ev.Draft(data=data, turn=self.turn, run=run, parent=parent, depth=depth) for data in items]
        self._sink.append(self.sid, drafts, durable=durable)

    def run_started(self, scope: RunScope, data: ev.RunStarted) -> None:
        """A node of the tree appears."""
        with self._lock:
            self.runs += 1
            self.max_depth = max(self.max_depth, scope.depth)
        self.emit(msgspec.structs.replace(data, path=scope.path), scope)

    def sandbox_change(self, by: int) -> None:
        """One more or one fewer live sandbox."""
        with self._lock:
            self.live_sandboxes += by

    def budget(self, tree: TreeBudget, *, now: bool = False) -> None:
        """Tell what is spent; dropped when the last time was a moment ago and `now` is not set."""
        with self._lock:
            moment = time.monotonic()
            if not now and moment - self._budget_at < BUDGET_EVERY_S:
                return
            self._budget_at = moment
            live = self.live_sandboxes
        state = tree.snapshot()
        self.emit(
            ev.BudgetUpdated(
                spent=state.spent,
                reserved_calls=state.reserved_calls + state.held_calls,
                limits=state.limits,
                children=state.children,
                live_sandboxes=live,
            )
        )
