"""`DaytonaInterpreter`: a `dspy.CodeInterpreter` whose code runs in a sandbox of its own."""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, NoReturn

from dspy.primitives.code_interpreter import CodeExecutionError, CodeInterpreterError, FinalOutput
from dspy.utils.callback import BaseCallback, with_callbacks

from fleet_rlm.errors import SandboxLost
from fleet_rlm.integrations.daytona.cells import Cell, Lost, Outcome, OutputLog, Raised, cut_result, result_of
from fleet_rlm.integrations.daytona.defaults import default_source
from fleet_rlm.integrations.daytona.listener import CellLimits, CellListener, CellResult, Restarted
from fleet_rlm.integrations.daytona.offer import instructions
from fleet_rlm.integrations.daytona.request import (
    RESTORE_FUNCTION,
    SAVE_FUNCTION,
    BadRequest,
    RequestWriter,
    is_internal,
)
from fleet_rlm.integrations.daytona.session import Session
from fleet_rlm.integrations.daytona.source import ContextMount, SandboxHandle, SandboxSource, SandboxSpec

START_S = 90.0
EPOCH_LABEL = "fleet.epoch"  # counts the sandboxes of one interpreter


class DaytonaInterpreter:
    """Runs cells in one sandbox, which it makes at the first cell and deletes at `shutdown`.

    `runtime` None: the local server, or Daytona when DAYTONA_API_KEY is set. `contexts` are the sha256 of staged
    contexts to mount read-only. One cell at a time; `interrupt`, `kill` and `shutdown` work from any thread.

    When the sandbox is lost, `execute` raises CodeInterpreterError, after which `restart` starts anew. With
    `restarts` > 0 it does that by itself, so many times, and raises CodeExecutionError that tells what was lost:
    the cell whose outcome is unknown is never run again, but a run can go on.
    """

    execution_instructions: ClassVar[str] = instructions()

    def __init__(
        self,
        *,
        runtime: SandboxSource | None = None,
        contexts: Sequence[str] = (),
        labels: Mapping[str, str] | None = None,
        listener: CellListener | None = None,
        limits: CellLimits | None = None,
        callbacks: list[BaseCallback] | None = None,
        restarts: int = 0,
    ) -> None:
        self.tools: dict[str, Callable[..., Any]] = {}
        self.output_fields: list[dict[str, Any]] | None = None
        self.callbacks: list[BaseCallback] = list(callbacks or [])
        self.last_cell: CellResult | None = None
        self._source = runtime
        mounts = tuple(ContextMount(sha) for sha in contexts)
        self._spec = SandboxSpec(labels={**(labels or {}), EPOCH_LABEL: "1"}, mounts=mounts)
        self._listener = listener
        self._limits = limits or CellLimits()
        self._id = _new_id()
        self._cell_lock = threading.Lock()
        self._start_lock = threading.Lock()
        self._state = threading.Lock()
        self._losing = threading.Lock()
        self._writer = RequestWriter()
        self._parameters: dict[int, tuple[Callable[..., Any], list[str]]] = {}
        self._session: Session | None = None
        self._handle: SandboxHandle | None = None
        self._ended: str | None = None
        self._given_back = False
        self._asked_for: set[str] = set()  # the ids that were told
        self._told: set[str] = set()  # those whose release was told
        self._told_lost: set[str] = set()
        self._lost: str | None = None  # why the sandbox went away by itself
        self._at_loss: BaseException | None = None  # raised in place of a new start, see `interrupt`
        self._restarts = restarts
        self._epoch = 1
        self._setup: list[tuple[str, dict[str, Any]]] = []  # dspy's own cells, for a new start
        self._made: dict[str, None] = {}  # the guest's variables
        self._quiet = False  # the running code is dspy's own
        self._cells = 0

    @with_callbacks
    def start(self) -> None:
        """Make the sandbox and start Python in it; nothing when that was done before."""
        self._start_now()

    def _start_now(self) -> None:
        """A sandbox that goes away before anything ran in it costs one of `restarts`, and nobody a variable."""
        with self._start_lock:
            while True:
                self._check_alive()
                if self._session is not None:
                    return
                try:
                    self._start_once()
                    return
                except SandboxLost as lost:
                    if self._restarts <= 0 or self._ended is not None:
                        self._tell_lost(lost.message)
                        self._tell_released(self._id)
                        self._fail(lost.message)
                    self._restarts -= 1
                    self._take_new_id(lost.message)
                except BaseException:
                    self._tell_released(self._id)  # there was none
                    raise

    def _start_once(self) -> None:
        source = self._source = self._source or default_source()
        begun, provider = time.perf_counter(), source.provider
        if self._listener is not None:
            self._asked_for.add(self._id)
            self._listener.sandbox_requested(self._id, provider)
        session = Session(source.loop, self._limits, self.invoke_tool, self._scope(), self._on_lost)
        job = asyncio.run_coroutine_threadsafe(self._start(source, session), source.loop)
        try:
            job.result(START_S)
        except TimeoutError:
            job.cancel()
            self._fail(f"no sandbox within {START_S:g} s")
        with self._state:
            self._session = session
        if self._ended is not None:  # shut down while it started, or lost as soon as it was there
            self._release()
            with self._state:
                lost = self._lost
                if lost is not None and self._restarts > 0:
                    self._ended = self._lost = None
                    raise SandboxLost(lost)
            self._check_alive()
        if self._listener is not None and self._handle is not None:
            ms = (time.perf_counter() - begun) * 1000
            self._listener.sandbox_ready(self._id, self._handle.id, provider, source.isolation, ms)

    async def _start(self, source: SandboxSource, session: Session) -> None:
        handle = await source.acquire(self._spec)
        with self._state:
            self._handle = handle
        try:
            self._check_alive()  # who ended it meanwhile waits for no Python
            await session.open(lambda: source.terminal(handle), source.contexts_root, source.marks(self._spec))
        except BaseException:
            self._release()
            raise

    @with_callbacks
    def execute(self, code: str, variables: dict[str, Any] | None = None) -> str | FinalOutput | None:
        """Run one cell: what it printed and the value of its last expression as text, or its SUBMIT.

        CodeExecutionError and SyntaxError leave the session usable; CodeInterpreterError means it is gone.
        """
        if not self._cell_lock.acquire(blocking=False):
            raise CodeInterpreterError("this interpreter is already running a cell")
        try:
            if self._lost is not None and self._restarts > 0:  # lost between two cells, or before the first
                told = self._after_loss()
                if self.last_cell is not None:
                    raise told
            self._check_alive()
            self._at_loss = None
            given = self._checked(code, variables)
            if self._session is None:
                self._start_now()
            if is_internal(code, given) and not code.startswith((SAVE_FUNCTION, RESTORE_FUNCTION)):
                self._setup.append((code, given))
            try:
                return self._cell(code, given)
            except CodeInterpreterError:
                if self._lost is not None and self._at_loss is not None:
                    raise self._at_loss from None
                if self._lost is None or self._restarts <= 0:
                    raise
            raise self._after_loss()
        finally:
            self._cell_lock.release()
            if self._given_back:
                self._tell_released(self._id)

    def restart(self) -> Restarted:
        """Start anew in a fresh sandbox after a loss. Inputs are set up again; no cell is run again.

        CodeInterpreterError when nothing was lost, when it was shut down or killed, or when there is no sandbox.
        """
        if not self._cell_lock.acquire(blocking=False):
            raise CodeInterpreterError("this interpreter is already running a cell")
        try:
            return self._begin_again()
        finally:
            self._cell_lock.release()

    def _after_loss(self) -> CodeExecutionError:
        """Begin again; what is to be raised tells the model what is gone."""
        self._restarts -= 1
        again = self._begin_again()
        told = CodeExecutionError(str(again))
        told.__cause__ = SandboxLost(again.reason)
        return told

    def _begin_again(self) -> Restarted:
        """Forget the lost sandbox, start another, and set up what dspy itself had set up."""
        with self._state:
            reason = self._lost
            if reason is None:
                raise CodeInterpreterError(f"nothing was lost: {self._ended or 'the sandbox is there'}")
            self._ended = self._lost = None
        self._take_new_id()
        again = Restarted(reason, tuple(self._made), self._epoch)
        self._made.clear()
        self._start_now()
        for code, given in self._setup:
            self._cell(code, given)
        return again

    def _take_new_id(self, lost: str | None = None) -> None:
        """Another sandbox takes the place of this one; `lost` is why, where nobody was told yet."""
        if lost is not None:
            self._tell_lost(lost)
        self._tell_released(self._id)
        with self._state:
            self._epoch += 1
            self._id, self._writer, self._session = _new_id(), RequestWriter(), None
            self._given_back = False
        self._spec = replace(self._spec, labels={**self._spec.labels, EPOCH_LABEL: str(self._epoch)})

    def _cell(self, code: str, given: dict[str, Any]) -> str | FinalOutput | None:
        self._cells += 1
        cell = Cell(f"{self._id}.{self._cells}")
        try:
            request = self._writer.write(cell.id, code, given, dict(self.tools), self.output_fields)
        except BadRequest as error:
            raise CodeInterpreterError(str(error)) from None
        self._quiet = is_internal(code, given)
        return self._run(cell, code, request)

    def _checked(self, code: Any, variables: Any) -> dict[str, Any]:
        if not isinstance(code, str):
            raise CodeInterpreterError(f"code must be a string, not {type(code).__name__}")
        if variables is not None and not isinstance(variables, dict):
            raise CodeInterpreterError("variables must be a dictionary of names and JSON-compatible values")
        return variables or {}

    def _run(self, cell: Cell, code: str, request: bytes) -> str | FinalOutput | None:
        session, listener = self._session, None if self._quiet else self._listener
        assert session is not None
        if listener is not None:
            listener.cell_started(cell.id, code)
        log = OutputLog(
            lambda stream, text: listener.cell_output(cell.id, stream, text) if listener is not None else None,
            self._limits.output_bytes,
        )
        end = session.run(cell, request, log)
        result = self._result(end, log)
        if not self._quiet:
            self.last_cell = result
            self._made.update((change.name, None) for change in result.changed)
        if listener is not None:
            listener.cell_finished(cell.id, result)
        if isinstance(end, Raised):
            self.shutdown()
            raise end.error
        if isinstance(end, Lost):
            self._ended = self._ended or end.reason
            self._check_alive()
        assert isinstance(end, Outcome)
        return self._answer(end, result, session)

    def _result(self, end: Outcome | Lost | Raised, log: OutputLog) -> CellResult:
        if isinstance(end, Outcome):
            return result_of(end, log)
        return cut_result(end.outcome if isinstance(end, Raised) else None, log)

    def _answer(self, outcome: Outcome, result: CellResult, session: Session) -> str | FinalOutput | None:
        if result.status == "submitted":
            return FinalOutput(outcome.output)
        if result.status == "interrupted":
            raise CodeExecutionError(f"interrupted: {session.interrupted_by or 'by SIGINT'}")
        if result.error is not None and outcome.syntax:
            raise SyntaxError(result.error.message)
        if result.status == "error":
            raise CodeExecutionError(_error_text(result))
        return visible_text(result)

    @with_callbacks
    def invoke_tool(self, tool_name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
        """Run one registered host tool; a coroutine is run to its end on this thread."""
        tool = self.tools.get(tool_name)
        if tool is None:
            raise CodeInterpreterError(f"Unknown tool: {tool_name}")
        value = _call(tool, args, kwargs, self._names_of)
        return asyncio.run(_awaited(value)) if inspect.isawaitable(value) else value

    def _names_of(self, tool: Callable[..., Any]) -> list[str]:
        """The names of its positional parameters; looked up once, which takes longer than a small tool."""
        known = self._parameters.get(id(tool))
        if known is None or known[0] is not tool:
            parameters = inspect.signature(tool).parameters
            kinds = ((name, each.kind) for name, each in parameters.items())
            names = [name for name, kind in kinds if kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
            known = self._parameters[id(tool)] = tool, names
        return known[1]

    def interrupt(self, grace_s: float | None = None, at_loss: BaseException | None = None) -> None:
        """Any thread: stop the running cell (CodeExecutionError "interrupted"); variables are kept.

        The sandbox of a cell that does not stop within `grace_s` (at most what the limits say) is killed. Then
        `execute` raises `at_loss`, where it is given, and there is no new start.
        """
        session = self._session
        if session is not None:
            self._at_loss = at_loss
            session.interrupt("interrupted by the host", grace_s)

    def doom(self, reason: str) -> Callable[[], None]:
        """The sandbox will be lost for this reason where the cell that runs next would end, or when what is returned is
        called (any thread): for who does again what happened before. Nothing to do without a sandbox."""
        session = self._session
        if session is None:
            return lambda: None
        session.doom(reason)
        return lambda: session.lose(reason)

    def kill(self) -> None:
        """Any thread: delete the sandbox now; a running `execute` raises CodeInterpreterError."""
        self._end("killed by the host", at_leisure=False)

    @with_callbacks
    def shutdown(self) -> None:
        """Any thread: end the session. The sandbox is deleted in the background."""
        self._end("the interpreter has been shut down", at_leisure=not self._cell_lock.locked())

    def _end(self, reason: str, *, at_leisure: bool) -> None:
        with self._state:
            self._ended = self._ended or reason
            self._lost = None  # told to end: there is no new start
        self._release(at_leisure=at_leisure)

    def _release(self, *, at_leisure: bool = False) -> None:
        """Give the sandbox back, once, and wake whoever waits for a cell (who then tells that it is released)."""
        with self._state:
            handle, self._handle = self._handle, None
            session, id = self._session, self._id
            self._given_back = self._given_back or handle is not None
        if session is not None:
            session.end(self._ended or "released")
        if handle is None or self._source is None:
            return
        if session is not None:
            session.close_soon()
        (self._source.retire if at_leisure else self._source.delete)(handle)
        if not self._cell_lock.locked():
            self._tell_released(id)

    def _tell_lost(self, reason: str) -> None:
        """Once for each sandbox."""
        with self._state:
            id, first = self._id, self._id not in self._told_lost
            self._told_lost.add(id)
        if first and self._listener is not None:
            self._listener.sandbox_lost(id, reason)

    def _tell_released(self, id: str) -> None:
        """Once, and after the end of the running cell."""
        with self._state:
            first = id in self._asked_for and id not in self._told
            self._told.add(id)
        if first and self._listener is not None:
            self._listener.sandbox_released(id)

    def _on_lost(self, reason: str) -> None:
        """The sandbox went away by itself, or had to be killed. That is told before anybody can meet it, who might
        tell of the end of a run."""
        with self._losing:
            if self._ended is None:
                self._tell_lost(reason)
            with self._state:
                if self._ended is None:
                    self._ended = self._lost = reason
        self._release()

    def _check_alive(self) -> None:
        if self._ended is not None:
            self._fail(f"the sandbox session is over: {self._ended}")

    def _fail(self, text: str) -> NoReturn:
        raise CodeInterpreterError(text) from SandboxLost(text)

    def _scope(self) -> Any:
        return None if self._listener is None else self._listener.tool_scope

    def __enter__(self) -> DaytonaInterpreter:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()

    def __call__(self, code: str, variables: dict[str, Any] | None = None) -> str | FinalOutput | None:
        return self.execute(code, variables)


def _new_id() -> str:
    return f"sbx_{uuid.uuid4().hex[:16]}"


async def _awaited(value: Any) -> Any:
    return await value


def visible_text(result: CellResult) -> str | None:
    """What the model sees: stdout, then stderr, then the last expression's value; None when there is nothing."""
    parts = [result.stdout.rstrip("\n")]
    if result.stderr.strip():
        parts.append(f"[stderr]\n{result.stderr.rstrip()}")
    if result.value is not None:
        parts.append(result.value)
    return "\n".join(part for part in parts if part) or None


def _error_text(result: CellResult) -> str:
    """The exception with its line, then what was printed before it."""
    error = result.error
    assert error is not None
    text = f"{error.class_name}: {error.message}" if error.message else error.class_name
    if error.line is not None:
        text += f" (line {error.line})"
    printed = visible_text(result)
    return f"{text}\nOutput before the error:\n{printed}" if printed else text


def _call(
    tool: Callable[..., Any],
    args: list[Any],
    kwargs: dict[str, Any],
    names_of: Callable[[Callable[..., Any]], list[str]],
) -> Any:
    """Call a host tool with positional arguments under their names: dspy.RLM wraps its tools to take keywords only."""
    if not args:
        return tool(**kwargs)
    names = names_of(tool)
    if len(args) > len(names) or not kwargs.keys().isdisjoint(names[: len(args)]):
        return tool(*args, **kwargs)  # takes *args, or raises Python's own TypeError
    return tool(**dict(zip(names, args, strict=False)), **kwargs)
