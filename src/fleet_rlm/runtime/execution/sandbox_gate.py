"""How many sandboxes of one tree live at once, without a parent ever keeping its children from getting theirs.

A parent holds its sandbox while it waits for its children, so a plain count could be used up by parents that all wait.
The remedy: runs of level L and above may together hold at most `limit - (deepest - L)` places, so that below any
waiting parent there is always one left for each deeper level.

Why that is enough: let `l` be the deepest level at which a sandbox lives. All that live are at `l` or above, at most
`limit - (deepest - l)` of them, which is less than what level `l + 1` may reach. So a child at `l + 1` gets its place;
and a run at the deepest level has no children to wait for and will end. Where the limit is smaller than the number of
levels, runs at the levels that could have none are refused (`TreeBudget.deepest_level`).

Limits change while runs live (`change`). Other limits are taken only when what lives keeps every bound under them; what
waits at a level for which they have no place is refused. `deepest` is then the deepest of what the limits allow, what
lives and what waits, since runs that were opened under the former limits may lie below.
"""

from __future__ import annotations

import heapq
import threading
from collections.abc import Callable, Generator
from concurrent.futures import Future
from contextlib import contextmanager
from itertools import count

from msgspec.structs import replace

from fleet_rlm.errors import InvalidInput
from fleet_rlm.runtime.execution.budget import LimitReached, TreeBudget
from fleet_rlm.runtime.execution.events import Limits
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

        A level below `TreeBudget.deepest_level` is refused with its lease and does not come here, unless the limits
        change in between.

        Errors: LimitReached where the limit is spent on the other levels, TreeStopped while waiting.
        """
        limit = self._tree.limits.sandboxes
        if limit <= self._tree.deepest_level - level:
            raise LimitReached("sandboxes", f"the limit of {limit} live sandboxes leaves none for this")
        granted: Future[None] = Future()
        with self._lock:
            heapq.heappush(self._queue, (-level, next(self._order), level, granted))
            self._refuse_deepest()
            self._admit()
        if not granted.done():
            stop.race(granted)
        if stop.done:
            self._leave(level, granted)
            stop.check()
        granted.result()

    def give_back(self, level: int) -> None:
        """Free a place that was taken."""
        with self._lock:
            self._live[level] -= 1
            self._admit()

    def change(self, limits: Limits, apply: Callable[[], None]) -> None:
        """Let `apply` set these limits in the budget, and look again at who waits. Nobody gets a place meanwhile.

        Errors: InvalidInput when more live than the limits allow, or so many that those that wait could starve the
        ones that they wait for; those of `apply`. Then nothing changes.
        """
        with self._lock:
            now = self._tree.limits
            if (limits.sandboxes, limits.depth) != (now.sandboxes, now.depth):
                self._check_room(limits)
            apply()
            self._refuse_deepest()
            self._admit()

    def _check_room(self, limits: Limits) -> None:
        if self._holds(limits):
            return
        live = sum(self._live.values())
        least = next(n for n in count(limits.sandboxes + 1) if self._holds(replace(limits, sandboxes=n)))
        raise InvalidInput(
            f"the limit of {limits.sandboxes} live sandboxes with a depth of {limits.depth} does not hold now: "
            f"{live} live, and some wait for deeper ones",
            hint=f"at least {least} sandboxes with this depth, or wait until fewer live",
        )

    def _holds(self, limits: Limits) -> bool:
        """Whether what lives keeps every bound under these limits."""
        deepest = max([self._tree.deepest_under(limits), *self._levels()])
        return all(
            not (above := self._above(bound)) or above <= limits.sandboxes - (deepest - bound)
            for bound in range(-1, deepest + 1)
        )

    def _levels(self) -> list[int]:
        """The levels at which sandboxes live."""
        return [level for level, live in self._live.items() if live]

    def _above(self, bound: int) -> int:
        """Places that are held at this level and above it."""
        return sum(live for level, live in self._live.items() if level <= bound)

    def _refuse_deepest(self) -> None:
        """Refuse who waits at a level that has no place under the limits, even when nobody else lived."""
        limits = self._tree.limits
        deepest = self._tree.deepest_chain(limits)
        refused = [entry for entry in self._queue if entry[2] > max(0, deepest)]
        for entry in refused:
            self._queue.remove(entry)
            message = f"the limit of {limits.sandboxes} live sandboxes leaves none for this depth"
            entry[3].set_exception(LimitReached("sandboxes", message))
        heapq.heapify(self._queue)

    def _leave(self, level: int, granted: Future[None]) -> None:
        with self._lock:
            if not granted.done():
                self._queue = [entry for entry in self._queue if entry[3] is not granted]
                heapq.heapify(self._queue)
            elif granted.exception() is None:
                self._live[level] -= 1
            self._admit()

    def _admit(self) -> None:
        kept: list[tuple[int, int, int, Future[None]]] = []
        deepest = max([self._tree.deepest_level, *self._levels(), *(entry[2] for entry in self._queue)])
        while self._queue:
            entry = heapq.heappop(self._queue)
            if self._fits(entry[2], deepest):
                self._live[entry[2]] = self._live.get(entry[2], 0) + 1
                self.most_live = max(self.most_live, sum(self._live.values()))
                entry[3].set_result(None)
            else:
                kept.append(entry)
                if self._live and sum(self._live.values()) >= self._tree.limits.sandboxes:
                    break
        for entry in kept:
            heapq.heappush(self._queue, entry)

    def _fits(self, level: int, deepest: int) -> bool:
        """Whether every bound still holds with one more at `level`: it counts for its own level and all below it."""
        limit = self._tree.limits.sandboxes
        return all(self._above(bound) + 1 <= limit - (deepest - bound) for bound in range(level, deepest + 1))
