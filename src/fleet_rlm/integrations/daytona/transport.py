"""The seam under the channel: a terminal in a sandbox, seen as bytes in and bytes out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from fleet_rlm.integrations.daytona.worker import worker_source

MAX_WRITE_BYTES = 32 * 1024  # servers close a WebSocket on messages above 64 KiB
WARM_SCRIPT_VARIABLE = "SANDBOXD_WARM_SCRIPT"


class TransportError(Exception):
    """The connection failed; `reopen` may bring it back."""


class TransportGone(TransportError):
    """What was connected to does not exist any more."""


class Line(Protocol):
    """A way straight to the process that runs the code, for cells, tool calls and what comes back. Reliable."""

    def listen(self, receive: Callable[[bytes], None]) -> None:
        """On the loop: from now on `receive` is called there with each piece that arrives."""
        ...

    def take(self) -> None:
        """On the loop: hand over now what has arrived."""
        ...

    def pause(self) -> None:
        """On the loop: read no more, so that who writes there has to wait. Idempotent."""
        ...

    def resume(self) -> None:
        """On the loop: read again."""
        ...

    def read(self, patience_s: float) -> bytes:
        """Any one thread, while it is paused: a piece; empty when none comes in time, or the other side is gone."""
        ...

    def write(self, data: bytes) -> None:
        """Any thread: queue bytes, in order. Dropped when nobody is there to read."""
        ...

    def await_room(self, most: int) -> None:
        """Any thread but the loop's: wait until no more than so many bytes wait to be sent."""
        ...


class Transport(Protocol):
    """A raw byte stream to a terminal. Every method is called on one event loop, `write` on any thread if `any_thread`.

    `receive` is called with each piece that arrives, `closed` once each time the connection is lost.
    """

    @property
    def any_thread(self) -> bool:
        """Whether `write` may be called on any thread, which saves waking the loop."""
        ...

    @property
    def direct(self) -> Line | None:
        """Once open: the way past the worker's own process, where there is one."""
        ...

    @property
    def reopens(self) -> bool:
        """Whether a lost connection may come back."""
        ...

    async def open(self, receive: Callable[[bytes], None], closed: Callable[[str], None]) -> None:
        """Start the terminal and connect. Bytes may arrive before this returns."""
        ...

    async def reopen(self) -> None:
        """Connect again to the same terminal. TransportGone when it has ended."""
        ...

    def write(self, data: bytes) -> None:
        """Queue bytes, in order; pieces are cut to what the server takes. Dropped when not connected."""
        ...

    async def close(self) -> None:
        """Disconnect; the terminal's processes end with the sandbox."""
        ...


def boot_line(nonce: str) -> bytes:
    """The one line typed into a login shell: a Python that says a marker, then runs the source it is sent.

    The marker is the nonce in one piece, so the echo of this line (which has it in two) is not taken for it. Nothing is
    imported from the working folder (as with -I, which would not read the seed). The seed makes sets go in the same
    order whenever a cell is run again: its requests are then the recorded ones.
    """
    half = len(nonce) // 2
    program = (
        "import sys;del sys.path[0];import os,tty;os.isatty(0) and tty.setraw(0);"
        f'os.write(1,b"<{nonce[:half]}"+b"{nonce[half:]}>");b=sys.stdin.buffer;'
        'exec(compile(b.read(int(b.read(8))),"<worker>","exec"))'
    )
    return f"stty raw -echo; exec env PYTHONHASHSEED=0 python3 -s -u -c '{program}'\n".encode()


def boot_marker(nonce: str) -> bytes:
    """What the booted Python writes when it is ready for the source."""
    return f"<{nonce}>".encode()


def boot_payload() -> bytes:
    """The worker's source as the booted Python expects it: its length in 8 digits, then itself."""
    source = worker_source()
    return f"{len(source):08d}".encode() + source
