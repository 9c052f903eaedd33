"""Runs inside a jail, as a file given to `python3 -I -S -c`: tries to escape and prints what it reached.

Standard library only. Argument: JSON {canary: path, port: int, victim: pid}. Every probe is harmless where it
succeeds: files are only opened, the victim is a process made for this.
"""

import contextlib
import ctypes
import errno
import json
import os
import signal
import socket
import sys


def main() -> None:
    """Print {answer, escapes: [names], env: [names], uid}."""
    aims = json.loads(sys.argv[1])
    probes = {
        "host file read": lambda: _opens(aims["canary"], os.O_RDONLY),
        "host process file system": lambda: _opens(f"/proc/{aims['victim']}/environ", os.O_RDONLY),
        "system is writable": lambda: _opens("/usr/lib", os.O_WRONLY | os.O_TMPFILE),
        "system files are writable": lambda: _opens("/etc/passwd", os.O_WRONLY),
        "sysctl is writable": lambda: _opens("/proc/sys/vm/overcommit_memory", os.O_WRONLY),
        "first process memory": lambda: _opens("/proc/1/mem", os.O_RDWR),
        "root is writable": lambda: _opens("/", os.O_WRONLY | os.O_TMPFILE),
        "host network": lambda: _connects(aims["port"]),
        "host process killed": lambda: _kills(aims["victim"]),
        "supervisor killed": lambda: os.getppid() != 1 and _kills(os.getppid()),
        "ptrace": lambda: _calls("ptrace", 0, 0, 0, 0),
        "user namespace": lambda: _calls("unshare", 0x10000000),
        "io_uring": lambda: _system_call(425, 1, None),
        "bpf": lambda: _system_call({"x86_64": 321}.get(os.uname().machine, 280), 0, None, 0),
        "extra open files": lambda: bool(_open_files()),
    }
    escapes = [name for name, probe in probes.items() if probe()]
    print(json.dumps({"answer": 1 + 1, "escapes": escapes, "env": sorted(os.environ), "uid": os.getuid()}))


def _opens(path: str, flags: int) -> bool:
    try:
        fd = os.open(path, flags)
    except OSError:
        return False
    os.close(fd)
    return True


def _connects(port: int) -> bool:
    for host in ("127.0.0.1", "::1"):
        with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=1):
            return True
    return False


def _kills(victim: int) -> bool:
    if victim in (1, os.getpid()):
        return False  # a number of this jail's own
    try:
        os.kill(victim, signal.SIGKILL)
    except OSError:
        return False
    return True


def _calls(name: str, *args: int) -> bool:
    libc = ctypes.CDLL(None, use_errno=True)
    return getattr(libc, name)(*args) >= 0


def _system_call(*args: int | None) -> bool:
    libc = ctypes.CDLL(None, use_errno=True)
    result = libc.syscall(*args)
    return result >= 0 or ctypes.get_errno() not in (errno.EPERM, errno.ENOSYS)


def _open_files() -> list[int]:
    found: list[int] = []
    for number in range(3, 4096):
        with contextlib.suppress(OSError):
            os.fstat(number)
            found.append(number)
    return found


if __name__ == "__main__":
    main()
