"""The process that runs model-written code: one persistent namespace, host tools as functions, SUBMIT.

It has no terminal and no key. It talks to the parent by a socket pair, in messages
`length(4) channel(4) payload`; its stdout and stderr are pipes that the parent reads.
"""

from __future__ import annotations

import ast
import builtins
import contextlib
import itertools
import keyword
import linecache
import os
import queue
import signal
import socket
import struct
import sys
import threading
import time
import traceback
import types
from collections.abc import Callable
from typing import Any

from .checkpoint import load, save
from .frames import CH_CALL, CH_EXEC, CH_SETUP
from .slices import Contexts, Helpers, with_handles
from .values import Failure, bounded_repr, bounded_text, from_json, plain, to_json

MESSAGE_HEAD = struct.Struct(">II")
MAX_LIVE_CALLS = 256  # host tool calls at the same time; more of them wait in the guest
VALUE_CHARS = 20_000
TRACE_CHARS = 8_000
KEPT_CELL_SOURCES = 200
MAX_CHANGED = 40
ANSWER = "answer"  # the variable whose last value is a run's partial answer: its text travels in full
ANSWER_CHARS = 20_000


class Submission(BaseException):
    """Ends the cell through `except Exception`; the values are in Repl.submitted."""


class Control:
    """The child's end of the socket pair. A thread takes replies to their callers and cells to the main thread."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._write_lock = threading.Lock()
        self._calls: dict[int, queue.SimpleQueue[dict[str, Any]]] = {}
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
        if os.getpid() != self._pid:
            raise RuntimeError(f"{name}() can only be called from the interpreter's own process, not from a fork")
        number = next(self._ids)
        payload = to_json({"id": number, "name": name, "args": args, "kwargs": kwargs})
        waiter: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        with self._slots:
            self._calls[number] = waiter
            try:
                self.send(CH_CALL, payload)
                return waiter.get()
            finally:
                self._calls.pop(number, None)

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
            waiter = self._calls.get(reply["id"])
            if waiter is not None:
                waiter.put(reply)


def tool_error(name: str, error: dict[str, Any]) -> Exception:
    """The guest's exception for a tool that failed on the host: the same builtin class where there is one."""
    kind, message = str(error.get("class", "")), str(error.get("message", ""))
    found = getattr(builtins, kind, None)
    if isinstance(found, type) and issubclass(found, Exception) and not issubclass(found, UnicodeError):
        return found(message)
    kind = kind if kind.isidentifier() else "HostToolError"
    return type(kind, (RuntimeError,), {"__module__": "host", "tool": name})(f"{kind}: {message}")


def make_tool(control: Control, contexts: Contexts, name: str, handles: bool) -> Callable[..., Any]:
    """The global function by which the guest calls the host tool `name`."""

    def tool(*args: Any, **kwargs: Any) -> Any:
        if handles:
            args, kwargs = with_handles(args), with_handles(kwargs)
        reply = control.call(name, args, kwargs)
        if "error" in reply:
            raise tool_error(name, reply["error"])
        value = _failures(reply.get("value"))
        return contexts.value(value) if handles else value

    tool.__name__ = tool.__qualname__ = name
    tool.__doc__ = f"Host tool {name}."
    return tool


def _failures(value: Any) -> Any:
    """Turn `{"$failure": ...}` into Failure, through lists and dictionaries."""
    if isinstance(value, dict):
        if len(value) == 1 and isinstance(value.get("$failure"), dict):
            detail = value["$failure"]
            return Failure(str(detail.get("error", "")), str(detail.get("message", "")))
        return {key: _failures(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_failures(item) for item in value]
    return value


class Repl:
    """Runs cells one after the other in one `__main__` module."""

    def __init__(self, control: Control) -> None:
        self.control = control
        self.running = False
        self.interrupted = False
        self._cells = 0
        self._tools: dict[str, tuple[bool, Any]] = {}
        self._fields: list[dict[str, Any]] | None = None
        self._submitted: dict[str, Any] | None = None
        self._answer: str | None = None  # its text when it was last told
        self._before: dict[str, tuple[int, Any]] = {}  # identity and size of each variable before the cell
        module = types.ModuleType("__main__")
        sys.modules["__main__"] = module
        self.namespace: dict[str, Any] = module.__dict__
        self.setup({"contexts": "/contexts", "message_bytes": control.limit})

    def setup(self, options: dict[str, Any]) -> None:
        """Begin as the host says: where contexts are, how large a value may be."""
        self.control.limit = options["message_bytes"]
        self.contexts = Contexts(options["contexts"], options.get("marks"))
        helpers = Helpers(self.contexts, self.namespace)
        self._helpers: dict[str, Any] = {
            "Failure": Failure,
            "chunks": helpers.chunks,
            "grep": helpers.grep,
            "context_info": helpers.context_info,
        }
        self._own: dict[str, Any] = {
            "SUBMIT": self.submit,
            "__fleet_bind__": self._bind,
            "__fleet_save__": self._save,
            "__fleet_restore__": self._restore,
        }
        self.namespace.update(self._helpers)  # once: an input or a guest's variable of that name stays

    def _bind(self, name: str, spec: str) -> None:
        """Called by the host's assignment line of a context value; `spec` is its JSON."""
        self.contexts.bind(name, from_json(spec.encode("utf-8", "surrogatepass")))
        self.namespace.pop(name, None)
        self.namespace.pop(f"_raw_{name}", None)

    def _save(self, folder: str) -> None:
        """Keep the guest's variables in a folder of the sandbox; prints what was kept."""
        names = [
            name
            for name, value in self.namespace.items()
            if not (name.startswith("__") or name in self._own or name in self._tools or name in self.contexts.names)
            and value is not self._helpers.get(name, self)
        ]
        print(to_json(save(folder, self.namespace, names)).decode())

    def _restore(self, folder: str) -> None:
        """Bring back what was kept; prints what it was."""
        print(to_json(load(folder, self.namespace)).decode())

    def submit(self, *args: Any, **kwargs: Any) -> None:
        """End the run with these outputs."""
        if self._fields is None:
            if len(args) + len(kwargs) != 1 or (kwargs and "output" not in kwargs):
                raise TypeError("SUBMIT takes one value: SUBMIT(value)")
            values = {"output": args[0]} if args else kwargs
        else:
            names = [field["name"] for field in self._fields]
            wanted = f"SUBMIT({', '.join(names)})"
            if len(args) > len(names):
                raise TypeError(f"too many values: use {wanted}")
            values = dict(zip(names, args))  # noqa: B905 - longer is refused above, shorter is filled by keywords
            twice = [name for name in kwargs if name in values]
            values.update(kwargs)
            missing = [name for name in names if name not in values]
            unknown = [name for name in values if name not in names]
            if missing or unknown or twice:
                faults = [("missing", missing), ("unknown", unknown), ("given twice", twice)]
                told = "; ".join(f"{what}: {', '.join(found)}" for what, found in faults if found)
                raise TypeError(f"{told}. Use {wanted}")
        self._submitted = values
        raise Submission

    def configure(self, request: dict[str, Any]) -> None:
        """Tools, output fields and changed variables of the next cell. A tool's function object stays the same."""
        tools: list[tuple[str, bool]] | None = request.get("tools")
        if tools is not None:
            known, self._tools = self._tools, {}
            for name, handles in tools:
                flag, tool = known.pop(name, (None, None))
                made = tool if flag == handles else make_tool(self.control, self.contexts, name, handles)
                self._tools[name] = (handles, made)
            for name in known:
                self.namespace.pop(name, None)
        if "fields" in request:
            self._fields = request["fields"]
        for name in request["vars"]:
            self.contexts.forget(name)
        for name, spec in request["bind"].items():
            self.contexts.bind(name, spec)
            self.namespace.pop(name, None)
        self.namespace.update(self._own)
        self.namespace.update((name, tool) for name, (_, tool) in self._tools.items())
        self.namespace.update(request["vars"])
        sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__

    def run_cell(self, request: dict[str, Any]) -> dict[str, Any]:
        """Run one cell and say how it ended."""
        self.interrupted = False
        self._submitted = None
        self._cells += 1
        self._before = self._snapshot()
        started = time.perf_counter()
        outcome: dict[str, Any] = {"status": "interrupted"}
        try:
            try:
                self.running = True
                self.configure(request)
                outcome = self._run(request["code"])
            finally:
                self.running = False
        except KeyboardInterrupt as error:  # came between the guest's last line and here
            outcome = self._failed(error)
        self.running = False
        outcome["ms"] = (time.perf_counter() - started) * 1000
        outcome["changed"] = self._changed()
        for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
            with contextlib.suppress(Exception):  # the guest may have put anything there
                stream.flush()  # pyright: ignore[reportOptionalMemberAccess]
        return outcome

    def _run(self, code: str) -> dict[str, Any]:
        name = f"<cell {self._cells}>"
        linecache.cache[name] = (len(code), None, code.splitlines(keepends=True), name)
        linecache.cache.pop(f"<cell {self._cells - KEPT_CELL_SOURCES}>", None)
        try:
            tree = ast.parse(code, name)
            last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
            body = compile(tree, name, "exec")
            tail = compile(ast.Expression(last.value), name, "eval") if isinstance(last, ast.Expr) else None
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            return _syntax_error(error)
        try:
            self.contexts.build_named_in(code, self.namespace)
            self._before = self._snapshot()
            exec(body, self.namespace)  # noqa: S102 - running code is what this process is for
            value = eval(tail, self.namespace) if tail is not None else None  # noqa: S307
        except Submission:
            return self._submission()
        except BaseException as error:  # noqa: BLE001 - model-written code may raise anything
            return self._failed(error)
        if self._submitted is not None:  # the guest's bare `except:` swallowed it, or a thread submitted
            return self._submission()
        return {"status": "ok", "value": None if value is None else bounded_repr(value, VALUE_CHARS)}

    def _submission(self) -> dict[str, Any]:
        return {"status": "submitted", "output": plain(self._submitted)}

    def _failed(self, error: BaseException) -> dict[str, Any]:
        interrupted = self.interrupted and isinstance(error, KeyboardInterrupt)
        return {"status": "interrupted" if interrupted else "error", "error": describe_error(error)}

    def _snapshot(self) -> dict[str, tuple[int, Any]]:
        return {k: (id(v), _size(v)) for k, v in self.namespace.items() if not k.startswith("_")}

    def _changed(self) -> list[dict[str, Any]]:
        """The variables that this cell made, replaced or visibly grew."""
        changed = self._changed_answer()
        for name, value in list(self.namespace.items()):
            if name.startswith("_") or name in self._own or name in self._tools or len(changed) >= MAX_CHANGED:
                continue
            if name == ANSWER:
                continue
            size = _size(value)
            if self._before.get(name) == (id(value), size) or isinstance(value, types.ModuleType):
                continue
            changed.append(_change(name, value, size))
        return changed

    def _changed_answer(self) -> list[dict[str, Any]]:
        """The answer so far, when its text is another than before: what it holds may change without its size."""
        value = self.namespace.get(ANSWER)
        if value is None or ANSWER in self._tools or isinstance(value, types.ModuleType):
            return []
        text = bounded_text(value, ANSWER_CHARS)
        if text == self._answer:
            return []
        self._answer = text
        return [{**_change(ANSWER, value, _size(value)), "text": text}]


def _change(name: str, value: Any, size: int | None) -> dict[str, Any]:
    return {"name": name, "type": type(value).__name__, "size": size, "preview": bounded_repr(value, 120)}


def _size(value: Any) -> int | None:
    return len(value) if isinstance(value, (str, bytes, list, tuple, dict, set)) else None


def _syntax_error(error: BaseException) -> dict[str, Any]:
    line = getattr(error, "lineno", None)
    text = getattr(error, "msg", None) or str(error) or type(error).__name__
    source = (getattr(error, "text", None) or "").rstrip()
    message = f"{text} (line {line}: {source.strip()[:200]})" if line else text
    return {"status": "error", "syntax": True, "error": {"class": "SyntaxError", "message": message, "line": line}}


def describe_error(error: BaseException) -> dict[str, Any]:
    """Class, message, failing line of the cell, and the traceback from the cell's frame on."""
    try:
        message = str(error)
    except BaseException as second:  # noqa: BLE001 - a guest's __str__ may raise anything
        message = f"(its text raises {type(second).__name__})"
    found: dict[str, Any] = {"class": type(error).__name__, "message": message[:TRACE_CHARS], "line": None}
    frame = error.__traceback__
    while frame is not None and not frame.tb_frame.f_code.co_filename.startswith("<cell "):
        frame = frame.tb_next
    if frame is None:
        return found
    found["line"] = frame.tb_lineno
    try:
        text = "".join(traceback.format_exception(type(error), error, frame))
    except BaseException:  # noqa: BLE001 - as above
        text = ""
    found["traceback"] = (
        text if len(text) <= TRACE_CHARS else f"{text[: TRACE_CHARS // 2]}\n...\n{text[-TRACE_CHARS // 2 :]}"
    )
    return found


def valid_name(name: str) -> bool:
    return name.isidentifier() and not keyword.iskeyword(name)


def child_main(sock: socket.socket) -> None:
    """The child's whole life: take commands until the parent goes away."""
    control = Control(sock)
    repl = Repl(control)

    def on_interrupt(_number: int, _frame: Any) -> None:
        if repl.running:
            repl.interrupted = True
            if not control.put_off_interrupt():
                raise KeyboardInterrupt

    while True:
        channel, payload = control.commands.get()
        signal.signal(signal.SIGINT, on_interrupt)  # the guest may have replaced it
        if channel == CH_SETUP:
            repl.setup(from_json(payload))
        elif channel == CH_EXEC:
            request = from_json(payload)
            outcome = repl.run_cell(request)
            outcome["cell"] = request["cell"]
            try:
                control.send(CH_EXEC, to_json(outcome))
            except ValueError as error:  # the outputs are too large
                outcome.pop("output", None)
                outcome.update(status="error", error={"class": "ValueError", "message": str(error), "line": None})
                control.send(CH_EXEC, to_json(outcome))
