"""Where no WebSocket passes: a shell on a socket, and a relay between it and the input and log of a session command.

One standard-library source, run in the sandbox in two ways. `start` forks the keeper, which owns a shell on a socket
pair for as long as that lives, and then relays; `attach` relays to a keeper that is there. Lines are base64. The
newest relay wins; what was on its way to an older one is lost, and sent again by the frames above. Neither process
can be looked into by the code of the sandbox, because the worker's key passes through both.
"""

from __future__ import annotations

import base64
import contextlib
import ctypes
import os
import select
import signal
import socket
import sys
import time

PIECE = 24 * 1024
HELD = 256 * 1024  # towards a relay; above it the shell waits
ATTACHED, GONE = "+", "-"


def keep(path: str) -> None:
    """Pass bytes between the shell and the newest relay until the shell ends."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(4)
    ours, theirs = socket.socketpair()
    if os.fork() == 0:
        for fd in (0, 1, 2):
            os.dup2(theirs.fileno(), fd)
        os.execv("/bin/sh", ["sh"])  # noqa: S606 - a shell is what it keeps
    theirs.close()
    relay: socket.socket | None = None
    inward, outward = bytearray(), bytearray()
    while True:
        reads = [listener] + ([relay] if relay else []) + ([ours] if relay and len(outward) < HELD else [])
        writes = ([ours] if inward else []) + ([relay] if relay and outward else [])
        readable, writable, _ = select.select(reads, writes, [])
        try:
            if ours in readable and not take(ours, outward):
                break
            if ours in writable:
                give(ours, inward)
        except OSError:
            break
        try:
            if relay in readable and relay and not take(relay, inward):
                relay = drop(relay, outward)
            if relay in writable and relay:
                give(relay, outward)
        except OSError:
            relay = drop(relay, outward)
        if listener in readable:
            drop(relay, outward)
            relay = listener.accept()[0]
    with contextlib.suppress(OSError):
        os.unlink(path)  # noqa: PTH108 - pathlib would add milliseconds


def take(source: socket.socket, buffer: bytearray) -> bool:
    data = source.recv(PIECE)
    buffer += data
    return bool(data)


def give(target: socket.socket, buffer: bytearray) -> None:
    del buffer[: target.send(buffer[:PIECE], socket.MSG_DONTWAIT)]


def drop(relay: socket.socket | None, outward: bytearray) -> None:
    outward.clear()
    if relay is not None:
        relay.close()


def relay(path: str) -> None:
    """Pass bytes between the keeper and our own input and output, until one of them ends."""
    keeper = socket.socket(socket.AF_UNIX)
    deadline = time.monotonic() + 5
    while True:
        try:
            keeper.connect(path)
            break
        except OSError:
            if time.monotonic() > deadline or sys.argv[1] == "attach":
                print(GONE, flush=True)
                return
            time.sleep(0.01)
    print(ATTACHED, flush=True)
    typed = b""
    while True:
        readable, _, _ = select.select([0, keeper], [], [])
        if keeper in readable:
            data = keeper.recv(PIECE)
            if not data:
                return
            print(base64.b64encode(data).decode(), flush=True)
        if 0 in readable:
            data = os.read(0, 1 << 16)
            *lines, typed = (typed + data).split(b"\n")
            keeper.sendall(b"".join(base64.b64decode(line) for line in lines))
            if not data:
                return


def start(path: str) -> None:
    """Leave a keeper behind that belongs to nobody: no terminal, no group, none of our descriptors."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            null = os.open(os.devnull, os.O_RDWR)
            for fd in (0, 1, 2):
                os.dup2(null, fd)
            os.closerange(3, 256)
            signal.signal(signal.SIGPIPE, signal.SIG_IGN)
            with contextlib.suppress(OSError):
                keep(path)
        os._exit(0)
    os.wait()


def main() -> None:
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)  # PR_SET_DUMPABLE
    os.umask(0o077)
    if sys.argv[1] == "start":
        start(sys.argv[2])
    relay(sys.argv[2])


if __name__ == "__main__":
    main()
