"""Who made a sandbox: labels of this machine and this process, by which a later process finds what was left."""

from __future__ import annotations

import functools
import hashlib
import os
import socket
from collections.abc import Mapping
from pathlib import Path

DEPLOYMENT_LABEL = "fleet.deployment"  # the same for every process that can see whether another one lives
PROCESS_LABEL = "fleet.process"  # <pid>.<start time>
_PROC = Path("/proc")


@functools.cache
def deployment() -> str:
    """Names the processes that see each other: one boot of one kernel, one pid namespace, one host name, one user.

    Narrow on purpose: a sandbox is only ever swept by somebody who can know that its maker is dead. What an
    earlier boot left ends with its time to live.
    """
    parts = [socket.gethostname(), str(os.getuid())]
    try:
        parts.append((_PROC / "sys/kernel/random/boot_id").read_text().strip())
        parts.append((_PROC / "self/ns/pid").readlink().name)
    except OSError:  # no Linux: processes cannot be told apart from recycled numbers, so nothing is ever swept
        parts.append(f"{os.getpid()}.{os.urandom(8).hex()}")
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def own_labels() -> dict[str, str]:
    """The labels that every sandbox of this process carries."""
    return dict(_labels_of(os.getpid()))  # by number: a fork is another process


@functools.cache
def _labels_of(pid: int) -> dict[str, str]:
    return {DEPLOYMENT_LABEL: deployment(), PROCESS_LABEL: f"{pid}.{_started(pid) or 0}"}


def is_orphan(labels: Mapping[str, str]) -> bool:
    """Whether the process that made a sandbox with these labels is known to be dead."""
    if labels.get(DEPLOYMENT_LABEL) != deployment():
        return False
    pid, _, started = labels.get(PROCESS_LABEL, "").partition(".")
    if not pid.isdecimal() or not started.isdecimal() or started == "0":
        return False
    return _started(int(pid)) != int(started)


def _started(pid: int) -> int | None:
    """When a live process started, in ticks since boot; None when there is none (a zombie is none)."""
    try:
        fields = (_PROC / str(pid) / "stat").read_text().rpartition(") ")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])
