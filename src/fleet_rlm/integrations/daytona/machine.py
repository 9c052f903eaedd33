"""How much of the machine this process may use: the limits of its container or service count too."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Final

_CGROUPS: Final = Path("/sys/fs/cgroup")
Read = Callable[[Path], str]


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""  # no such limit here


def memory(read: Read = _text) -> int:
    """Bytes of memory, at most."""
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min([physical, *_limits("memory", "memory.max", "memory.limit_in_bytes", read)])


def processes(read: Read = _text) -> int | None:
    """Processes and threads, at most; None where nothing bounds them but the kernel."""
    found = list(_limits("pids", "pids.max", "pids.max", read))
    soft, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    if soft != resource.RLIM_INFINITY and os.geteuid() != 0:  # root may go beyond its own
        found.append(soft)
    return min(found, default=None)


def _limits(controller: str, name: str, name_v1: str, read: Read) -> Iterator[int]:
    """What this process's group and all above it say, in both hierarchies of the kernel (cgroups(7))."""
    for line in read(Path("/proc/self/cgroup")).splitlines():
        number, controllers, path = line.split(":", 2)
        if number == "0":
            top, file = _CGROUPS, name
        elif controller in controllers.split(","):
            top, file = _CGROUPS / controller, name_v1
        else:
            continue
        here = PurePosixPath(path)
        for group in (here, *here.parents):
            value = read(top / str(group).lstrip("/") / file).strip()
            if value.isdigit():
                yield int(value)
