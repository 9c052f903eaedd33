"""The jail's own network: a loopback that nothing else is on, its listening ports, a connection to one of them."""

# Kernel-level code: files of /proc, read in pieces.
# ruff: noqa: PTH123

import errno
import fcntl
import os
import socket
import struct
from collections.abc import Iterator

_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1
_LISTENING = "0A"
_READ_LIMIT = 1 << 20  # listening sockets come first in the kernel's table; hostile code can make it long
# Addresses on which a connection to loopback arrives, as /proc/net writes them (words in the host's byte order).
_HERE = {
    "00000000",
    "0100007F",
    "0" * 32,
    "0" * 24 + "01000000",
}


def raise_loopback() -> None:
    """Bring `lo` of this network namespace up. Needs CAP_NET_ADMIN in it; nothing outside changes."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = struct.pack("16sH22x", b"lo", 0)
        flags = struct.unpack("16sH22x", fcntl.ioctl(control, _SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sH22x", b"lo", flags | _IFF_UP))


def ports() -> list[int]:
    """The TCP ports on which something listens that loopback reaches, in ascending order."""
    return sorted({*_listening("/proc/self/net/tcp"), *_listening("/proc/self/net/tcp6")})


def connect(port: int, *, six: bool = False) -> int:
    """A fd of a socket that connects to a loopback port. It never waits: the taker sees how it went."""
    family, host = (socket.AF_INET6, "::1") if six else (socket.AF_INET, "127.0.0.1")
    connection = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        code = connection.connect_ex((host, port))
        if code not in (0, errno.EINPROGRESS):
            raise OSError(code, os.strerror(code))
    except BaseException:
        connection.close()
        raise
    return connection.detach()


def _listening(path: str) -> Iterator[int]:
    try:
        with open(path, encoding="ascii") as file:
            lines = file.read(_READ_LIMIT).splitlines()[1:]
    except OSError:
        return  # no such address family here
    for line in lines:
        fields = line.split()
        if len(fields) > 3 and fields[3] == _LISTENING:
            address, _, port = fields[1].partition(":")
            if address in _HERE:
                yield int(port, 16)
