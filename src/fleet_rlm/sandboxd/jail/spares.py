"""First processes of jails: forked, given a plan, and some of them begun before anybody asks for a jail."""

import asyncio
import contextlib
import logging
import os
import select
import signal
import socket
from collections import deque
from collections.abc import Callable
from dataclasses import asdict

from fleet_rlm.sandboxd.jail.handle import Jail
from fleet_rlm.sandboxd.jail.inside import wire
from fleet_rlm.sandboxd.jail.inside.plan import Plan, Shape
from fleet_rlm.sandboxd.jail.link import Link
from fleet_rlm.sandboxd.jail.proof import failure
from fleet_rlm.sandboxd.jail.spec import JailClosed, NoIsolation

_log = logging.getLogger("sandboxd")
_QUIET_S = 0.3  # since the last jail was asked for
_FIRST_S = 0.1  # after the start, for whoever waited for it
_BEGIN_S = 30.0
_PAUSE_S = 15.0  # after one that could not be begun


class FirstProcess:
    """One that the warm process is asked to fork. `begun` ends when it waits for its plan, or cannot."""

    def __init__(self, warm: Link, shape: Shape, on_end: Callable[["FirstProcess"], None] = lambda _: None) -> None:
        loop = asyncio.get_running_loop()
        self.begun: asyncio.Future[None] = loop.create_future()
        self._ready: asyncio.Future[None] = loop.create_future()
        self._ended = on_end
        self._said: set[str] = set()
        self._child: tuple[int, int] | None = None  # pid and pidfd
        self._jail: Jail | None = None
        self._forget: Callable[[], None] = lambda: None
        own, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._link = Link(own, self._on_event, self._on_end)
        with contextlib.closing(other):
            try:
                warm.post(asdict(shape), [other.fileno()])
            except BaseException:
                self._link.close()
                raise

    async def become(self, jail: Jail, plan: Plan, forget: Callable[[], None]) -> None:
        """Be the first process of this jail; returns when it serves. `forget` is called when the jail has ended."""
        self._jail, self._forget = jail, forget
        try:
            self._attach()
            await self.begun  # a plan sent to one that failed would lose its words on why
            self._link.post(asdict(plan))
            await self._ready
        except BaseException:
            self._ready.cancel()
            self.close()  # a half-made first process ends when its socket does
            raise

    def close(self) -> None:
        """End it, unless it is a jail's by now: that ends by itself."""
        self._link.close()

    def _attach(self) -> None:
        if self._jail is None or self._child is None:
            return
        pid, pidfd = self._child
        self._child = None
        self._jail.attach(self._link, pid, pidfd, self._forget)

    def _on_event(self, message: wire.Message, fds: list[int]) -> None:
        if "pid" in message and fds and "pid" not in self._said:
            self._child = int(message["pid"]), fds.pop()
            self._said.add("pid")
            self._attach()
        elif "begun" in message and not self.begun.done():
            self.begun.set_result(None)
        elif "ready" in message:
            self._said.add("ready")
        elif "error" in message and not self._ready.done():
            self._fail(failure(message["error"]))
        elif self._jail is not None:
            self._jail.event(message, fds)
            return
        for fd in fds:
            os.close(fd)
        # Two processes say these, the first of the jail and the one that forked it: in either order.
        if self._said == {"pid", "ready"} and not self._ready.done():
            self._ready.set_result(None)

    def _on_end(self) -> None:
        self._fail(JailClosed("the sandbox ended while it started"))
        self._ended(self)
        if self._jail is not None:
            self._jail.link_ended()
        elif self._child is not None:
            pidfd, self._child = self._child[1], None
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            os.close(pidfd)

    def _fail(self, error: Exception) -> None:
        for future in (self.begun, self._ready):
            if not future.done():
                future.set_exception(error)
                future.exception()  # raised to who waits; where nobody does any more, it is no defect to report


class MountTable:
    """The mounts of this process's namespace: whether they changed since the last look (proc_pid_mounts(5))."""

    def __init__(self) -> None:
        self._fd = os.open("/proc/self/mounts", os.O_RDONLY | os.O_CLOEXEC)
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLPRI)

    def changed(self) -> bool:
        """Since it was asked last, or made."""
        return bool(self._poll.poll(0))

    def close(self) -> None:
        """Look no more. Idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class Spares:
    """First processes of one shape that wait for a plan: once opened, `size` of them when it has been quiet."""

    def __init__(self, size: int, fork: Callable[[Callable[[FirstProcess], None]], FirstProcess]) -> None:
        self._size = size
        self._fork = fork
        self._open = False
        self._mounts = MountTable()
        self._waiting: deque[FirstProcess] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._filling: asyncio.Task[None] | None = None

    def take(self) -> FirstProcess | None:
        """One that was begun ahead, if there is one."""
        self._later(_QUIET_S)
        if self._waiting and self._mounts.changed():
            self._end_all()  # what was mounted since would be missing in their trees
        return self._waiting.popleft() if self._waiting else None

    def open(self) -> None:
        """From now on they are all of the one shape."""
        self._open = self._size > 0
        self._later(_FIRST_S)

    def _later(self, pause_s: float) -> None:
        """Begin what is missing, unless somebody asks for a jail before."""
        self._halt()
        if self._open:
            self._timer = asyncio.get_running_loop().call_later(pause_s, self._fill)

    def close(self) -> None:
        """End those that wait, begin no more."""
        self._open = False
        self._halt()
        self._end_all()
        self._mounts.close()

    def _end_all(self) -> None:
        for process in tuple(self._waiting):
            process.close()  # and is dropped

    def _halt(self) -> None:
        for running in (self._timer, self._filling):
            if running is not None:
                running.cancel()

    def _fill(self) -> None:
        self._filling = asyncio.get_running_loop().create_task(self._begin_missing())

    async def _begin_missing(self) -> None:
        if not self._waiting:
            self._mounts.changed()  # those that are begun now know of it
        try:
            while len(self._waiting) < self._size:
                process = self._fork(self._drop)
                self._waiting.append(process)
                await asyncio.wait_for(asyncio.shield(process.begun), _BEGIN_S)
        except (JailClosed, NoIsolation, OSError, TimeoutError) as error:
            _log.warning("no sandbox could be begun ahead (%s): tried again later", error)
            self._later(_PAUSE_S)

    def _drop(self, process: FirstProcess) -> None:
        with contextlib.suppress(ValueError):
            self._waiting.remove(process)
