"""The gate in front of everything: the Host header names this server, the key is right."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from fleet_rlm.sandboxd.errors import ApiError

_HEADER_LIMIT: Final = 4096


class Gate:
    """ASGI middleware. 403 for a foreign Host or Origin (a page of the web that rebinds its name), 401 for no key."""

    def __init__(
        self, app: ASGIApp, *, host: str, port: int, api_key: str, signed: Callable[[Scope], bool] = lambda _: False
    ) -> None:
        self._app = app
        self._key = api_key.encode()
        self._signed = signed  # whether a request carries a permission of its own
        names = {"127.0.0.1", "localhost", "[::1]", f"[{host}]" if ":" in host else host}
        self._hosts = frozenset(f"{name}:{port}" for name in names)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        host = origin = b""
        authorization = b""
        for name, value in scope["headers"]:
            if name == b"host":
                host = value
            elif name == b"authorization":
                authorization = value
            elif name == b"origin":
                origin = value
        if not self._ours(host.decode("latin-1")):
            raise ApiError(403, "the Host header does not name this server", code="HOST_NOT_ALLOWED")
        if origin and not self._ours(origin.decode("latin-1").partition("://")[2]):
            raise ApiError(403, "requests from other origins are refused", code="ORIGIN_NOT_ALLOWED")
        if not self._key_fits(authorization) and not self._signed(scope):
            raise ApiError(401, "the API key is missing or wrong", code="UNAUTHORIZED")
        await self._app(scope, receive, send)

    def _ours(self, host: str) -> bool:
        return host.lower() in self._hosts

    def _key_fits(self, authorization: bytes) -> bool:
        scheme, _, key = authorization[:_HEADER_LIMIT].partition(b" ")
        fits = hmac.compare_digest(key.strip(), self._key)  # constant time, whatever came
        return fits and scheme.lower() == b"bearer"
