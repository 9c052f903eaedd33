"""The door: Host, Origin and identity are checked before any route sees a request or a socket.

Host against the names of this very server (DNS rebinding), Origin where a browser names one (cross-site requests and
socket hijacking), then the cookie or the token for everything under /api. Pages and their assets hold no secrets.
"""

from __future__ import annotations

from http.cookies import CookieError, SimpleCookie

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fleet_rlm.api.auth.local import LocalAccess
from fleet_rlm.api.failures import error_response
from fleet_rlm.errors import AuthError, Forbidden, Unauthenticated

CLOSE_UNAUTHENTICATED = 4401
LOOPBACK_NAMES = ("127.0.0.1", "localhost", "[::1]")


def allowed_hosts(port: int) -> frozenset[str]:
    """The Host headers of a loopback server on this port."""
    bare = LOOPBACK_NAMES if port == 80 else ()
    return frozenset((*bare, *(f"{name}:{port}" for name in LOOPBACK_NAMES)))


class Guard:
    """ASGI middleware. A wrong Host or Origin gets 403, on a socket before it opens; no identity gets 401.

    A socket without identity is opened and closed with 4401 at once, because a browser hides every earlier reason.
    """

    def __init__(self, app: ASGIApp, *, access: LocalAccess, hosts: frozenset[str]) -> None:
        self._app = app
        self._access = access
        self._hosts = hosts
        self._origins = frozenset(f"http://{host}" for host in hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        try:
            self._check_place(headers)
            if scope["path"].startswith("/api/"):
                self._check_identity(headers)
        except AuthError as error:
            await self._refuse(scope, receive, send, error)
            return
        await self._app(scope, receive, send)

    def _check_place(self, headers: Headers) -> None:
        named = headers.getlist("host")
        host = named[0].lower() if len(named) == 1 else ", ".join(named)
        if host not in self._hosts:
            raise Forbidden(f"this workspace does not answer as {host[:200]!r}", hint="open it under its own address")
        origins = headers.getlist("origin")
        if any(origin.lower() not in self._origins for origin in origins):
            raise Forbidden("requests of other web pages are refused")

    def _check_identity(self, headers: Headers) -> None:
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            if self._access.knows_token(token.strip()):
                return
        elif has_cookie(self._access, headers):
            return
        raise Unauthenticated("not signed in", hint="open the address that `fleet web` printed")

    async def _refuse(self, scope: Scope, receive: Receive, send: Send, error: AuthError) -> None:
        if scope["type"] == "http":
            await error_response(error, scope)(scope, receive, send)
        elif isinstance(error, Unauthenticated):
            await receive()
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.close", "code": CLOSE_UNAUTHENTICATED, "reason": error.code})
        else:
            # Closing before accepting answers the upgrade with 403.
            message: Message = {"type": "websocket.close", "code": 4403, "reason": error.code}
            await receive()
            await send(message)


def has_cookie(access: LocalAccess, headers: Headers) -> bool:
    """Whether the request carries the cookie of a living browser session."""
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(access.cookie)
    except CookieError:
        return False
    return found is not None and access.knows_cookie(found.value)
