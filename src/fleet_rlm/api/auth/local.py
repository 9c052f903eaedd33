"""The local identity: whoever can read the data folder, and the browsers that were let in with a one-time key.

The token lies in `<home>/local-token` (0600) and goes into `Authorization: Bearer`. A browser gets a session of its own
in a cookie; only the hash of it is kept, in `<home>/web-sessions.json`, so that a restart does not sign anyone out.
Several servers of one folder share that file.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import json
import logging
import os
import secrets
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

from fleet_rlm.errors import StorageError

log = logging.getLogger(__name__)

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
            # Cookies do not look at the port: two workspaces in one browser need two names.
            self.cookie = f"fleet_session_{_digest(self.token)[:8]}"
            self._seen = self._state()
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
            self._add(_digest(session), time.time() + COOKIE_SECONDS)
        if self.on_used is not None:
            self.on_used()
        return session

    def knows_cookie(self, value: str) -> bool:
        """Whether a cookie's value names a living browser session."""
        name = _digest(value)
        if name not in self._sessions:
            self._look_again()
        return self._sessions.get(name, 0.0) > time.time()

    def knows_token(self, value: str) -> bool:
        """Whether a bearer token is this folder's."""
        return hmac.compare_digest(value.encode(), self.token.encode())

    def _add(self, name: str, until: float) -> None:
        """Beside what other servers of the folder wrote since."""
        with self._file_locked():
            sessions = {**self._sessions, **self._load(), name: until}
            while len(sessions) > MAX_SESSIONS:
                sessions.pop(min(sessions, key=sessions.__getitem__))
            self._sessions = sessions
            self._save()

    def _look_again(self) -> None:
        """Take what another server wrote; no more than a look at the file's state where nobody did."""
        state = self._state()
        if state is None or state == self._seen:
            return
        try:
            with self._lock:
                self._sessions = {**self._sessions, **self._load()}
                self._seen = state
        except OSError as error:
            log.warning("the sign-ins of other servers cannot be read: %s", error.strerror or error)

    def _state(self) -> tuple[int, int] | None:
        try:
            found = self._sessions_file.stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns

    @contextmanager
    def _file_locked(self) -> Generator[None]:
        path = self._sessions_file.with_suffix(".lock")
        with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

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
