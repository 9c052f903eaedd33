"""How many sandboxes of one tree live at once, without a parent ever keeping its children from getting theirs.

A parent holds its sandbox while it waits for its children, so a plain count could be used up by parents that all wait.
The remedy: runs of level L and above may together hold at most `limit - (deepest - L)` places, so that below any
waiting parent there is always one left for each deeper level.

Why that is enough: let `l` be the deepest level at which a sandbox lives. All that live are at `l` or above, at most
`limit - (deepest - l)` of them, which is less than what level `l + 1` may reach. So a child at `l + 1` gets its place;
and a run at the deepest level has no children to wait for and will end. Where the limit is smaller than the number of
levels, runs at the levels that could have none are refused (`TreeBudget.deepest_level`).
"""

from __future__ import annotations

import heapq
import threading
from collections.abc import Generator
from concurrent.futures import Future
from contextlib import contextmanager
from itertools import count

from fleet_rlm.runtime.execution.budget import LimitReached, TreeBudget
from fleet_rlm.runtime.execution.stops import Stop


class SandboxGate:
    """Places for live sandboxes, by level of the recursion. Deeper levels are served first.

    Level 0 is the first RLM; the agent's own sandbox, which lives as long as its turn, is at level -1.
    """

    def __init__(self, tree: TreeBudget) -> None:
        self._tree = tree
        self._lock = threading.Lock()
        self._live: dict[int, int] = {}
        self._queue: list[tuple[int, int, int, Future[None]]] = []
        self._order = count()
        self.most_live = 0

    @property
    def live(self) -> int:
        """Places that are held."""
        with self._lock:
            return sum(self._live.values())

    @contextmanager
    def held(self, level: int, stop: Stop) -> Generator[None]:
        """Hold a place while the body runs. Errors: as `take`."""
        self.take(level, stop)
        try:
            yield
        finally:
            self.give_back(level)

    def take(self, level: int, stop: Stop) -> None:
        """Wait for a place at `level`.

        A level below `TreeBudget.deepest_level` is refused with its lease and does not come here.

        Errors: LimitReached where the limit is spent on the levels below, TreeStopped while waiting.
        """
        limit = self._tree.limits.sandboxes
        if limit <= self._tree.deepest_level - level:
            raise LimitReached("sandboxes", f"the limit of {limit} live sandboxes leaves none for this")
        granted: Future[None] = Future()
        with self._lock:
            heapq.heappush(self._queue, (-level, next(self._order), level, granted))
            self._admit()
        if not granted.done():
            stop.race(granted)
        if stop.done:
            self._leave(level, granted)
            stop.check()

    def give_back(self, level: int) -> None:
        """Free a place that was taken."""
        with self._lock:
            self._live[level] -= 1
            self._admit()

    def limits_changed(self) -> None:
        """Look again at who waits: the limit is another now."""
        with self._lock:
            self._admit()

    def _leave(self, level: int, granted: Future[None]) -> None:
        with self._lock:
            if granted.done():
                self._live[level] -= 1
            else:
                self._queue = [entry for entry in self._queue if entry[3] is not granted]
                heapq.heapify(self._queue)
            self._admit()

    def _admit(self) -> None:
        kept: list[tuple[int, int, int, Future[None]]] = []
        while self._queue:
            entry = heapq.heappop(self._queue)
            if self._fits(entry[2]):
                self._live[entry[2]] = self._live.get(entry[2], 0) + 1
                self.most_live = max(self.most_live, sum(self._live.values()))
                entry[3].set_result(None)
            else:
                kept.append(entry)
                if self._live and sum(self._live.values()) >= self._tree.limits.sandboxes:
                    break
        for entry in kept:
            heapq.heappush(self._queue, entry)

    def _fits(self, level: int) -> bool:
        """Whether every bound still holds with one more at `level`: it counts for its own level and all below it."""
        deepest = max(level, self._tree.deepest_level)
        for bound in range(level, deepest + 1):
            above = sum(n for each, n in self._live.items() if each <= bound)
            if above + 1 > self._tree.limits.sandboxes - (deepest - bound):
                return False
        return True
