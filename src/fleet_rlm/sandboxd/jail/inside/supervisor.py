"""The first process of a jail: starts its processes, reaps, watches memory, serves files, and ends it all.

It shares a user with the hostile code, but is unreadable (not dumpable), takes no signal from inside but
SIGCHLD and SIGUSR1 (both harmless), runs nothing that the code can change, and never waits for the code.
"""

import os
import select
import signal
import socket
from collections.abc import Iterable, Mapping, Sequence
from types import FrameType
from typing import Any

from . import children, keeper, network, processes, wire
from .files import Entry, Files
from .plan import TEMPORARY, Plan, Rung, Start
from .scripts import Script
from .watchdog import Watchdog

_PART_BYTES = wire.MAX_MESSAGE // 3  # one more entry, names escaped, still fits a packet
_SLOW = ("remove", "move")


class Supervisor:
    """One jail's loop. `control` is the server's socket, `life` the pipe that ends with the warm process, `words`
    go to the keeper where there is one: it watches instead. `mark` is the fd of this process's oom_score_adj."""

    def __init__(
        self,
        plan: Plan,
        scripts: Mapping[str, Script],
        control: socket.socket,
        life: int,
        mark: int,
        words: keeper.Words | None = None,
    ) -> None:
        self._plan = plan
        self._scripts = scripts
        self._control = control
        self._life = life
        self._mark = mark
        names = {"/workspace": plan.workspace, **{t: s for s, t, _ in plan.mounts}}
        if plan.rung is Rung.LANDLOCK:
            names["/tmp"] = plan.workspace + TEMPORARY  # noqa: S108  what stands for it
        self._files = Files(names, apart=plan.rung is Rung.NAMESPACES)
        self._words = words
        self._watchdog = None if words else Watchdog(plan.memory_mb << 20)
        self._starting: dict[int, tuple[int, int]] = {}  # report fd -> (request, pid)
        self._working: dict[int, int] = {}  # pid of a slow file operation -> request
        self._started: set[int] = set()  # live processes that the server asked for; orphans are not
        self._poll = select.poll()
        self._scripts_started = 0

    def run(self) -> None:
        """Serve until the server or the warm process is gone; never returns."""
        wake, wake_end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a keeper has a handler for it
        signal.set_wakeup_fd(wake_end, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, _nothing)
        for fd in (self._control.fileno(), self._life, wake):
            self._poll.register(fd, select.POLLIN)
        wire.send(self._control, {"ready": True})
        try:
            while self._turn(wake):
                pass
        except (ConnectionError, BrokenPipeError):
            pass  # the server is gone
        finally:
            self._end()

    def _turn(self, wake: int) -> bool:
        pause = self._watchdog.pause_s * 1000 if self._watchdog and _has_children() else None
        events = dict(self._poll.poll(pause))
        if self._life in events:
            return False
        if wake in events:
            os.read(wake, 4096)
        for fd in [fd for fd in events if fd in self._starting]:
            self._report_start(fd)
        self._reap()
        if self._control.fileno() in events and not self._serve_one():
            return False
        self._watch()
        return True

    def _serve_one(self) -> bool:
        received = wire.receive(self._control)
        if received is None:
            return False
        message, fds = received
        request, op = int(message.pop("id", 0)), str(message.pop("op"))
        try:
            if op == "end":
                return False
            if op == "start":
                self._start(request, message, fds)
            elif op == "signal":
                self._signal_group(int(message["pid"]), int(message["signal"]))
            elif op in _SLOW:
                self._work(request, op, message)
            else:
                self._answer(request, op, message)
        except OSError as error:
            self._fail(request, error)
        except (TypeError, ValueError, KeyError) as error:
            self._fail(request, OSError(22, f"bad arguments for {op}: {error}"))
        finally:
            for fd in fds:
                os.close(fd)
        return True

    def _start(self, request: int, message: dict[str, Any], fds: list[int]) -> None:
        stdio = [None if at is None else fds[at] for at in message["stdio"]]
        start = Start(
            argv=message["argv"],
            script=message["script"],
            env=message["env"],
            cwd=self._files.locate(message["cwd"]),
            tty=message["tty"],
            stdio=stdio,
            first=self._scripts_started == 0,
        )
        self._scripts_started += start.script is not None
        pid, report = children.launch(start, self._scripts, self._plan, self._mark)
        self._starting[report] = (request, pid)
        self._started.add(pid)
        self._poll.register(report, select.POLLIN)

    def _report_start(self, report: int) -> None:
        """The report ends without a word when the process runs. Hostile code may stop the process before
        that, so this is one more event of the loop and nothing waits for it."""
        text = os.read(report, 4096).decode()
        request, pid = self._starting.pop(report)
        self._poll.unregister(report)
        os.close(report)
        if text:
            self._started.discard(pid)  # nobody waits for its exit
            number, _, words = text.partition(" ")
            self._fail(request, OSError(int(number), words))
        else:
            self._reply(request, pid)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            for report in [fd for fd, (_, started) in self._starting.items() if started == pid]:
                self._report_start(report)
            code = os.waitstatus_to_exitcode(status)
            if pid in self._working:
                request = self._working.pop(pid)
                if code != 0:
                    self._fail(request, OSError(4, "the operation was killed by code in the sandbox"))
            elif pid in self._started:
                self._started.discard(pid)
                wire.send(self._control, {"exit": pid, "code": code if code >= 0 else 128 - code})

    def _work(self, request: int, op: str, arguments: dict[str, Any]) -> None:
        """A long operation in a process of its own, which answers the server itself: packets do not mix."""
        pid = os.fork()
        if pid:
            self._working[pid] = request
            return
        signal.set_wakeup_fd(-1)
        try:
            try:
                self._answer(request, op, arguments)
            except OSError as error:
                self._fail(request, error)
            os._exit(0)
        finally:
            os._exit(1)

    def _answer(self, request: int, op: str, arguments: dict[str, Any]) -> None:
        if op in ("open", "connect"):
            fd = self._files.open(**arguments) if op == "open" else network.connect(**arguments)
            try:
                self._reply(request, None, [fd])
            finally:
                os.close(fd)
        elif op == "list":
            self._reply_entries(request, self._files.list(**arguments))
        elif op == "ports":
            self._reply(request, network.ports())
        elif op == "stat":
            self._reply(request, self._files.stat(**arguments))
        elif op == "mkdir":
            self._reply(request, self._files.mkdir(**arguments))
        elif op == "chmod":
            self._reply(request, self._files.chmod(**arguments))
        elif op == "remove":
            self._reply(request, self._files.remove(**arguments))
        elif op == "move":
            self._reply(request, self._files.move(**arguments))
        else:
            raise OSError(38, f"no operation {op!r}")

    def _reply_entries(self, request: int, entries: Iterable[Entry]) -> None:
        part: list[Entry] = []
        size = 0
        for entry in entries:
            part.append(entry)
            size += len(wire.encode(entry))
            if size > _PART_BYTES:
                wire.send(self._control, {"id": request, "part": part})
                part, size = [], 0
        self._reply(request, part)

    def _watch(self) -> None:
        if self._watchdog is None or not self._watchdog.due() or not _has_children():
            return
        pids = processes.descendants(os.getpid())
        if self._plan.rung is Rung.NONE and len(pids) > self._plan.processes:
            for pid in pids:
                processes.kill(pid)
        over = self._watchdog.look(pids)
        if over is not None:
            wire.send(self._control, {"over_memory": over})

    def _signal_group(self, pid: int, number: int) -> None:
        if pid <= 1:
            return
        if number == signal.SIGKILL:  # the end of it: with the jobs that a shell has put in groups of their own
            if self._words is not None:
                self._words.end_session(pid)
            else:
                for member in processes.session_of(pid):
                    processes.kill(member)
        try:
            os.killpg(pid, number)
        except ProcessLookupError:
            return

    def _end(self) -> None:
        """Leave, and take the jail along: the kernel ends a pid namespace with its first process, the keeper
        what it keeps."""
        if self._plan.rung is Rung.NONE:
            processes.end_all(os.getpid())
        elif self._plan.rung is Rung.LANDLOCK:
            keeper.sweep()
        os._exit(0)

    def _reply(self, request: int, value: Any, fds: Sequence[int] = ()) -> None:
        wire.send(self._control, {"id": request, "ok": value}, fds)

    def _fail(self, request: int, error: OSError) -> None:
        wire.send(self._control, {"id": request, "error": wire.error_of(error)})


def _has_children() -> bool:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _nothing(_signal: int, _frame: FrameType | None) -> None:
    """A handler must exist for the wakeup fd to be written."""
