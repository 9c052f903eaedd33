"""A stop that spreads downwards: of a whole tree, or of one run with everything below it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from typing import Any

from fleet_rlm.errors import TreeStopped
from fleet_rlm.runtime.execution.events import ErrorInfo

STOPPED_ALONE = ErrorInfo(code="cancelled", message="this run was stopped by a person", hint="go on without it")
"""The error of a run that was stopped by itself, and not with what is above it."""
UNHEARD = ErrorInfo(code="cancelled", message="the cell that asked for this run was lost with its sandbox")
"""The same where nobody could hear its answer any more."""


class Stop:
    """Set once, with its reason; every stop below is set with it, and waits race against `future`.

    `above`: the parent run's stop, or the future that ends the whole tree. `own`: it was set here and did not come
    from above. Who opened a stop below another calls `leave` at its end.
    """

    def __init__(self, above: Stop | Future[TreeStopped]) -> None:
        self.future: Future[TreeStopped] = Future()
        self.own = False
        self._why = STOPPED_ALONE
        self._reason: TreeStopped | None = None
        self._is_set = False  # that `future` has its result, or has it in a moment: to look there takes a lock
        self._above = above
        self._below: set[Stop] = set()
        self._told: set[Callable[[], None]] = set()
        self._racing: set[SimpleQueue[None]] = set()
        self._lock = threading.Lock()
        if isinstance(above, Stop):
            above._adopt(self)
        else:
            above.add_done_callback(lambda tree: self._set(tree.result(), own=False))

    def set(self, reason: TreeStopped, why: ErrorInfo = STOPPED_ALONE) -> bool:
        """Stop here and below; False when it was stopped already (the first reason stays). `why`: as its run tells."""
        return self._set(reason, own=True, why=why)

    @property
    def error(self) -> ErrorInfo | None:
        """Why it was stopped by itself; None when it was not."""
        return self._why if self.own else None

    @property
    def done(self) -> bool:
        """Whether it is stopped."""
        return self._is_set

    @property
    def reason(self) -> TreeStopped | None:
        """Why it is stopped, or is being stopped at this moment."""
        return self._reason

    def check(self) -> None:
        """Raise TreeStopped when it is stopped."""
        if self._is_set:
            reason = self.future.result()
            raise TreeStopped(reason.reason, reason.limit)

    def watch(self, told: Callable[[], None]) -> None:
        """Have `told` called in the thread that stops, before anybody who waits hears of the stop.

        At once when it is stopped already. It must be quick and must not raise.
        """
        with self._lock:
            if self._reason is None:
                self._told.add(told)
                return
        told()

    def unwatch(self, told: Callable[[], None]) -> bool:
        """Take that back; False when it was told, or is being told now."""
        with self._lock:
            mine = told in self._told
            self._told.discard(told)
        return mine

    def race(self, result: Future[Any], timeout: float | None = None) -> bool:
        """Wait for `result` or the stop, whichever comes first; False when neither came in `timeout` seconds."""
        box: SimpleQueue[None] = SimpleQueue()
        with self._lock:
            self._racing.add(box)
        try:
            if not self._is_set:
                result.add_done_callback(lambda _: box.put(None))
                box.get(timeout=None if timeout is None else min(timeout, threading.TIMEOUT_MAX))
            return True
        except Empty:
            return False
        finally:
            with self._lock:
                self._racing.discard(box)

    def leave(self) -> None:
        """Its run has ended: what is above need not tell it any more. Idempotent."""
        if isinstance(self._above, Stop):
            with self._above._lock:
                self._above._below.discard(self)

    def _set(self, reason: TreeStopped, *, own: bool, why: ErrorInfo = STOPPED_ALONE) -> bool:
        with self._lock:
            if self._reason is not None:
                return False
            self._reason, self.own, self._why = reason, own, why
            below, told = list(self._below), list(self._told)
            self._told.clear()
        for each in below:  # children first
            each._set(reason, own=False)
        for tell in told:
            tell()
        self._is_set = True
        self.future.set_result(reason)
        with self._lock:
            racing = list(self._racing)
        for box in racing:
            box.put(None)
        return True

    def _adopt(self, other: Stop) -> None:
        with self._lock:
            self._below.add(other)
            reason = self._reason
        if reason is not None:
            other._set(reason, own=False)
