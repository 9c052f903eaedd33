"""Memory of the local sandbox server's warm process and everything forked from it, from /proc."""

from __future__ import annotations

import os
from pathlib import Path

WARM = b"inside/boot.py"


class Unreadable(Exception):
    """The kernel shows this user no memory of the sandboxes (they are not dumpable; root sees them)."""


def server_memory_mb() -> float:
    """Proportional set size of the warm process and its descendants, all servers of this process together."""
    if os.geteuid() != 0:
        raise Unreadable("only root may read the memory of a sandbox's processes")
    parents = {int(path.name): _parent(path) for path in Path("/proc").iterdir() if path.name.isdigit()}
    mine = [pid for pid in parents if os.getpid() in _above(pid, parents)]
    warm = {pid for pid in mine if WARM in _read(pid, "cmdline")}
    return sum(_pss_kb(pid) for pid in mine if pid in warm or warm & set(_above(pid, parents))) / 1024


def _above(pid: int, parents: dict[int, int]) -> list[int]:
    found: list[int] = []
    while (pid := parents.get(pid, 0)) and pid not in found:
        found.append(pid)
    return found


def _parent(path: Path) -> int:
    fields = _read(int(path.name), "stat").rpartition(b")")[2].split()
    return int(fields[1]) if len(fields) > 1 else 0


def _pss_kb(pid: int) -> int:
    for line in _read(pid, "smaps_rollup").splitlines():
        if line.startswith(b"Pss:"):
            return int(line.split()[1])
    return 0


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""  # gone meanwhile
