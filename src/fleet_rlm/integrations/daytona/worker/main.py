"""The worker's parent process: owns the terminal, forks the child that runs code, carries bytes between them.

It never runs model-written code, keeps the key for itself (and is not dumpable), stops reading the child when
the host has not acknowledged enough, and cuts what a cell prints beyond the limit to its beginning and its end.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import select
import signal
import socket
import sys
import threading
import time
import tty
from collections import deque
from collections.abc import Callable
from typing import Any

from .calls import DIRECT_FD, MESSAGE_HEAD
from .frames import (
    BYE,
    CH_CUT,
    CH_EXEC,
    CH_INTERRUPT,
    CH_LOST,
    CH_SETUP,
    CH_STDERR,
    CH_STDOUT,
    HELLO,
    IN_WINDOW_BYTES,
    KEY,
    OUT_WINDOW_BYTES,
    VERSION,
    Frame,
    Inbox,
    Link,
)
from .repl import child_main
from .tally import Tally, waiting_in
from .values import from_json, to_json

READ_BYTES = 64 * 1024
HOST_MESSAGE_BYTES = 256 << 20
PR_SET_PDEATHSIG, PR_SET_DUMPABLE = 1, 4


def prctl(option: int, value: int) -> None:
    """Linux process control; where there is none, the sandbox's own walls have to do."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


class Stream:
    """One output pipe of the child and what of the running cell's output is held back."""

    def __init__(self, fd: int, channel: int) -> None:
        self.fd = fd
        self.channel = channel
        self.open = True
        self.cut = 0
        self.held = 0
        self.tail: deque[bytes] = deque()

    def hold(self, data: bytes, limit: int) -> None:
        """Keep the newest `limit` bytes."""
        self.tail.append(data)
        self.held += len(data)
        while self.held - len(self.tail[0]) >= limit:
            dropped = self.tail.popleft()
            self.held -= len(dropped)
            self.cut += len(dropped)


class Worker:
    """The loop between terminal, child and its pipes.

    Where the child has a socket to the host, cells and calls do not pass here: it is told of the end of those that
    printed something, so that the host hears the end of their output.
    """

    def __init__(self, child: int, control: socket.socket, out: int, err: int, tally: Tally) -> None:
        self._child = child
        self._end = end_of(child)
        self._control = control
        self._tally = tally
        self._direct = False
        self._streams = [Stream(out, CH_STDOUT), Stream(err, CH_STDERR)]
        self._link = Link(OUT_WINDOW_BYTES, IN_WINDOW_BYTES)
        self._inbox = Inbox(HOST_MESSAGE_BYTES)
        self._poll = select.poll()
        self._to_terminal = bytearray()
        self._to_child = bytearray()
        self._from_child = bytearray()
        self._body_left = 0  # bytes of the child's current message still to come
        self._body_channel = 0
        self._in_cell = False
        self._head_left = 0
        self._tail_limit = 0
        self._output_limit = 8 << 20
        self._message_limit = 64 << 20
        self._child_alive = True
        self._done = False

    def run(self) -> None:
        """Until the host says goodbye or the terminal goes away."""
        for fd in (0, self._control.fileno(), *(s.fd for s in self._streams)):
            os.set_blocking(fd, False)
        os.set_blocking(1, False)
        self._link.control(HELLO, to_json({"v": VERSION, "python": sys.version.split()[0], "pid": os.getpid()}))
        handlers: dict[int, Callable[[], Any]] = {
            0: self._read_terminal,
            self._control.fileno(): self._read_child,
            self._end: self._on_end,
        }
        for stream in self._streams:
            handlers[stream.fd] = functools.partial(self._read_stream, stream)
        registered: dict[int, int] = {}
        while not self._done:
            self._flush()
            self._register(registered, handlers)
            for fd, events in self._poll.poll(30_000):
                if events & ~select.POLLOUT and not self._done:
                    handlers[fd]()

    def _register(self, registered: dict[int, int], handlers: dict[int, Any]) -> None:
        """Read from the child only while there is room towards the host."""
        control = self._control.fileno()
        room = self._link.room > 0 and len(self._to_terminal) < OUT_WINDOW_BYTES
        closed = [stream.fd for stream in self._streams if not stream.open]
        for fd in handlers:
            wanted = fd == 0 or (room and self._child_alive and fd not in closed)
            events = select.POLLIN if wanted else 0
            if (fd == control and self._to_child) or (fd == 0 and self._to_terminal):
                events |= select.POLLOUT  # descriptor 0 and 1 are the same terminal
            if registered.get(fd, 0) == events:
                continue
            if events:
                self._poll.register(fd, events)
            else:
                self._poll.unregister(fd)
            registered[fd] = events

    def _flush(self) -> None:
        self._to_terminal += self._link.pump()
        self._write(1, self._to_terminal)
        if self._child_alive:
            self._write(self._control.fileno(), self._to_child)

    def _write(self, fd: int, buffer: bytearray) -> None:
        while buffer:
            try:
                written = os.write(fd, buffer[:READ_BYTES])
            except BlockingIOError:
                return
            except OSError:
                buffer.clear()
                self._done = self._done or fd == 1
                return
            del buffer[:written]

    def _read_terminal(self) -> None:
        try:
            data = os.read(0, READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._done = True
            return
        for frame in self._link.receive(data):
            if frame.type == KEY:
                self._on_key(from_json(frame.payload))
            elif frame.type == BYE:
                self._done = True
            elif self._link.key:  # nothing is obeyed before the key
                self._on_piece(frame)

    def _on_key(self, options: dict[str, Any]) -> None:
        if self._link.key:
            return
        self._link.use_key(bytes.fromhex(options["key"]))
        self._output_limit = max(1024, int(options["output_bytes"]))
        self._message_limit = int(options["message_bytes"])
        if options["direct"]:
            os.close(DIRECT_FD)  # the child's alone
            self._direct = True
            self._begin_cell()
        self._tell_child(CH_SETUP, to_json({k: options[k] for k in ("contexts", "marks", "message_bytes", "direct")}))

    def _begin_cell(self) -> None:
        self._in_cell = True
        self._head_left = self._output_limit // 2
        self._tail_limit = self._output_limit // 4

    def _on_piece(self, frame: Frame) -> None:
        message = self._inbox.add(frame)
        if message is None:
            return
        if frame.channel == CH_INTERRUPT:
            if self._in_cell and self._child_alive:
                os.kill(self._child, signal.SIGINT)
            return
        if frame.channel == CH_EXEC:
            self._begin_cell()
        self._tell_child(frame.channel, message)

    def _tell_child(self, channel: int, message: bytes) -> None:
        self._to_child += MESSAGE_HEAD.pack(len(message), channel)
        self._to_child += message

    def _read_stream(self, stream: Stream, limit: int = READ_BYTES) -> int:
        self._tally.step()
        try:
            data = os.read(stream.fd, limit)
        except OSError:
            return 0
        finally:
            self._tally.step()
        live = min(len(data), self._head_left) if self._in_cell else len(data)
        if live:
            self._link.send(stream.channel, data[:live], end=True)
            self._head_left -= live if self._in_cell else 0
        if live < len(data):
            stream.hold(data[live:], self._tail_limit)
        stream.open = bool(data)  # the guest may close all of it; its process tells whether it lives
        return len(data)

    def _drain(self, stream: Stream) -> None:
        """Take what the pipe holds at this moment: all that the finished cell printed."""
        waiting = waiting_in(stream.fd)
        while waiting > 0 and (taken := self._read_stream(stream, min(waiting, READ_BYTES))):
            waiting -= taken
        if stream.cut:
            self._link.send(CH_CUT, to_json({"channel": stream.channel, "bytes": stream.cut}))
        for part in stream.tail:
            self._link.send(stream.channel, part)
        stream.tail.clear()
        stream.cut = stream.held = 0

    def _on_end(self) -> None:
        """The child's process is over, which its socket does not tell while a fork of the guest's holds it too."""
        waiting = waiting_in(self._control.fileno())
        while self._child_alive and waiting > 0 and (taken := self._read_child()):
            waiting -= taken
        self._on_child_gone()

    def _read_child(self) -> int:
        try:
            data = self._control.recv(READ_BYTES)
        except BlockingIOError:
            return 0
        except OSError:
            data = b""
        if not data:
            self._on_child_gone()
            return 0
        self._from_child += data
        while self._from_child:
            if not self._body_left:
                if len(self._from_child) < MESSAGE_HEAD.size or not self._begin_message():
                    break
                continue
            body = bytes(self._from_child[: self._body_left])
            del self._from_child[: len(body)]
            self._body_left -= len(body)
            self._link.send(self._body_channel, body, end=not self._body_left)
        return len(data)

    def _begin_message(self) -> bool:
        self._body_left, self._body_channel = MESSAGE_HEAD.unpack_from(self._from_child)
        del self._from_child[: MESSAGE_HEAD.size]
        if not 0 < self._body_left <= self._message_limit or self._body_channel not in (0, 3):
            self._on_child_gone("it broke the control protocol")
            return False
        if self._body_channel == CH_EXEC:
            for stream in self._streams:
                self._drain(stream)
            self._in_cell = False
            if self._direct:  # of the next one it is told at its end
                self._begin_cell()
        return True

    def _on_child_gone(self, reason: str | None = None) -> None:
        if not self._child_alive:
            return
        self._child_alive = False
        status = reap(self._child)
        for stream in self._streams:
            self._drain(stream)
        self._link.send(CH_LOST, to_json({"reason": reason or status}))


def end_of(child: int) -> int:
    """A descriptor that can be read from, or is hung up, when the process has ended; it is still to be waited for."""
    try:
        return os.pidfd_open(child)
    except (AttributeError, OSError):  # an older kernel, or one that is only imitated
        end, held = os.pipe()

    def wait() -> None:
        with contextlib.suppress(OSError):
            os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
        os.close(held)

    threading.Thread(target=wait, daemon=True).start()
    return end


def reap(child: int) -> str:
    """Kill what is left of the child's process group and say how the child ended."""
    deadline = time.monotonic() + 0.2  # its socket closes a moment before it can be waited for
    pid, status = os.waitpid(child, os.WNOHANG)
    while not pid and time.monotonic() < deadline:
        time.sleep(0.005)
        pid, status = os.waitpid(child, os.WNOHANG)
    with contextlib.suppress(OSError):
        os.killpg(child, signal.SIGKILL)
    if not pid:
        pid, status = os.waitpid(child, 0)
        return "it closed its control channel"
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        hint = " (out of memory?)" if number == signal.SIGKILL else ""
        return f"the Python process was killed by {signal.Signals(number).name}{hint}"
    return f"the Python process ended with exit status {os.WEXITSTATUS(status)}"


def become_child(control: socket.socket, out: int, err: int, tally: Tally) -> None:
    """In the fork: lose the terminal, take the pipes as output, then run cells for ever."""
    os.setsid()
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    null = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((null, 0), (out, 1), (err, 2)):
        os.dup2(source, target)
    for name in ("SIGHUP", "SIGTERM", "SIGTTOU", "SIGTTIN", "SIGTSTP", "SIGPIPE"):
        signal.signal(getattr(signal, name), signal.SIG_DFL)
    sys.stdin = sys.__stdin__ = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.argv = [""]
    if "" not in sys.path:
        sys.path.insert(0, "")
    child_main(control, tally)


def main() -> None:
    """Take the terminal, fork the child, carry bytes until the end."""
    if os.isatty(0):  # a socket where no terminal is to be had
        tty.setraw(0)
    for name in ("SIGINT", "SIGQUIT", "SIGTTOU", "SIGTTIN", "SIGTSTP", "SIGPIPE"):
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    parent_end, child_end = socket.socketpair()
    out_read, out_write = os.pipe()
    err_read, err_write = os.pipe()
    tally = Tally()
    child = os.fork()
    if child == 0:
        try:
            parent_end.close()
            for fd in (out_read, err_read):
                os.close(fd)
            become_child(child_end, out_write, err_write, tally)
        finally:
            os._exit(1)
    prctl(PR_SET_DUMPABLE, 0)
    child_end.close()
    for fd in (out_write, err_write):
        os.close(fd)
    try:
        Worker(child, parent_end, out_read, err_read, tally).run()
    finally:
        with contextlib.suppress(OSError):
            os.killpg(child, signal.SIGKILL)
        os._exit(0)


if __name__ == "__main__":
    main()
