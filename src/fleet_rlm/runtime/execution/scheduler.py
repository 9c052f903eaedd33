"""One scheduler over the tree: how many calls are in flight and how many sandboxes live at once.

Both gates are bounded and abandon their wait the moment the tree is stopped. Live sandboxes are counted per depth, so
that a parent, which holds its sandbox while it waits for its children, can never keep them from getting theirs.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from typing import TypeVar

from fleet_rlm.runtime.execution.budget import TreeBudget

CALL_WIDTH = 64
"""Language-model calls in flight per turn."""

T = TypeVar("T")
R = TypeVar("R")


class Gate:
    """At most `width` holders at once; waiters leave with TreeStopped when the tree ends."""

    def __init__(self, width: int, tree: TreeBudget) -> None:
        self._free = width
        self._tree = tree
        self._changed = threading.Condition()
        tree.stopped.add_done_callback(lambda _: self._wake())

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    @contextmanager
    def held(self) -> Generator[None]:
        """Hold one place. Errors: TreeStopped while waiting."""
        with self._changed:
            self._changed.wait_for(lambda: self._free > 0 or self._tree.stopped.done())
            self._tree.check()
            self._free -= 1
        try:
            yield
        finally:
            with self._changed:
                self._free += 1
                self._changed.notify()


class Scheduler:
    """The gates of one turn."""

    def __init__(self, tree: TreeBudget, *, calls: int = CALL_WIDTH, sandboxes: int = 64) -> None:
        self._tree = tree
        self._sandbox_width = sandboxes
        self._calls = Gate(calls, tree)
        self._sandboxes: dict[int, Gate] = {}
        self._lock = threading.Lock()

    def call_slot(self) -> Gate:
        """The gate that every language-model call of the turn passes."""
        return self._calls

    def sandbox_slot(self, depth: int) -> Gate:
        """The gate for live sandboxes of runs at `depth`."""
        with self._lock:
            gate = self._sandboxes.get(depth)
            if gate is None:
                gate = self._sandboxes[depth] = Gate(self._sandbox_width, self._tree)
            return gate

    def map(self, work: Callable[[T], R], items: Iterable[T], *, width: int) -> list[R]:
        """`work` over all items side by side, results in order, each in a copy of the caller's context.

        Errors: the first error in order of the items, raised after all have ended. TreeStopped wins over others.
        """
        todo: Sequence[T] = list(items)
        if len(todo) <= 1:
            return [work(item) for item in todo]
        with ThreadPoolExecutor(max_workers=min(width, len(todo)), thread_name_prefix="fleet-batch") as pool:
            futures = [pool.submit(copy_context().run, work, item) for item in todo]
        self._tree.check()
        return [future.result() for future in futures]
