"""`fleet web`: binds, starts uvicorn, prints the address with its key, and ends gracefully."""

from __future__ import annotations

import ipaddress
import logging
import os
import socket
import sys
import threading
import webbrowser
from collections.abc import Callable
from dataclasses import dataclass
from logging.handlers import RotatingFileHandler
from pathlib import Path

import uvicorn
from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from fleet_rlm.api.auth.local import LocalAccess
from fleet_rlm.errors import InvalidInput, StorageError

MAX_FRAME = 1024 * 1024
"""Bytes of an incoming frame: a question of 200,000 characters fits, escapes and all."""
GRACE_SECONDS = 10


@dataclass(frozen=True, slots=True)
class Application:
    """The ASGI app with its middleware, and the FastAPI app inside it."""

    asgi: ASGIApp
    api: FastAPI

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.asgi(scope, receive, send)

    def hang_up(self) -> None:
        """End event streams and sockets, so that the server can go down."""
        served = getattr(self.api.state, "services", None)
        if served is not None:
            served.feed.close()


class Server(uvicorn.Server):
    """uvicorn that says when it is ready and ends its long-lived responses first."""

    def __init__(self, app: Application, *, on_ready: Callable[[], None] | None = None) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                loop="uvloop",
                http="httptools",
                ws="websockets-sansio",
                ws_max_size=MAX_FRAME,
                ws_per_message_deflate=False,
                ws_ping_interval=20,
                ws_ping_timeout=20,
                timeout_graceful_shutdown=GRACE_SECONDS,
                timeout_keep_alive=15,
                limit_concurrency=512,
                server_header=False,
                log_config=None,
                access_log=False,
                lifespan="on",
            )
        )
        self._app = app
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then say so."""
        await super().startup(sockets)
        if self.started and self._on_ready is not None:
            self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the streams, then the rest."""
        self._app.hang_up()
        await super().shutdown(sockets)


def greet(access: LocalAccess, address: str, *, open_browser: bool) -> None:
    """Print the entrance, a new one whenever it was used, and open a browser where there is a screen."""

    def say(text: str) -> None:
        print(f"{text} {address}/?k={access.new_key()}", flush=True)

    access.on_used = lambda: say("for another browser:")
    say("fleet-rlm workspace:")
    print("stop with Ctrl-C", flush=True)
    screen = sys.platform == "darwin" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if open_browser and screen:
        link = f"{address}/?k={access.new_key()}"
        threading.Thread(target=webbrowser.open, args=(link,), daemon=True).start()


def log_to(home: Path) -> None:
    """Keep the log in `<home>/logs/web.log` (0600, three files of 5 MB); the terminal stays for the address.

    Errors: StorageError.
    """
    path = home / "logs" / "web.log"
    try:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
        kept = RotatingFileHandler(path, maxBytes=5_000_000, backupCount=2, encoding="utf-8")
    except OSError as error:
        raise StorageError(f"cannot write the log {path}: {error.strerror or error}") from error
    kept.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.setLevel(logging.INFO)
    root.handlers[:] = [kept]


def bind(host: str, port: int) -> socket.socket:
    """A listening socket on a loopback address.

    Errors: InvalidInput for another address (nobody could sign in there yet), an unknown name, or a taken port.
    """
    name = host.strip("[]")
    if name == "localhost":
        name = "127.0.0.1"
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        raise InvalidInput(f"{host!r} is no address of this machine", hint="use 127.0.0.1") from None
    if not address.is_loopback:
        raise InvalidInput(
            f"refusing to listen on {host}: without sign-in everyone in reach could run code here",
            hint="listen on 127.0.0.1, and reach it from elsewhere through an SSH tunnel",
        )
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((name, port))
        listening.listen(2048)
    except OSError as error:
        listening.close()
        hint = "choose another with --port, or any free one with --port 0"
        raise InvalidInput(
            f"cannot listen on {host}:{port}: {(error.strerror or str(error)).lower()}", hint=hint
        ) from None
    return listening
