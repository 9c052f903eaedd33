"""The server's end of a control socket: requests with answers, events, fds, without a thread."""

import asyncio
import contextlib
import os
import socket
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from fleet_rlm.sandboxd.jail.inside import wire
from fleet_rlm.sandboxd.jail.spec import JailClosed

_MAX_WAITING = 4096
_TURN = 64  # packets read before the loop serves others: no flood of one sandbox holds up the rest
_MAX_PARTS = 64 * 1024  # entries of one answer in parts
_MALFORMED = (KeyError, TypeError, ValueError, AttributeError, OverflowError)


class Link:
    """One SOCK_SEQPACKET socket on the running loop. `on_event` gets what answers no request; `on_end` is
    called once, when the other side is gone or the link is closed. What the other side says is not trusted: a packet
    that makes no sense closes the link."""

    def __init__(
        self,
        sock: socket.socket,
        on_event: Callable[[wire.Message, list[int]], None],
        on_end: Callable[[], None],
    ) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._on_event = on_event
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        self._next = 1
        self._answers: dict[int, asyncio.Future[tuple[Any, list[int]]]] = {}
        self._takers: dict[int, Callable[[Any], Any]] = {}
        self._parts: dict[int, list[Any]] = {}
        self._unsent: deque[tuple[bytes, list[int]]] = deque()
        self._open = True
        self._loop.add_reader(sock.fileno(), self._read)

    async def request(
        self, message: wire.Message, fds: Sequence[int] = (), take: Callable[[Any], Any] | None = None
    ) -> tuple[Any, list[int]]:
        """Send and wait for the answer: its value and fds. Raises the other side's OSError, or JailClosed.

        `take` makes of the value what is given, before anything is heard of what the other side says next."""
        number = self._next
        self._next += 1
        answer: asyncio.Future[tuple[Any, list[int]]] = self._loop.create_future()
        self._answers[number] = answer
        if take is not None:
            self._takers[number] = take
        try:
            self.post({**message, "id": number}, fds)
            return await answer
        finally:
            self._answers.pop(number, None)
            self._takers.pop(number, None)
            self._parts.pop(number, None)

    def post(self, message: wire.Message, fds: Sequence[int] = ()) -> None:
        """Send without waiting for an answer. The fds are duplicated if the socket is full."""
        if not self._open:
            raise JailClosed("the sandbox is gone")
        data = wire.encode(message)
        if not self._unsent:
            try:
                socket.send_fds(self._sock, [data], list(fds))
                return
            except BlockingIOError:
                self._loop.add_writer(self._sock.fileno(), self._write)
            except OSError as error:
                self.close()
                raise JailClosed("the sandbox is gone") from error
        if len(self._unsent) >= _MAX_WAITING:
            raise OSError(11, "too many requests wait for this sandbox")
        self._unsent.append((data, [os.dup(fd) for fd in fds]))

    def close(self) -> None:
        """Close the socket; every waiting request raises JailClosed."""
        if not self._open:
            return
        self._open = False
        self._loop.remove_reader(self._sock.fileno())
        self._loop.remove_writer(self._sock.fileno())
        self._sock.close()
        for _, fds in self._unsent:
            _close_all(fds)
        self._unsent.clear()
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(JailClosed("the sandbox is gone"))
                answer.exception()  # who asked may be gone too; that is no defect to report
        self._on_end()

    def _write(self) -> None:
        while self._unsent:
            data, fds = self._unsent[0]
            try:
                socket.send_fds(self._sock, [data], fds)
            except BlockingIOError:
                return
            except OSError:
                self.close()
                return
            self._unsent.popleft()
            _close_all(fds)
        self._loop.remove_writer(self._sock.fileno())

    def _read(self) -> None:
        for _ in range(_TURN):
            if not self._open:
                return
            try:
                received = wire.receive(self._sock)
                if received is not None:
                    self._deliver(*received)
            except BlockingIOError:
                return
            except (OSError, *_MALFORMED):
                received = None
            if received is None:
                self.close()
                return

    def _deliver(self, message: wire.Message, fds: list[int]) -> None:
        number = message.get("id")
        if not isinstance(number, int):
            self._on_event(message, fds)
            return
        answer = self._answers.get(number)
        if answer is None or answer.done():
            _close_all(fds)  # the asker has gone away
        elif "part" in message:
            _close_all(fds)
            parts = self._parts.setdefault(number, [])
            parts.extend(message["part"])
            if len(parts) > _MAX_PARTS:
                raise ValueError("an answer without end")
        elif "error" in message:
            _close_all(fds)
            answer.set_exception(_os_error(message["error"]))
        else:
            value: Any = message.get("ok")
            if number in self._parts:
                value = [*self._parts.pop(number), *value]
            take = self._takers.get(number)
            answer.set_result((value if take is None else take(value), fds))


def _os_error(error: wire.Message) -> OSError:
    try:
        wire.raise_error(error)
    except OSError as made:
        return made
    raise AssertionError("raise_error returned")


def _close_all(fds: Sequence[int]) -> None:
    for fd in fds:
        with contextlib.suppress(OSError):
            os.close(fd)
