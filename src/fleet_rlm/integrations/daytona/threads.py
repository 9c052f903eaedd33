"""Daemon threads that are used again: host tools run here, and may block for as long as a turn lasts."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

IDLE_S = 30.0


class DaemonThreads:
    """`run(job)` never waits: an idle thread takes the job, or a new one is made."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._jobs: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._idle = 0

    def run(self, job: Callable[[], None]) -> None:
        """Run `job` on its own thread; it must not raise."""
        with self._lock:
            if self._idle > 0:
                self._idle -= 1
                self._jobs.put(job)
                return
        threading.Thread(target=self._work, args=(job,), daemon=True, name=self._name).start()

    def _work(self, job: Callable[[], None]) -> None:
        while True:
            job()
            del job  # hold nothing while idle
            with self._lock:
                self._idle += 1
            try:
                job = self._jobs.get(timeout=IDLE_S)
                continue
            except queue.Empty:
                pass
            with self._lock:
                try:
                    job = self._jobs.get_nowait()  # given to us between the time-out and the lock
                except queue.Empty:
                    self._idle -= 1
                    return
