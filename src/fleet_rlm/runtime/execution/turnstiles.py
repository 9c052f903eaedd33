"""One at a time, in all threads of all processes that share a data folder, under a name for what is done.

Each name that somebody is at has a file under an exclusive flock, which the kernel drops when its process dies. Whoever
is done takes the file away, so nothing is kept of a name that nobody is at.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from fleet_rlm.errors import StorageError


class Turnstiles:
    """The names of a data folder. Whoever holds one may go through others, but never through the same again."""

    def __init__(self, home: Path) -> None:
        """Errors: StorageError."""
        self._folder = home / "locks"
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            for path in self._folder.iterdir():
                _sweep(path)
        except OSError as error:
            raise _unusable(error) from error

    @contextmanager
    def alone(self, name: str) -> Generator[None]:
        """Wait until nobody else is at `name`, and keep others waiting within. Errors: StorageError."""
        path = self._folder / hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:32]
        try:
            fd = _held(path)
        except OSError as error:
            raise _unusable(error) from error
        try:
            yield
        finally:
            path.unlink(missing_ok=True)  # before the lock goes with the descriptor: the file is nobody else's yet
            os.close(fd)


def _held(path: Path) -> int:
    """The file's descriptor, under the lock."""
    while True:
        fd = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            if _stands(path, fd):
                return fd
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)  # who was here before took the file away: what it locked means nothing any more


def _sweep(path: Path) -> None:
    """Take away what a process left that died while it was at it."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _stands(path, fd):
            path.unlink(missing_ok=True)
    except BlockingIOError:  # somebody is at it
        pass
    finally:
        os.close(fd)


def _stands(path: Path, fd: int) -> bool:
    """Whether the locked file is the one that others find under this name."""
    try:
        return path.stat().st_ino == os.fstat(fd).st_ino
    except FileNotFoundError:
        return False


def _unusable(error: OSError) -> StorageError:
    return StorageError(f"the data folder cannot hold a lock: {error.strerror or error}", hint="look at its disk")
