"""Sandboxes that are started before somebody asks for them.

Kept by what they mount and by their network policy, because both are fixed at creation. Sandboxes without
mounts are kept from the beginning; those with mounts only after somebody asked for the same a second time within a
while, which is what the children of a run do that share its contexts.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Mapping
from dataclasses import dataclass, field, replace

from fleet_rlm.errors import SandboxError
from fleet_rlm.integrations.daytona.settings import PoolSizes
from fleet_rlm.integrations.daytona.source import SandboxHandle, SandboxSpec

IDLE_LABELS: Mapping[str, str] = {"fleet.pool": "idle"}
AGAIN_S = 120.0  # a second demand for the same mounts within this time is a habit
LONGEST_IDLE_S = 300.0
PAUSE_S = 15.0  # after a failed creation
MAX_HABITS = 64
CLOSE_S = 10.0


@dataclass(slots=True)
class _Shelf:
    """The idle sandboxes of one kind."""

    size: int
    spec: SandboxSpec
    idle: deque[tuple[float, SandboxHandle]] = field(default_factory=deque[tuple[float, SandboxHandle]])
    coming: int = 0
    asked: float = 0.0


class Pool:
    """Everything here runs on one event loop. `make` creates a sandbox, `alive` looks whether one still runs."""

    def __init__(
        self,
        sizes: PoolSizes,
        make: Callable[[SandboxSpec], Awaitable[SandboxHandle]],
        alive: Callable[[SandboxHandle], Awaitable[bool]],
        delete: Callable[[SandboxHandle], None],
    ) -> None:
        self._sizes = sizes
        self._make = make
        self._alive = alive
        self._delete = delete
        self._shelves: dict[Hashable, _Shelf] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._not_before = 0.0
        self._quiet: dict[int, asyncio.TimerHandle] = {}  # by shelf: when it is filled
        self._closed = False

    @property
    def idle(self) -> int:
        """How many sandboxes wait."""
        return sum(len(shelf.idle) for shelf in self._shelves.values())

    def warm(self) -> None:
        """Fill the shelf of sandboxes without mounts."""
        self._fill(self._shelf(SandboxSpec()))

    async def take(self, spec: SandboxSpec) -> SandboxHandle | None:
        """An idle sandbox of this kind that still runs, or None; more are made in the background."""
        if not (self._sizes.bare or self._sizes.mounted):
            return None
        shelf = self._shelf(spec)
        now = time.monotonic()
        if spec.mounts and now - shelf.asked < AGAIN_S and shelf.asked:
            shelf.size = self._sizes.mounted
        shelf.asked = now
        found: SandboxHandle | None = None
        while shelf.idle and found is None:
            made, handle = shelf.idle.popleft()
            if now - made < LONGEST_IDLE_S and await self._alive(handle):
                found = handle
            else:
                self._delete(handle)
        self._fill_when_quiet(shelf)
        return found

    async def close(self) -> None:
        """Delete what waits; make no more. What is being made is waited for: one that nobody knows would be left."""
        self._closed = True
        for timer in self._quiet.values():
            timer.cancel()
        for shelf in self._shelves.values():
            while shelf.idle:
                self._delete(shelf.idle.popleft()[1])
        if self._tasks:
            await asyncio.wait(list(self._tasks), timeout=CLOSE_S)

    def _shelf(self, spec: SandboxSpec) -> _Shelf:
        key = (spec.mounts, spec.network_block_all, spec.ttl_minutes)
        shelf = self._shelves.get(key)
        if shelf is None:
            self._forget_habits()
            size = 0 if spec.mounts else self._sizes.bare
            shelf = self._shelves[key] = _Shelf(size, replace(spec, labels=dict(IDLE_LABELS)))
        return shelf

    def _forget_habits(self) -> None:
        """Drop the kinds that nobody asked for lately."""
        if len(self._shelves) < MAX_HABITS:
            return
        for key in sorted(self._shelves, key=lambda key: self._shelves[key].asked)[: MAX_HABITS // 2]:
            for _, handle in self._shelves.pop(key).idle:
                self._delete(handle)

    def _fill_when_quiet(self, shelf: _Shelf) -> None:
        if not self._sizes.quiet_s:
            self._fill(shelf)
            return
        waiting = self._quiet.pop(id(shelf), None)
        if waiting is not None:
            waiting.cancel()
        if not self._closed:
            self._quiet[id(shelf)] = asyncio.get_running_loop().call_later(self._sizes.quiet_s, self._now_quiet, shelf)

    def _now_quiet(self, shelf: _Shelf) -> None:
        self._quiet.pop(id(shelf), None)
        self._fill(shelf)

    def _fill(self, shelf: _Shelf) -> None:
        if self._closed or time.monotonic() < self._not_before:
            return
        for _ in range(shelf.size - len(shelf.idle) - shelf.coming):
            shelf.coming += 1
            task = asyncio.get_running_loop().create_task(self._add(shelf))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _add(self, shelf: _Shelf) -> None:
        try:
            handle = await self._make(shelf.spec)
        except SandboxError:  # whoever needs one makes it itself and gets the reason
            self._not_before = time.monotonic() + PAUSE_S
            return
        finally:
            shelf.coming -= 1
        if self._closed or shelf not in self._shelves.values():
            self._delete(handle)
            return
        shelf.idle.append((time.monotonic(), handle))
        asyncio.get_running_loop().call_later(LONGEST_IDLE_S, self._expire, shelf)

    def _expire(self, shelf: _Shelf) -> None:
        """Let go of what waited too long; habits end, the shelf without mounts is filled again on demand."""
        while shelf.idle and time.monotonic() - shelf.idle[0][0] >= LONGEST_IDLE_S:
            self._delete(shelf.idle.popleft()[1])
            shelf.size = shelf.size if not shelf.spec.mounts else 0
