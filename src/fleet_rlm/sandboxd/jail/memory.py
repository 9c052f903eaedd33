"""Memory groups of the kernel (cgroups), where this server may make them: one per jail, all its processes in it.

Version 2 where its folder is delegated to this user (systemd: `Delegate=yes`), version 1 as root. Sizes in bytes.
"""

import contextlib
import os
from pathlib import Path

_PREFIX = "fleet-jail-"
_V1_LIMIT, _V2_LIMIT = "memory.limit_in_bytes", "memory.max"
_TRIAL = 64 << 20


class MemoryGroups:
    """A folder in which groups can be made; see `find`."""

    def __init__(self, folder: Path, limit_file: str) -> None:
        self._folder = folder
        self._limit_file = limit_file
        self._made = 0
        self._busy: set[Path] = set()

    @property
    def name(self) -> str:
        """For a person: which kind this is."""
        return "cgroup v2" if self._limit_file == _V2_LIMIT else "cgroup v1"

    def make(self, size: int) -> Path:
        """A new group bounded to `size`; its folder. OSError when it cannot be had."""
        self._made += 1
        group = self._folder / f"{_PREFIX}{os.getpid()}-{self._made}"
        group.mkdir()
        try:
            (group / self._limit_file).write_text(str(size))
            if self._limit_file == _V2_LIMIT:
                with contextlib.suppress(OSError):
                    (group / "memory.swap.max").write_text("0")
        except OSError:
            group.rmdir()
            raise
        return group

    def door(self, group: Path) -> Path:
        """Where a process with one thread writes "0" to be in a group.

        In version 1 by its thread: the word for a whole process waits, with every fork of the machine, until all
        processors have passed a quiet point, ten milliseconds for each jail."""
        return group / ("tasks" if self._limit_file == _V1_LIMIT else "cgroup.procs")

    def remove(self, group: Path) -> None:
        """Remove a group whose processes are gone; one that is still busy is tried again the next time."""
        self._busy.add(group)
        for waiting in tuple(self._busy):
            with contextlib.suppress(OSError):
                waiting.rmdir()
                self._busy.discard(waiting)

    def sweep(self) -> None:
        """Remove the groups of servers that are gone."""
        for group in self._folder.glob(f"{_PREFIX}*"):
            owner = group.name.removeprefix(_PREFIX).split("-")[0]
            if owner.isdigit() and int(owner) != os.getpid() and not Path("/proc", owner).exists():
                self.remove(group)


def find() -> MemoryGroups | None:
    """Where groups can be made, proved by making one; None where they cannot."""
    for folder, limit_file in _places():
        groups = MemoryGroups(folder, limit_file)
        try:
            trial = groups.make(_TRIAL)
        except OSError:
            continue
        held = (trial / limit_file).read_text().strip() == str(_TRIAL)
        groups.remove(trial)
        if held:
            groups.sweep()
            return groups
    return None


def _places() -> list[tuple[Path, str]]:
    """This process's own groups in the hierarchies that hold memory, version 2 first."""
    mounts = _mounts()
    found: list[tuple[Path, str]] = []
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        number, controllers, path = line.split(":", 2)
        if number == "0" and "cgroup2" in mounts:
            found.insert(0, (Path(mounts["cgroup2"] + path), _V2_LIMIT))
        elif "memory" in controllers.split(",") and "memory" in mounts:
            found.append((Path(mounts["memory"] + path), _V1_LIMIT))
    return [(folder, limit) for folder, limit in found if _ready(folder, limit)]


def _mounts() -> dict[str, str]:
    """Mount points of version 2 (`cgroup2`) and of version 1 by controller."""
    found: dict[str, str] = {}
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        place = before.split(" ")[4]
        if kind == "cgroup2":
            found["cgroup2"] = place
        elif kind == "cgroup":
            found |= dict.fromkeys(options.split(","), place)
    return found


def _ready(folder: Path, limit_file: str) -> bool:
    """Version 2 gives groups below only where the memory controller is handed down, and no process stays here:
    so this server moves into a group of its own first, when it is alone."""
    if limit_file == _V1_LIMIT:
        return os.access(folder, os.W_OK)
    try:
        if "memory" not in (folder / "cgroup.controllers").read_text().split():
            return False
        if "memory" in (folder / "cgroup.subtree_control").read_text().split():
            return True
        if (folder / "cgroup.procs").read_text().split() != [str(os.getpid())]:
            return False
        own = folder / "fleet-server"
        own.mkdir(exist_ok=True)
        (own / "cgroup.procs").write_text(str(os.getpid()))
        (folder / "cgroup.subtree_control").write_text("+memory")
    except OSError:
        return False
    return True
