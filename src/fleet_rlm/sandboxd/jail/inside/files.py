"""File operations inside a jail, by the jail's own first process: its tree and its rights bound them.

Paths: relative ones start at the workspace. /proc is refused, since there the first process would stand for
itself. Without isolation /workspace and the mounts are names only, so `locate` translates them.
"""

# Kernel-level code: paths are relative to fds and stages, and pathlib would add only cost.
# ruff: noqa: PTH101, PTH102, PTH103, PTH108, PTH115, PTH116, PTH118, PTH119, PTH120

import errno
import os
import shutil
import stat
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

_OPEN_FLAGS = os.O_RDONLY | os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_TRUNC | os.O_APPEND | os.O_NOFOLLOW
_MAX_ENTRIES = 20_000
_KINDS = {stat.S_IFREG: "file", stat.S_IFDIR: "dir", stat.S_IFLNK: "symlink"}

Entry = dict[str, Any]


class Files:
    """The operations, over the names that the jail's user sees. `names`: where the workspace and the mounts lie.
    `apart`: they lie there by these names in a tree of the jail's own."""

    def __init__(self, names: Mapping[str, str], *, apart: bool) -> None:
        self._names = [] if apart else sorted(names.items(), reverse=True)
        self._proc = os.stat("/proc").st_dev if apart else -1
        self._kept = _with_parents(["/tmp", *(names if apart else names.values())])  # noqa: S108  only compared

    def locate(self, path: str) -> str:
        """The path that this process uses for a path of the jail."""
        if "\0" in path:
            raise OSError(22, "a path with a zero byte", path)
        path = os.path.normpath(os.path.join("/workspace", path)) if self._names else path
        for name, real in self._names:
            if path == name or path.startswith(name + "/"):
                return real + path[len(name) :]
        return os.path.join("/workspace", path)

    def open(self, path: str, flags: int, mode: int) -> int:
        """A fd of a regular file. IsADirectoryError for a directory, EINVAL for anything else."""
        if flags & ~_OPEN_FLAGS & ~os.O_CLOEXEC:
            raise OSError(22, "flags that are not allowed", path)
        place = self.locate(path)
        # O_NONBLOCK: a FIFO or a device left there must not hold up the first process.
        try:
            fd = os.open(place, flags | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC, mode & 0o777)
        except OSError as error:
            if error.errno == errno.ENXIO:  # a FIFO that nobody reads, a socket
                raise OSError(22, "not a regular file", path) from error
            raise
        try:
            found = os.fstat(fd)
            if stat.S_ISDIR(found.st_mode):
                raise IsADirectoryError(21, os.strerror(21), path)
            if not stat.S_ISREG(found.st_mode) or found.st_dev == self._proc:
                raise OSError(22, "not a regular file", path)
            os.set_blocking(fd, True)
        except OSError:
            os.close(fd)
            raise
        return fd

    def stat(self, path: str, follow: bool = True) -> Entry:
        """Kind, size (bytes), permission bits, times (seconds), owner."""
        place = self.locate(path)
        return _entry(os.path.basename(path.rstrip("/")) or "/", place, os.stat(place, follow_symlinks=follow))

    def list(self, path: str) -> Iterator[Entry]:
        """The entries of a directory, symlinks not followed, at most 20000."""
        with os.scandir(self.locate(path)) as found:
            for count, item in enumerate(found):
                if count >= _MAX_ENTRIES:
                    raise OSError(75, f"a directory with more than {_MAX_ENTRIES} entries", path)
                try:
                    yield _entry(item.name, item.path, item.stat(follow_symlinks=False))
                except FileNotFoundError:
                    continue  # removed meanwhile

    def mkdir(self, path: str, mode: int = 0o777, parents: bool = False) -> None:
        """A directory; with `parents` also those above, and none of them may exist already is no error."""
        place = self.locate(path)
        if parents:
            os.makedirs(place, mode & 0o777, exist_ok=True)
        else:
            os.mkdir(place, mode & 0o777)

    def remove(self, path: str, recursive: bool = False) -> None:
        """A file, a symlink or, with `recursive`, a directory and all in it."""
        place = self.locate(path)
        if not stat.S_ISDIR(os.lstat(place).st_mode):
            os.unlink(place)
        elif not recursive:
            raise IsADirectoryError(21, os.strerror(21), path)
        else:
            self._check_not_kept(place, path)
            _remove_tree(place)

    def move(self, source: str, target: str) -> None:
        """Rename, or copy and remove across filesystems. A directory as target takes the source in."""
        self._check_not_kept(self.locate(source), source)
        try:
            shutil.move(self.locate(source), self.locate(target))
        except shutil.Error as error:
            raise FileExistsError(17, str(error)[:500], target) from error

    def chmod(self, path: str, mode: int) -> None:
        """Permission bits (no set-id bits)."""
        os.chmod(self.locate(path), mode & 0o1777)

    def _check_not_kept(self, place: str, path: str) -> None:
        """Also by another name: to remove what the kernel keeps would empty it before that fails."""
        found = os.lstat(place)
        for kept in self._kept:
            try:
                same = os.path.samestat(found, os.lstat(kept))
            except OSError:
                continue
            if same:
                raise PermissionError(1, "the workspace, /tmp and what is mounted stay where they are", path)


def _with_parents(places: Iterable[str]) -> set[str]:
    found: set[str] = set()
    for place in places:
        while place not in found:
            found.add(place)
            place = os.path.dirname(place)
    return found


def _remove_tree(place: str) -> None:
    try:
        shutil.rmtree(place)
    except (RecursionError, OSError) as error:
        if isinstance(error, OSError) and error.errno != errno.EMFILE:
            raise
        # Hostile code can nest folders deeper than Python follows; rm needs no stack and few files.
        subprocess.run(["/bin/rm", "-rf", "--", place], stdin=subprocess.DEVNULL, check=False)
        if os.path.lexists(place):
            raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), place) from error


def _entry(name: str, place: str, found: os.stat_result) -> Entry:
    kind = _KINDS.get(stat.S_IFMT(found.st_mode), "other")
    entry: Entry = {
        "name": name,
        "kind": kind,
        "size": found.st_size,
        "mode": stat.S_IMODE(found.st_mode),
        "mtime": found.st_mtime,
        "uid": found.st_uid,
        "gid": found.st_gid,
    }
    if kind == "symlink":
        entry["target"] = os.readlink(place)
    return entry
