"""Host ids for jails when the server is root: a distinct unprivileged uid each, and the workspace is its own."""

import hashlib
import os
from pathlib import Path

from fleet_rlm.sandboxd.jail.inside import kernel

# Above the ranges of systemd (to 1 879 048 191) and of users, below 2^31. The first id is the group that owns
# writable mounts, which several sandboxes may share.
_FIRST = 1_900_000_000
_COUNT = 1 << 27
SHARED_GROUP = _FIRST
# Without a mount namespace a jail walks through the server's own folders: its processes alone are of this group.
PASSAGE_GROUP = _FIRST - 1


class Identities:
    """The ids in use by live jails."""

    def __init__(self) -> None:
        self._used: set[int] = set()

    def take(self, name: str, workspace: Path) -> int:
        """An id that no live jail has: the one that owns the workspace from before, else one by name."""
        owner = workspace.stat().st_uid
        if _FIRST < owner < _FIRST + _COUNT and owner not in self._used:
            uid = owner
        else:
            uid = _FIRST + 1 + int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") % (_COUNT - 1)
            while uid in self._used:
                uid = _FIRST + 1 + (uid - _FIRST) % (_COUNT - 1)
        self._used.add(uid)
        return uid

    def give_back(self, uid: int) -> None:
        """The jail is gone."""
        self._used.discard(uid)


def own(workspace: Path, uid: int) -> None:
    """Give a workspace and everything in it to a uid, unless it has it. No symlink is followed."""
    if workspace.stat().st_uid == uid:
        return
    # Code can nest folders deeper than Python recurses, paths reach and files may be open: one is open at a time.
    here = kernel.open_folder(str(workspace), os.O_RDONLY)
    try:
        levels = [_own_entries(here, uid)]  # folders that wait, from the workspace's down to those of `here`
        while levels[-1] or len(levels) > 1:
            down = levels[-1].pop() if levels[-1] else None
            there = os.open(down or "..", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=here)
            os.close(here)
            here = there
            if down is None:
                levels.pop()
            else:
                levels.append(_own_entries(here, uid))
    finally:
        os.close(here)
    os.chown(workspace, uid, uid)  # last: a broken walk starts again next time
    workspace.chmod(0o700)


def _own_entries(folder: int, uid: int) -> list[str]:
    """Give what is in an open folder to a uid; the names of the folders in it."""
    folders: list[str] = []
    with os.scandir(folder) as found:
        for entry in found:
            os.chown(entry.name, uid, uid, dir_fd=folder, follow_symlinks=False)
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry.name)
    return folders


def closed_above(path: Path) -> Path | None:
    """The first folder above a path that others may not enter."""
    return next((folder for folder in reversed(path.parents) if not folder.stat().st_mode & 0o001), None)


def let_pass(path: Path, data_dir: Path) -> None:
    """Let jails walk through the server's own folders, from its data folder down to `path`, not read them."""
    for folder in [path, *path.parents]:
        if folder == data_dir or data_dir in folder.parents:
            fd = kernel.open_folder(str(folder), os.O_RDONLY)
            try:
                mode = os.fstat(fd).st_mode & 0o7777
                if not mode & 0o001:
                    os.fchown(fd, -1, PASSAGE_GROUP)
                    os.fchmod(fd, mode & ~0o060 | 0o010)
            finally:
                os.close(fd)


def share(folder: Path) -> None:
    """Let every jail with this writable mount work in it, through the shared group. No link is followed."""
    fd = kernel.open_folder(str(folder), os.O_RDONLY)
    try:
        found = os.fstat(fd)
        if found.st_gid != SHARED_GROUP:
            os.fchown(fd, -1, SHARED_GROUP)
        os.fchmod(fd, found.st_mode & 0o7777 | 0o2070)
    finally:
        os.close(fd)
