"""A second real transport for the channel: a login shell on a local pseudo-terminal, without any jail.

It goes through the same boot line as a Daytona sandbox. Only tests use it, with their own code.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import subprocess
import tempfile
import termios
import threading
import uuid
from collections.abc import Callable
from pathlib import Path

from fleet_rlm.integrations.daytona.source import SandboxHandle, SandboxSpec
from fleet_rlm.integrations.daytona.transport import TransportGone


class LocalPty:
    """A shell on a pseudo-terminal. `drop()` cuts the connection while the shell lives on."""

    def __init__(self, workdir: Path, processes: list[subprocess.Popen[bytes]]) -> None:
        self._workdir = workdir
        self._processes = processes
        self._master: int | None = None
        self._attached = False
        self._out = bytearray()
        self.lose_output = False  # while detached, drain and forget what the terminal says, as servers do
        self.bytes_out = 0

    async def open(self, receive: Callable[[bytes], None], closed: Callable[[str], None]) -> None:
        self._receive, self._closed = receive, closed
        master, slave = os.openpty()

        def own_terminal() -> None:
            os.setsid()
            fcntl.ioctl(slave, termios.TIOCSCTTY, 0)

        self.process = subprocess.Popen(
            ["/bin/sh", "-i"],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=self._workdir,
            preexec_fn=own_terminal,
            env={"PATH": os.environ["PATH"], "HOME": str(self._workdir), "PS1": "$ "},
        )
        self._processes.append(self.process)
        os.close(slave)
        os.set_blocking(master, False)
        self._master = master
        self._attach()

    def _attach(self) -> None:
        assert self._master is not None
        self._attached = True
        asyncio.get_running_loop().add_reader(self._master, self._readable)

    def _readable(self) -> None:
        assert self._master is not None
        try:
            data = os.read(self._master, 65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._detach()
            if self._attached:
                self._attached = False
                self._closed("the terminal ended")
            return
        self.bytes_out += len(data)
        if self._attached:
            self._receive(data)

    def _detach(self) -> None:
        loop = asyncio.get_running_loop()
        assert self._master is not None
        loop.remove_reader(self._master)
        loop.remove_writer(self._master)

    any_thread = False
    reopens = True
    direct = None

    def drop(self) -> None:
        """Lose the connection, and with `lose_output` all that is said meanwhile (on the loop)."""
        self._attached = False
        if not self.lose_output:
            asyncio.get_running_loop().remove_reader(self._master)
        self._out.clear()
        self._closed("dropped by the test")

    async def reopen(self) -> None:
        if self.process.poll() is not None:
            raise TransportGone("the shell has ended")
        self._attach()

    def write(self, data: bytes) -> None:
        if self._attached:
            self._out += data
            self._writable()

    def _writable(self) -> None:
        assert self._master is not None
        loop = asyncio.get_running_loop()
        try:
            written = os.write(self._master, self._out[:4096])
            del self._out[:written]
        except BlockingIOError:
            pass
        except OSError:
            self._out.clear()
        if self._out:
            loop.add_writer(self._master, self._writable)
        else:
            loop.remove_writer(self._master)

    async def close(self) -> None:
        if self._master is not None:
            self._detach()
            os.close(self._master)
            self._master = None


class LocalPtySource:
    """Makes 'sandboxes' that are folders with a shell. Contexts are read from `contexts_root`."""

    provider = "local-pty"
    isolation = "none"

    def __init__(self, contexts_root: Path | None = None) -> None:
        self.contexts_root = str(contexts_root or "/contexts")
        self.loop = asyncio.new_event_loop()
        self._folder = tempfile.TemporaryDirectory(prefix="fleet-pty-")
        self._processes: list[subprocess.Popen[bytes]] = []
        self._by_handle: dict[str, list[subprocess.Popen[bytes]]] = {}
        self.terminals: list[LocalPty] = []
        self.deleted: list[str] = []
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    async def acquire(self, spec: SandboxSpec) -> SandboxHandle:
        handle = SandboxHandle(uuid.uuid4().hex, "")
        self._by_handle[handle.id] = []
        return handle

    def marks(self, spec: SandboxSpec) -> dict[str, tuple[str, str]]:
        return {}

    def terminal(self, handle: SandboxHandle) -> LocalPty:
        pty = LocalPty(Path(self._folder.name), self._by_handle[handle.id])
        self.terminals.append(pty)
        return pty

    def delete(self, handle: SandboxHandle) -> None:
        self.deleted.append(handle.id)
        for process in self._by_handle.get(handle.id, []):
            kill_session(process.pid)
            self._processes.append(process)

    def retire(self, handle: SandboxHandle) -> None:
        self.delete(handle)

    def close(self) -> None:
        for processes in self._by_handle.values():
            for process in processes:
                kill_session(process.pid)
                process.wait(10)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)
        self.loop.close()
        self._folder.cleanup()


def kill_session(pid: int) -> None:
    """Kill a shell, its worker and (by parent-death signal) the worker's child."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
