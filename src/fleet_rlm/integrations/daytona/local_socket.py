"""One stream socket to a process on this machine: read on an event loop, written by any thread that never waits."""

from __future__ import annotations

import asyncio
import fcntl
import select
import socket
import struct
import termios
import threading
from collections.abc import Callable

READ_BYTES = 64 * 1024
_COUNT = struct.Struct("i")


class LocalSocket:
    """Takes the socket over. `receive` is called on the loop with each piece that arrives, `ended` there once, when the
    other side is gone."""

    def __init__(self, sock: socket.socket, ended: Callable[[], None] = lambda: None) -> None:
        sock.setblocking(False)
        self._socket: socket.socket | None = sock
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Condition(threading.Lock())  # over what is written
        self._unsent = bytearray()
        self._receive: Callable[[bytes], None] = lambda _: None
        self._ended = ended

    def listen(self, receive: Callable[[bytes], None]) -> None:
        """Begin to read, on the loop."""
        self._receive = receive
        self.resume()

    def pause(self) -> None:
        """Read no more, on the loop; who writes has to wait."""
        if self._socket is not None:
            self._loop.remove_reader(self._socket.fileno())

    def resume(self) -> None:
        """Read again, on the loop."""
        if self._socket is not None:
            self._loop.add_reader(self._socket.fileno(), self._readable)

    def read(self, patience_s: float) -> bytes:
        """Any one thread, while it is paused: a piece; empty when none comes in time, or the other side is gone."""
        sock = self._socket
        if sock is None:
            return b""
        poll = select.poll()
        try:
            poll.register(sock, select.POLLIN)
            return sock.recv(READ_BYTES) if poll.poll(patience_s * 1000) else b""
        except (OSError, ValueError):  # it was closed meanwhile; the loop is told in its turn
            return b""

    def take(self) -> None:
        """Hand over what has arrived by now, on the loop."""
        if self._socket is None:
            return
        (waiting,) = _COUNT.unpack(fcntl.ioctl(self._socket, termios.FIONREAD, bytes(_COUNT.size)))
        while waiting > 0 and (taken := self._readable()):
            waiting -= taken

    def write(self, data: bytes) -> None:
        """Any thread: send it, or the rest of it later. Dropped when nobody is there to read."""
        with self._lock:
            waits = bool(self._unsent)
            if not waits:
                data = data[self._sent(data) :]
            self._unsent += data
            begins = bool(self._unsent) and not waits
        if begins and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._await_room)

    def await_room(self, most: int) -> None:
        """Any thread but the loop's: wait until no more than so many bytes are unsent, or nobody is there to read."""
        with self._lock:
            self._lock.wait_for(lambda: len(self._unsent) <= most or self._socket is None)

    def close(self) -> None:
        """On the loop. Idempotent; nothing is called back after this."""
        with self._lock:
            sock, self._socket = self._socket, None
            self._unsent.clear()
            self._lock.notify_all()
        if sock is not None:
            self._loop.remove_reader(sock.fileno())
            self._loop.remove_writer(sock.fileno())
            sock.close()

    def _sent(self, data: bytes | bytearray) -> int:
        """How much of it went out (with the lock); all of it when nobody is there to read."""
        try:
            return len(data) if self._socket is None else self._socket.send(data)
        except BlockingIOError:
            return 0
        except OSError:  # the reader is told in its turn
            return len(data)

    def _await_room(self) -> None:
        if self._socket is not None:
            self._loop.add_writer(self._socket.fileno(), self._writable)

    def _writable(self) -> None:
        with self._lock:
            del self._unsent[: self._sent(self._unsent)]
            self._lock.notify_all()
            if not self._unsent and self._socket is not None:
                self._loop.remove_writer(self._socket.fileno())

    def _readable(self) -> int:
        """Take a piece; its size."""
        if self._socket is None:
            return 0
        try:
            data = self._socket.recv(READ_BYTES)
        except BlockingIOError:
            return 0
        except OSError:
            data = b""
        if data:
            self._receive(data)
        else:
            self.close()
            self._ended()
        return len(data)
