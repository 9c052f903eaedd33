"""Memory of the local sandbox server's warm process and everything forked from it, from /proc."""

from __future__ import annotations

import os
import time
from pathlib import Path

WARM = b"inside/boot.py"
REST_S = 1.5


class Unreadable(Exception):
    """The kernel shows this user no memory of the sandboxes (they are not dumpable; root sees them)."""


def server_memory_mb() -> float:
    """Proportional set size of the warm process and its descendants, all servers of this process together."""
    if os.geteuid() != 0:
        raise Unreadable("only root may read the memory of a sandbox's processes")
    parents, warm = _processes()
    return sum(_pss_kb(pid) for pid in parents if pid in warm or warm & set(_above(pid, parents))) / 1024


def wait_for_spares(seconds: float = 20.0) -> int:
    """Wait until no more sandboxes are begun ahead, so that as many are counted before as after; how many there are."""
    until, since, last = time.monotonic() + seconds, time.monotonic(), -1
    while time.monotonic() < min(until, since + REST_S):
        parents, warm = _processes()
        busy = set(parents.values())
        spares = sum(parent in warm and pid not in busy for pid, parent in parents.items())
        if spares != last:
            last, since = spares, time.monotonic()
        time.sleep(0.1)
    return last


def _processes() -> tuple[dict[int, int], set[int]]:
    """The parent of each process below this one, and which of them are warm processes (their forks are named alike)."""
    parents = {int(path.name): _parent(path) for path in Path("/proc").iterdir() if path.name.isdigit()}
    mine = {pid: parent for pid, parent in parents.items() if os.getpid() in _above(pid, parents)}
    named = {pid for pid in mine if WARM in _read(pid, "cmdline")}
    return mine, {pid for pid in named if mine[pid] not in named}


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
