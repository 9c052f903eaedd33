"""Who is alive: each process that opens a data folder holds a lock that the kernel drops when the process dies.

Several processes may share one folder (`fleet web` beside `fleet run`). A turn belongs to the process that accepted it;
only turns of dead owners may be closed as interrupted.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from pathlib import Path


class Owner:
    """This process's proof of life in a data folder: a file under an exclusive flock."""

    def __init__(self, home: Path) -> None:
        self._folder = home / "owners"
        self._folder.mkdir(mode=0o700, exist_ok=True)
        self.id = f"own_{secrets.token_hex(8)}"
        self._path = self._folder / self.id
        self._fd = self._take()
        for path in self._folder.iterdir():
            self.alive(path.name)  # removes what dead processes left

    def _take(self) -> int:
        while True:
            fd = os.open(self._path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            fcntl.flock(fd, fcntl.LOCK_EX)
            try:
                if self._path.stat().st_ino == os.fstat(fd).st_ino:
                    return fd
            except FileNotFoundError:
                pass
            os.close(fd)  # another process swept the file between its making and its lock

    def alive(self, owner: str) -> bool:
        """Whether the process behind `owner` still runs. Removes what a dead one left behind."""
        if owner == self.id:
            return True
        path = self._folder / Path(owner).name
        try:
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        else:
            path.unlink(missing_ok=True)
            return False
        finally:
            os.close(fd)

    def close(self) -> None:
        """Give the proof up; turns still open in this folder then count as left behind."""
        self._path.unlink(missing_ok=True)
        os.close(self._fd)
