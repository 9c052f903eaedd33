"""A direct line to the Python in a sandbox of the local server: a socket, with no server and no terminal in between.

The local server is a child of this process and was given one end of a socket pair, its door. What is asked for there
takes a socket along, which becomes the standard input and output of the worker (docs/sandboxd.md, "Extensions").
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
from collections.abc import Callable

from fleet_rlm.integrations.daytona.transport import TransportError, TransportGone
from fleet_rlm.integrations.daytona.worker import worker_sha256

ANSWER_S = 20.0
READ_BYTES = 256 * 1024


class Door:
    """Where direct lines are asked for. Any thread; `far` is for the server and closed by `given`."""

    def __init__(self) -> None:
        self._near, self.far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._near.setblocking(False)
        self._lock = threading.Lock()

    def given(self) -> None:
        """The server has its end."""
        self.far.close()

    def ask(self, sandbox: str, line: socket.socket) -> None:
        """Ask for the worker of a sandbox on this socket. OSError when the server is gone or does not listen."""
        message = json.dumps({"sandbox": sandbox, "script": worker_sha256()}).encode()
        with self._lock:
            socket.send_fds(self._near, [message], [line.fileno()])

    def close(self) -> None:
        """Ask for no more. Idempotent."""
        with self._lock:
            self._near.close()
        self.far.close()


class DirectTransport:
    """Implements `Transport`. A line is lost with its worker only, so there is nothing to open again."""

    any_thread = True
    reopens = False

    def __init__(self, door: Door, sandbox: str) -> None:
        self._door = door
        self._sandbox = sandbox
        self._socket: socket.socket | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = threading.Lock()  # over what is written
        self._unsent = bytearray()
        self._refusal = b""
        self._answered: asyncio.Future[None] | None = None
        self._receive: Callable[[bytes], None] = lambda _: None
        self._closed: Callable[[str], None] = lambda _: None

    async def open(self, receive: Callable[[bytes], None], closed: Callable[[str], None]) -> None:
        self._receive, self._closed = receive, closed
        loop = self._loop = asyncio.get_running_loop()
        near, far = socket.socketpair()
        near.setblocking(False)
        try:
            with far:
                self._door.ask(self._sandbox, far)
        except OSError as error:
            near.close()
            raise TransportError(f"the local sandbox server takes no request: {error.strerror or error}") from error
        self._socket, self._answered = near, loop.create_future()
        loop.add_reader(near.fileno(), self._readable)
        try:
            await asyncio.wait_for(self._answered, ANSWER_S)
        except BaseException as error:
            self._disconnect()
            if isinstance(error, TimeoutError):
                raise TransportError("the local sandbox server did not answer") from error
            raise

    async def reopen(self) -> None:
        raise TransportGone("the worker has ended")

    def write(self, data: bytes) -> None:
        with self._lock:
            waits = bool(self._unsent)
            if not waits:
                data = data[self._sent(data) :]
            self._unsent += data
            begins = bool(self._unsent) and not waits
        if begins and self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._await_room)

    async def close(self) -> None:
        self._disconnect()

    def _sent(self, data: bytes | bytearray) -> int:
        """How much of it went out (with the lock); all of it when nobody is there to read."""
        try:
            return len(data) if self._socket is None else self._socket.send(data)
        except BlockingIOError:
            return 0
        except OSError:  # the reader is told in its turn
            return len(data)

    def _await_room(self) -> None:
        if self._socket is not None and self._loop is not None:
            self._loop.add_writer(self._socket.fileno(), self._writable)

    def _writable(self) -> None:
        with self._lock:
            del self._unsent[: self._sent(self._unsent)]
            if not self._unsent and self._socket is not None and self._loop is not None:
                self._loop.remove_writer(self._socket.fileno())

    def _readable(self) -> None:
        assert self._socket is not None and self._answered is not None
        try:
            data = self._socket.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._lose()
        elif self._answered.done():
            self._receive(data)
        elif self._refusal or data.startswith(b"{"):
            self._refusal += data
        else:
            self._answered.set_result(None)
            self._receive(data)

    def _lose(self) -> None:
        self._disconnect()
        assert self._answered is not None
        if self._answered.done():
            self._closed("the worker has ended")
        else:
            self._answered.set_exception(_refused(self._refusal))

    def _disconnect(self) -> None:
        with self._lock:
            line, self._socket = self._socket, None
            if line is None:
                return
            loop = asyncio.get_running_loop()
            loop.remove_reader(line.fileno())
            loop.remove_writer(line.fileno())
            line.close()


def _refused(line: bytes) -> TransportError:
    """Why there is no worker, as the server said it."""
    told: dict[str, object] = {}
    with contextlib.suppress(ValueError):
        told = json.loads(line)
    gone = told.get("status") in (404, 410)
    return (TransportGone if gone else TransportError)(str(told.get("error", "the worker did not start"))[:500])
