"""File work on the host's side that stays safe next to hostile folders: atomic writes, removal, sizes, opening."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import time
from collections.abc import Generator
from pathlib import Path
from typing import Final

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
PRIVATE: Final = 0o700
# Folders of volumes: jails have host ids of their own, and the data folder above is private to the server.
SHARED: Final = 0o777
# An upper bound of entries looked at in one size count, so that a folder of millions costs seconds at most.
_COUNT_LIMIT: Final = 500_000
# A path of a walk is at most this long before it begins anew, and so many folders are held open for that at most.
_PATH_CHARS: Final = 800
_HELD: Final = 32
# Long walks pause this often and this long (s): their thread must not keep the event loop waiting for the interpreter.
_PAUSE_EVERY: Final = 128
_PAUSE_S: Final = 0.002


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file with mode 0600 under a temporary name, sync it and rename it into place."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def remove_tree(root: Path) -> None:
    """Remove a folder whose contents came out of a sandbox: any depth, any modes, links never followed.

    Sub-folders are renamed up into `root` before they are emptied, so paths stay short however deep the tree was.
    """
    if root.is_symlink() or not root.is_dir():
        root.unlink(missing_ok=True)
        return
    pending = [root]
    number = 0
    while pending:
        folder = pending.pop()
        with contextlib.suppress(OSError):
            folder.chmod(PRIVATE)
        for seen, entry in enumerate(_entries(folder)):
            if seen % _PAUSE_EVERY == _PAUSE_EVERY - 1:
                time.sleep(_PAUSE_S)
            if not entry.is_dir(follow_symlinks=False):
                with contextlib.suppress(OSError):
                    Path(entry.path).unlink()
                continue
            number += 1
            flat = root / f".removing-{secrets.token_hex(8)}-{number}"
            with contextlib.suppress(OSError):
                Path(entry.path).chmod(PRIVATE)  # renaming a folder needs write permission on it
                Path(entry.path).rename(flat)
                pending.append(flat)
        if folder is not root:
            with contextlib.suppress(OSError):
                folder.rmdir()
    shutil.rmtree(root, ignore_errors=True)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            return list(found)
    except OSError:
        return []


def tree_size(root: Path) -> int:
    """Bytes on disk under a folder (blocks, so sparse files count what they take), links not followed."""
    return tree_use(root)[0]


def tree_use(root: Path) -> tuple[int, int]:
    """Bytes on disk under a folder, see `tree_size`, and the number of entries; counting ends at 500,000 of them, and
    with as many where folders are nested beyond all measure."""
    total = seen = 0
    with contextlib.closing(_walk(root)) as entries:
        for entry in entries:
            seen += 1
            if entry is None:
                seen = _COUNT_LIMIT + 1
            if entry is None or seen > _COUNT_LIMIT:
                break
            if seen % _PAUSE_EVERY == _PAUSE_EVERY - 1:
                time.sleep(_PAUSE_S)
            with contextlib.suppress(OSError):
                total += entry.stat(follow_symlinks=False).st_blocks * 512
    return total, seen


def _walk(root: Path) -> Generator[os.DirEntry[str] | None]:
    """Every entry below a folder; None, and no more, where one lies too deep to be looked at.

    Folders can be nested deeper than a path reaches, so from some on their names count from one that is held open.
    """
    held: list[int] = []
    try:
        with contextlib.suppress(OSError):
            held.append(os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        pending = [(0, ".")] if held else []  # which of those held, and the path from there
        while pending:
            start, path = pending.pop()
            while len(held) > start + 1:
                os.close(held.pop())  # everything below it was looked at
            if len(held) > _HELD:
                yield None
                return
            try:
                here = os.open(path, _DIRECTORY, dir_fd=held[start])
            except OSError:
                continue  # went away or cannot be read: it is not ours to count
            far = len(path) > _PATH_CHARS
            if far:
                held.append(here)
                start, path = start + 1, "."
            try:
                with contextlib.suppress(OSError), os.scandir(here) as found:
                    for entry in found:
                        yield entry
                        if entry.is_dir(follow_symlinks=False):
                            pending.append((start, f"{path}/{entry.name}"))
            finally:
                if not far:
                    os.close(here)
    finally:
        for folder in held:
            os.close(folder)


def free_bytes(path: Path) -> int:
    """Bytes that may still be written on the file system of a path."""
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize


def make_beneath(root: Path, parts: tuple[str, ...]) -> Path:
    """Make and return a folder under `root`, component by component without following a link.

    A sandbox may have written in the volume, so a component can be a link out of it: that raises NotADirectoryError.
    """
    fd = os.open(root, _DIRECTORY)
    try:
        for part in parts:
            made = _make(part, fd)
            below = os.open(part, _DIRECTORY, dir_fd=fd)
            os.close(fd)
            fd = below
            if made:
                os.fchmod(fd, SHARED)
    finally:
        os.close(fd)
    return root.joinpath(*parts)


def _make(name: str, folder_fd: int) -> bool:
    try:
        os.mkdir(name, PRIVATE, dir_fd=folder_fd)
    except FileExistsError:
        return False
    return True
