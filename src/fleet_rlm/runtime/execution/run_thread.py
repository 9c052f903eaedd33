"""The thread in which a run does its work, which can be left while an engine holds it.

A run that is stopped ends at once. Most of what it may wait for can be woken; an engine of the caller's own cannot, and
to ask each step of it in a further thread costs a run two changes of threads a step. So the run as a whole has a thread
for its work, and another that waits here and writes the run's end: when the run is stopped while an engine holds the
first, that one is left to itself, and what it brings later goes nowhere.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import copy_context
from typing import Generic, TypeVar

from fleet_rlm.integrations.daytona.threads import DaemonThreads
from fleet_rlm.runtime.execution.batch import LetGo
from fleet_rlm.runtime.execution.stops import Stop

T = TypeVar("T")

_threads = DaemonThreads("fleet-run")
_here = threading.local()


class RunThread(Generic[T]):
    """Once only. `stop`: the run's. `left`: its thread was left, so the run's end is to be brought about without it."""

    def __init__(self, stop: Stop) -> None:
        self.stop = stop
        self.left = False
        self._end: Future[T | None] = Future()

    def run(self, work: Callable[[], T]) -> T:
        """What `work` returns, in a copy of the caller's context. Errors: what it raises; TreeStopped when left."""
        context = copy_context()
        _threads.run(lambda: context.run(self._work, work))
        result = self._end.result()
        if self.left:
            self.stop.future.result()  # it is being set by who left
            self.stop.check()
        return result  # pyright: ignore[reportReturnType] - None only when left

    def leave(self) -> None:
        """For who stops the run, while the thread is where it can be left (see `leaving`)."""
        self.left = True
        self._end.set_result(None)

    def _work(self, work: Callable[[], T]) -> None:
        _here.thread = self
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits
            if not self.left:
                self._end.set_exception(error)
        else:
            if not self.left:
                self._end.set_result(result)
        finally:
            del _here.thread


def leaving(stop: Stop) -> LetGo | None:
    """By what this thread is left when `stop` is set; None where it cannot be. Who is left stays where it is until the
    stop is set, and then raises TreeStopped."""
    thread: RunThread[object] | None = getattr(_here, "thread", None)
    return thread.leave if thread is not None and thread.stop is stop else None
