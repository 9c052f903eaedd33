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

    Links are left out: they may point outside. Folders that cannot be read raise InvalidInput.
    """

    def refuse(error: OSError) -> None:
        raise InvalidInput(f"cannot read {error.filename}: {error.strerror}")

    found: list[tuple[str, Path | None]] = []
    for folder, folders, names in os.walk(root, onerror=refuse):
        folders[:] = [name for name in folders if not is_skipped(name)]
        for name in names:
            path = Path(folder, name)
            shown = path.relative_to(root).as_posix()
            taken = not is_skipped(name) and _is_printable(shown) and stat.S_ISREG(path.lstat().st_mode)
            found.append((shown, path if taken else None))
        if len(found) > MAX_FILES:
            raise InvalidInput(f"{root} holds more than {MAX_FILES} files", hint="attach a smaller folder")
    yield from sorted(found)


def read_chunks(path: Path) -> Iterator[bytes]:
    """The file's bytes in pieces. Errors: InvalidInput when it cannot be read."""
    try:
        with path.open("rb", buffering=0) as file:
            while piece := file.read(CHUNK):
                yield piece
    except OSError as error:
        raise InvalidInput(f"cannot read {path}: {error.strerror}") from None


def _is_printable(path: str) -> bool:
    """False for names that no `path:line` could hold: control characters, or bytes that are not UTF-8."""
    return all(char.isprintable() for char in path)
