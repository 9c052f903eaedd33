"""The outermost process of a jail without namespaces: it watches the tree and, whatever happens, ends it whole.

There is no pid namespace here, so two processes look after each other: the keeper is a subreaper, sits in a
Landlock domain that no signal leaves, and kills that domain at one stroke when the supervisor, the server or the
warm process is gone. When the keeper itself is gone, the supervisor does the same with its own inner domain.
"""

# Kernel-level code: paths are relative to fds and stages, and pathlib would add only cost.
# ruff: noqa: PTH116, PTH208

import os
import resource
import select
import signal
import socket
import struct
import time
from types import FrameType

from . import kernel, landlock, processes, wire
from .plan import Plan
from .watchdog import Watchdog

_WORD = struct.Struct("=i")
_SPARE = 256  # processes that this user may start elsewhere while a jail runs
_STROKES = 5
_PATIENCE, _PAUSE_S = 25, 0.02


class Words:
    """The supervisor's side of a pipe to the keeper: it cannot see processes itself."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def end_session(self, leader: int) -> None:
        """Kill every process of the session that this one leads or led."""
        os.write(self.fd, _WORD.pack(leader))


def begin(plan: Plan, control: socket.socket, life: int) -> Words:
    """Become the keeper and fork the supervisor; returns in the supervisor only."""
    landlock.keep_signals_in()
    _prove_kept_in()
    kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)
    kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
    tasks = None if plan.uid is not None else _tasks_of_user()
    wire.send(control, {"pid": os.getpid()}, [os.pidfd_open(os.getpid())])
    words, said = os.pipe()
    supervisor = os.fork()
    if supervisor == 0:
        os.close(words)
        if tasks is not None:  # the limit counts all processes of the user
            limit_processes(tasks + plan.processes + _SPARE)
        return Words(said)
    os.close(said)
    try:
        _Keeper(plan, control, life, words, supervisor).run()
    finally:
        os._exit(0)


def limit_processes(count: int) -> None:
    """Bound the processes of this user, as far as its own bound allows."""
    hard = resource.getrlimit(resource.RLIMIT_NPROC)[1]
    value = count if hard == resource.RLIM_INFINITY else min(count, hard)
    resource.setrlimit(resource.RLIMIT_NPROC, (value, value))


def sweep() -> None:
    """Kill every other process of this Landlock domain at one stroke, and reap until none is left.

    Only for a process that proved that its signals stay in: to any other, -1 is all of the user's processes."""
    while True:
        try:
            os.kill(-1, signal.SIGKILL)
        except ProcessLookupError:
            pass  # none left; what is dead is reaped below
        except PermissionError:
            pass  # only others' processes are left, out of reach
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def _prove_kept_in() -> None:
    for stranger in (os.getppid(), 1):
        try:
            os.kill(stranger, 0)
        except (PermissionError, ProcessLookupError):
            continue
        raise OSError(1, "landlock: signals can leave the sandbox")


def _tasks_of_user() -> int:
    """Processes and threads of this user."""
    total = 0
    for name in os.listdir("/proc"):
        try:
            if name.isdigit() and os.stat(f"/proc/{name}").st_uid == os.getuid():
                total += len(os.listdir(f"/proc/{name}/task"))
        except OSError:
            continue
    return total


class _Keeper:
    def __init__(self, plan: Plan, control: socket.socket, life: int, words: int, supervisor: int) -> None:
        self._plan = plan
        self._control = control
        self._life = life
        self._words = words
        self._supervisor = supervisor
        self._watchdog = Watchdog(plan.memory_mb << 20)

    def run(self) -> None:
        """Watch until anything that this jail depends on is gone, then end it."""
        signal.signal(signal.SIGTERM, _leave)
        try:
            kernel.close_all_but({self._control.fileno(), self._life, self._words})
            poll = select.poll()
            gone = os.pidfd_open(self._supervisor)
            for fd in (self._life, gone, self._words):
                poll.register(fd, select.POLLIN)
            poll.register(self._control.fileno(), 0)  # its end only: the messages are the supervisor's
            while True:
                events = dict(poll.poll(self._watchdog.pause_s * 1000))
                if events.keys() - {self._words}:
                    return
                if self._words in events:
                    self._listen()
                self._look()
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            sweep()

    def _listen(self) -> None:
        word = os.read(self._words, _WORD.size)
        if len(word) == _WORD.size:
            for pid in processes.session_of(_WORD.unpack(word)[0]):
                if pid != self._supervisor:
                    processes.kill(pid)

    def _look(self) -> None:
        for _ in range(_STROKES):
            pids = self._members()
            if len(pids) <= self._plan.processes:
                break
            for pid in pids:
                processes.kill(pid)
            self._settle(set(pids))
        else:
            raise SystemExit("a fork bomb that does not end")
        over = self._watchdog.look(pids)
        if over is not None:
            wire.send(self._control, {"over_memory": over})

    def _settle(self, killed: set[int]) -> None:
        """Wait a little until what was killed is gone, so that it is not counted again."""
        for _ in range(_PATIENCE):
            if not killed.intersection(self._members()):
                return
            time.sleep(_PAUSE_S)

    def _members(self) -> list[int]:
        while True:  # orphans that ended
            try:
                if os.waitpid(-1, os.WNOHANG)[0] == 0:
                    break
            except ChildProcessError:
                break
        return [pid for pid in processes.descendants(os.getpid()) if pid != self._supervisor]


def _leave(_signal: int, _frame: FrameType | None) -> None:
    raise SystemExit
