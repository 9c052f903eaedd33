"""One terminal of a sandbox: its process, its output fanned out to every attached client, its exit."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import time
from collections import deque
from collections.abc import Mapping
from typing import Final

from fleet_rlm.sandboxd.jail.spec import JailClosed
from fleet_rlm.sandboxd.jail.warm import JailPty
from fleet_rlm.sandboxd.models import PtyInfo, timestamp
from fleet_rlm.sandboxd.settings import Bounds

_KILLED: Final = 128 + signal.SIGKILL
_READ: Final = 65536
# A terminal gives at most 4095 bytes per read; a read that got less than this has probably emptied it.
_FULL_READ: Final = 2048
_DRAIN_S: Final = 0.25  # how long output may still trickle in after the exit while others hold the terminal open
# A writer blocked on a full terminal is woken by the kernel; this retry covers wake-ups that the pty driver loses.
_RETRY_S: Final = 0.05


class Attachment:
    """One client of a terminal: the frames it has yet to send. `dropped` when it fell too far behind."""

    def __init__(self, backlog: int) -> None:
        self.dropped = False
        self._frames: deque[bytes] = deque()
        self._backlog = backlog
        self._ended = False
        self._waiter: asyncio.Future[None] | None = None

    def push(self, frame: bytes) -> None:
        """Queue a frame; a full queue drops the client instead of slowing the terminal."""
        if self.dropped:
            return
        if len(self._frames) >= self._backlog:
            self.dropped = True
            self._frames.clear()
        else:
            self._frames.append(frame)
        self._wake()

    def end(self) -> None:
        """No more frames will come."""
        self._ended = True
        self._wake()

    async def next(self) -> bytes | None:
        """The next frame; None when the client was dropped or the terminal has ended and all was taken."""
        while not self._frames:
            if self._ended or self.dropped:
                return None
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return self._frames.popleft()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Terminal:
    """A live or ended terminal. Its output is always drained, also when nobody is attached."""

    def __init__(
        self, pty: JailPty, *, name: str, cwd: str, envs: Mapping[str, str], cols: int, rows: int, bounds: Bounds
    ) -> None:
        self.name = name
        self.exit_code: int | None = None
        self.ended = asyncio.Event()
        self._pty = pty
        self._bounds = bounds
        self._cwd, self._envs = cwd, dict(envs)
        self._cols, self._rows = cols, rows
        self._created = time.time()
        self._clients: list[Attachment] = []
        self._killed = False
        self._write_lock = asyncio.Lock()
        self._eof = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._supervisor: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to read the terminal and to wait for its process; more calls do nothing."""
        if self._supervisor is not None:
            return
        self._loop.add_reader(self._pty.master, self._readable)
        self._supervisor = self._loop.create_task(self._supervise())

    @property
    def exit_reason(self) -> str | None:
        """Why it ended, when it did not end by itself."""
        return "killed" if self._killed else None

    def info(self) -> PtyInfo:
        """The terminal as the API shows it."""
        return PtyInfo(
            id=self.name,
            cwd=self._cwd,
            envs=self._envs,
            cols=self._cols,
            rows=self._rows,
            created_at=timestamp(self._created),
            active=not self.ended.is_set(),
        )

    def attach(self) -> Attachment:
        """A new client, which gets all output from now on."""
        client = Attachment(self._bounds.terminal_backlog)
        if self.ended.is_set():
            client.end()
        else:
            self._clients.append(client)
        return client

    def detach(self, client: Attachment) -> None:
        """Forget a client; the process goes on."""
        with contextlib.suppress(ValueError):
            self._clients.remove(client)

    async def write(self, data: bytes) -> None:
        """Type bytes; waits while the terminal is full, gives up when it has ended."""
        async with self._write_lock:
            rest = memoryview(data)
            while rest and not self.ended.is_set():
                try:
                    rest = rest[os.write(self._pty.master, rest) :]
                except BlockingIOError:
                    await self._writable()
                except OSError as error:
                    if error.errno in (errno.EIO, errno.EBADF):
                        return  # the process is gone; its exit is on the way
                    raise

    def resize(self, cols: int, rows: int) -> None:
        """Set the size in characters."""
        self._cols, self._rows = cols, rows
        self._pty.resize(cols, rows)

    async def kill(self) -> None:
        """Kill its processes and wait for the end."""
        if not self.ended.is_set():
            self._killed = True
            self._pty.kill_group(signal.SIGKILL)
            await self.ended.wait()

    def _readable(self) -> None:
        """Take what is there, up to one frame, and hand it to every client."""
        parts: list[bytes] = []
        size = 0
        while size < self._bounds.terminal_frame:
            try:
                part = os.read(self._pty.master, min(_READ, self._bounds.terminal_frame - size))
            except BlockingIOError:
                break
            except OSError:
                part = b""  # EIO: every process has closed the terminal
            if not part:
                self._loop.remove_reader(self._pty.master)
                self._eof.set()
                break
            parts.append(part)
            size += len(part)
            if len(part) < _FULL_READ:
                break
        if parts:
            frame = parts[0] if len(parts) == 1 else b"".join(parts)
            for client in self._clients:
                client.push(frame)

    async def _writable(self) -> None:
        ready: asyncio.Future[None] = self._loop.create_future()
        self._loop.add_writer(self._pty.master, _resolve, ready)
        try:
            await asyncio.wait((ready,), timeout=_RETRY_S)
        finally:
            self._loop.remove_writer(self._pty.master)

    async def _supervise(self) -> None:
        try:
            code = await self._pty.wait()
        except JailClosed:
            code = _KILLED
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_DRAIN_S):
                await self._eof.wait()
        self._loop.remove_reader(self._pty.master)
        self.exit_code = code
        self.ended.set()
        for client in self._clients:
            client.end()
        self._clients.clear()
        async with self._write_lock:  # a writer that waits for room sees `ended` and lets go of the fd
            self._pty.close()


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
