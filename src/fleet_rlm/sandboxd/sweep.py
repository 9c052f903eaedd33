"""One background thread for slow disk work, so that a delete answers at once and the event loop never waits."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable

_log = logging.getLogger("sandboxd")


class Sweeper:
    """Runs pieces of work one after the other. A daemon thread: what is left at exit is swept at the next start."""

    def __init__(self) -> None:
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="sweeper", daemon=True)
        self._thread.start()

    def submit(self, work: Callable[[], None]) -> None:
        """Run this after everything submitted before."""
        self._work.put(work)

    def close(self, timeout: float) -> None:
        """Let what was submitted finish, for at most `timeout` seconds."""
        self._work.put(None)
        self._thread.join(timeout)

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            try:
                work()
            except OSError as error:
                _log.warning("cleaning up failed: %s", error)
