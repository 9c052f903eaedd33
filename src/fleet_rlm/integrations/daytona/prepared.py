"""A terminal that was opened before anybody asked: the worker in it has started when an interpreter comes."""

from __future__ import annotations

from collections.abc import Callable

from fleet_rlm.integrations.daytona.transport import Line, Transport, TransportError

EARLY_BYTES = 64 * 1024  # a worker without its key says one line; who says more is no worker


class PreparedTerminal:
    """Implements `Transport` around another that is open already; `open` hands over what it has said by then."""

    def __init__(self, inner: Transport) -> None:
        self._inner = inner
        self._early: list[bytes] = []
        self._lost: str | None = None
        self._receive: Callable[[bytes], None] = self._keep
        self._closed: Callable[[str], None] = self._lose

    async def prepare(self) -> None:
        """Open it. TransportError when that fails."""
        await self._inner.open(lambda data: self._receive(data), lambda reason: self._closed(reason))

    @property
    def ready(self) -> bool:
        """Whether it is still there."""
        return self._lost is None

    async def open(self, receive: Callable[[bytes], None], closed: Callable[[str], None]) -> None:
        if self._lost is not None:
            raise TransportError(self._lost)
        early, self._early = self._early, []
        self._receive, self._closed = receive, closed
        for data in early:
            receive(data)

    @property
    def any_thread(self) -> bool:
        return self._inner.any_thread

    @property
    def direct(self) -> Line | None:
        return self._inner.direct

    @property
    def reopens(self) -> bool:
        return self._inner.reopens

    async def reopen(self) -> None:
        await self._inner.reopen()

    def write(self, data: bytes) -> None:
        self._inner.write(data)

    async def close(self) -> None:
        await self._inner.close()

    def _keep(self, data: bytes) -> None:
        self._early.append(data)
        if sum(map(len, self._early)) > EARLY_BYTES:
            self._lose("the terminal talks before it was spoken to")

    def _lose(self, reason: str) -> None:
        self._lost = reason
        self._early.clear()
