"""The local Daytona-compatible server as a child of this process."""

from __future__ import annotations

import atexit
import contextlib
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import msgspec

from fleet_rlm.errors import NoIsolation, SandboxError, SandboxUnavailable
from fleet_rlm.integrations.daytona.direct import Door
from fleet_rlm.integrations.daytona.machine import memory, processes
from fleet_rlm.integrations.daytona.settings import DaytonaSettings, local_pool, local_spares
from fleet_rlm.integrations.daytona.worker import worker_source

START_S = 60.0
STOP_S = 5.0
MAX_SERVERS = 32
# All that the server gets of our environment: no key of anybody's is among it.
_KEPT = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "TZ", "TMPDIR", "PYTHONPATH", "VIRTUAL_ENV", "XDG_DATA_HOME")


class _Announcement(msgspec.Struct):
    """The server's first line: its address and key, or why there is none."""

    api_url: str = ""
    api_key: str = ""
    isolation: str = ""
    error: str = ""
    code: str = ""


class _DataInUse(Exception):
    """Another process's server holds this data folder."""


class _Process:
    """A running server and how many hold it. It ends when its standard input does, so also when we are killed."""

    def __init__(self, home: Path, data: Path, flags: tuple[str, ...]) -> None:
        self.holders = 0
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._script = _worker_file()
        command = [sys.executable, "-m", "fleet_rlm.sandboxd", "serve", "--parent-pipe"]
        command += ["--data", str(data), "--warm-script", self._script]
        command += ["--spares", str(local_spares(memory(), processes()))]
        self._door = Door()
        command += ["--line", str(self._door.far.fileno())]
        command += flags
        environment = {name: value for name in _KEPT if (value := os.environ.get(name)) is not None}
        environment |= {name: value for name, value in os.environ.items() if name.startswith("LC_")}
        with _log_file(home) as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment,
                start_new_session=True,  # Ctrl-C in a terminal is for us; the server ends after us
                pass_fds=(self._door.far.fileno(),),
            )
        self._door.given()
        try:
            self.settings = self._settings(self._first_line(), home)
        except BaseException:
            self.stop()
            raise

    def _first_line(self) -> bytes:
        assert self._process.stdout is not None
        timer = threading.Timer(START_S, self._process.kill)
        timer.start()
        try:
            return self._process.stdout.readline()
        finally:
            timer.cancel()

    def _settings(self, line: bytes, home: Path) -> DaytonaSettings:
        try:
            told = msgspec.json.decode(line, type=_Announcement)
        except msgspec.MsgspecError:
            raise SandboxUnavailable(
                "the local sandbox server did not start", hint=f"see {home / 'logs' / 'sandboxd.log'}"
            ) from None
        if told.code == "DATA_IN_USE":
            raise _DataInUse
        if told.error:
            raise _start_error(told)
        pool = local_pool(memory(), processes())
        return DaytonaSettings(
            told.api_key,
            told.api_url,
            "local",
            "local",
            told.isolation,
            pool,
            self._door,
            read_only_mounts=True,
            alive=lambda: self.alive,
        )

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def stop(self) -> None:
        """Close its standard input and wait; kill it when it does not end."""
        process = self._process
        self._door.close()
        with contextlib.suppress(OSError):
            if process.stdin is not None:
                process.stdin.close()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()
        with contextlib.suppress(OSError):
            Path(self._script).unlink()


class LocalServer:
    """A hold on the local server of this process; the server ends when the last hold is closed."""

    def __init__(self, process: Any) -> None:
        self._process: _Process = process
        self._closed = False

    @property
    def settings(self) -> DaytonaSettings:
        """How to reach it."""
        return self._process.settings

    def close(self) -> None:
        """Let go of it. Idempotent."""
        with _lock:
            if self._closed:
                return
            self._closed = True
            self._process.holders -= 1
            if self._process.holders:
                return
            for key in [key for key, process in _running.items() if process is self._process]:
                del _running[key]
        self._process.stop()


_lock = threading.Lock()
_running: dict[tuple[Path, tuple[str, ...]], _Process] = {}


def local_server(
    *, home: Path, allow_degraded: bool = False, unsafe_no_sandbox: bool = False, strict: bool = False
) -> LocalServer:
    """The one server of this process for this data folder, started when there is none. Thread-safe.

    `allow_degraded`: where namespaces are not to be had, the weaker second rung will do.
    `strict`: with the faults of a far server on purpose, for tests.
    Errors: NoIsolation and SandboxUnavailable, with the server's own sentence.
    """
    chosen = {"--allow-degraded": allow_degraded, "--unsafe-no-sandbox": unsafe_no_sandbox, "--strict": strict}
    key = (home.absolute(), tuple(flag for flag, on in chosen.items() if on))
    with _lock:
        process = _running.get(key)
        if process is None or not process.alive:
            process = _running[key] = _start(*key)
        process.holders += 1
        return LocalServer(process)


def _start(home: Path, flags: tuple[str, ...]) -> _Process:
    """A server on the home itself, or beside it when another process's server has that: a run beside a workspace."""
    for number in range(1, MAX_SERVERS + 1):
        data = home if number == 1 else home / "servers" / str(number)
        try:
            return _Process(home, data, flags)
        except _DataInUse:
            continue
        except OSError as error:
            fault = f"the local sandbox server cannot be started: {error}"
            raise SandboxUnavailable(fault, hint=f"look at {home} and its disk") from None
    raise SandboxUnavailable(f"{MAX_SERVERS} sandbox servers run on {home} already", hint="end some fleet processes")


@atexit.register
def _stop_all() -> None:
    with _lock:
        processes = list(_running.values())
        _running.clear()
    for process in processes:
        process.stop()


def _after_fork() -> None:
    """The servers are the parent's, and so is their end."""
    global _lock
    _lock = threading.Lock()
    _running.clear()


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_after_fork)


def _start_error(told: _Announcement) -> SandboxError:
    if told.code == "NO_ISOLATION":
        return NoIsolation(told.error)
    return SandboxUnavailable(f"the local sandbox server did not start: {told.error}")


def _worker_file() -> str:
    """The worker's source in a private file, which the server reads while it starts."""
    descriptor, name = tempfile.mkstemp(prefix="fleet-worker-", suffix=".py")
    with os.fdopen(descriptor, "wb") as file:
        file.write(worker_source())
    return name


def _log_file(home: Path) -> Any:
    logs = home / "logs"
    logs.mkdir(mode=0o700, exist_ok=True)
    descriptor = os.open(logs / "sandboxd.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    return os.fdopen(descriptor, "ab")
