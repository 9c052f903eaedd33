"""One request of a run on its way to the provider: streamed where a person watches, closed when nobody waits for it.

The end of a run waits for no provider. DSPy's own engines send on an event loop, where a request can be closed. An
engine of the caller's own holds its thread until it has answered: it gets one of its own, or one that is let go from
outside, of a batch (batch.py) or of a run (run_thread.py).

Usage is read from the history entry that DSPy hands to `update_history` in the context of the call: that hook sees
usage and cost of every engine, and unlike `lm.history[-1]` it cannot be another thread's.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Hashable
from concurrent.futures import Future
from contextvars import ContextVar, copy_context
from dataclasses import dataclass, field
from typing import Any, Final

import dspy
from dspy.utils.exceptions import LMError, LMStreamAssemblyError, is_retryable_lm_error

from fleet_rlm.integrations.daytona.threads import DaemonThreads
from fleet_rlm.runtime.execution.budget import Cost, Reservation
from fleet_rlm.runtime.execution.flights import Flight
from fleet_rlm.runtime.execution.observer import RunScope, TurnObserver
from fleet_rlm.runtime.execution.throttle import Place, Throttle
from fleet_rlm.runtime.models.billing import Entry
from fleet_rlm.runtime.models.failures import is_context_overflow, too_long_for_a_line
from fleet_rlm.runtime.models.streaming import CallStream, stream_loop
from fleet_rlm.runtime.models.tries import endpoint_of, sent_by_dspy

NOTHING_USED = Cost()
IN_VAIN = 2
"""After so many streams in a row that brought nothing a model is taken for one that does not stream; one may be a
disturbance."""
_KEPT_MODELS = 256
MOST_IN_ONE_PIECE: Final = 1 << 20
"""Bytes of an answer that is asked for once more without a stream; as many as DSPy takes in one event of a stream."""
_threads = DaemonThreads("fleet-call")
_in_vain: dict[Hashable, int] = {}
"""By model and address, for the whole process, which serves many turns: streams in vain since the last that came."""
_entries: ContextVar[list[Entry] | None] = ContextVar("fleet_lm_entries", default=None)


@dataclass(slots=True, eq=False)
class Request:
    """One request on its way. `queued_s`: waited for a place or another try; `broke_off`: its stream, when a part was
    shown, or before that when none was understood; `used`: once it has its answer; `untold`: a try that failed may have
    cost something; `cut`: why its answer is not whole.

    `abandon` ends it from outside while an engine holds the thread that asked; None: that thread waits for nobody.
    `left`: that has happened.
    """

    id: str
    scope: RunScope
    text: str
    request: str
    prompt: Any
    messages: Any
    kwargs: dict[str, Any]
    sent: dict[str, Any] = field(init=False)
    began: float = field(default_factory=time.perf_counter)
    told: bool = False
    broke_off: bool = False
    unstreamed: bool = False
    tries: int = 0
    queued_s: float = 0.0
    entries: list[Entry] = field(default_factory=list[Entry])
    used: Cost = NOTHING_USED
    untold: bool = False
    cut: str | None = None
    reservations: list[Reservation] = field(default_factory=list[Reservation])
    throttle: Throttle | None = None
    place: Place | None = None
    flight: Flight | None = None
    abandon: Callable[[], None] | None = None
    left: bool = False

    def __post_init__(self) -> None:
        self.sent = self.kwargs

    @property
    def drives(self) -> bool:
        """Whether it is a run's next step: those have messages, while a sub-call is a bare prompt."""
        return self.messages is not None


class Sender:
    """Sends requests with one DSPy LM. It takes the LM's `update_history` for itself."""

    def __init__(self, lm: dspy.BaseLM, observer: TurnObserver) -> None:
        self._lm = lm
        self._lm.update_history = _collect  # pyright: ignore[reportAttributeAccessIssue]
        self._observer = observer
        self._model = endpoint_of(lm)[0]

    def send(self, asked: Request) -> Any:
        """The outputs; what was used is in `asked.entries` then.

        Errors: TreeStopped, dspy.LMError subclasses as the provider raised them.
        """
        # A bare prompt is a sub-call of code, of which there may be thousands: only what runs themselves say is shown.
        shown = asked.drives and not asked.unstreamed and self._streams
        if not shown:
            return self._answer(asked, None)
        sink, whole = CallStream(self._observer, asked.scope), False
        try:
            outputs = self._answer(asked, sink)
            whole = True
            return outputs
        except LMError as error:
            asked.broke_off = _broke_off(error, begun=sink.begun)
            raise
        finally:  # here and not where the call is made, which may go on after the run has ended
            sink.close(whole=whole)
            if self._native:
                self._note_stream(came=sink.begun, in_vain=asked.broke_off and not sink.begun)

    def _note_stream(self, *, came: bool, in_vain: bool) -> None:
        if came:
            _in_vain.pop(self._model, None)
        elif in_vain:
            if len(_in_vain) >= _KEPT_MODELS:
                _in_vain.clear()
            _in_vain[self._model] = _in_vain.get(self._model, 0) + 1

    def _answer(self, asked: Request, sink: CallStream | None) -> Any:
        if self._native:
            return self._on_the_loop(asked, self._call(asked, sink))
        if asked.abandon is not None and sink is None:
            return self._here(asked, asked.abandon)
        return self._in_a_thread(asked, sink)

    async def _call(self, asked: Request, sink: CallStream | None) -> Any:
        """The call on DSPy's asynchronous path; its chunks go to `sink`."""
        if sink is None:
            return await self._lm.acall(asked.prompt, messages=asked.messages, **asked.sent)
        with dspy.context(send_stream=sink):
            return await self._lm.acall(messages=asked.messages, **asked.sent)

    def _on_the_loop(self, asked: Request, call: Coroutine[Any, Any, Any]) -> Any:
        token = _entries.set(asked.entries)
        try:
            job = stream_loop.start(call)
        finally:
            _entries.reset(token)
        return _first(asked, job, job.cancel)

    def _here(self, asked: Request, abandon: Callable[[], None]) -> Any:
        """In the thread that asks. When the run is stopped meanwhile, `abandon` is called and this thread forgotten."""
        stop = asked.scope.stop
        stop.watch(abandon)
        try:
            if not asked.left:
                return self._noted(asked)
        finally:
            if not stop.unwatch(abandon):
                stop.future.result()  # by then this call has its end
                stop.check()

    def _in_a_thread(self, asked: Request, sink: CallStream | None) -> Any:
        answer: Future[Any] = Future()
        context = copy_context()

        def work() -> None:
            try:
                answer.set_result(self._noted(asked, sink))
            except BaseException as exc:  # noqa: BLE001 - handed to the waiting thread, which raises it
                answer.set_exception(exc)

        _threads.run(lambda: context.run(work))
        return _first(asked, answer)

    def _noted(self, asked: Request, sink: CallStream | None = None) -> Any:
        """The call in this thread; what DSPy tells of it goes to the request."""
        token = _entries.set(asked.entries)
        try:
            if sink is not None:
                return asyncio.run(self._call(asked, sink))
            return self._lm(asked.prompt, messages=asked.messages, **asked.sent)
        finally:
            _entries.reset(token)

    @property
    def _native(self) -> bool:
        """One of DSPy's own engines sends the requests."""
        return sent_by_dspy(self._lm)

    @property
    def _streams(self) -> bool:
        """DSPy's own engines stream where the server does; a custom one when it came with an asynchronous twin."""
        if self._native:
            return _in_vain.get(self._model, 0) < IN_VAIN
        return getattr(self._lm, "_async_engine_spec", None) is not None


def _first(asked: Request, answer: Future[Any], close: Callable[[], object] = lambda: None) -> Any:
    """The answer, unless the run is stopped before; then the request is closed."""
    asked.scope.stop.race(answer)
    if not answer.done():
        close()
        asked.scope.stop.check()
    return answer.result()


def _broke_off(error: LMError, *, begun: bool) -> bool:
    """Whether it is worth asking without a stream. Some servers answer at once whatever they are asked for: then no
    chunk comes, and what does is no stream, or one line that is longer than DSPy reads."""
    if is_context_overflow(error):
        return False
    length = too_long_for_a_line(error)
    if length is not None:
        return length <= MOST_IN_ONE_PIECE
    return isinstance(error, LMStreamAssemblyError) or (begun and is_retryable_lm_error(error))


def _collect(entry: Entry) -> None:
    """Takes the place of `update_history`: nothing is kept in DSPy's process-wide lists."""
    entries = _entries.get()
    if entries is not None:
        entries.append(entry)
