"""The guest's calls to the host: the child's end of its sockets, and host tools as functions."""

from __future__ import annotations

import builtins
import contextlib
import itertools
import os
import queue
import select
import socket
import struct
import sys
import threading
from collections.abc import Callable
from typing import Any

from .files import packed_file
from .frames import CH_CALL
from .slices import Contexts, note_reads, with_handles
from .values import Failure, from_json, to_json

MESSAGE_HEAD = struct.Struct(">II")
MAX_LIVE_CALLS = 256  # host tool calls at the same time; more of them wait in the guest
TAKE_BYTES = 256 * 1024
DIRECT_FD = 3  # where cells and calls have a socket of their own to the host, past the parent
READ_ON = object()  # in a box: nobody reads the socket any more
HANDLES, FILE = "handles", "file"  # how a tool takes its arguments, besides plainly


class Messages:
    """Finds the messages in a stream: `length(4) channel(4) payload`."""

    def __init__(self) -> None:
        self._read = bytearray()

    def add(self, data: bytes) -> None:
        self._read += data

    def channel(self, limit: int) -> int | None:
        """That of the next message, when it is complete. ValueError: it is longer than `limit`."""
        if len(self._read) < MESSAGE_HEAD.size:
            return None
        length, channel = MESSAGE_HEAD.unpack_from(self._read)
        if length > limit:
            raise ValueError(f"a message of {length:,} bytes")
        return channel if len(self._read) >= MESSAGE_HEAD.size + length else None

    def next(self, limit: int) -> tuple[int, bytes] | None:
        """Channel and payload of the next, when it is complete. ValueError: it is longer than `limit`."""
        channel = self.channel(limit)
        if channel is None:
            return None
        end = MESSAGE_HEAD.size + MESSAGE_HEAD.unpack_from(self._read)[0]
        payload = bytes(memoryview(self._read)[MESSAGE_HEAD.size : end])
        del self._read[:end]
        return channel, payload


class Submission(BaseException):
    """Ends the cell through `except Exception`; the values are the Repl's."""


class Waiting:
    """What the socket brings for one thread; `get` waits for it."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self.box: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def get(self) -> Any:
        return self._control.wait_for(self.box)


class Control:
    """The child's end of the socket to its parent, and of the one to the host where there is one. Whoever waits for
    something reads them, for others too, one thread at a time: a thread that only reads would cost a change of threads
    for each message.

    An interrupt is put off while the main thread is in the middle of a message or holds the right to read.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._parent = sock
        self._host: socket.socket | None = None
        self._lines: dict[int, tuple[socket.socket, Messages]] = {}
        self._poll = select.poll()
        self._listen(sock)
        self._write_lock = threading.Lock()
        self._reading = threading.Lock()
        self._waiters: list[queue.SimpleQueue[Any]] = []
        self._calls: dict[int, Waiting] = {}
        self._ids = itertools.count(1)
        self._pid = os.getpid()
        self._slots = threading.BoundedSemaphore(MAX_LIVE_CALLS)
        self._without_slot: list[Waiting] = []
        self.limit = 64 << 20
        self.answered = False  # the cell has its submission: nothing more is asked
        self._puts_off = False
        self._interrupt_waits = False
        self.commands = Waiting(self)

    def _listen(self, sock: socket.socket) -> None:
        self._lines[sock.fileno()] = sock, Messages()
        self._poll.register(sock, select.POLLIN)

    def go_direct(self, sock: socket.socket) -> None:
        """From now on cells, calls and what comes back go by this socket to the host."""
        sock.set_inheritable(False)
        self._host = sock
        self._listen(sock)

    def send(self, channel: int, payload: bytes) -> None:
        """To the host; by the parent, where there is no other way."""
        self._send(self._host or self._parent, channel, payload)

    def tell_parent(self, channel: int, payload: bytes) -> None:
        self._send(self._parent, channel, payload)

    def _send(self, line: socket.socket, channel: int, payload: bytes) -> None:
        if len(payload) > self.limit:
            most = f"{self.limit >> 20} MiB at most"
            raise ValueError(f"value of {len(payload):,} bytes is too large to leave the sandbox ({most})")
        if os.getpid() != self._pid:
            os._exit(0)  # a fork of the guest's has run out of its cell; it must not answer for the interpreter
        main = threading.current_thread() is threading.main_thread()
        with self._write_lock:
            self._puts_off = main or self._puts_off
            try:
                line.sendall(MESSAGE_HEAD.pack(len(payload), channel) + payload)
            finally:
                self._puts_off = self._puts_off and not main
        if main:
            self._let_in()

    def put_off_interrupt(self) -> bool:
        """True when the main thread cannot be interrupted here; it is as soon as it can be."""
        self._interrupt_waits = self._puts_off
        return self._puts_off

    def _let_in(self) -> None:
        if self._interrupt_waits:
            self._interrupt_waits = False
            raise KeyboardInterrupt

    def call(self, name: str, args: Any, kwargs: Any) -> dict[str, Any]:
        """Ask the host to run one of its tools; waits for its reply."""
        waiting = self.begin(name, args, kwargs)
        assert waiting is not None
        return waiting.get()

    def begin(self, name: str, args: Any, kwargs: Any, *, ahead: bool = False) -> Waiting | None:
        """Ask, and go on. `ahead`: before the code itself asks; None when too many calls are in flight.

        The reply to a call ahead may be `{"refused": true}`: it met what ends a run, and was not made.
        """
        if os.getpid() != self._pid:
            raise RuntimeError(f"{name}() can only be called from the interpreter's own process, not from a fork")
        if self.answered:  # and the guest's bare `except:` or `finally:` went on, or a thread did
            raise Submission
        number = next(self._ids)
        asked = {"id": number, "name": name, "args": args, "kwargs": kwargs}
        payload = to_json({**asked, "ahead": True} if ahead else asked)
        if not self._slot(wait=not ahead):
            return None
        self._calls[number] = waiting = Waiting(self)
        try:
            self.send(CH_CALL, payload)
        except ValueError:  # too large: nothing was sent, so nothing will come back
            self._calls.pop(number, None)
            self._give_slot()
            raise
        return waiting

    def _slot(self, *, wait: bool) -> bool:
        """Take a place among the live calls. Who waits for one reads the socket, as any that waits."""
        while not self._slots.acquire(blocking=False):
            if not wait:
                return False
            waiting = Waiting(self)
            self._without_slot.append(waiting)
            if self._slots.acquire(blocking=False):  # one was given back meanwhile
                return True
            waiting.get()
        return True

    def wait_for(self, box: queue.SimpleQueue[Any]) -> Any:
        """The next that comes into a box. This thread reads the socket meanwhile, unless another does."""
        main = threading.current_thread() is threading.main_thread()
        self._puts_off = main or self._puts_off
        self._waiters.append(box)
        try:
            while True:
                if box.empty() and self._reading.acquire(blocking=False):
                    try:
                        while box.empty():
                            for fd, _ in self._blocked(main, self._poll.poll):
                                self._take(*self._lines[fd])
                    finally:
                        self._reading.release()
                item = self._blocked(main, box.get)
                if item is not READ_ON:
                    break
        finally:
            self._waiters.remove(box)
            if not self._reading.locked():
                for other in self._waiters[:1]:
                    other.put(READ_ON)
            self._puts_off = self._puts_off and not main
        if main:
            self._let_in()
        return item

    def _blocked(self, main: bool, wait: Callable[[], Any]) -> Any:
        """Something that may last: an interrupt is let in."""
        if not main:
            return wait()
        self._puts_off = False
        try:
            self._let_in()
            return wait()
        finally:
            self._puts_off = True

    def _take(self, line: socket.socket, messages: Messages) -> None:
        """Read what is there, and give it to those that it is for."""
        try:
            data = line.recv(TAKE_BYTES, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        if not data:
            os._exit(0)  # the parent is gone, or the host
        messages.add(data)
        while (message := messages.next(sys.maxsize)) is not None:
            self._deliver(*message)

    def _deliver(self, channel: int, payload: bytes) -> None:
        if channel != CH_CALL:
            self.commands.box.put((channel, payload))
            return
        reply: dict[str, Any] = from_json(payload)
        waiting = self._calls.pop(reply["id"], None)
        if waiting is not None:
            self._give_slot()
            waiting.box.put(reply)

    def _give_slot(self) -> None:
        """Tell all that wait for a place, some of which may have given up: who finds none lines up again."""
        self._slots.release()
        with contextlib.suppress(IndexError):  # another thread may tell them too
            while True:
                self._without_slot.pop().box.put(None)


def tool_error(name: str, error: dict[str, Any]) -> Exception:
    """The guest's exception for a tool that failed on the host: the same builtin class where there is one."""
    kind, message = str(error.get("class", "")), str(error.get("message", ""))
    found = getattr(builtins, kind, None)
    if isinstance(found, type) and issubclass(found, Exception) and not issubclass(found, UnicodeError):
        return found(message)
    kind = kind if kind.isidentifier() else "HostToolError"
    return type(kind, (RuntimeError,), {"__module__": "host", "tool": name})(f"{kind}: {message}")


def tool_value(name: str, reply: dict[str, Any], contexts: Contexts, mode: str) -> Any:
    """What a tool's reply means to the guest: its value, or the exception that it raised."""
    if "error" in reply:
        raise tool_error(name, reply["error"])
    value = with_failures(reply.get("value"))
    return contexts.value(value) if mode == HANDLES else value


def make_tool(control: Control, contexts: Contexts, name: str, mode: str) -> Callable[..., Any]:
    """The global function by which the guest calls the host tool `name`."""

    def tool(*args: Any, **kwargs: Any) -> Any:
        if mode == HANDLES:
            args, kwargs = with_handles(args), with_handles(kwargs)
        elif mode == FILE:
            args, kwargs = (), packed_file(*args, **kwargs)
        else:
            note_reads(args)
            note_reads(kwargs)
        return tool_value(name, control.call(name, args, kwargs), contexts, mode)

    tool.__name__ = tool.__qualname__ = name
    tool.__doc__ = f"Host tool {name}."
    return tool


def with_failures(value: Any) -> Any:
    """Turn `{"$failure": ...}` into Failure, through lists and dictionaries."""
    if isinstance(value, dict):
        if len(value) == 1 and isinstance(value.get("$failure"), dict):
            detail = value["$failure"]
            return Failure(str(detail.get("error", "")), str(detail.get("message", "")))
        return {key: with_failures(item) for key, item in value.items()}
    if isinstance(value, list):
        return [with_failures(item) for item in value]
    return value
