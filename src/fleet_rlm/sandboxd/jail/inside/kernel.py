"""The kernel calls that Python's `os` lacks (before 3.12), typed, each raising OSError with its name."""

import ctypes
import errno
import os
import signal
import struct

from .syscalls import ALLOWED, JUDGED, REFUSED, machine, numbers

_libc = ctypes.CDLL(None, use_errno=True)
_held = ctypes.PyDLL(None, use_errno=True)  # its calls keep Python's lock
_NUMBERS = {name: number for table in (ALLOWED, REFUSED, JUDGED) for name, number in numbers(table, machine()).items()}

CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWIPC = 0x20000, 0x2000000, 0x4000000, 0x8000000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET, CLONE_NEWTIME = 0x10000000, 0x20000000, 0x40000000, 0x80
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REC = 1, 2, 4, 8, 0x4000
MS_PRIVATE, MS_SLAVE = 0x40000, 0x80000
ATTR_RDONLY, ATTR_NOSUID, ATTR_NODEV, ATTR_NOEXEC = 1, 2, 4, 8
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_CAPBSET_DROP, PR_SET_CHILD_SUBREAPER = 1, 4, 24, 36
PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT = 38, 47

_AT_FDCWD, _AT_EMPTY_PATH, _AT_RECURSIVE, _CLOEXEC = -100, 0x1000, 0x8000, 0o2000000
_CLONE_PIDFD = 0x1000
_OPEN_TREE_CLONE, _MOVE_FROM_FD, _MOVE_TO_FD, _MNT_DETACH = 1, 0x4, 0x40, 2


def _checked(result: int, what: str) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")
    return result


def syscall(name: str, *args: int | bytes | None) -> int:
    """One system call by name. ints go as longs, bytes as pointers."""
    plain = [ctypes.c_long(arg) if isinstance(arg, int) else arg for arg in args]
    return _checked(_libc.syscall(ctypes.c_long(_NUMBERS[name]), *plain), name)


def prctl(option: int, value: int = 0) -> None:
    """prctl(2) with one argument."""
    zero = ctypes.c_ulong(0)
    _checked(_libc.prctl(option, ctypes.c_ulong(value), zero, zero, zero), f"prctl {option}")


def unshare(flags: int) -> None:
    """Leave the namespaces named by `flags`."""
    syscall("unshare", flags)


def fork(flags: int) -> tuple[int, int]:
    """A fork that is the first process of the new namespaces named by `flags`: its pid and a pidfd; (0, -1) in it.

    For a process with one thread. Beside unshare and a plain fork it saves a process in between, whose memory would
    have to be copied and dropped again."""
    pidfd = ctypes.c_int(-1)
    how, none, api = ctypes.c_ulong(flags | _CLONE_PIDFD | signal.SIGCHLD), ctypes.c_ulong(0), ctypes.pythonapi
    api.PyOS_BeforeFork()
    pid = _held.syscall(ctypes.c_long(_NUMBERS["clone"]), how, none, ctypes.byref(pidfd), none, none)
    if pid == 0:
        api.PyOS_AfterFork_Child()
        return 0, -1
    code = ctypes.get_errno()
    api.PyOS_AfterFork_Parent()
    if pid < 0:
        short = code in (errno.EAGAIN, errno.ENOMEM)  # of processes or memory: no word against namespaces
        raise OSError(code, os.strerror(code) if short else f"clone: {os.strerror(code)}")
    return pid, pidfd.value


def mount(kind: str, target: str, flags: int, data: str = "") -> None:
    """Mount a new filesystem of this kind ('' changes the propagation of an existing mount)."""
    name = kind.encode() or None
    syscall("mount", name or b"none", target.encode(), name, flags, data.encode())


def clone_tree(path: str, attributes: int, *, recursive: bool = True) -> int:
    """A detached copy of the mount tree at a host path, with these attributes added: a fd to `attach`. Whatever is
    mounted there later is not seen in it."""
    depth = _AT_RECURSIVE if recursive else 0
    tree = syscall("open_tree", _AT_FDCWD, os.fsencode(path), _OPEN_TREE_CLONE | _CLOEXEC | depth)
    request = struct.pack("QQQQ", attributes, 0, MS_PRIVATE, 0)
    syscall("mount_setattr", tree, b"", _AT_EMPTY_PATH | depth, request, len(request))
    return tree


def open_folder(path: str, mode: int = os.O_PATH) -> int:
    """A fd of a host folder, reached without following any link: code in another sandbox that shares a volume
    may swap a part of the way for one at any time. NotADirectoryError where there is one."""
    here = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    parts = [part for part in path.split("/") if part]
    for number, part in enumerate(parts, start=1):
        flags = (mode if number == len(parts) else os.O_PATH) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            below = os.open(part, flags, dir_fd=here)
        finally:
            os.close(here)
        here = below
    return here


def clone_folder(path: str, attributes: int) -> int:
    """`clone_tree` of a folder that is reached without following any link."""
    folder = open_folder(path)
    try:
        flags = _OPEN_TREE_CLONE | _CLOEXEC | _AT_RECURSIVE | _AT_EMPTY_PATH
        tree = syscall("open_tree", folder, b"", flags)
    finally:
        os.close(folder)
    request = struct.pack("QQQQ", attributes, 0, MS_PRIVATE, 0)
    syscall("mount_setattr", tree, b"", _AT_EMPTY_PATH | _AT_RECURSIVE, request, len(request))
    return tree


def attach(tree: int, target: int) -> None:
    """Mount a detached tree on an opened directory or file, and close the tree."""
    syscall("move_mount", tree, b"", target, b"", _MOVE_FROM_FD | _MOVE_TO_FD)
    os.close(tree)


def make_read_only(path: str) -> None:
    """Make the one mount at this path read-only."""
    request = struct.pack("QQQQ", ATTR_RDONLY, 0, 0, 0)
    syscall("mount_setattr", _AT_FDCWD, path.encode(), 0, request, len(request))


def enter_root(path: str) -> None:
    """Make the mount at `path` the root of this mount namespace and drop the old root."""
    os.chdir(path)
    syscall("pivot_root", b".", b".")
    syscall("umount2", b".", _MNT_DETACH)
    os.chdir("/")


def set_host_name(name: bytes) -> None:
    """The name of this UTS namespace."""
    syscall("sethostname", name, len(name))


def drop_bounding_set() -> None:
    """No later exec can gain a capability."""
    for capability in range(64):
        try:
            prctl(PR_CAPBSET_DROP, capability)
        except OSError:
            break  # past the last capability that this kernel knows


def drop_capabilities() -> None:
    """Effective, permitted, inheritable and ambient sets become empty."""
    prctl(PR_CAP_AMBIENT, 4)
    header = struct.pack("Ii", 0x20080522, 0)
    _checked(_libc.capset(header, bytes(24)), "capset")


def load_filter(program: bytes) -> None:
    """Put this thread and what it starts under a seccomp program (an array of struct sock_filter)."""
    buffer = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("HxxxxxxQ", len(program) // 8, ctypes.addressof(buffer))
    syscall("seccomp", 1, 0, header)


def close_all_but(keep: set[int]) -> None:
    """Close every fd from 3 on that is not in `keep`."""
    low = 3
    for fd in sorted(fd for fd in keep if fd >= 3):
        if fd > low:
            os.closerange(low, fd)
        low = fd + 1
    syscall("close_range", low, 0xFFFFFFFF, 0)
