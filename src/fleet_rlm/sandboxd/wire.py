"""HTTP on this server: routes with methods, JSON in and out with bounds, errors as envelopes."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fleet_rlm.sandboxd.errors import ApiError, bad_request, envelope

_log = logging.getLogger("sandboxd")
_Body = TypeVar("_Body")
Handler = Callable[[Request], Awaitable[Response]]
# How much of a body that is too large is still read, so that its sender gets to read the answer.
_DRAIN_LIMIT: Final = 64 * 1024 * 1024


class ByMethod:
    """An ASGI endpoint with one handler per method; others get 405."""

    def __init__(self, handlers: dict[str, Handler]) -> None:
        self.handlers = handlers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        handler = self.handlers.get(scope["method"])
        if handler is None:
            allowed = ", ".join(self.handlers)
            raise ApiError(405, f"{scope['method']} is not possible here, only {allowed}")
        response = await handler(Request(scope, receive, send))
        await response(scope, receive, send)


def route(path: str, **handlers: Handler) -> Route:
    """A route with its handlers by method name, for instance `route("/sandbox", GET=..., POST=...)`."""
    return Route(path, ByMethod(handlers))


def answer(body: Any, status: int = 200) -> Response:
    """A struct or plain value as a JSON response."""
    return Response(msgspec.json.encode(body), status_code=status, media_type="application/json")


async def read_json(request: Request, kind: type[_Body], limit: int) -> _Body:
    """The body as a checked struct. 400 for what is no such JSON, 413 above `limit` bytes."""
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit:
        await drain(request)
        raise too_large(limit)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            await drain(request)
            raise too_large(limit)
    try:
        return msgspec.json.decode(body or b"{}", type=kind)
    except msgspec.ValidationError as error:
        raise bad_request(f"the body does not fit: {error}") from error
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise bad_request(f"the body is not JSON: {error}") from error


def too_large(limit: int) -> ApiError:
    """413; the connection ends with it because the body was not read to its end."""
    return ApiError(413, f"the body is larger than {limit} bytes", code="BODY_TOO_LARGE", close=True)


async def drain(request: Request) -> None:
    """Read on for a while without keeping anything."""
    left = _DRAIN_LIMIT
    while left > 0:
        message = await request.receive()
        left -= len(message.get("body", b"")) + 1
        if not message.get("more_body", False):
            return


class Supervisor:
    """The outermost ASGI application: whatever fails inside becomes an envelope, never a traceback at a client."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, watched)
            return
        except ClientDisconnect:
            return
        except ApiError as error:
            failure = error
        except Exception as error:  # noqa: BLE001 - the named supervisor: a defect must not reach the client
            if started and isinstance(error, OSError):
                return  # the client went away while it was being answered
            _log.exception("%s %s failed", scope.get("method", "WS"), scope.get("path"))
            failure = ApiError(500, "internal error; the server's log says more", code="INTERNAL_ERROR")
        if not started:
            await send_error(scope, send, failure)
        # Else half an answer is out, and returning here breaks the connection: the client sees that it is cut off.


async def send_error(scope: Scope, send: Send, error: ApiError) -> None:
    """Answer a request, or refuse a WebSocket upgrade, with the error's status and envelope."""
    websocket = scope["type"] == "websocket"
    body = envelope(error, path=scope["path"], method=scope.get("method", "GET"))
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if error.close or websocket:
        headers.append((b"connection", b"close"))
    prefix = "websocket.http.response" if websocket else "http.response"
    await send({"type": f"{prefix}.start", "status": error.status, "headers": headers})
    await send({"type": f"{prefix}.body", "body": body})
