"""The app on a real uvicorn, with a browser's cookie and a socket client."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from scripted_workspace import ScriptedModels
from websockets.sync.client import ClientConnection, connect

from fleet_rlm.api.auth.guard import allowed_hosts
from fleet_rlm.api.auth.local import LocalAccess
from fleet_rlm.api.main import create_app
from fleet_rlm.api.page import Page
from fleet_rlm.api.routers.ws.endpoint import SocketLimits
from fleet_rlm.api.server import Server, bind


class Tab:
    """A socket as the page uses it."""

    def __init__(self, ws: ClientConnection) -> None:
        self.ws = ws
        self.frames: list[Any] = []

    def say(self, type_: str, **fields: Any) -> None:
        self.ws.send(json.dumps({"type": type_, **fields}))

    def hear(self, timeout: float = 20) -> Any:
        return json.loads(self.ws.recv(timeout=timeout))

    def until(self, type_: str, timeout: float = 20) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """(the first control frame of this type, the events before it)."""
        events: list[dict[str, Any]] = []
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            frame = self.hear(timeout)
            if isinstance(frame, list):
                events += frame
            elif frame["type"] == type_:
                return frame, events
        raise AssertionError(f"no {type_} within {timeout} s")

    def events_until(
        self, type_: str, events: list[dict[str, Any]] | None = None, timeout: float = 30
    ) -> list[dict[str, Any]]:
        """Events up to and with the first of this type."""
        found = events or []
        deadline = time.monotonic() + timeout
        while not any(event["type"] == type_ for event in found):
            assert time.monotonic() < deadline, f"no {type_} within {timeout} s"
            frame = self.hear(timeout)
            if isinstance(frame, list):
                found += frame
        return found


class Running:
    """A served workspace."""

    def __init__(
        self, workspace: Any, home: Path, limits: SocketLimits, page: Page | None, models_for: Any = ScriptedModels
    ) -> None:
        self.workspace = workspace
        self.access = LocalAccess(home)
        self.listening = bind("127.0.0.1", 0)
        self.port = self.listening.getsockname()[1]
        self.base = f"http://127.0.0.1:{self.port}"
        app = create_app(
            lambda: workspace,
            access=self.access,
            hosts=allowed_hosts(self.port),
            models_for=models_for,
            page=page,
            socket_limits=limits,
        )
        self.app = app
        ready = threading.Event()
        self.server = Server(app, on_ready=ready.set)
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self.listening]}, daemon=True)
        self.thread.start()
        assert ready.wait(30)

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join(timeout=40)
        assert not self.thread.is_alive()
        self.listening.close()

    @contextmanager
    def browser(self) -> Iterator[httpx.Client]:
        """A client that came in through the one-time key."""
        with httpx.Client(base_url=self.base, timeout=30, follow_redirects=True) as client:
            client.get("/", params={"k": self.access.new_key()})
            assert client.cookies.get(self.access.cookie)
            yield client

    def bearer(self) -> httpx.Client:
        return httpx.Client(
            base_url=f"{self.base}/api/v1", timeout=30, headers={"Authorization": f"Bearer {self.access.token}"}
        )

    @contextmanager
    def raw_socket(self, **headers: str) -> Iterator[ClientConnection]:
        given = {"Authorization": f"Bearer {self.access.token}"} | headers
        url = f"ws://127.0.0.1:{self.port}/api/v1/ws"
        with connect(
            url, additional_headers={k: v for k, v in given.items() if v}, max_size=None, compression=None
        ) as ws:
            yield ws

    @contextmanager
    def tab(self) -> Iterator[Tab]:
        with self.raw_socket() as ws:
            tab = Tab(ws)
            tab.say("hello", v=1, client="test", tab="t")
            assert tab.hear()["type"] == "welcome"
            yield tab


Serve = Callable[..., Running]
