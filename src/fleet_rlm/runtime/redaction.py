"""Secrets of the settings, kept out of every text that is stored or shown."""

from __future__ import annotations

from collections.abc import Iterable

from fleet_rlm.runtime.config import Secret, Settings

HIDDEN = "•••"
SHORTEST_SECRET = 8


class Redactor:
    """Removes secrets from texts; those that are too short to be any are left alone."""

    def __init__(self, secrets: Iterable[str]) -> None:
        found = {secret for secret in secrets if len(secret) >= SHORTEST_SECRET}
        self._secrets = sorted(found, key=len, reverse=True)

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


def _begun(text: str, secret: str) -> int:
    """How many characters at the end of the text begin this secret and are not all of it."""
    longest = min(len(text), len(secret) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(secret[:n])), 0)
