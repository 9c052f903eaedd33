"""A direct line to the Python in a sandbox of the local server: sockets, with no server and no terminal in between.

The local server is a child of this process and was given one end of a socket pair, its door. What is asked for there
takes two sockets along (docs/sandboxd.md, "Extensions"): one becomes the standard input and output of the worker, the
other belongs to the process in it that runs the code, for cells and tool calls.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
from collections.abc import Callable

from fleet_rlm.integrations.daytona.local_socket import LocalSocket
from fleet_rlm.integrations.daytona.transport import Line, TransportError, TransportGone
from fleet_rlm.integrations.daytona.worker import worker_sha256

ANSWER_S = 20.0


class Door:
    """Where direct lines are asked for. Any thread; `far` is for the server and closed by `given`."""

    def __init__(self) -> None:
        self._near, self.far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._near.setblocking(False)
        self._lock = threading.Lock()

    def given(self) -> None:
        """The server has its end."""
        self.far.close()

    def ask(self, sandbox: str, *sockets: socket.socket) -> None:
        """Ask for the worker of a sandbox on these sockets. OSError when the server is gone or does not listen."""
        message = json.dumps({"sandbox": sandbox, "script": worker_sha256()}).encode()
        with self._lock:
            socket.send_fds(self._near, [message], [each.fileno() for each in sockets])

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
        self._line: LocalSocket | None = None
        self._direct: LocalSocket | None = None
        self._refusal = b""
        self._answered: asyncio.Future[None] | None = None
        self._receive: Callable[[bytes], None] = lambda _: None
        self._closed: Callable[[str], None] = lambda _: None

    async def open(self, receive: Callable[[bytes], None], closed: Callable[[str], None]) -> None:
        self._receive, self._closed = receive, closed
        self._answered = asyncio.get_running_loop().create_future()
        near, far = socket.socketpair()
        inner, far_inner = socket.socketpair()
        self._line, self._direct = LocalSocket(near, self._lose), LocalSocket(inner)
        try:
            with far, far_inner:
                self._door.ask(self._sandbox, far, far_inner)
        except OSError as error:
            self._disconnect()
            raise TransportError(f"the local sandbox server takes no request: {error.strerror or error}") from error
        self._line.listen(self._heard)
        try:
            await asyncio.wait_for(self._answered, ANSWER_S)
        except BaseException as error:
            self._disconnect()
            if isinstance(error, TimeoutError):
                raise TransportError("the local sandbox server did not answer") from error
            raise

    async def reopen(self) -> None:
        raise TransportGone("the worker has ended")

    @property
    def direct(self) -> Line | None:
        return self._direct

    def write(self, data: bytes) -> None:
        if self._line is not None:
            self._line.write(data)

    async def close(self) -> None:
        self._disconnect()

    def _disconnect(self) -> None:
        for each in (self._line, self._direct):
            if each is not None:
                each.close()

    def _heard(self, data: bytes) -> None:
        assert self._answered is not None
        if self._answered.done():
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


def _refused(line: bytes) -> TransportError:
    """Why there is no worker, as the server said it."""
    told: dict[str, object] = {}
    with contextlib.suppress(ValueError):
        told = json.loads(line)
    gone = told.get("status") in (404, 410)
    return (TransportGone if gone else TransportError)(str(told.get("error", "the worker did not start"))[:500])
