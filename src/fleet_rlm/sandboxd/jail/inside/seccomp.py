"""The system call filter as a classic BPF program: an allow list, with a few calls judged by their arguments.

io_uring, ptrace, bpf, keyrings, mounts, module loading, System V and POSIX queues, memfd and userfaultfd are
refused; clone may make no namespace; terminals take no injected input; another process's limits stay.
Where no namespaces are around the code: no socket but connected pairs, and, where it has the id of the server's
user, no change of attributes of files and processes.
"""

import errno
import functools
import socket
import struct

from . import kernel
from .syscalls import ALLOWED, AUDIT_ARCH, JUDGED, OUTWARD, OWNERS, REFUSED, machine, numbers

_LOAD, _RETURN, _JUMP_EQUAL, _JUMP_ABOVE, _JUMP_SET = 0x20, 0x06, 0x15, 0x35, 0x45
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_NUMBER, _ARCH = 0, 4
_X32_BIT = 0x40000000
_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C
_FAMILIES = (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6)
_NAMESPACES = (
    kernel.CLONE_NEWNS
    | kernel.CLONE_NEWCGROUP
    | kernel.CLONE_NEWUTS
    | kernel.CLONE_NEWIPC
    | kernel.CLONE_NEWUSER
    | kernel.CLONE_NEWPID
    | kernel.CLONE_NEWNET
)


# A datagram pair can be connected anew, to a path; these kinds cannot.
_PAIRS = tuple(
    kind | flags
    for kind in (socket.SOCK_STREAM, socket.SOCK_SEQPACKET)
    for flags in (0, socket.SOCK_CLOEXEC, socket.SOCK_NONBLOCK, socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
)


@functools.cache
def program(arch: str | None = None, *, namespaces: bool = True, own_id: bool = True) -> bytes:
    """The filter for one architecture (default: this machine's). `namespaces`: the code is in its own; `own_id`:
    its user id owns nothing of the host."""
    arch = arch or machine()
    judged = numbers(JUDGED, arch)
    refused = [] if namespaces else [*OUTWARD, *([] if own_id else OWNERS)]
    out = [_load(_ARCH), _jump(_JUMP_EQUAL, AUDIT_ARCH[arch], 1, 0), _ret(_KILL), _load(_NUMBER)]
    if arch == "x86_64":
        out += [_jump(_JUMP_ABOVE, _X32_BIT, 0, 1), _ret(_KILL)]
    # glibc falls back from clone3, whose flags a filter cannot see, to clone.
    out += _answer(judged["clone3"], _ERRNO | errno.ENOSYS)
    out += _judge(judged["clone"], 0, [_jump(_JUMP_SET, _NAMESPACES, 0, 1), _ret(_ERRNO | errno.EPERM)])
    out += _judge(judged["ioctl"], 1, _refuse_each(_TIOCSTI, _TIOCLINUX))
    out += _judge(judged["prlimit64"], 0, [_jump(_JUMP_EQUAL, 0, 1, 0), _ret(_ERRNO | errno.EPERM)])
    out += _judge(judged["socket"], 0, _only(_FAMILIES if namespaces else (), errno.EAFNOSUPPORT))
    if not namespaces:
        out += _judge(numbers(ALLOWED, arch)["socketpair"], 1, _only(_PAIRS, errno.EPERM))
    for name, number in numbers(ALLOWED, arch).items():
        out += _answer(number, _ERRNO | errno.EPERM if name in refused else _ALLOW)
    for number in sorted(numbers(REFUSED, arch).values()):
        out += _answer(number, _ERRNO | errno.EPERM)
    return b"".join([*out, _ret(_ERRNO | errno.ENOSYS)])


def apply(*, namespaces: bool = True, own_id: bool = True) -> None:
    """Filter this process and everything that it will start. Cannot be undone."""
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    kernel.load_filter(program(namespaces=namespaces, own_id=own_id))


def _load(offset: int) -> bytes:
    return struct.pack("HBBI", _LOAD, 0, 0, offset)


def _ret(value: int) -> bytes:
    return struct.pack("HBBI", _RETURN, 0, 0, value)


def _jump(test: int, value: int, if_true: int, if_false: int) -> bytes:
    return struct.pack("HBBI", test, if_true, if_false, value)


def _answer(number: int, value: int) -> list[bytes]:
    return [_jump(_JUMP_EQUAL, number, 0, 1), _ret(value)]


def _judge(number: int, argument: int, body: list[bytes]) -> list[bytes]:
    """For one call: look at the low half of one argument; what the body does not answer is allowed."""
    body = [_load(16 + 8 * argument), *body, _ret(_ALLOW)]
    return [_jump(_JUMP_EQUAL, number, 0, len(body)), *body]


def _refuse_each(*values: int) -> list[bytes]:
    return [line for value in values for line in _answer(value, _ERRNO | errno.EPERM)]


def _only(values: tuple[int, ...], error: int) -> list[bytes]:
    allowed = [line for value in values for line in _answer(value, _ALLOW)]
    return [*allowed, _ret(_ERRNO | error)]
