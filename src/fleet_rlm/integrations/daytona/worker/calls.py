"""The guest's calls to the host: the child's end of the socket pair, and host tools as functions."""

from __future__ import annotations

import builtins
import itertools
import os
import queue
import socket
import struct
import threading
from collections.abc import Callable
from typing import Any

from .files import packed_file
from .frames import CH_CALL
from .slices import Contexts, note_reads, with_handles
from .values import Failure, from_json, to_json

MESSAGE_HEAD = struct.Struct(">II")
MAX_LIVE_CALLS = 256  # host tool calls at the same time; more of them wait in the guest
HANDLES, FILE = "handles", "file"  # how a tool takes its arguments, besides plainly


class Waiting:
    """A call that was sent; `get` waits for its reply."""

    def __init__(self) -> None:
        self._reply: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self.put = self._reply.put
        self.get = self._reply.get


class Control:
    """The child's end of the socket pair. A thread takes replies to their callers and cells to the main thread."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._write_lock = threading.Lock()
        self._calls: dict[int, Waiting] = {}
        self._ids = itertools.count(1)
        self._pid = os.getpid()
        self._slots = threading.BoundedSemaphore(MAX_LIVE_CALLS)
        self.limit = 64 << 20
        self._main_sends = False
        self._interrupt_waits = False
        self.commands: queue.SimpleQueue[tuple[int, bytes]] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True, name="fleet-control").start()

    def send(self, channel: int, payload: bytes) -> None:
        if len(payload) > self.limit:
            most = f"{self.limit >> 20} MiB at most"
            raise ValueError(f"value of {len(payload):,} bytes is too large to leave the sandbox ({most})")
        if os.getpid() != self._pid:
            os._exit(0)  # a fork of the guest's has run out of its cell; it must not answer for the interpreter
        main = threading.current_thread() is threading.main_thread()
        with self._write_lock:
            self._main_sends = main or self._main_sends
            try:
                self._socket.sendall(MESSAGE_HEAD.pack(len(payload), channel) + payload)
            finally:
                self._main_sends = self._main_sends and not main
        if main and self._interrupt_waits:
            self._interrupt_waits = False
            raise KeyboardInterrupt

    def put_off_interrupt(self) -> bool:
        """True when the main thread is in the middle of a message; it is interrupted when that is sent."""
        self._interrupt_waits = self._main_sends
        return self._main_sends

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
        number = next(self._ids)
        asked = {"id": number, "name": name, "args": args, "kwargs": kwargs}
        payload = to_json({**asked, "ahead": True} if ahead else asked)
        if not self._slots.acquire(blocking=not ahead):
            return None
        self._calls[number] = waiting = Waiting()
        try:
            self.send(CH_CALL, payload)
        except ValueError:  # too large: nothing was sent, so nothing will come back
            self._calls.pop(number, None)
            self._slots.release()
            raise
        return waiting

    def _read(self) -> None:
        stream = self._socket.makefile("rb")
        while True:
            head = stream.read(MESSAGE_HEAD.size)
            if len(head) < MESSAGE_HEAD.size:
                os._exit(0)  # the parent is gone
            length, channel = MESSAGE_HEAD.unpack(head)
            payload = stream.read(length)
            if channel != CH_CALL:
                self.commands.put((channel, payload))
                continue
            reply: dict[str, Any] = from_json(payload)
            waiting = self._calls.pop(reply["id"], None)
            if waiting is not None:
                self._slots.release()
                waiting.put(reply)


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
