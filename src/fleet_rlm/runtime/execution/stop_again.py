"""The stop of a whole turn, once more in its replay: when every run has come as far as it had come then.

What ran side by side is as far apart in a replay as the machine likes, so a stop at the first run that reaches its
place would cut the others short of theirs.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from fleet_rlm.runtime.execution.record import Key, Record

LOOK_S = 0.02
NO_PROGRESS_S = 10.0
"""A run that cannot come so far (its cell computes longer than then) does not hold up the stop for ever."""


class StopTogether:
    """Of one replay. `stop` ends the tree; `claimed` tells whether a recorded call was asked for again. Thread-safe."""

    def __init__(self, record: Record, stop: Callable[[], object], claimed: Callable[[Key], bool]) -> None:
        self._stop = stop
        self._claimed = claimed
        ends = {path: run.finished.status if run.finished else "interrupted" for path, run in record.runs.items()}
        self._missing = set(ends)
        """Runs that have not come as far yet."""
        self._calls = [key for key, call in record.calls.items() if ends.get(call.path) in ("cancelled", "interrupted")]
        self._lock = threading.Lock()
        self._watches = False

    def reached(self, path: str) -> None:
        """A run is where it was stopped."""
        self.over(path)
        with self._lock:
            begins, self._watches = not self._watches, True
        if begins:
            threading.Thread(target=self._watch, name="fleet-stop-again", daemon=True).start()

    def over(self, path: str) -> None:
        """A run has ended, as it did then."""
        with self._lock:
            self._missing.discard(path)

    def _watch(self) -> None:
        last, since = -1, time.monotonic()
        while True:
            time.sleep(LOOK_S)
            with self._lock:
                left = len(self._missing) + sum(not self._claimed(key) for key in self._calls)
            if left != last:
                last, since = left, time.monotonic()
            if left == 0 or time.monotonic() > since + NO_PROGRESS_S:
                self._stop()
                return
