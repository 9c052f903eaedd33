"""The local identity: whoever can read the data folder, and the browsers that were let in with a one-time key.

The token lies in `<home>/local-token` (0600) and goes into `Authorization: Bearer`. A browser gets a session of its own
in a cookie; only the hash of it is kept, in `<home>/web-sessions.json`, so that a restart does not sign anyone out.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import cast

from fleet_rlm.errors import StorageError

COOKIE = "fleet_session"
COOKIE_SECONDS = 30 * 24 * 3600
KEY_SECONDS = 24 * 3600
MAX_KEYS = 16
MAX_SESSIONS = 64


class LocalAccess:
    """Tokens, one-time keys and browser sessions of one data folder."""

    def __init__(self, home: Path) -> None:
        self._sessions_file = home / "web-sessions.json"
        self._lock = threading.Lock()
        self._keys: dict[str, float] = {}
        self.on_used: Callable[[], None] | None = None
        """Called after a one-time key was used."""
        try:
            self.token = _read_or_make_token(home / "local-token")
            self._sessions = self._load()
        except OSError as error:
            raise StorageError(f"cannot keep sign-ins in {home}: {error.strerror or error}") from error

    def new_key(self) -> str:
        """A key that opens the workspace once, within a day."""
        key = secrets.token_urlsafe(24)
        with self._lock:
            self._keys[_digest(key)] = time.time() + KEY_SECONDS
            while len(self._keys) > MAX_KEYS:
                self._keys.pop(next(iter(self._keys)))
        return key

    def redeem(self, key: str) -> str | None:
        """A one-time key for a cookie's value; None when the key is unknown, used or old."""
        with self._lock:
            until = self._keys.pop(_digest(key), 0.0)
            if until < time.time():
                return None
            session = secrets.token_urlsafe(32)
            self._sessions[_digest(session)] = time.time() + COOKIE_SECONDS
            while len(self._sessions) > MAX_SESSIONS:
                self._sessions.pop(min(self._sessions, key=self._sessions.__getitem__))
            self._save()
        if self.on_used is not None:
            self.on_used()
        return session

    def knows_cookie(self, value: str) -> bool:
        """Whether a cookie's value names a living browser session."""
        return self._sessions.get(_digest(value), 0.0) > time.time()

    def knows_token(self, value: str) -> bool:
        """Whether a bearer token is this folder's."""
        return hmac.compare_digest(value.encode(), self.token.encode())

    def _load(self) -> dict[str, float]:
        try:
            raw = json.loads(self._sessions_file.read_text("utf-8"))
        except (FileNotFoundError, ValueError):
            return {}
        if not isinstance(raw, dict):
            return {}
        now = time.time()
        entries = cast("dict[str, object]", raw).items()
        return {name: until for name, until in entries if isinstance(until, float) and until > now}

    def _save(self) -> None:
        temporary = self._sessions_file.with_suffix(f".{secrets.token_hex(4)}")
        fd = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            json.dump(self._sessions, file)
        temporary.replace(self._sessions_file)


def _digest(value: str) -> str:
    return hashlib.sha256(value.encode("utf-8", "replace")).hexdigest()


def _read_or_make_token(path: Path) -> str:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    except FileExistsError:
        if token := path.read_text("ascii").strip():
            return token
        path.unlink()
        return _read_or_make_token(path)
    token = secrets.token_urlsafe(32)
    with os.fdopen(fd, "w", encoding="ascii") as file:
        file.write(token + "\n")
    return token
