"""The agent's tools in the sandbox of its session: Python, shell commands, and the files of the workspace.

The sandbox is made at the first use. Its Python keeps its variables over the calls of a turn; its files stay for the
session. It counts as a live sandbox from its first use to the end of the turn, and dies with a stopped run.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from typing import Any, Final

from dspy.primitives.code_interpreter import CodeExecutionError, CodeInterpreterError

from fleet_rlm.errors import FleetError, InvalidInput, NotFound, SandboxError, SandboxLost
from fleet_rlm.integrations.daytona.continuity import SessionSandbox, SessionSandboxes
from fleet_rlm.integrations.daytona.filesystem import Entry
from fleet_rlm.integrations.daytona.interpreter import DaytonaInterpreter
from fleet_rlm.runtime.execution import events as ev
from fleet_rlm.runtime.execution.cells import CellRecorder
from fleet_rlm.runtime.execution.losses import Loss
from fleet_rlm.runtime.execution.observer import RunScope
from fleet_rlm.runtime.execution.tree import TurnTree
from fleet_rlm.runtime.tools.bounds import RESULT_CHARS, cut

CODE_S: Final = 120
MOST_CODE_S: Final = 900
START_S: Final = 120.0
READ_BYTES: Final = 4 << 20
MAX_LINES: Final = 400
LISTED: Final = 300
WRITE_CHARS: Final = 1_000_000
_SHELL = """\
import subprocess as _subprocess
_done = _subprocess.run({command!r}, shell=True, text=True, errors="replace", stdin=_subprocess.DEVNULL,
                        stdout=_subprocess.PIPE, stderr=_subprocess.STDOUT)
print(_done.stdout, end="")
if _done.returncode:
    print(f"\\n[exit status {{_done.returncode}}]")
del _done"""


class SandboxTools:
    """The session's sandbox as tools of one turn's agent. `close` at the turn's end."""

    def __init__(self, tree: TurnTree, scope: RunScope) -> None:
        self._tree = tree
        self._scope = scope
        self._lock = threading.RLock()
        self._held = ExitStack()
        self._box: SessionSandbox | None = None
        self._python: DaytonaInterpreter | None = None

    def code(self) -> list[Callable[..., Any]]:
        """Running code."""
        return [self.run_python, self.run_shell]

    def files(self) -> list[Callable[..., Any]]:
        """The workspace's files."""
        return [self.list_files, self.read_file, self.write_file]

    def run_python(self, code: str, seconds: int = CODE_S) -> str:
        """Run Python in your own sandbox (no internet). Variables stay; give back what you print and the last value."""
        return self._run(code, seconds)

    def run_shell(self, command: str, seconds: int = CODE_S) -> str:
        """Run a shell command in your sandbox's workspace (no internet)."""
        if not command.strip():
            raise InvalidInput("the command is empty")
        return self._run(_SHELL.format(command=command), seconds)

    def list_files(self, path: str = ".") -> str:
        """List the files of your sandbox's workspace, or of a folder in it."""
        with self._using() as box:
            found = box.files.tree(path, depth=2, limit=LISTED + 1)
        lines = [_line(entry) for entry in found[:LISTED] if not entry.path.startswith(".fleet")]
        more = [f"... more than {LISTED}: list a folder"] if len(found) > LISTED else []
        return "\n".join([*lines, *more]) or "(no files)"

    def read_file(self, path: str, first_line: int = 1, last_line: int = 200) -> str:
        """Read lines of a text file of your sandbox's workspace."""
        with self._using() as box:
            data = box.files.read(path, limit=READ_BYTES)
        if b"\0" in data[:8192]:
            raise InvalidInput(f"{path} is no text ({len(data):,} bytes)", hint="read it with run_python")
        lines = data.decode("utf-8", "replace").splitlines()
        first = max(1, first_line)
        shown = lines[first - 1 : min(last_line, first + MAX_LINES - 1)]
        text = "\n".join(f"{number}: {line}" for number, line in enumerate(shown, first))
        rest = len(lines) - (first - 1 + len(shown))
        return cut(text, RESULT_CHARS) + (f"\n[{rest:,} more lines]" if rest > 0 else "") or "(empty)"

    def write_file(self, path: str, text: str) -> str:
        """Write a text file into your sandbox's workspace; what was there is replaced."""
        if len(text) > WRITE_CHARS:
            raise InvalidInput(f"{len(text):,} characters are too many for one file", hint="write it with run_python")
        with self._using() as box:
            entry = box.files.write(path, text.encode("utf-8", "replace"))
        return f"{entry.path}: {entry.size:,} bytes"

    def close(self) -> None:
        """Keep Python's variables for the next turn, end it, and give up the place. The sandbox's files stay."""
        with self._lock:
            box, python = self._box, self._python
            try:
                if box is not None and python is not None and not self._scope.stop.done:
                    box.checkpoint()
            except (FleetError, CodeInterpreterError, CodeExecutionError) as error:
                message = f"the variables of the session's Python could not be kept: {str(error).splitlines()[0]}"
                warning = ev.Warning(code="variables_lost", message=self._tree.observer.clean(message))
                self._tree.observer.emit(warning, self._scope)
            finally:
                self._drop()

    def _run(self, code: str, seconds: int) -> str:
        if not 1 <= seconds <= MOST_CODE_S:
            raise InvalidInput(f"seconds must be from 1 to {MOST_CODE_S}, not {seconds}")
        with self._using() as box:
            python = self._interpreter(box)
            loss = None if self._tree.replay is None else self._tree.replay.loss(self._scope, lambda: False, code)
            clock = threading.Timer(seconds, python.interrupt)
            clock.daemon = True
            clock.start()
            try:
                if loss is not None:
                    self._lose_in(python, loss)
                result = python.execute(code)
            except CodeExecutionError as error:
                self._scope.stop.check()
                late = clock.finished.is_set() and "interrupted" in str(error)
                return f"[Error] stopped after {seconds} s" if late else f"[Error] {cut(str(error), RESULT_CHARS)}"
            except SyntaxError as error:
                return f"[Error] SyntaxError: {error}"
            except CodeInterpreterError as error:
                self._scope.stop.check()
                raise _lost(error) from None
            finally:
                clock.cancel()
                if loss is not None:
                    loss.over.set()
                    self._delete()
        return cut(str(result), RESULT_CHARS) if result is not None else "(no output)"

    @contextmanager
    def _using(self) -> Generator[SessionSandbox]:
        """The session's sandbox, for one tool at a time; one that failed is looked up or made anew the next time."""
        with self._lock:
            self._scope.stop.check()
            try:
                self._lose_before()
                yield self._sandbox()
            except (SandboxError, CodeInterpreterError):
                self._drop()
                raise

    def _lose_in(self, python: DaytonaInterpreter, loss: Loss) -> None:
        """The code that begins is lost with its sandbox, as it was then."""
        loss.lose = python.doom(loss.reason)
        threading.Thread(target=loss.watch, name="fleet-lose-again", daemon=True).start()

    def _lose_before(self) -> None:
        """The sandbox was gone when this was asked of it, and is again. Errors: SandboxLost."""
        reason = None if self._tree.replay is None else self._tree.replay.lost_between(self._scope)
        if reason is not None:
            self._delete()
            raise SandboxLost(reason)

    def _delete(self) -> None:
        SessionSandboxes(self._tree.sandboxes).release(self._tree.sid)

    def _drop(self) -> None:
        """Give up the sandbox and its place; Python's variables go with it, since its last checkpoint."""
        box, self._box, self._python = self._box, None, None
        try:
            if box is not None:
                box.close()
        finally:
            self._held.close()

    def _sandbox(self) -> SessionSandbox:
        """The session's sandbox: the one that it has, or a new one. Its place is kept only when it is there."""
        if self._box is None:
            with ExitStack() as taken:
                taken.enter_context(self._tree.scheduler.sandbox_place(self._scope))
                owned = SessionSandboxes(self._tree.sandboxes)
                try:
                    self._box = owned.resume(self._tree.sid)
                except NotFound:
                    self._box = owned.create(self._tree.sid)
                self._held = taken.pop_all()
        return self._box

    def _interpreter(self, box: SessionSandbox) -> DaytonaInterpreter:
        if self._python is None:
            recorder = CellRecorder(self._tree.observer, self._scope, shown_chars=RESULT_CHARS)
            self._python, _ = box.open(listener=recorder)
            self._tree.isolation = recorder.isolation or self._tree.isolation
            self._tree.provider = recorder.provider or self._tree.provider
            python = self._python
            self._scope.stop.future.add_done_callback(
                lambda _: threading.Thread(target=python.kill, name="fleet-kill", daemon=True).start()
            )
        return self._python


def _lost(error: CodeInterpreterError) -> FleetError:
    cause = error.__cause__
    return cause if isinstance(cause, FleetError) else SandboxLost(str(error).splitlines()[0])


def _line(entry: Entry) -> str:
    return f"{entry.path}/" if entry.folder else f"{entry.path} ({entry.size:,} bytes)"
