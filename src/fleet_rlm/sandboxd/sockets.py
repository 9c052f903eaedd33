"""WebSocket endpoints: a route out of a method, and a one-way stream that ends when its client leaves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, Final

from starlette.routing import WebSocketRoute
from starlette.types import Message, Receive, Scope, Send

from fleet_rlm.sandboxd.errors import bad_request

NORMAL: Final = 1000
_Handler = Callable[[Scope, Receive, Send], Awaitable[None]]


class _Endpoint:
    """An ASGI endpoint out of a method; Starlette would wrap a bare function."""

    def __init__(self, handler: _Handler) -> None:
        self._handler = handler

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._handler(scope, receive, send)


def socket_route(path: str, handler: _Handler) -> WebSocketRoute:
    """A route for upgrades; an ApiError raised before `accept` is the upgrade's HTTP answer."""
    return WebSocketRoute(path, _Endpoint(handler))


async def accept(scope: Scope, receive: Receive, send: Send) -> None:
    """Take the upgrade."""
    message = await receive()
    if message["type"] != "websocket.connect":
        raise bad_request(f"unexpected {message['type']} on {scope['path']}")
    await send({"type": "websocket.accept", "subprotocol": None, "headers": []})


async def while_connected(work: Coroutine[Any, Any, None], receive: Receive) -> bool:
    """Do the work until it is done or the client leaves; whether it was done. What the client says is dropped."""
    working = asyncio.create_task(work)
    leaving = asyncio.create_task(_left(receive))
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        done = working.done()
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.wait((working, leaving))
    if not working.cancelled() and (failure := working.exception()) is not None and not isinstance(failure, OSError):
        raise failure
    return done


async def stream(chunks: AsyncIterator[bytes], receive: Receive, send: Send) -> None:
    """Binary messages until there are no more, then close 1000."""

    async def work() -> None:
        async for chunk in chunks:
            await send({"type": "websocket.send", "bytes": chunk})
        await close(send, NORMAL, "")

    await while_connected(work(), receive)


async def close(send: Send, code: int, reason: str) -> None:
    """End the socket with a code; a reason has at most 123 bytes."""
    message: Message = {
        "type": "websocket.close",
        "code": code,
        "reason": reason.encode()[:120].decode(errors="ignore"),
    }
    await send(message)


async def _left(receive: Receive) -> None:
    while (await receive())["type"] == "websocket.receive":
        pass
