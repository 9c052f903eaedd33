"""What every response carries: a request id and the security headers; and what no request may exceed."""

from __future__ import annotations

import secrets
from collections.abc import Callable

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fleet_rlm.api.failures import error_response
from fleet_rlm.errors import TooLarge

MAX_BODY = 16 * 1024 * 1024
"""Bytes of a request's body; uploads of files stream and have the store's own, larger limit."""


def content_policy(script_hashes: tuple[str, ...] = ()) -> str:
    """The Content-Security-Policy; `script_hashes` allow the page's own inline scripts."""
    scripts = " ".join(("'self'", *script_hashes))
    return (
        f"default-src 'self'; script-src {scripts}; img-src 'self' data: blob:; style-src 'self' 'unsafe-inline'; "
        "connect-src 'self'; frame-src 'self' blob:; object-src 'none'; base-uri 'none'; form-action 'self'; "
        "frame-ancestors 'none'"
    )


class Envelope:
    """ASGI middleware around everything else."""

    def __init__(self, app: ASGIApp, *, policy: Callable[[], str]) -> None:
        self._app = app
        self._policy = policy
        self._headers = {
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cross-Origin-Opener-Policy": "same-origin",
            "Cross-Origin-Resource-Policy": "same-origin",
            "X-Frame-Options": "DENY",
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = f"req_{secrets.token_hex(8)}"
        scope.setdefault("state", {})["request_id"] = request_id

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["X-Request-Id"] = request_id
                headers.setdefault("Content-Security-Policy", self._policy())
                for name, value in self._headers.items():
                    headers.setdefault(name, value)
                if scope["path"].startswith("/api/"):
                    headers.setdefault("Cache-Control", "no-store")
            await send(message)

        declared = Headers(scope=scope).get("content-length", "")
        if _bounded(scope) and declared.isdecimal() and int(declared) > MAX_BODY:
            await error_response(_too_large(), scope)(scope, receive, sending)
            return
        await self._app(scope, _counting(receive) if _bounded(scope) else receive, sending)


def _bounded(scope: Scope) -> bool:
    upload = Headers(scope=scope).get("content-type", "").lower().startswith("multipart/form-data")
    return not (upload and scope["path"] == "/api/v1/contexts")


def _counting(receive: Receive) -> Receive:
    seen = 0

    async def counted() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > MAX_BODY:
            raise _too_large()
        return message

    return counted


def _too_large() -> TooLarge:
    return TooLarge(f"the request is larger than {MAX_BODY // 1024**2} MiB", hint="upload large texts as files")
