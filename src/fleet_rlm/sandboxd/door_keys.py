"""Who may come in through a door, and what becomes of the request."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from fleet_rlm.sandboxd.http1 import Head

TOKEN_HEADER: Final = "x-daytona-preview-token"  # noqa: S105  the name of a header
COOKIE: Final = "daytona-preview"
SIGNED: Final = "/_signed/"
_SIGNED_LIMIT: Final = 1000


@dataclass(slots=True)
class Entry:
    """What a request's permission makes of it: the target to ask for, a cookie to give, a place to go instead."""

    target: str
    cookie: str = ""
    redirect: bool = False


@dataclass(slots=True)
class Keys:
    """Who may come in: the holder of the token, of the API key, or of a signed URL until it expires."""

    api_key: str
    now: Callable[[], float]
    token: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    signed: dict[str, float] = field(default_factory=dict[str, float])  # token -> seconds since 1970

    def sign(self, seconds: int) -> str:
        """A new token that opens for a while; the oldest ones are forgotten when there are very many."""
        self.signed = {token: until for token, until in self.signed.items() if until > self.now()}
        while len(self.signed) >= _SIGNED_LIMIT:
            del self.signed[next(iter(self.signed))]
        token = secrets.token_urlsafe(24)
        self.signed[token] = self.now() + seconds
        return token

    def judge(self, head: Head, target: str, *, public: bool) -> Entry | None:
        """What becomes of a request; None when it may not come in."""
        if target.startswith(SIGNED):
            token, slash, rest = target.removeprefix(SIGNED).partition("/")
            token, mark, query = token.partition("?") if not slash else (token, "", "")
            if self._opens(token):
                page = head.get("sec-fetch-mode") == "navigate"
                return Entry(f"/{rest}{mark}{query}", token, redirect=page)
            return None
        if public or self._is(head.get(TOKEN_HEADER), self.token) or self._opens(_own_cookie(head)):
            return Entry(target)
        return Entry(target) if self._is(head.get("authorization"), f"Bearer {self.api_key}") else None

    def _opens(self, token: str) -> bool:
        return self.signed.get(token, 0.0) > self.now()

    @staticmethod
    def _is(given: str, wanted: str) -> bool:
        return hmac.compare_digest(given.encode("latin-1", "replace"), wanted.encode())


def cookies(head: Head) -> list[str]:
    """The cookies of a request, `name=value` each."""
    values = [value for name, value in head.fields if name == "cookie"]
    return [pair.strip() for value in values for pair in value.split(";") if pair.strip()]


def _own_cookie(head: Head) -> str:
    pairs = (pair.partition("=") for pair in cookies(head))
    return next((value for name, _, value in pairs if name == COOKIE), "")


def set_cookie(token: str) -> str:
    """The field that lets a browser keep a signed token; no script of the page can read it."""
    return f"{COOKIE}={token}; Path=/; HttpOnly; SameSite=Lax"
