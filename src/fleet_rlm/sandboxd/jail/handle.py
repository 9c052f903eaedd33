"""A live jail and its processes, as the HTTP server holds them."""

import asyncio
import contextlib
import fcntl
import os
import signal
import struct
import termios
import tty
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from fleet_rlm.sandboxd.jail.inside import wire
from fleet_rlm.sandboxd.jail.link import Link
from fleet_rlm.sandboxd.jail.spec import JailClosed, JailSpec, Rung

FILE_OPS = frozenset({"stat", "list", "mkdir", "remove", "move", "chmod"})
_MAX_ARGV = 96 * 1024
_SOFT_END_S = 3.0


class _Child:
    """What programs and terminals have in common: a pid in the jail and an exit code to come."""

    def __init__(self, link: Link, pid: int, ended: asyncio.Future[int], fds: Sequence[int | None]) -> None:
        self.pid = pid
        self._link = link
        self._ended = ended
        self._fds = [fd for fd in fds if fd is not None]

    async def wait(self) -> int:
        """The exit code; 128+n after signal n (137 also when the whole jail was killed)."""
        return await asyncio.shield(self._ended)

    def kill_group(self, sig: int) -> None:
        """Send a signal to the process's group (its own session). No error when it is gone."""
        with contextlib.suppress(JailClosed):
            self._link.post({"op": "signal", "pid": self.pid, "signal": int(sig)})

    def close(self) -> None:
        """Close this handle's fds. For a caller that has closed none of them itself; once."""
        for fd in self._fds:
            os.close(fd)
        self._fds.clear()


class JailProcess(_Child):
    """A program in a jail. The caller owns the fds (non-blocking pipe ends) and closes them, or calls
    `close` once. `stderr` is None when merged into `stdout`."""

    def __init__(
        self, link: Link, pid: int, ended: asyncio.Future[int], stdin: int | None, stdout: int, stderr: int | None
    ) -> None:
        super().__init__(link, pid, ended, (stdin, stdout, stderr))
        self.stdin = stdin
        self.stdout = stdout
        self.stderr = stderr


class JailPty(_Child):
    """A process on a terminal in a jail. `master` is non-blocking; the caller closes it, or calls `close`."""

    def __init__(self, link: Link, pid: int, ended: asyncio.Future[int], master: int) -> None:
        super().__init__(link, pid, ended, (master,))
        self.master = master

    def resize(self, cols: int, rows: int) -> None:
        """Set the terminal's size; its foreground group gets SIGWINCH."""
        _set_size(self.master, cols, rows)


class Jail:
    """A live jail. `closed` is set when it is gone for whatever reason; then every call raises JailClosed.

    `over_memory` counts how often the watchdog killed for memory; `failure` is why the first process gave up;
    `pid` is the first process's host pid.
    """

    def __init__(self, spec: JailSpec, env: Mapping[str, str], uid: int | None, rung: Rung) -> None:
        self.spec = spec
        self.closed = asyncio.Event()
        self.pid = 0
        self.uid = uid
        self.over_memory = 0
        self.failure = ""
        self._env = dict(env)
        self._rung = rung
        self._link: Link | None = None
        self._pidfd = -1
        self._exits: dict[int, asyncio.Future[int]] = {}
        self._on_closed: list[Callable[[], None]] = []

    async def run(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        stdin: bool = False,
        merge: bool = True,
        extra: Sequence[int] = (),
    ) -> JailProcess:
        """Start a program. `extra` become its descriptors 3, 4...; the caller keeps and closes its own copies.
        OSError (FileNotFoundError, NotADirectoryError...) when it cannot be started."""
        if not argv:
            raise ValueError("argv is empty")
        near: list[int] = []  # our ends: stdin, stdout, stderr
        far: list[int] = []
        stdio: list[int | None] = [None, None, None]
        try:
            for number, wanted in ((0, stdin), (1, True), (2, not merge)):
                if wanted:
                    reading, writing = os.pipe()
                    near.append(writing if number == 0 else reading)
                    far.append(reading if number == 0 else writing)
                    stdio[number] = len(far) - 1
            stdio[2] = stdio[1] if merge else stdio[2]
            for fd in (*far, *extra):
                if self.uid is not None:
                    os.fchown(fd, self.uid, self.uid)  # so that /dev/stdout can be opened in the jail
            stdio += range(len(far), len(far) + len(extra))
            pid, ended = await self._start(list(argv), None, env, cwd, stdio, [*far, *extra], on_tty=False)
        except BaseException:
            _close(near)
            raise
        finally:
            _close(far)
        for fd in near:
            os.set_blocking(fd, False)
        own = iter(near)
        return JailProcess(
            self._live(), pid, ended, next(own) if stdin else None, next(own), None if merge else next(own)
        )

    async def pty(
        self,
        argv: Sequence[str] | None = None,
        *,
        warm_script: str | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        cols: int = 80,
        rows: int = 24,
    ) -> JailPty:
        """Start a program, a login shell (`argv` None) or a warm script (sha256 hex) on a new terminal.

        A hash that names no warm script gives the shell; `WarmServer.has_script` tells beforehand. For a warm
        script the terminal is raw from the start.
        """
        master, slave = os.openpty()
        try:
            _set_size(master, cols, rows)
            if warm_script is not None:
                tty.setraw(slave)
            terminal = {"TERM": "xterm-256color"} if warm_script is None else {}
            pid, ended = await self._start(
                None if argv is None else list(argv),
                warm_script,
                {**terminal, **(env or {})},
                cwd,
                [0, 0, 0],
                [slave],
                on_tty=True,
            )
        except BaseException:
            os.close(master)
            raise
        finally:
            os.close(slave)
        os.set_blocking(master, False)
        return JailPty(self._live(), pid, ended, master)

    async def line(self, script: str, fds: Sequence[int]) -> _Child:
        """Start a warm script (sha256 hex) whose standard input and output are the first of these sockets; the others
        become its descriptors from 3 on. The caller keeps and closes its own copies."""
        stdio: list[int | None] = [0, 0, 0, *range(1, len(fds))]
        pid, ended = await self._start(None, script, None, None, stdio, list(fds), on_tty=False)
        return _Child(self._live(), pid, ended, ())

    async def open(self, path: str, flags: int, mode: int = 0o666) -> int:
        """A fd of a regular file, opened inside the jail (relative to /workspace). The caller closes it.

        The jail's umask applies to `mode` (022, or 002 where a writable mount may be shared)."""
        _, fds = await self._live().request({"op": "open", "path": path, "flags": flags, "mode": mode})
        if len(fds) != 1:
            _close(fds)
            raise OSError(5, "no file came out of the sandbox", path)
        return fds[0]

    async def connect(self, port: int, *, six: bool = False) -> int:
        """A fd of a non-blocking socket that connects to a loopback port of the jail's own network. It may still
        be connecting: when it is writable, SO_ERROR tells. The caller closes it."""
        _, fds = await self._live().request({"op": "connect", "port": port, "six": six})
        if len(fds) != 1:
            _close(fds)
            raise OSError(5, "no connection came out of the sandbox")
        return fds[0]

    @property
    def has_sockets(self) -> bool:
        """Whether its programs can listen and connect at all."""
        return self._rung is not Rung.LANDLOCK

    async def ports(self) -> list[int]:
        """The TCP ports on which programs of the jail listen."""
        if not self.has_sockets:
            return []  # its programs have no such sockets, and the kernel's list would be the host's
        value, _ = await self._live().request({"op": "ports"})
        return [int(port) for port in value]

    @property
    def environment(self) -> Mapping[str, str]:
        """What processes that are started now get, besides what their start names."""
        return MappingProxyType(self._env)

    def update_env(self, env: Mapping[str, str], unset: Sequence[str] = ()) -> None:
        """Change the environment of the processes that will be started; those that run keep theirs."""
        for name in unset:
            self._env.pop(name, None)
        self._env.update(env)

    async def file_op(self, op: str, **args: Any) -> Any:
        """One operation inside the jail: stat(path, follow=True), list(path), mkdir(path, mode, parents),
        remove(path, recursive), move(source, target), chmod(path, mode).

        stat gives {name, kind (file dir symlink other), size, mode (bits), mtime (s), uid, gid, target?}; list
        gives such dicts, symlinks not followed. OSError subclasses come back as themselves.
        """
        if op not in FILE_OPS:
            raise ValueError(f"no file operation {op!r}; there are {', '.join(sorted(FILE_OPS))}")
        value, _ = await self._live().request({"op": op, **args})
        return value

    async def kill(self) -> None:
        """Kill every process of the jail; all are gone when this returns."""
        if self.closed.is_set() or self._link is None:
            return
        if self._rung is not Rung.NAMESPACES:  # nothing ends with its first process: it must end the others itself
            with contextlib.suppress(JailClosed, TimeoutError, ProcessLookupError):
                if self._rung is Rung.LANDLOCK:
                    signal.pidfd_send_signal(self._pidfd, signal.SIGTERM)
                else:
                    self._live().post({"op": "end"})
                await asyncio.wait_for(self.closed.wait(), _SOFT_END_S)
        if self._pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        await self.closed.wait()

    def attach(self, link: Link, pid: int, pidfd: int, on_closed: Callable[[], None]) -> None:
        """Bind to the started jail (called once, by the spawner)."""
        self._link, self.pid, self._pidfd = link, pid, pidfd
        self._on_closed.append(on_closed)
        asyncio.get_running_loop().add_reader(pidfd, self._gone)

    def event(self, message: wire.Message, fds: list[int]) -> None:
        """What the supervisor says unasked."""
        _close(fds)
        if "exit" in message:
            pid, code = int(message["exit"]), int(message["code"])
            ended = self._exits.pop(pid, None)  # None: of a start that was given up
            if ended is not None:
                ended.set_result(code)
        elif "error" in message:
            self.failure = str(message["error"].get("text", ""))
        elif "over_memory" in message:
            self.over_memory += 1

    def link_ended(self) -> None:
        """The control socket is closed: nothing can be asked of this jail any more, so it ends."""
        if self._pidfd >= 0:
            number = signal.SIGKILL if self._rung is Rung.NAMESPACES else signal.SIGTERM
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, number)

    async def _start(
        self,
        argv: list[str] | None,
        script: str | None,
        env: Mapping[str, str] | None,
        cwd: str | None,
        stdio: list[int | None],
        fds: list[int],
        *,
        on_tty: bool,
    ) -> tuple[int, asyncio.Future[int]]:
        environment = {**self._env, **(env or {})}
        if sum(len(k) + len(v) for k, v in environment.items()) + sum(map(len, argv or [])) > _MAX_ARGV:
            raise OSError(7, f"arguments and environment together exceed {_MAX_ARGV} bytes")
        message = {
            "op": "start",
            "argv": argv,
            "script": script,
            "env": environment,
            "cwd": cwd or "/workspace",
            "stdio": stdio,
            "tty": on_tty,
        }
        started, _ = await self._live().request(message, fds, self._started)
        return started

    def _started(self, pid: int) -> tuple[int, asyncio.Future[int]]:
        """A process runs: its pid and the exit code to come, which may be the next that is heard."""
        if int(pid) in self._exits:
            raise ValueError("a process that runs was started again")
        ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._exits[int(pid)] = ended
        return int(pid), ended

    def _live(self) -> Link:
        if self._link is None or self.closed.is_set():
            raise JailClosed(" ".join(f"sandbox {self.spec.id} is gone {self.failure}".split()))
        return self._link

    def _gone(self) -> None:
        """The first process has ended, and with it, by the kernel, every process of the jail."""
        asyncio.get_running_loop().remove_reader(self._pidfd)
        os.close(self._pidfd)
        self._pidfd = -1
        if self._link is not None:
            self._link.close()
        for ended in self._exits.values():
            ended.set_result(128 + signal.SIGKILL)
        self._exits.clear()
        self.closed.set()
        for call in self._on_closed:
            call()


def _set_size(fd: int, cols: int, rows: int) -> None:
    if not (0 < cols <= 0xFFFF and 0 < rows <= 0xFFFF):
        raise ValueError(f"a terminal of {cols} by {rows} cannot be")
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))


def _close(fds: Sequence[int]) -> None:
    for fd in fds:
        os.close(fd)
