"""A stop that spreads downwards: of a whole tree, or of one run with everything below it."""

from __future__ import annotations

import threading
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Any

from fleet_rlm.errors import TreeStopped


class Stop:
    """Set once, with its reason; every stop below is set with it, and waits race against `future`.

    `above`: the parent run's stop, or the future that ends the whole tree. `own`: it was set here and did not come
    from above. Who opened a stop below another calls `leave` at its end.
    """

    def __init__(self, above: Stop | Future[TreeStopped]) -> None:
        self.future: Future[TreeStopped] = Future()
        self.own = False
        self._reason: TreeStopped | None = None
        self._above = above
        self._below: set[Stop] = set()
        self._lock = threading.Lock()
        if isinstance(above, Stop):
            above._adopt(self)
        else:
            above.add_done_callback(lambda tree: self._set(tree.result(), own=False))

    def set(self, reason: TreeStopped) -> bool:
        """Stop here and below; False when it was stopped already (the first reason stays)."""
        return self._set(reason, own=True)

    @property
    def done(self) -> bool:
        """Whether it is stopped."""
        return self.future.done()

    def check(self) -> None:
        """Raise TreeStopped when it is stopped."""
        if self.future.done():
            reason = self.future.result()
            raise TreeStopped(reason.reason, reason.limit)

    def race(self, result: Future[Any], timeout: float | None = None) -> bool:
        """Wait for `result` or the stop, whichever comes first; False when neither came in `timeout` seconds."""
        return bool(wait((result, self.future), timeout, return_when=FIRST_COMPLETED).done)

    def leave(self) -> None:
        """Its run has ended: what is above need not tell it any more. Idempotent."""
        if isinstance(self._above, Stop):
            with self._above._lock:
                self._above._below.discard(self)

    def _set(self, reason: TreeStopped, *, own: bool) -> bool:
        with self._lock:
            if self._reason is not None:
                return False
            self._reason, self.own = reason, own
            below = list(self._below)
        for each in below:  # children first
            each._set(reason, own=False)
        self.future.set_result(reason)
        return True

    def _adopt(self, other: Stop) -> None:
        with self._lock:
            self._below.add(other)
            reason = self._reason
        if reason is not None:
            other._set(reason, own=False)
