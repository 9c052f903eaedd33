"""The process that runs model-written code: one persistent namespace, host tools as functions, SUBMIT.

It has no terminal and no key. It talks to the parent by a socket pair, in messages
`length(4) channel(4) payload`; its stdout and stderr are pipes that the parent reads. On the machine of the host it has
a socket that leads there without the parent, for cells and calls.
"""

from __future__ import annotations

import _signal  # pyright: ignore[reportMissingImports] - without the enums of `signal`, which cost more than a small cell
import ast
import json
import keyword
import math
import re
import signal
import socket
import sys
import traceback
import types
from linecache import cache as cell_sources  # as below: the guest may put anything into the modules
from time import perf_counter
from typing import Any

from .ahead import AHEAD, QUERY, AheadSource, asks_ahead, pure_functions
from .calls import DIRECT_FD, Control, Submission, make_tool
from .checkpoint import load, save
from .frames import CH_EXEC, CH_LATER, CH_SETUP
from .outputs import Outputs
from .readers import SEEN, tells_reads
from .slices import Contexts, Helpers, note_reads, with_handles
from .tally import Tally
from .values import Failure, bounded_repr, bounded_text, from_json, plain, to_json, type_name

VALUE_CHARS = 20_000
TRACE_CHARS = 8_000
KEPT_CELL_SOURCES = 200
_traceback_of = BaseException.__dict__["__traceback__"].__get__  # past a class that has its own
MAX_CHANGED = 40
PREVIEW = 120
CUT_PREVIEW = 1_000  # of a cell that was interrupted: what it left may be all that its run has
ANSWER = "answer"  # the variable whose last value is a run's partial answer: its text travels in full
ANSWER_CHARS = 20_000


class Repl:
    """Runs cells one after the other in one `__main__` module."""

    def __init__(self, control: Control) -> None:
        self.control = control
        self.outputs = Outputs()
        self.running = False
        self.interrupted = False
        self._cells = 0
        self._tools: dict[str, tuple[str, Any]] = {}
        self._pure: dict[str, Any] = {}  # the guest's functions that only compute, by name
        self._fields: list[dict[str, Any]] | None = None
        self._submitted: dict[str, Any] | None = None
        self._answer: str | None = None  # its text when it was last told
        # Identity and size of each variable before the cell; None: its code has not begun.
        self._before: dict[str, tuple[int, Any]] | None = None
        module = types.ModuleType("__main__")
        sys.modules["__main__"] = module
        self.namespace: dict[str, Any] = module.__dict__
        self.setup({"contexts": "/contexts", "message_bytes": control.limit})

    def setup(self, options: dict[str, Any]) -> None:
        """Begin as the host says: where contexts are, how large a value may be."""
        self.control.limit = options["message_bytes"]
        self.contexts = Contexts(options["contexts"], options.get("marks"))
        helpers = Helpers(self.contexts, self.namespace)
        self._ahead = AheadSource(self.control, self.contexts, lambda: self._tools.get(QUERY, ("", self))[1])
        self._helpers: dict[str, Any] = {
            "Failure": Failure,
            "chunks": helpers.chunks,
            "grep": helpers.grep,
            "context_info": helpers.context_info,
            # Small models use these without an import, and cannot read from a NameError what it asks of them.
            "json": json,
            "math": math,
            "re": re,
        }
        self._own: dict[str, Any] = {
            "SUBMIT": self.submit,
            AHEAD: self._ahead,
            SEEN: note_reads,
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
        """End the run with these outputs. The first that are right stand, whatever becomes of the exception."""
        if self._submitted is not None:
            raise Submission
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
        self.control.answered = True
        raise Submission

    def configure(self, request: dict[str, Any]) -> None:
        """Tools, output fields and changed variables of the next cell. A tool's function object stays the same."""
        tools: list[tuple[str, str]] | None = request.get("tools")
        if tools is not None:
            known, self._tools = self._tools, {}
            for name, mode in tools:
                before, tool = known.pop(name, (None, None))
                made = tool if before == mode else make_tool(self.control, self.contexts, name, mode)
                self._tools[name] = (mode, made)
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
        self.outputs.restore()

    def run_cell(self, request: dict[str, Any]) -> dict[str, Any]:
        """Run one cell and say how it ended."""
        self.interrupted = False
        self._submitted = None
        self.control.answered = False
        self._ahead.count = 0
        self._cells += 1
        self._before = None
        started = perf_counter()
        outcome: dict[str, Any] = {"status": "interrupted"}
        try:
            try:
                self.running = True
                self.configure(request)
                outcome = self._run(request["code"])
            finally:
                self.running = False
        except BaseException as error:  # noqa: BLE001 - an interrupt came between, or Python is not what it was
            outcome = self._failed(error)
        self.running = False
        outcome["ms"] = (perf_counter() - started) * 1000
        outcome["changed"] = self._changed(CUT_PREVIEW if outcome["status"] == "interrupted" else PREVIEW)
        outcome["reads"] = self.contexts.reads.drain()
        outcome["batched"] = self._ahead.count
        self.outputs.flush()
        return outcome

    def _run(self, code: str) -> dict[str, Any]:
        name = f"<cell {self._cells}>"
        cell_sources[name] = (len(code), None, code.splitlines(keepends=True), name)
        cell_sources.pop(f"<cell {self._cells - KEPT_CELL_SOURCES}>", None)
        try:
            tree = self._prepared(code, name)
            functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
            last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
            body = compile(tree, name, "exec")
            tail = compile(ast.Expression(last.value), name, "eval") if isinstance(last, ast.Expr) else None
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            return _syntax_error(error)
        shown: str | None = None
        try:
            self.contexts.build_named_in(code, self.namespace)
            self._before = self._snapshot()
            self.contexts.reads.on = True
            exec(body, self.namespace)  # noqa: S102 - running code is what this process is for
            value = eval(tail, self.namespace) if tail is not None else None  # noqa: S307
            shown = None if value is None else bounded_repr(value, VALUE_CHARS)
        except BaseException as error:  # noqa: BLE001 - model-written code may raise anything
            if self._submitted is None:
                return self._failed(error)
        finally:
            self.contexts.reads.on = False
            self._pure.update(pure_functions(functions, self.namespace))
        if self._submitted is not None:  # here or in a thread, also where a bare `except:` swallowed it
            return self._submission()
        return {"status": "ok", "value": shown}

    def _prepared(self, code: str, name: str) -> ast.Module:
        """The cell as it is run: it asks ahead where that is safe, and tells what it reads where Python does not."""
        tree = ast.parse(code, name)
        try:
            if QUERY in code and QUERY in self._tools:
                tree = asks_ahead(tree, self.namespace, self._pure, self._tools)
            return tells_reads(tree, code) if self.contexts.names else tree
        except RecursionError:  # an expression so deep that only Python's own compiler can go through it
            return ast.parse(code, name)

    def _submission(self) -> dict[str, Any]:
        try:
            output = plain(self._submitted)
            handles = plain(with_handles(self._submitted))
        except BaseException as error:  # noqa: BLE001 - a guest's value may raise anything when it is read
            return self._failed(error)
        return {"status": "submitted", "output": output, **({} if handles == output else {"handles": handles})}

    def _failed(self, error: BaseException) -> dict[str, Any]:
        interrupted = self.interrupted and isinstance(error, KeyboardInterrupt)
        return {"status": "interrupted" if interrupted else "error", "error": describe_error(error)}

    def _snapshot(self) -> dict[str, tuple[int, Any]]:
        names, offered = list(self.namespace.items()), self._tools
        return {k: (id(v), _size(v)) for k, v in names if type(k) is str and k[:1] != "_" and k not in offered}

    def _changed(self, preview: int) -> list[dict[str, Any]]:
        """The variables that this cell made, replaced or visibly grew. One that cannot be looked at is left out."""
        changed: list[dict[str, Any]] = []
        for name in (ANSWER, *self._touched()):
            try:
                value = self.namespace.get(name)
                if issubclass(type(value), types.ModuleType):
                    continue
                told = self._changed_answer(value) if name == ANSWER else _change(name, value, preview)
            except BaseException:  # noqa: BLE001, S112 - a guest's value may raise anything when it is looked at
                continue
            if told is not None:
                changed.append(told)
            if len(changed) >= MAX_CHANGED:
                break
        return changed

    def _touched(self) -> list[str]:
        before = self._before
        if before is None:
            return []
        now = self._snapshot()
        return [k for k, seen in now.items() if before.get(k) != seen and k not in self._own and k != ANSWER]

    def _changed_answer(self, value: Any) -> dict[str, Any] | None:
        """The answer so far, when its text is another than before: what it holds may change without its size."""
        if value is None or ANSWER in self._tools:
            return None
        text = bounded_text(value, ANSWER_CHARS)
        if text == self._answer:
            return None
        self._answer = text
        return {**_change(ANSWER, value, PREVIEW), "text": text}


_SIZED = (str, bytes, list, tuple, dict, set)


def _change(name: str, value: Any, preview: int) -> dict[str, Any]:
    return {"name": name, "type": type_name(value), "size": _size(value), "preview": bounded_repr(value, preview)}


def _size(value: Any) -> int | None:
    """As the builtin type counts: a guest's own `__len__` is not run to look at a variable."""
    if not issubclass(type(value), _SIZED):  # as most are not, and every name of every cell is looked at
        return None
    return next(kind.__len__(value) for kind in _SIZED if issubclass(type(value), kind))


def _syntax_error(error: BaseException) -> dict[str, Any]:
    line = getattr(error, "lineno", None)
    text = getattr(error, "msg", None) or str(error) or type(error).__name__
    source = (getattr(error, "text", None) or "").rstrip()
    message = f"{text} (line {line}: {source.strip()[:200]})" if line else text
    return {"status": "error", "syntax": True, "error": {"class": "SyntaxError", "message": message, "line": line}}


def describe_error(error: BaseException) -> dict[str, Any]:
    """Class, message, failing line of the cell, and the traceback from the cell's frame on."""
    try:
        message = str(error)[:TRACE_CHARS]
    except BaseException as second:  # noqa: BLE001 - a guest's __str__ may raise anything
        message = f"(its text raises {type_name(second)})"
    found: dict[str, Any] = {"class": type_name(error), "message": message, "line": None}
    frame: types.TracebackType | None = _traceback_of(error)
    while frame is not None and not frame.tb_frame.f_code.co_filename.startswith("<cell "):
        frame = frame.tb_next
    if frame is None:
        return found
    found["line"] = frame.tb_lineno
    try:
        text = "".join(_guest_lines(traceback.TracebackException(type(error), error, frame)).format())
    except BaseException:  # noqa: BLE001 - as above
        text = ""
    found["traceback"] = (
        text if len(text) <= TRACE_CHARS else f"{text[: TRACE_CHARS // 2]}\n...\n{text[-TRACE_CHARS // 2 :]}"
    )
    return found


def _guest_lines(told: traceback.TracebackException) -> traceback.TracebackException:
    """Without the lines of this program: where in it a call waits is no news, and not the same twice."""
    each: traceback.TracebackException | None = told
    while each is not None:
        each.stack[:] = [line for line in each.stack if line.filename != child_main.__code__.co_filename]
        each = each.__cause__ or each.__context__
    return told


def valid_name(name: str) -> bool:
    return name.isidentifier() and not keyword.iskeyword(name)


def child_main(sock: socket.socket, tally: Tally) -> None:
    """The child's whole life: take commands until the parent goes away."""
    control = Control(sock)
    repl = Repl(control)
    direct = False

    def on_interrupt(_number: int, _frame: Any) -> None:
        if repl.running:
            repl.interrupted = True
            if not control.put_off_interrupt():
                raise KeyboardInterrupt

    while True:
        channel, payload = control.commands.get()
        if _signal.getsignal(signal.SIGINT) is not on_interrupt:  # the guest may have replaced it
            signal.signal(signal.SIGINT, on_interrupt)
        if channel == CH_SETUP:
            options = from_json(payload)
            direct = options["direct"]
            if direct:
                control.go_direct(socket.socket(fileno=DIRECT_FD))
                tally.watch(repl.outputs.pipes)
            repl.setup(options)
        elif channel == CH_EXEC:
            request = from_json(payload)
            tally.begin()
            outcome = repl.run_cell(request)
            outcome["cell"] = request["cell"]
            told = CH_EXEC
            if direct and not tally.nothing:
                told = CH_LATER
                control.tell_parent(CH_EXEC, to_json(request["cell"]))  # it reads all that was printed, and says so
            try:
                control.send(told, to_json(outcome))
            except ValueError as error:  # the outputs are too large
                for name in ("output", "handles"):
                    outcome.pop(name, None)
                outcome.update(status="error", error={"class": "ValueError", "message": str(error), "line": None})
                control.send(told, to_json(outcome))
