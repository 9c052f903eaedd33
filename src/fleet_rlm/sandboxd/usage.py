"""What the processes of one jail use now, as the host's /proc shows it."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_APART_S: Final = 0.2  # between the two looks at processor time


@dataclass(frozen=True, slots=True)
class Usage:
    """Processors in use (1.0 is one of them, busy) and resident memory in bytes, what is shared counted in part."""

    processors: float
    memory: int


async def usage_of(pid: int) -> Usage:
    """The usage of a process and of everything below it. Takes a fifth of a second."""
    before, started = await asyncio.to_thread(_busy, pid), time.monotonic()
    await asyncio.sleep(_APART_S)
    after, took = await asyncio.to_thread(_busy, pid), time.monotonic() - started
    spent = sum(max(0, ticks - before.get(one, 0)) for one, ticks in after.items())
    memory = await asyncio.to_thread(lambda: sum(_memory(one) for one in after))
    return Usage(spent / _TICKS / took, memory)


def _busy(ancestor: int) -> dict[int, int]:
    """Processor time so far, in ticks, of a process and of everything below it, by pid."""
    times: dict[int, int] = {}
    children: dict[int, list[int]] = {}
    for pid, parent, ticks in _processes():
        times[pid] = ticks
        children.setdefault(parent, []).append(pid)
    found: dict[int, int] = {}
    waiting = [ancestor]
    while waiting:
        pid = waiting.pop()
        if pid in times and pid not in found:
            found[pid] = times[pid]
            waiting += children.get(pid, [])
    return found


def _processes() -> Iterator[tuple[int, int, int]]:
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            fields = _read(folder / "stat").rpartition(")")[2].split()
            if len(fields) > 13:
                yield int(folder.name), int(fields[1]), int(fields[11]) + int(fields[12])


def _memory(pid: int) -> int:
    for line in _read(Path(f"/proc/{pid}/smaps_rollup")).splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    fields = _read(Path(f"/proc/{pid}/statm")).split()
    return int(fields[1]) * _PAGE if len(fields) > 1 else 0


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""  # gone meanwhile, or hidden
