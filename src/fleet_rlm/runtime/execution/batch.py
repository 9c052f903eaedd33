"""A batch: work over many items side by side, each in one thread from its beginning to its end, with as few threads as
keep up.

What holds a thread may go on for longer than the run that asked: nothing wakes a thread that reads from a slow model.
So each piece of work is given a function by which whoever closes it from outside (see `Stop.watch`) ends its item; the
thread is left to itself, and what it brings later goes nowhere.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextvars import Context, copy_context
from functools import partial
from typing import Generic, TypeVar

from fleet_rlm.integrations.daytona.threads import Crew, DaemonThreads
from fleet_rlm.runtime.execution.stops import Stop

T = TypeVar("T")
R = TypeVar("R")
LetGo = Callable[[], None]

_threads = DaemonThreads("fleet-batch")


class Batch(Generic[T, R]):
    """Once only. `stop`: what the caller is stopped by; then no further item is begun."""

    def __init__(self, work: Callable[[T, LetGo], R], items: Sequence[T], stop: Stop) -> None:
        self._work = work
        self._items = items
        self._stop = stop
        self._results: dict[int, R] = {}
        self._errors: dict[int, BaseException] = {}
        self._begun = 0
        self._open: set[int] = set()
        self._closed = False
        self._lock = threading.Lock()
        self._over: Future[None] = Future()

    def run(self, width: int) -> list[R]:
        """All results in order, with at most so many threads. See Scheduler.map for errors."""
        self._stop.watch(self._close)
        try:
            context = copy_context()
            Crew(_threads, width).run(*(partial(self._do, context, place) for place in range(len(self._items))))
            self._over.result()
        finally:
            self._stop.unwatch(self._close)
            self._close()
        self._stop.check()
        if self._errors:
            raise self._errors[min(self._errors)]
        return [self._results[place] for place in range(len(self._items))]

    def _do(self, context: Context, place: int) -> None:
        if not self._begin(place):
            return
        try:
            result = context.copy().run(self._work, self._items[place], lambda: self._end(place))
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits
            self._end(place, error=error)
        else:
            self._end(place, result)

    def _begin(self, place: int) -> bool:
        with self._lock:
            if self._closed:
                return False
            self._begun += 1
            self._open.add(place)
            return True

    def _end(self, place: int, result: R | None = None, *, error: BaseException | None = None) -> None:
        """The first end of an item is the one that counts."""
        with self._lock:
            if place not in self._open:
                return
            self._open.remove(place)
            if error is not None:
                self._errors[place] = error
            else:
                self._results[place] = result  # pyright: ignore[reportArgumentType] - None only of one let go
            over = self._is_over()
        if over:
            self._over.set_result(None)

    def _close(self) -> None:
        """Begin no more."""
        with self._lock:
            before, self._closed = self._is_over(), True
            over = self._is_over() and not before
        if over:
            self._over.set_result(None)

    def _is_over(self) -> bool:
        return not self._open and (self._closed or self._begun == len(self._items))
