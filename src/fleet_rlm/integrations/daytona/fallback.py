"""The terminal where its WebSocket can be opened, else the session command; remembered for the sandboxes after it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from fleet_rlm.integrations.daytona.transport import Line, Transport, TransportError, TransportGone

AGAIN_S = 0.2
REMEMBER_S = 600.0


class Passage:
    """What is known of the way to one server: whether WebSockets pass."""

    def __init__(self) -> None:
        self._blocked_until = 0.0

    @property
    def blocked(self) -> bool:
        """Whether a WebSocket was refused lately while plain requests passed."""
        return time.monotonic() < self._blocked_until

    def block(self) -> None:
        """For a while, do not try WebSockets first."""
        self._blocked_until = time.monotonic() + REMEMBER_S


class FallbackTransport:
    """Implements `Transport` by the first of two that opens. `answers` tells whether plain requests pass."""

    def __init__(
        self,
        passage: Passage,
        terminal: Transport,
        session: Callable[[], Transport],
        answers: Callable[[], Awaitable[bool]],
    ) -> None:
        self._passage = passage
        self._session = session
        self._answers = answers
        self._used = session() if passage.blocked else terminal

    async def open(self, receive: Callable[[bytes], None], closed: Callable[[str], None]) -> None:
        try:
            await self._used.open(receive, closed)
            return
        except TransportGone:
            raise
        except TransportError as error:
            await self._used.close()
            timed_out = isinstance(error.__cause__, TimeoutError)
            if self._passage.blocked or not await self._answers():
                raise
            if not timed_out and await self._second_try(receive, closed):
                return
        self._passage.block()
        self._used = self._session()
        await self._used.open(receive, closed)

    async def _second_try(self, receive: Callable[[bytes], None], closed: Callable[[str], None]) -> bool:
        """A socket that was dropped once by chance is no reason to go without."""
        await asyncio.sleep(AGAIN_S)
        try:
            await self._used.open(receive, closed)
        except TransportError:
            await self._used.close()
            return False
        return True

    @property
    def any_thread(self) -> bool:
        return self._used.any_thread

    @property
    def direct(self) -> Line | None:
        return self._used.direct

    @property
    def reopens(self) -> bool:
        return self._used.reopens

    async def reopen(self) -> None:
        await self._used.reopen()

    def write(self, data: bytes) -> None:
        self._used.write(data)

    async def close(self) -> None:
        await self._used.close()
