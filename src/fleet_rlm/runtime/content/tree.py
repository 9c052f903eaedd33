"""Which files of a folder become part of a context, and in which order."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from fleet_rlm.errors import InvalidInput

SKIPPED_FOLDERS = frozenset({"node_modules", "__pycache__"})
"""Folders of made things; hidden files and folders (`.git`, `.env`, ...) are skipped by their dot."""

MAX_FILES = 200_000
CHUNK = 1 << 20


class CannotRead(InvalidInput):
    """A file of this machine that is not there (any more) or may not be read; `why` says it in a few words."""

    def __init__(self, path: Path, error: OSError) -> None:
        self.why = error.strerror or str(error)
        super().__init__(f"cannot read {path}: {self.why}")


def look(path: Path) -> os.stat_result | None:
    """What is there, through links; None for nothing. Errors: CannotRead where that cannot be known."""
    try:
        return path.stat()
    except (FileNotFoundError, NotADirectoryError, ValueError):  # the last for a name that no file can have
        return None
    except OSError as error:
        raise CannotRead(path, error) from None


def is_folder(path: Path) -> bool:
    """True for a folder or a link to one. Errors: CannotRead."""
    found = look(path)
    return found is not None and stat.S_ISDIR(found.st_mode)


def is_skipped(path: str) -> bool:
    """True for a relative path that has a hidden part or lies in a folder of made things."""
    parts = PurePosixPath(path).parts
    return any(part.startswith(".") or part in SKIPPED_FOLDERS for part in parts)


def clean_path(path: str) -> str:
    """A relative path of a set in one spelling. Errors: InvalidInput for one that leaves its folder."""
    pure = PurePosixPath(path.replace("\\", "/"))
    if pure.is_absolute() or ".." in pure.parts or not pure.parts or not _is_printable(path):
        raise InvalidInput(f"bad file path {path[:200]!r} in the set", hint="use paths inside the folder")
    return str(pure)


def walk(root: Path) -> Iterator[tuple[str, Path | None]]:
    """(relative path, file) of the regular files below `root`, sorted by path; None where one is left out.

    Links are left out: they may point outside. A folder below that cannot be read stands for its files: to read it says
    why. Errors: CannotRead when `root` itself cannot be.
    """
    found: list[tuple[str, Path | None]] = []

    def closed(error: OSError) -> None:
        path = Path(error.filename)
        if path == root:
            raise CannotRead(root, error)
        shown = path.relative_to(root).as_posix()
        found.append((shown, path if _is_printable(shown) else None))

    for folder, folders, names in os.walk(root, onerror=closed):
        folders[:] = [name for name in folders if not is_skipped(name)]
        for name in names:
            path = Path(folder, name)
            shown = path.relative_to(root).as_posix()
            taken = not is_skipped(name) and _is_printable(shown) and _may_be_read(path)
            found.append((shown, path if taken else None))
        if len(found) > MAX_FILES:
            raise InvalidInput(f"{root} holds more than {MAX_FILES} files", hint="attach a smaller folder")
    yield from sorted(found)


def read_chunks(path: Path) -> Iterator[bytes]:
    """The file's bytes in pieces. Errors: CannotRead."""
    try:
        with path.open("rb", buffering=0) as file:
            while piece := file.read(CHUNK):
                yield piece
    except OSError as error:
        raise CannotRead(path, error) from None


def _may_be_read(path: Path) -> bool:
    """True for a regular file, and for one that cannot be looked at: to read it says why."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return True


def _is_printable(path: str) -> bool:
    """False for names that no `path:line` could hold: control characters, or bytes that are not UTF-8."""
    return all(char.isprintable() for char in path)
