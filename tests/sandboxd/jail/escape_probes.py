"""Escape attempts, run inside a jail as a script: prints {name: reached}. Also run unjailed, as a control.

Argument: JSON {canary, port, victim, secret}. A probe that raises OSError or finds nothing did not get out.
"""

import contextlib
import ctypes
import fcntl
import glob
import json
import os
import socket
import sys

AIM = json.loads(sys.argv[1])
LIBC = ctypes.CDLL(None, use_errno=True)
X86 = os.uname().machine == "x86_64"


def call(x86: int, arm: int, *args: object) -> bool:
    result = LIBC.syscall(x86 if X86 else arm, *args)
    return result >= 0 or ctypes.get_errno() not in (1, 38, 97)  # EPERM, ENOSYS, EAFNOSUPPORT


def can_open(path: str, flags: int = os.O_RDONLY) -> bool:
    os.close(os.open(path, flags))
    return True


def can_connect(host: str) -> bool:
    socket.create_connection((host, AIM["port"]), timeout=2).close()
    return True


def environments() -> bool:
    for path in glob.glob("/proc/[0-9]*/environ"):
        with contextlib.suppress(OSError), open(path, "rb") as file:
            if AIM["secret"].encode() in file.read():
                return True
    return False


def can_read_memory() -> bool:
    buffer = ctypes.create_string_buffer(8)

    class Vector(ctypes.Structure):
        _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]

    own, other = Vector(ctypes.addressof(buffer), 8), Vector(id(buffer), 8)
    return LIBC.process_vm_readv(1, ctypes.byref(own), 1, ctypes.byref(other), 1, 0) >= 0


def has_raw_socket(family: int, kind: int) -> bool:
    socket.socket(family, kind).close()
    return True


def injects_input() -> bool:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        try:
            fcntl.ioctl(ours, 0x5412, b"x")
        except OSError as error:
            return error.errno != 1
    return True


def connects_unix(address: str, kind: int = socket.SOCK_STREAM) -> bool:
    with socket.socket(socket.AF_UNIX, kind) as sock:
        sock.connect(address)
    return True


def reaches_path_socket() -> bool:
    """By a socket of its own, by a pair that is connected anew, and by a message with an address."""
    tries = [lambda: connects_unix(AIM["path_socket"]), lambda: connects_unix(AIM["path_socket"], socket.SOCK_DGRAM)]
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET):
        tries.append(lambda kind=kind: socket.socketpair(socket.AF_UNIX, kind)[0].connect(AIM["path_socket"]) is None)
        tries.append(lambda kind=kind: socket.socketpair(socket.AF_UNIX, kind)[0].sendto(b"x", AIM["path_socket"]) < 0)
    return any(attempt(one) for one in tries)


TERMINALS = ["/dev/tty", "/dev/ptmx", *glob.glob("/dev/pts/*"), *glob.glob("/dev/tty[0-9]*")]
PROBES = {
    "host file": lambda: can_open(AIM["canary"]),
    "host file through /proc/1/root": lambda: can_open("/proc/1/root" + AIM["canary"]),
    "host environment": environments,
    "host loopback": lambda: can_connect("127.0.0.1"),
    "host process visible": lambda: can_open(f"/proc/{AIM['victim']}/cmdline"),
    "host process killed": lambda: os.kill(AIM["victim"], 9) or True,
    "system writable": lambda: can_open("/usr/bin", os.O_TMPFILE | os.O_WRONLY),
    "etc writable": lambda: can_open("/etc/passwd", os.O_WRONLY),
    "root writable": lambda: os.mkdir("/escape") or True,
    "python writable": lambda: can_open(os.path.dirname(os.__file__), os.O_TMPFILE | os.O_WRONLY),
    "dev writable": lambda: os.mkdir("/dev/escape") or True,
    "sysctl writable": lambda: can_open("/proc/sys/vm/overcommit_memory", os.O_WRONLY),
    "sysrq writable": lambda: can_open("/proc/sysrq-trigger", os.O_WRONLY),
    "kernel memory": lambda: can_open("/proc/kcore"),
    "sys": lambda: bool(os.listdir("/sys")),
    "terminals": lambda: any(attempt(lambda path=path: can_open(path)) for path in TERMINALS),
    "first process memory": lambda: can_open("/proc/1/mem", os.O_RDWR),
    "first process environment": lambda: can_open("/proc/1/environ"),
    "first process files": lambda: bool(os.listdir("/proc/1/fd")),
    "first process vm_readv": can_read_memory,
    "first process ptrace": lambda: call(101, 117, 16, 1, 0, 0),
    "first process limits": lambda: call(302, 261, 1, 7, ctypes.create_string_buffer(16), None),
    "pidfd_getfd": lambda: call(438, 438, os.pidfd_open(1), 3, 0),
    "ptrace traceme": lambda: call(101, 117, 0, 0, 0, 0),
    "unshare user": lambda: call(272, 97, 0x10000000),
    "clone user": lambda: call(56, 220, 0x10000000 | 17, 0, 0, 0, 0),
    "clone3": lambda: call(435, 435, ctypes.create_string_buffer(88), 88),
    "setns": lambda: call(308, 268, os.open("/proc/self/ns/net", os.O_RDONLY), 0),
    "mount": lambda: call(165, 40, b"none", b"/tmp", b"tmpfs", 0, None),
    "umount": lambda: call(166, 39, b"/proc", 2),
    "chroot": lambda: call(161, 51, b"/tmp"),
    "io_uring": lambda: call(425, 425, 1, ctypes.create_string_buffer(120)),
    "bpf": lambda: call(321, 280, 0, None, 0),
    "keyctl": lambda: call(250, 219, 0, -3, 0),
    "userfaultfd": lambda: call(323, 282, 1),
    "perf_event": lambda: call(298, 241, None, 0, -1, -1, 0),
    "memfd": lambda: call(319, 279, b"x", 0),
    "open_by_handle": lambda: call(304, 265, -1, None, 0),
    "sysv shm": lambda: call(29, 194, 0, 4096, 0o1600),
    "packet socket": lambda: has_raw_socket(17, 3),
    "netlink socket": lambda: has_raw_socket(16, 3),
    "vsock": lambda: has_raw_socket(40, 1),
    "raw ip socket": lambda: has_raw_socket(2, 3),
    "tiocsti": injects_input,
    "set uid 0": lambda: os.setuid(0) or True,
    "device node": lambda: os.mknod("/workspace/mem", 0o20666, os.makedev(1, 1)) or True,
    "set user id program": lambda: LIBC.prctl(39, 0, 0, 0, 0) != 1 and os.statvfs("/usr").f_flag & 2 == 0,
    "supervisor killed": lambda: os.getppid() != 1 and (os.kill(os.getppid(), 9) or True),
    "socket of the host by its path": reaches_path_socket,
    "socket of the host by its abstract name": lambda: connects_unix("\0" + AIM["abstract"]),
}


def attempt(probe) -> bool:
    try:
        return bool(probe())
    except OSError:
        return False


if __name__ == "__main__":
    wanted = AIM.get("only", list(PROBES))
    print(json.dumps({name: attempt(PROBES[name]) for name in wanted}))
