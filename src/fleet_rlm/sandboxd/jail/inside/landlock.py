"""Landlock: a process gives up paths, TCP, signals and abstract sockets outside what it names, for good.

Rights and structures: linux/landlock.h. Where a path lies below a named one is judged at every open, through
links and mounts, so no race can lead out. What Landlock does not judge (stat, chmod, chown, times, path sockets,
UDP) must be refused elsewhere.
"""

import os
import stat
import struct
from collections.abc import Iterable

from . import kernel

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1, 2, 4, 8
_REMOVE_DIR, _REMOVE_FILE, _MAKE_CHAR, _MAKE_BLOCK = 1 << 4, 1 << 5, 1 << 6, 1 << 11
_MAKE_DIR, _MAKE_REG, _MAKE_SOCK, _MAKE_FIFO, _MAKE_SYM = 1 << 7, 1 << 8, 1 << 9, 1 << 10, 1 << 12
_REFER, _TRUNCATE, _IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15

READ = _EXECUTE | _READ_FILE | _READ_DIR
DEVICE = _READ_FILE | _WRITE_FILE | _TRUNCATE
WRITE = (
    READ
    | _WRITE_FILE
    | _TRUNCATE
    | _REMOVE_DIR
    | _REMOVE_FILE
    | _MAKE_DIR
    | _MAKE_REG
    | _MAKE_SOCK
    | _MAKE_FIFO
    | _MAKE_SYM
    | _REFER
)
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV
_TCP = 3  # bind and connect
_SCOPES = 3  # abstract sockets and signals
USEFUL_ABI = 2  # below it no file can be moved between folders
DEGRADED_ABI = 6  # from it on signals and abstract sockets are kept in

Rule = tuple[str, int]  # a path, the rights on it and below it


def abi() -> int:
    """The kernel's Landlock version; 0 where it has none."""
    try:
        return kernel.syscall("landlock_create_ruleset", None, 0, 1)
    except OSError:
        return 0


def restrict(rules: Iterable[Rule], *, tcp: bool) -> None:
    """Files only as the rules say, no signal or abstract socket out (from ABI 6 on), no TCP unless `tcp`.

    A rule whose path is missing is left out. Cannot be undone; no_new_privs must be set."""
    version = abi()
    handled = WRITE | _MAKE_CHAR | _MAKE_BLOCK
    handled &= ~_TRUNCATE if version < 3 else -1
    _apply(version, handled, 0 if tcp or version < 4 else _TCP, rules)


def keep_signals_in() -> None:
    """No signal and no abstract socket from this process, or what it starts, to any other. Needs ABI 6."""
    # What no rule gives back is moving files between folders: every layer denies that unless it says otherwise.
    _apply(DEGRADED_ABI, _REFER, 0, [("/", _REFER)])


def _apply(version: int, files: int, net: int, rules: Iterable[Rule]) -> None:
    scopes = _SCOPES if version >= DEGRADED_ABI else 0
    request = struct.pack("=QQQ", files, net, scopes)[: 24 if version >= DEGRADED_ABI else 16 if version >= 4 else 8]
    ruleset = kernel.syscall("landlock_create_ruleset", request, len(request), 0)
    try:
        for path, rights in rules:
            _add(ruleset, path, rights & files)
        kernel.syscall("landlock_restrict_self", ruleset, 0)
    finally:
        os.close(ruleset)


def _add(ruleset: int, path: str, rights: int) -> None:
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except (FileNotFoundError, PermissionError):
        return
    try:
        if not stat.S_ISDIR(os.fstat(place).st_mode):
            rights &= _OF_FILES
        kernel.syscall("landlock_add_rule", ruleset, 1, struct.pack("=Qi", rights, place), 0)
    finally:
        os.close(place)
