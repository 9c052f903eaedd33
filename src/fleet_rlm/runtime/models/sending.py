"""One request of a run on its way to the provider: streamed where a person watches, closed when nobody waits for it.

Usage is read from the history entry that DSPy hands to `update_history` in the context of the call: that hook sees
usage and cost of every engine, and unlike `lm.history[-1]` it cannot be another thread's.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from concurrent.futures import Future
from contextvars import ContextVar, copy_context
from dataclasses import dataclass, field
from typing import Any

import dspy
from dspy.utils.exceptions import LMError, LMStreamAssemblyError, is_retryable_lm_error

from fleet_rlm.integrations.daytona.threads import DaemonThreads
from fleet_rlm.runtime.execution.observer import RunScope, TurnObserver
from fleet_rlm.runtime.models.billing import Entry
from fleet_rlm.runtime.models.streaming import CallStream, stream_loop

_threads = DaemonThreads("fleet-call")
_entries: ContextVar[list[Entry] | None] = ContextVar("fleet_lm_entries", default=None)


@dataclass(slots=True)
class Request:
    """One request on its way. `queued_s`: waited for a place or another try; `broke_off`: when a part was shown."""

    id: str
    scope: RunScope
    text: str
    request: str
    prompt: Any
    messages: Any
    kwargs: dict[str, Any]
    sent: dict[str, Any] = field(default_factory=dict[str, Any])
    began: float = field(default_factory=time.perf_counter)
    told: bool = False
    broke_off: bool = False
    unstreamed: bool = False
    tries: int = 0
    queued_s: float = 0.0
    entries: list[Entry] = field(default_factory=list[Entry])

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

    def send(self, asked: Request) -> Any:
        """The outputs; what was used is in `asked.entries` then.

        The call runs in a thread of its own, so that the end of the run does not wait for a slow provider.
        Errors: TreeStopped, dspy.LMError subclasses as the provider raised them.
        """
        answer: Future[Any] = Future()
        abort: Future[None] = Future()
        # A bare prompt is a sub-call of code, of which there may be thousands: only what runs themselves say is shown.
        shown = asked.drives and not asked.unstreamed and self._can_stream
        sink = CallStream(self._observer, asked.scope) if shown else None

        def work() -> None:
            token = _entries.set(asked.entries)
            try:
                answer.set_result(self._streamed(asked, abort, sink) if sink else self._in_one_piece(asked, abort))
            except BaseException as exc:  # noqa: BLE001 - handed to the waiting thread, which raises it
                answer.set_exception(exc)
            finally:
                _entries.reset(token)

        context = copy_context()
        try:
            _threads.run(lambda: context.run(work))
            asked.scope.stop.race(answer)
            if not answer.done():
                abort.set_result(None)
                asked.scope.stop.check()
            return answer.result()
        finally:
            if sink is not None:  # here and not in the call's thread, which may go on after the run has ended
                sink.close(whole=answer.done() and answer.exception() is None)

    def _streamed(self, asked: Request, abort: Future[None], sink: CallStream) -> Any:
        """The call on DSPy's asynchronous path, whose chunks go to `sink`; `abort` closes the request."""

        async def call() -> Any:
            with dspy.context(send_stream=sink):
                return await self._lm.acall(messages=asked.messages, **asked.sent)

        try:
            if not self._native:
                return asyncio.run(call())  # an engine of the caller's own, which may block its loop
            return _until_aborted(call(), abort)
        except LMError as error:
            asked.broke_off = sink.begun and _broke_off(error)
            raise

    def _in_one_piece(self, asked: Request, abort: Future[None]) -> Any:
        """The same call unstreamed; `abort` closes the request of DSPy's own engines."""
        if not self._native:
            return self._lm(asked.prompt, messages=asked.messages, **asked.sent)
        return _until_aborted(self._lm.acall(asked.prompt, messages=asked.messages, **asked.sent), abort)

    @property
    def _native(self) -> bool:
        """One of DSPy's own engines sends the requests."""
        return isinstance(getattr(self._lm, "engine", None), str)

    @property
    def _can_stream(self) -> bool:
        """DSPy's own engines stream; a custom one does when it came with an asynchronous twin."""
        return self._native or getattr(self._lm, "_async_engine_spec", None) is not None


def _until_aborted(call: Coroutine[Any, Any, Any], abort: Future[None]) -> Any:
    """A request on the event loop, where it can be closed: nothing wakes a thread that reads from a socket."""
    job = stream_loop.start(call)
    abort.add_done_callback(lambda _: job.cancel())
    return job.result()


def _broke_off(error: LMError) -> bool:
    return is_retryable_lm_error(error) or isinstance(error, LMStreamAssemblyError)


def _collect(entry: Entry) -> None:
    """Takes the place of `update_history`: nothing is kept in DSPy's process-wide lists."""
    entries = _entries.get()
    if entries is not None:
        entries.append(entry)
