"""What an interpreter reports, as events of the run that it works for."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Literal

from fleet_rlm.integrations.daytona.listener import CellResult
from fleet_rlm.runtime.execution import events as ev
from fleet_rlm.runtime.execution.coverage import Coverage
from fleet_rlm.runtime.execution.observer import Pieces, RunScope, TurnObserver
from fleet_rlm.runtime.execution.paths import CALL_PLACE

PARTIAL_NAME = "answer"
"""The REPL variable whose last value is a run's partial answer when a limit strikes (Algorithm 1)."""


class CellRecorder:
    """Implements the interpreter's `CellListener` for one run.

    `shown_chars` is how much of a cell's output the model will see in its next turn. `begins` and `ends` are told of
    each cell, `over` when its end is told.
    """

    def __init__(
        self,
        observer: TurnObserver,
        scope: RunScope,
        *,
        shown_chars: int,
        coverage: Coverage | None = None,
        begins: Callable[[RunScope], object] | None = None,
        ends: Callable[[RunScope], object] | None = None,
        over: Callable[[RunScope], object] | None = None,
    ) -> None:
        self._observer = observer
        self._scope = scope
        self._shown = shown_chars
        self._coverage = coverage
        self._begins = begins
        self._ends = ends
        self._over = over
        self._before = self._most = self._asking = 0
        self._running = False
        self._live: set[str] = set()
        self._lock = threading.Lock()
        self._told: dict[Literal["stdout", "stderr"], Pieces] = {}
        self.submitted: Any = None
        """The outputs that ended the run, with handles in place of pieces of contexts; None when there are none."""
        self.isolation: str | None = None
        self.provider: str | None = None

    def sandbox_requested(self, id: str, provider: str) -> None:
        self._observer.emit(ev.SandboxRequested(id=id, provider=provider), self._scope)

    def sandbox_ready(self, id: str, sandbox_id: str, provider: str, isolation: str, ms: float) -> None:
        self.isolation, self.provider = isolation, provider
        with self._lock:
            self._live.add(id)
            self._most = 0  # its code counts its calls anew
        self._observer.sandbox_change(+1)
        ready = ev.SandboxReady(id=id, sandbox=sandbox_id, provider=provider, isolation=isolation, ms=round(ms, 1))
        self._observer.emit(ready, self._scope)

    def sandbox_lost(self, id: str, reason: str) -> None:
        self._observer.emit(ev.SandboxLost(id=id, reason=self._observer.clean(reason)), self._scope)

    def sandbox_released(self, id: str) -> None:
        with self._lock:
            was_ready = id in self._live
            self._live.discard(id)
        if was_ready:  # else it was stopped while it started, and never counted
            self._observer.sandbox_change(-1)
        self._observer.emit(ev.SandboxReleased(id=id), self._scope)

    def cell_started(self, cell: str, code: str) -> None:
        self._scope.cell = cell
        with self._lock:
            self._before, self._running = self._most, True
        self._scope.places.next_cell()
        started = ev.CellStarted(id=cell, code=self._observer.text(code), iteration=self._scope.iteration)
        self._observer.emit(started, self._scope)
        if self._begins is not None:
            self._begins(self._scope)

    def cell_output(self, cell: str, stream: Literal["stdout", "stderr"], text: str) -> None:
        if stream not in self._told:
            self._told[stream] = self._observer.pieces()
        self._tell(cell, stream, self._told[stream].add(text))

    def _tell(self, cell: str, stream: Literal["stdout", "stderr"], text: str) -> None:
        if text:
            self._observer.emit(ev.CellOutput(id=cell, stream=stream, text=text), self._scope)

    def cell_finished(self, cell: str, result: CellResult) -> None:
        for stream, pieces in self._told.items():
            self._tell(cell, stream, pieces.rest())
        with self._lock:
            self._running = False
        if self._ends is not None:
            self._ends(self._scope)
        self._scope.sandbox_ms += result.ms
        self._scope.places.cell_done()
        for change in result.changed:
            if change.name == PARTIAL_NAME:
                self._scope.partial = change.preview if change.text is None else change.text
        self.submitted = result.handles
        if self._coverage is not None:
            for sha256, spans in result.reads.items():
                self._coverage.note(self._scope, sha256, spans)
        self._observer.emit(self._finished(cell, result), self._scope)
        if self._over is not None:
            self._over(self._scope)

    def tool_scope(self, cell: str, name: str, call_id: str) -> AbstractContextManager[None]:
        """`call_id` counts the calls that the sandbox's code has made so far; what stands is its place in the cell."""
        return _Asking(self, int(call_id))

    def ask_begins(self, number: int) -> str:
        """Call `number` of the session begins; its place in the cell."""
        with self._lock:
            self._most = max(self._most, number)
            self._asking += 1
            return str(number - self._before)

    def ask_ends(self) -> None:
        """It has ended."""
        with self._lock:
            self._asking -= 1

    @property
    def computes(self) -> bool:
        """Whether a cell runs that waits for nothing of the host."""
        with self._lock:
            return self._running and not self._asking

    def _finished(self, cell: str, result: CellResult) -> ev.CellFinished:
        error = result.error
        chars = len(result.stdout) + len(result.stderr) + len(result.value or "")
        return ev.CellFinished(
            id=cell,
            status=result.status,
            ms=round(result.ms, 3),
            output_chars=chars,
            shown=min(chars, self._shown),
            value=None if result.value is None else self._observer.text(result.value),
            error=None
            if error is None
            else ev.CellError(
                name=error.class_name,
                message=self._observer.clean(error.message),
                line=error.line,
                traceback=self._observer.clean(error.traceback or ""),
            ),
            changed=[
                ev.VariableChange(
                    name=change.name,
                    type=change.type,
                    size=change.size,
                    preview=self._observer.clean(change.preview),
                )
                for change in result.changed
            ],
            truncated=result.truncated,
            batched=result.batched,
        )


class _Asking:
    """A tool call of a cell. A class: made for every call, and a generator takes nearly three times as long."""

    __slots__ = ("_number", "_place", "_recorder")

    def __init__(self, recorder: CellRecorder, number: int) -> None:
        self._recorder = recorder
        self._number = number

    def __enter__(self) -> None:
        self._place = CALL_PLACE.set(self._recorder.ask_begins(self._number))

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        CALL_PLACE.reset(self._place)
        self._recorder.ask_ends()
