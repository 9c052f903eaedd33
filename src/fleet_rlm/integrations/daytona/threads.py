"""Daemon threads that are used again: host tools run here, and may block for as long as a turn lasts."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable

IDLE_S = 30.0
PATIENCE_S = 0.004
STEP = 16


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


class Crew:
    """Works jobs off in the order in which they came, with as few of `threads` as keep up, at most `most`.

    One begins, and another for a job that comes when those that are under way have been so for PATIENCE_S. Whenever no
    job has ended for that long and some wait, there are STEP times as many. So jobs that compute are done one after the
    other, which is quicker than taking turns at the interpreter's lock, and jobs that wait for something are soon all
    under way. A job must not raise.
    """

    def __init__(self, threads: DaemonThreads, most: int) -> None:
        self._threads = threads
        self._most = most
        self._lock = threading.Lock()
        self._jobs: deque[Callable[[], None]] = deque()
        self._working = 0
        self._began = 0.0  # when a thread or a job began last
        self._ended = 0
        self._watched = False

    def run(self, *jobs: Callable[[], None]) -> None:
        """Have them done, after those that wait. Never waits itself."""
        with self._lock:
            self._jobs.extend(jobs)
            now = time.monotonic()
            begins = self._working == 0 or (self._working < self._most and now > self._began + PATIENCE_S)
            if begins:
                self._working += 1
                self._began = now
            watches = not self._watched and len(self._jobs) > begins and self._working < self._most
            self._watched = self._watched or watches
        if begins:
            self._threads.run(self._work)
        if watches:
            self._threads.run(self._watch)

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._jobs:
                    self._working -= 1
                    return
                job = self._jobs.popleft()
                self._began = time.monotonic()
            job()
            del job
            self._ended += 1  # two at once may count as one: all that matters is whether it changes

    def _watch(self) -> None:
        while True:
            before = self._ended
            time.sleep(PATIENCE_S)
            with self._lock:
                more = 0
                if self._ended == before:
                    more = min((STEP - 1) * self._working, self._most - self._working, len(self._jobs))
                    self._working += more
                watches = self._watched = bool(self._jobs) and self._working < self._most
            for _ in range(more):
                self._threads.run(self._work)
            if not watches:
                return
