"""One session: a shell that stays, the commands given to it one after the other, their logs, input and exit codes.

The shell reads its orders from descriptor 0, tells exit codes on 3, and each command reads its input from 4; output
and errors come on pipes of their own. So nothing that a command prints can be taken for an order or for an exit
code; what a hostile command writes to 3 by a detour ends its own session's commands early and nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import shutil
import signal
import uuid
from collections import deque
from collections.abc import Iterator
from typing import Final

from fleet_rlm.sandboxd.errors import ApiError, conflict
from fleet_rlm.sandboxd.jail.spec import JailClosed
from fleet_rlm.sandboxd.jail.warm import Jail, JailProcess
from fleet_rlm.sandboxd.logs import CommandLog, Stream
from fleet_rlm.sandboxd.pipes import read_now, write_all
from fleet_rlm.sandboxd.process_models import CommandDto
from fleet_rlm.sandboxd.settings import Bounds

# The jail shows the host's system read-only, so what is here is there.
SHELL: Final = "bash" if shutil.which("bash") else "sh"
_GRACE_S: Final = 5.0  # between SIGTERM and SIGKILL when a session is deleted
_DRAIN_READS: Final = 64  # at the end of a command; a pipe holds one or a few reads, background programs write on
_REPORT_LIMIT: Final = 4096


class Command:
    """One command: waiting, running or ended (then it has an exit code)."""

    def __init__(self, text: str, *, echo: bool, log_limit: int) -> None:
        self.id = str(uuid.uuid4())
        self.text = text
        self.echo = echo  # whether its input appears in its log
        self.log = CommandLog(log_limit)
        self.exit_code: int | None = None
        self.ended = asyncio.Event()

    @property
    def size(self) -> int:
        """Bytes of memory that it takes, about."""
        return len(self.text) + self.log.size

    def finish(self, code: int) -> None:
        """The exit code is known; all of the output is in the log."""
        self.exit_code = code
        self.log.end()
        self.ended.set()

    def dto(self) -> CommandDto:
        """As the API shows it."""
        return CommandDto(self.id, self.text, self.exit_code)


async def open_session(jail: Jail, name: str, bounds: Bounds) -> Session:
    """Start a session's shell. OSError when it cannot be started."""
    with contextlib.ExitStack() as undo:
        report, tell = _pipe(undo)
        theirs, write_input = _pipe(undo)
        # Opened anew: programs expect input that blocks, and this is a property of what they would share with us.
        read_input = os.open(f"/proc/self/fd/{theirs}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        undo.callback(os.close, read_input)
        process = await jail.run([SHELL], stdin=True, merge=False, extra=(tell, theirs))
        undo.pop_all()
    for fd in (tell, theirs):
        os.close(fd)
    for fd in (report, write_input):
        os.set_blocking(fd, False)
    return Session(name, process, report, (read_input, write_input), bounds)


def _pipe(undo: contextlib.ExitStack) -> tuple[int, int]:
    pair = os.pipe()
    for fd in pair:
        undo.callback(os.close, fd)
    return pair


class Session:
    """A shell with its commands. `ended` is set when the shell is gone; its logs can still be read."""

    def __init__(
        self, name: str, process: JailProcess, report: int, command_input: tuple[int, int], bounds: Bounds
    ) -> None:
        assert process.stdin is not None and process.stderr is not None
        self.name = name
        self.commands: dict[str, Command] = {}
        self.ended = asyncio.Event()
        self._process = process
        self._orders = process.stdin
        self._report = report
        # Both ends: what one command leaves unread must not become the input of the next.
        self._read_input, self._write_input = command_input
        self._bounds = bounds
        self._waiting: deque[Command] = deque()
        self._current: Command | None = None
        self._last: Command | None = None
        self._said = b""
        self._loop = asyncio.get_running_loop()
        self._ordering: asyncio.Task[None] | None = None
        self._typing = asyncio.Lock()
        self._outputs = {Stream.OUT: process.stdout, Stream.ERR: process.stderr}
        for stream, fd in self._outputs.items():
            self._loop.add_reader(fd, self._take, stream)
        self._loop.add_reader(report, self._take_report)
        self._supervisor = self._loop.create_task(self._supervise())

    def execute(self, text: str, *, echo: bool) -> Command:
        """Give a command; it runs when those before it have ended. 410 when the shell is gone."""
        if self.ended.is_set():
            raise ApiError(410, f"session {self.name!r} has ended; create another", code="SESSION_ENDED")
        if len(self._waiting) >= self._bounds.session_waiting:
            raise conflict(f"{len(self._waiting)} commands wait in session {self.name!r} already", "LIMIT_REACHED")
        command = Command(text, echo=echo, log_limit=self._bounds.command_log)
        self.commands[command.id] = command
        self._waiting.append(command)
        self._go_on()
        return command

    async def type(self, command: Command, data: str) -> None:
        """Give input to the running command, a whole line at least. 409 while it waits, 410 when it has ended."""
        if command.exit_code is not None:
            raise ApiError(410, f"command {command.id} has ended", code="COMMAND_ALREADY_COMPLETED")
        if command is not self._current:
            raise conflict(f"command {command.id} has not started yet; those before it still run")
        line = data.encode() if data.endswith("\n") else data.encode() + b"\n"
        if command.echo:
            command.log.add(Stream.OUT, line)
        async with self._typing:
            writing = asyncio.create_task(write_all(self._write_input, line))
            over = asyncio.create_task(command.ended.wait())
            await asyncio.wait((writing, over), return_when=asyncio.FIRST_COMPLETED)
            for task in (writing, over):
                task.cancel()
            await asyncio.wait((writing, over))

    async def close(self) -> None:
        """End the shell and all that it started: SIGTERM, after a while SIGKILL."""
        if not self.ended.is_set():
            self._process.kill_group(signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.ended.wait(), _GRACE_S)
        self._process.kill_group(signal.SIGKILL)  # also what ignored the first, or is in a group of its own
        await self.ended.wait()

    def oldest_ended(self) -> Iterator[Command]:
        """Commands that may be forgotten, oldest first."""
        return (command for command in self.commands.values() if command.exit_code is not None)

    def _go_on(self) -> None:
        if self._current is not None or not self._waiting or self.ended.is_set():
            return
        self._current = self._last = command = self._waiting.popleft()
        while read_now(self._read_input):
            pass  # what the command before has not read
        order = f"eval {shlex.quote(command.text)} <&4 4<&- 3>&-\ncommand printf '%s %s\\n' {command.id} $? >&3\n"
        self._ordering = self._loop.create_task(write_all(self._orders, order.encode()))

    def _take(self, stream: Stream) -> bool:
        """Take what a stream has; whether there may be more."""
        try:
            data = read_now(self._outputs[stream])
        except OSError:
            data = b""
        if data:
            command = self._current or self._last  # a background program may write after its command has ended
            if command is not None:
                command.log.add(stream, data)
        elif data is not None:
            self._loop.remove_reader(self._outputs[stream])
        return bool(data)

    def _take_report(self) -> None:
        data = read_now(self._report)
        if data is None:
            return
        if not data:
            self._loop.remove_reader(self._report)
            return
        *lines, self._said = (self._said + data).split(b"\n")
        self._said = self._said[:_REPORT_LIMIT]
        for line in lines:
            name, _, code = line.decode("ascii", "replace").partition(" ")
            if self._current is not None and name == self._current.id and code.isdecimal():
                self._finish(int(code[:9]))

    def _finish(self, code: int) -> None:
        """The running command has ended: what it wrote before is in the pipes already."""
        for stream in self._outputs:
            for _ in range(_DRAIN_READS):
                if not self._take(stream):
                    break
        command, self._current = self._current, None
        if command is not None:
            command.finish(code)
        self._go_on()

    async def _supervise(self) -> None:
        try:
            code = await self._process.wait()
        except JailClosed:
            code = 128 + signal.SIGKILL
        waiting, self._waiting = list(self._waiting), deque[Command]()
        self.ended.set()
        self._finish(code)
        for command in waiting:
            command.log.add(Stream.ERR, b"[not run: the session's shell has ended]\n")
            command.finish(code)
        for fd in (*self._outputs.values(), self._report):
            self._loop.remove_reader(fd)
        async with self._typing:
            if self._ordering is not None:
                self._ordering.cancel()
                await asyncio.wait((self._ordering,))
            self._process.close()
            for fd in (self._report, self._read_input, self._write_input):
                os.close(fd)
