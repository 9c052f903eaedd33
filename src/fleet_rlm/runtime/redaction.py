"""Secrets of the settings and of a turn's models, kept out of every text that is stored or shown."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from urllib.parse import quote

from fleet_rlm.runtime.config import Secret, Settings

HIDDEN = "•••"
SHORTEST_SECRET = 8


class Redactor:
    """Removes secrets from texts, as they are and as they are written in JSON and in addresses.

    Those that are too short to be any are left alone.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        self._given = frozenset(secret for secret in secrets if len(secret) >= SHORTEST_SECRET)
        self._secrets = sorted({form for secret in self._given for form in _forms(secret)}, key=len, reverse=True)

    def also(self, secrets: Iterable[str]) -> Redactor:
        """One that removes these too."""
        return Redactor(self._given.union(secrets))

    def __call__(self, text: str) -> str:
        """The text with `HIDDEN` in place of each secret."""
        for secret in self._secrets:
            if secret in text:
                text = text.replace(secret, HIDDEN)
        return text

    def settled(self, text: str) -> int:
        """How many characters of a growing text can be told: what is after them may begin a secret."""
        end = len(text) - max((_begun(text, secret) for secret in self._secrets), default=0)
        while True:
            across = (text.find(s, max(0, end - len(s) + 1), end + len(s) - 1) for s in self._secrets)
            start = min((at for at in across if at >= 0), default=end)
            if start == end:
                return end
            end = start  # never through the middle of one that is whole


def redactor(settings: Settings) -> Redactor:
    """What removes the settings' secrets from a text."""
    secrets = [settings.api_key, settings.daytona_api_key, *settings.keys.values()]
    plain = {secret.reveal() for secret in secrets if isinstance(secret, Secret)}
    return Redactor(plain.union(*(server.secrets() for server in settings.mcp)))


def _forms(secret: str) -> Iterator[str]:
    """A secret as it may be written. Most have no sign that is written otherwise, and so only one form."""
    yield secret
    for ascii_only in (True, False):
        within = json.dumps(secret, ensure_ascii=ascii_only)[1:-1]
        yield within
        yield json.dumps(within, ensure_ascii=ascii_only)[1:-1]  # the arguments of a tool call are JSON within JSON
    for unquoted in ("", "/"):
        yield quote(secret, safe=unquoted, errors="replace")


def _begun(text: str, secret: str) -> int:
    """How many characters at the end of the text begin this secret and are not all of it."""
    longest = min(len(text), len(secret) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(secret[:n])), 0)
