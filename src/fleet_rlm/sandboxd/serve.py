"""The life of the server: bind, prove the jail, serve, end with everything it started."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import resource
import signal
import socket
import sys
import threading
from collections.abc import Awaitable, Callable, Generator
from dataclasses import replace
from typing import Final

import msgspec
import uvicorn
import uvloop

from fleet_rlm.sandboxd.app import build_app
from fleet_rlm.sandboxd.errors import ServerError
from fleet_rlm.sandboxd.jail.spec import Isolation, NoIsolation
from fleet_rlm.sandboxd.jail.warm import WarmServer
from fleet_rlm.sandboxd.lines import Lines
from fleet_rlm.sandboxd.previews import Previews
from fleet_rlm.sandboxd.sandboxes import Sandboxes
from fleet_rlm.sandboxd.settings import Settings
from fleet_rlm.sandboxd.store import Store
from fleet_rlm.sandboxd.volumes import Volumes
from fleet_rlm.sandboxd.watch import Watch

_log = logging.getLogger("sandboxd")
_CLOSE_S: Final = 1.2  # seconds that open connections and jails get to end
_START_S: Final = 90.0  # seconds until the jail must have been proved
_BACKLOG: Final = 1024
_OPEN_FILES: Final = 16_384
MakeWarm = Callable[[Settings], WarmServer]


def make_warm(settings: Settings) -> WarmServer:
    """The warm server that the settings ask for."""
    return WarmServer(
        data_dir=settings.data,
        scripts=settings.warm_scripts,
        allow_degraded=settings.allow_degraded,
        unsafe_no_sandbox=settings.unsafe_no_sandbox,
        spares=settings.spares,
    )


def run(settings: Settings, *, parent_pipe: bool = False, warm: MakeWarm = make_warm) -> None:
    """Serve until SIGTERM, SIGINT or, with `parent_pipe`, the end of standard input. ServerError when it cannot."""
    _raise_open_files()
    listener = bind(settings.host, settings.port)
    settings = replace(settings, port=listener.getsockname()[1])
    with listener, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(settings, listener, warm(settings), parent_pipe))


def _raise_open_files() -> None:
    """A running sandbox takes about five descriptors of this process; the usual soft limit of 1024 is too low."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(_OPEN_FILES, hard)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def bind(host: str, port: int) -> socket.socket:
    """A socket on a loopback address. ServerError when the port is taken or the address is none of this machine."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise ServerError(
            f"cannot listen on {host} port {port}: {(error.strerror or str(error)).lower()}; choose another by --port",
            code="PORT_TAKEN",
        ) from error
    listener.setblocking(False)
    return listener


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: this process has its own."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Leave the signals alone."""
        yield


async def _serve(settings: Settings, listener: socket.socket, warm: WarmServer, parent_pipe: bool) -> None:
    store = Store(settings.data)
    store.open()
    stop = asyncio.Event()
    _stop_on_signals(stop)
    if parent_pipe:
        _stop_at_end_of_input(stop)
    isolation = await _warm_up(warm, stop)
    if isolation is None:
        return
    volumes = Volumes(store, settings.bounds)
    sandboxes = Sandboxes(store, volumes, warm, settings)
    volumes.load()
    sandboxes.load()
    previews = Previews(sandboxes, settings)
    watch = Watch(sandboxes, volumes, settings.bounds)
    server = _server(build_app(sandboxes, volumes, previews, settings), settings)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    lines = None if settings.line is None else Lines(socket.socket(fileno=settings.line), sandboxes)
    try:
        if lines is not None:
            lines.start()
        await _announce(settings, isolation)
        watch.start()
        await _until(stop, serving)
    finally:
        await watch.close()
        if lines is not None:
            lines.close()
        server.should_exit = True
        sandboxes.quiesce()
        previews.close()
        await _within(warm.close(), "jails")
        await sandboxes.close()
        await _within(serving, "connections")


async def _warm_up(warm: WarmServer, stop: asyncio.Event) -> Isolation | None:
    """Start the warm process and prove the jail; None when the server was told to end meanwhile."""
    starting = asyncio.create_task(warm.start())
    stopping = asyncio.create_task(stop.wait())
    done, _ = await asyncio.wait((starting, stopping), timeout=_START_S, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    try:
        if starting in done:
            return starting.result()
    except NoIsolation as error:
        raise ServerError(str(error), code="NO_ISOLATION", status=1) from error
    starting.cancel()
    await asyncio.wait((starting,), timeout=_CLOSE_S)
    if not done:
        raise ServerError(f"the warm process was not ready after {_START_S:.0f} s", code="START_TIMEOUT")
    return None


def _server(app: object, settings: Settings) -> _Server:
    config = uvicorn.Config(
        app,  # pyright: ignore[reportArgumentType] - uvicorn's own ASGI types differ from Starlette's
        http="httptools",
        ws="websockets-sansio",
        ws_max_size=settings.bounds.socket_message,
        ws_per_message_deflate=False,
        ws_ping_interval=None,  # a peer on the same machine cannot vanish without closing its socket
        lifespan="off",
        access_log=False,
        log_config=None,
        log_level="critical",  # what fails inside is logged by the application itself, once
        server_header=False,
        timeout_graceful_shutdown=1,
        h11_max_incomplete_event_size=None,
    )
    return _Server(config)


async def _announce(settings: Settings, isolation: Isolation) -> None:
    """The first line of standard output. The socket listens already, so a client may come at once."""
    _log.info("serving on %s: %s", settings.origin, isolation.detail)
    if isolation.advice:
        _log.info("better isolation: %s", isolation.advice)
    line = {"api_url": f"{settings.origin}/api", "api_key": settings.api_key, "isolation": str(isolation.name)}
    sys.stdout.write(msgspec.json.encode(line).decode() + "\n")
    sys.stdout.flush()
    await asyncio.sleep(0)


async def _until(stop: asyncio.Event, serving: asyncio.Task[None]) -> None:
    """Wait for a reason to end; a server that ended by itself is one."""
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait((stopping, serving), return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()


async def _within(work: Awaitable[None], what: str) -> None:
    try:
        await asyncio.wait_for(work, _CLOSE_S)
    except TimeoutError:
        _log.warning("%s did not end in time", what)


def _stop_on_signals(stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)


def _stop_at_end_of_input(stop: asyncio.Event) -> None:
    """Stop when the parent's end of the pipe closes; a thread, because standard input may be any kind of file."""
    loop = asyncio.get_running_loop()

    def read() -> None:
        with contextlib.suppress(OSError):
            while os.read(0, 4096):
                pass
        with contextlib.suppress(RuntimeError):  # the loop has ended already
            loop.call_soon_threadsafe(stop.set)

    threading.Thread(target=read, name="parent-pipe", daemon=True).start()
