"""A thread that serves quick tool calls and reads the next one itself, in place of the event loop.

Code that calls a tool in a loop makes the loop, a thread and the sandbox take turns. Without the loop in between a call
takes a quarter less: two that take turns keep what they work on in their processors' caches.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

from fleet_rlm.integrations.daytona.channel import Channel
from fleet_rlm.integrations.daytona.direct_way import DirectWay

LEAD_S = 0.003  # how long the next call may take to come
QUICK_S = 0.002  # a call that took no longer is likely followed by one as quick
PATIENCE_S = 0.004  # when a call has lasted so long, the loop reads again


class Lead:
    """Whose turn it is to read. `came` is told of each call first, by its size, then `serve` takes it out of a list of
    one and answers it; both in any thread, and must not raise. `run` runs a job on a thread."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        came: Callable[[bytes], None],
        serve: Callable[[list[bytes]], None],
        run: Callable[[Callable[[], None]], None],
    ) -> None:
        self._loop = loop
        self._came = came
        self._serve = serve
        self._run = run
        self._lock = threading.Lock()
        self._quick = False
        self._turn = 0  # another number as soon as the thread that leads has to stop
        self._reads = False
        self._served = 0

    def note(self, seconds: float) -> None:
        """A call took so long."""
        self._quick = seconds <= QUICK_S

    def begin(self, channel: Channel, call: list[bytes]) -> bool:
        """On the loop: have this call, of which `came` was told, served by a thread that reads on. False: that is of
        no use here."""
        way = channel.lend() if self._quick else None
        if way is None:
            return False
        with self._lock:
            self._turn += 1
            turn, served = self._turn, self._served
        self._run(lambda: self._follow(way, call, turn))
        self._loop.call_later(PATIENCE_S, self._look, way, turn, served)
        return True

    def _follow(self, way: DirectWay, call: list[bytes], turn: int) -> None:
        while call:
            self._serve(call)
            with self._lock:
                if self._turn != turn:  # it lasted, and the loop reads again
                    return
                self._reads = True
            message = way.next_call(LEAD_S)
            if message is not None:
                self._came(message)
                call.append(message)
                del message
            with self._lock:
                self._reads = False
                self._served += 1
                self._turn += not call
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(way.go_on)

    def _look(self, way: DirectWay, turn: int, before: int) -> None:
        """On the loop, while a thread leads: read again when it is still in the call that it was in."""
        with self._lock:
            if self._turn != turn:
                return
            lasts = self._served == before and not self._reads
            self._turn += lasts
            served = self._served
        if lasts:
            way.go_on()
        else:
            self._loop.call_later(PATIENCE_S, self._look, way, turn, served)
