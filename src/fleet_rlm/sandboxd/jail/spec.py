"""What a jail is made of: the values that the server hands to the warm process, checked once here."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from fleet_rlm.sandboxd.jail.inside.plan import Rung

__all__ = ["Isolation", "JailClosed", "JailSpec", "Limits", "Mount", "NoIsolation", "Rung", "SpecError"]

_SYSTEM_ROOTS = ("/usr", "/lib", "/lib32", "/lib64", "/bin", "/sbin", "/etc", "/proc", "/sys", "/dev", "/opt/sandbox")
_MAX_MOUNTS = 64
_MIB = 1 << 20


class SpecError(ValueError):
    """A jail cannot be made from this; the text says which field and why, in one line."""


class NoIsolation(RuntimeError):
    """This machine cannot isolate hostile code; the text is one sentence on why and how to get it."""


class JailClosed(ConnectionError):
    """The jail is gone (killed, out of memory, or the warm process died)."""


@dataclass(frozen=True, slots=True)
class Isolation:
    """The proved level of isolation. `rung` 1 is namespaces, 2 Landlock, 4 none; `detail` is one sentence for a
    person on what holds; `advice` says how to get a better one, where there is one."""

    rung: int
    name: Rung
    detail: str
    ok: bool
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Mount:
    """A host directory seen in the jail. `target` is an absolute path that is no part of the system."""

    source: Path
    target: str
    read_only: bool = False

    def __post_init__(self) -> None:
        target = PurePosixPath(self.target)
        if not target.is_absolute() or ".." in target.parts or str(target) != self.target or "\0" in self.target:
            raise SpecError(f"mount target {self.target!r} must be an absolute path without '..' or a trailing '/'")
        if self.target in ("/", "/workspace", "/tmp") or _within(self.target, _SYSTEM_ROOTS):  # noqa: S108
            raise SpecError(f"mount target {self.target!r} would cover a part of the sandbox's own system")


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one jail. `memory_mb` bounds the address space of each process and, by a watchdog and where there
    is one a control group, the resident memory of the whole tree. `tmp_mb` is the size of /tmp and of /dev/shm
    (MiB each)."""

    memory_mb: int = 1024
    processes: int = 128
    open_files: int = 256
    file_size_mb: int = 1024
    tmp_mb: int = 64
    cpu_s: int | None = None

    def __post_init__(self) -> None:
        for name, low in (("memory_mb", 64), ("processes", 4), ("open_files", 32), ("file_size_mb", 1), ("tmp_mb", 1)):
            value: int = getattr(self, name)
            if not low <= value <= _MIB:
                raise SpecError(f"limit {name} is {value}; it must be between {low} and {_MIB}")
        if self.cpu_s is not None and self.cpu_s < 1:
            raise SpecError(f"limit cpu_s is {self.cpu_s}; it must be at least 1 second")


@dataclass(frozen=True, slots=True)
class JailSpec:
    """One jail. `workspace` is a host directory; it becomes /workspace, the home and the working directory."""

    id: str
    workspace: Path
    mounts: tuple[Mount, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict[str, str])
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if not self.workspace.is_absolute():
            raise SpecError(f"workspace {self.workspace} must be an absolute path")
        if len(self.mounts) > _MAX_MOUNTS:
            raise SpecError(f"{len(self.mounts)} mounts; at most {_MAX_MOUNTS}")
        targets = [mount.target for mount in self.mounts]
        if len(set(targets)) != len(targets):
            raise SpecError("two mounts have the same target")


def _within(path: str, roots: tuple[str, ...]) -> bool:
    return any(path == root or path.startswith(root + "/") for root in roots)
