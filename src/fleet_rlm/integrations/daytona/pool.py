"""Sandboxes that are started before somebody asks for them.

Kept by what they mount and by their network policy, because both are fixed at creation. Sandboxes without
mounts are kept from the beginning; those with mounts only after somebody asked for the same a second time within a
while, which is what the children of a run do that share its contexts. Where runs asked for many at once, as many are
made for a while whenever nobody uses any: a person's next question mostly needs what the last one did.
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
AT_ONCE = 2  # so many of a habit are made at the same time: nobody waits for them
MAX_HABITS = 64
MAX_BURSTS = 32
CLOSE_S = 10.0


@dataclass(slots=True)
class _Shelf:
    """The idle sandboxes of one kind."""

    size: int
    spec: SandboxSpec
    idle: deque[tuple[float, SandboxHandle]] = field(default_factory=deque[tuple[float, SandboxHandle]])
    coming: int = 0
    asked: float = 0.0
    usual: int = 0  # how many are kept in any case
    ready: int = 0  # how many while nobody uses one
    now: int = 0  # how many were asked for since it was quiet
    bursts: deque[tuple[float, int]] = field(default_factory=lambda: deque[tuple[float, int]](maxlen=MAX_BURSTS))

    def learn(self, sizes: PoolSizes) -> None:
        """It is quiet again: what was asked for at once lately will be asked for again."""
        at = time.monotonic()
        if self.now:
            self.bursts.append((at, self.now))
        self.now = 0
        lately = [size for when, size in self.bursts if at - when < sizes.habit_s]
        self.size = max(self.usual, self.ready, min(sizes.burst, max(lately, default=0)))


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
        self._used: set[str] = set()  # ids of those that somebody has
        self._quiet: asyncio.TimerHandle | None = None  # when it will have been quiet for long enough
        self._closed = False

    @property
    def idle(self) -> int:
        """How many sandboxes wait."""
        return sum(len(shelf.idle) for shelf in self._shelves.values())

    @property
    def in_use(self) -> bool:
        """Whether somebody has a sandbox."""
        return bool(self._used)

    async def take(self, spec: SandboxSpec) -> SandboxHandle | None:
        """An idle sandbox of this kind that still runs, or None; more are made in the background."""
        if not (self._sizes.bare or self._sizes.mounted):
            return None
        shelf = self._shelf(spec)
        now = time.monotonic()
        if spec.mounts and now - shelf.asked < self._sizes.habit_s and shelf.asked:
            shelf.usual = self._sizes.mounted
            shelf.size = max(shelf.size, shelf.usual)
        shelf.asked = now
        shelf.now += 1
        found: SandboxHandle | None = None
        while shelf.idle and found is None:
            made, handle = shelf.idle.popleft()
            if now - made < self._sizes.idle_s and await self._alive(handle):
                found = handle
            else:
                self._delete(handle)
        if found is not None:
            self._used.add(found.id)
        self.expect(spec)
        return found

    def expect(self, spec: SandboxSpec) -> None:
        """Somebody will ask for this kind: have it ready by then."""
        shelf = self._shelf(spec)
        if self._sizes.quiet_s:
            self._busy()
        else:
            self._fill(shelf)

    def given(self, id: str) -> None:
        """A sandbox was made for somebody."""
        self._used.add(id)
        self._busy()

    def ended(self, id: str) -> None:
        """A sandbox is deleted, or let go. One that nobody took is not made again before somebody asks."""
        if id in self._used:
            self._used.remove(id)
            self._busy()

    def _busy(self) -> None:
        """Sandboxes are being asked for, started or ended: what is made ahead waits until that is over."""
        if self._quiet is not None:
            self._quiet.cancel()
        if self._sizes.quiet_s and not self._closed:
            self._quiet = asyncio.get_running_loop().call_later(self._sizes.quiet_s, self._now_quiet)

    async def close(self) -> None:
        """Delete what waits; make no more. What is being made is waited for: one that nobody knows would be left."""
        self._closed = True
        if self._quiet is not None:
            self._quiet.cancel()
        for shelf in self._shelves.values():
            while shelf.idle:
                self._delete(shelf.idle.popleft()[1])
        if self._tasks:
            await asyncio.wait(list(self._tasks), timeout=CLOSE_S)

    async def drop(self) -> None:
        """Its server is gone, and all that waited with it: make no more."""
        self._closed = True
        if self._quiet is not None:
            self._quiet.cancel()
        self._shelves.clear()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _shelf(self, spec: SandboxSpec) -> _Shelf:
        key = (spec.mounts, spec.network_block_all, spec.ttl_minutes)
        shelf = self._shelves.get(key)
        if shelf is None:
            self._forget_habits()
            size, ready = (0, 0) if spec.mounts else (self._sizes.bare, self._sizes.ready)
            shelf = self._shelves[key] = _Shelf(size, replace(spec, labels=dict(IDLE_LABELS)), usual=size, ready=ready)
        return shelf

    def _forget_habits(self) -> None:
        """Drop the kinds that nobody asked for lately."""
        if len(self._shelves) < MAX_HABITS:
            return
        for key in sorted(self._shelves, key=lambda key: self._shelves[key].asked)[: MAX_HABITS // 2]:
            for _, handle in self._shelves.pop(key).idle:
                self._delete(handle)

    def _now_quiet(self) -> None:
        self._quiet = None
        for shelf in self._shelves.values():
            shelf.learn(self._sizes)
            if shelf.size > max(shelf.usual, shelf.ready):
                asyncio.get_running_loop().call_later(self._sizes.habit_s, self._unlearn, shelf)
            self._fill(shelf)

    def _unlearn(self, shelf: _Shelf) -> None:
        """A habit that has ended leaves nothing waiting."""
        if not shelf.now:
            shelf.learn(self._sizes)
        while len(shelf.idle) > max(shelf.size, shelf.usual):
            self._delete(shelf.idle.popleft()[1])

    def _fill(self, shelf: _Shelf) -> None:
        if self._closed or time.monotonic() < self._not_before:
            return
        for _ in range(self._missing(shelf)):
            shelf.coming += 1
            task = asyncio.get_running_loop().create_task(self._add(shelf))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _missing(self, shelf: _Shelf) -> int:
        """How many to make now: of more than the usual a few at a time, only where they hold up nobody, and within the
        bound of all kinds together."""
        here = len(shelf.idle) + shelf.coming
        if not self._sizes.quiet_s:
            return shelf.size - here
        most = max(self._sizes.ready, self._sizes.burst)
        room = most - sum(len(each.idle) + each.coming for each in self._shelves.values())
        more = 0 if self._used else min(shelf.size - here, room)
        return min(max(shelf.usual - here, more), AT_ONCE - shelf.coming)

    async def _add(self, shelf: _Shelf) -> None:
        try:
            handle = await self._make(shelf.spec)
        except SandboxError:  # whoever needs one makes it itself and gets the reason
            self._not_before = time.monotonic() + self._sizes.pause_s
            if time.monotonic() - shelf.asked < self._sizes.idle_s:
                asyncio.get_running_loop().call_later(self._sizes.pause_s, self._fill, shelf)
            return
        finally:
            shelf.coming -= 1
        if self._closed or shelf not in self._shelves.values():
            self._delete(handle)
            return
        shelf.idle.append((time.monotonic(), handle))
        asyncio.get_running_loop().call_later(self._sizes.idle_s, self._expire, shelf)
        if self._quiet is None and self._sizes.quiet_s:
            self._fill(shelf)

    def _expire(self, shelf: _Shelf) -> None:
        """Let go of what waited too long; habits end, the shelf without mounts is filled again on demand."""
        while shelf.idle and time.monotonic() - shelf.idle[0][0] >= self._sizes.idle_s:
            self._delete(shelf.idle.popleft()[1])
            if shelf.spec.mounts:
                shelf.size = shelf.usual = 0
