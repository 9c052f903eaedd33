"""What one measurement gives, and the few ways to take one."""

from __future__ import annotations

import itertools
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. `ours` None: the peer alone is measured. `target` None: shown for information.
    `at_least`: more is better."""

    name: str
    unit: str
    ours: float | None
    target: float | None = None
    peer: float | None = None
    at_least: bool = False
    rlms: float | None = None

    @property
    def ok(self) -> bool | None:
        """Whether the target is met; None without a target."""
        if self.target is None or self.ours is None:
            return None
        return self.ours >= self.target if self.at_least else self.ours <= self.target

    @property
    def ratio(self) -> float | None:
        """How many times better than the peer (below 1: worse)."""
        if self.peer is None or not self.peer or not self.ours:
            return None
        return self.ours / self.peer if self.at_least else self.peer / self.ours


def seconds(work: Callable[[], object]) -> float:
    """How long `work` takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def median_ms(work: Callable[[], float], times: int) -> float:
    """The median of `times` measurements in seconds, as milliseconds."""
    return statistics.median(work() for _ in range(times)) * 1000


def gaps_ms(moments: Sequence[float]) -> list[float]:
    """The times between neighbouring moments (seconds), in milliseconds."""
    return [(after - before) * 1000 for before, after in itertools.pairwise(moments)]


def together(work: Callable[[int], object], number: int) -> float:
    """Seconds until all of `number` calls of `work`, each on a thread of its own and begun at once, have ended."""
    barrier = threading.Barrier(number + 1)

    def one(index: int) -> None:
        barrier.wait()
        work(index)

    with ThreadPoolExecutor(number) as pool:
        futures = [pool.submit(one, index) for index in range(number)]
        barrier.wait()
        began = time.perf_counter()
        for future in futures:
            future.result()
        return time.perf_counter() - began
