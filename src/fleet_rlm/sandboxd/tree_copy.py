"""Copying a folder that came out of a sandbox: links stay links, special files and rights of others stay behind."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path
from typing import Final

from fleet_rlm.sandboxd.disk import PRIVATE

_ENTRIES: Final = 200_000


class TooMuch(OSError):
    """A folder with more in it than is copied."""


def copy_tree(source: Path, target: Path, limit: int) -> int:
    """Copy everything below `source`, which no process writes now, into the new folder `target`.

    Gives the bytes copied. TooMuch above `limit` bytes or 200 000 entries.
    """
    size = entries = 0
    target.mkdir(mode=PRIVATE)
    pending = [(source, target)]
    while pending:
        here, there = pending.pop()
        with os.scandir(here) as found:
            for entry in found:
                info = entry.stat(follow_symlinks=False)
                copied = there / entry.name
                entries += 1
                size += info.st_size if stat.S_ISREG(info.st_mode) else 0
                if size > limit or entries > _ENTRIES:
                    raise TooMuch(f"more than {limit} bytes or {_ENTRIES} files")
                if stat.S_ISDIR(info.st_mode):
                    copied.mkdir(mode=PRIVATE)
                    pending.append((Path(entry.path), copied))
                elif stat.S_ISREG(info.st_mode):
                    shutil.copyfile(entry.path, copied, follow_symlinks=False)
                    copied.chmod(stat.S_IMODE(info.st_mode) & 0o777)
                elif stat.S_ISLNK(info.st_mode):
                    copied.symlink_to(os.readlink(entry.path))  # noqa: PTH115 - the text as it is
    return size
