"""The process tree below a jail's first process: who is in it, how much memory it uses, how to end it."""

# Kernel-level code: paths are relative to fds and stages, and pathlib would add only cost.
# ruff: noqa: PTH123, PTH208

import os
import signal
from dataclasses import dataclass

_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Use:
    """One process's share of memory in bytes."""

    pid: int
    size: int


def descendants(ancestor: int) -> list[int]:
    """Every process below this one that has not ended."""
    parents: dict[int, int] = {}
    ended: set[int] = set()
    for name in os.listdir("/proc"):
        if name.isdigit():
            fields = _read(f"/proc/{name}/stat").rpartition(")")[2].split()
            if len(fields) > 1:
                parents[int(name)] = int(fields[1])
                if fields[0] in "ZX":
                    ended.add(int(name))
    found: list[int] = []
    for pid in parents:
        above = pid
        for _ in range(len(parents)):
            above = parents.get(above, 0)
            if above in (0, ancestor):
                break
        if above == ancestor and pid != ancestor and pid not in ended:
            found.append(pid)
    return found


def session_of(leader: int) -> list[int]:
    """Every process of the session that this one leads or led, background jobs included."""
    found: list[int] = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            fields = _read(f"/proc/{name}/stat").rpartition(")")[2].split()
            if len(fields) > 3 and int(fields[3]) == leader:
                found.append(int(name))
    return found


def heaviest_over(pids: list[int], limit: int) -> tuple[Use, int] | None:
    """When the tree uses more than `limit` bytes: its largest process, and the whole tree's use.

    By the exact share of each. A process that hides its share is taken at the upper bound (`resident`).
    """
    uses = [Use(pid, _share(pid)) for pid in pids]
    total = sum(use.size for use in uses)
    return (max(uses, key=lambda use: use.size), total) if total > limit else None


def resident(pids: list[int]) -> int:
    """A cheap upper bound of a tree's use in bytes: pages shared with the warm process count in each fork."""
    return sum(_resident(pid) for pid in pids)


def end_all(ancestor: int) -> None:
    """Kill everything below a process and reap it (the ancestor is this process and a subreaper)."""
    while True:
        pids = descendants(ancestor)
        for pid in pids:
            kill(pid)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            if not pids:
                return


def kill(pid: int) -> None:
    """SIGKILL; no error when it is gone."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _resident(pid: int) -> int:
    fields = _read(f"/proc/{pid}/statm").split()
    return int(fields[1]) * _PAGE if len(fields) > 1 else 0


def _share(pid: int) -> int:
    for line in _read(f"/proc/{pid}/smaps_rollup").splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) << 10
    return _resident(pid)


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""  # gone meanwhile, or hidden
