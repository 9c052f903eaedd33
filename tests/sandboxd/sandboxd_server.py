"""A sandbox server as a subprocess, the way its users start it, and SDK clients for it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
from daytona import AsyncDaytona, Daytona, DaytonaConfig


class Server:
    def __init__(
        self, data: Path, *options: str, env: dict[str, str] | None = None, pass_fds: tuple[int, ...] = ()
    ) -> None:
        argv = [sys.executable, "-m", "fleet_rlm.sandboxd", "serve", "--data", str(data), *options]
        self.data = data
        self.log = data.parent / f"{data.name}-{len(list(data.parent.glob('*.log')))}.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, **(env or {})},
                pass_fds=pass_fds,
            )
        self.first_line = json.loads(self.process.stdout.readline() or b"{}")
        self._sdks: list[Daytona] = []

    @property
    def key(self) -> str:
        return self.first_line["api_key"]

    @property
    def api(self) -> str:
        return self.first_line["api_url"]

    @property
    def port(self) -> int:
        return httpx.URL(self.api).port

    def config(self, **changes) -> DaytonaConfig:
        return DaytonaConfig(**{"api_key": self.key, "api_url": self.api, "target": "local", **changes})

    def sdk(self, **changes) -> Daytona:
        """A client of this server; `stop` closes it."""
        self._sdks.append(Daytona(self.config(**changes)))
        return self._sdks[-1]

    def async_sdk(self) -> AsyncDaytona:
        return AsyncDaytona(self.config())

    def http(self, **headers: str) -> httpx.Client:
        """A bare client; its base is the origin."""
        base = self.api.removesuffix("/api")
        return httpx.Client(base_url=base, headers={"Authorization": f"Bearer {self.key}", **headers}, timeout=60)

    def stop(self, number: int = signal.SIGTERM, timeout: float = 20) -> int:
        while self._sdks:
            close_sdk(self._sdks.pop())
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(timeout)
        self.process.stdin.close()
        self.process.stdout.close()
        return code


def close_sdk(sdk: Daytona) -> None:
    """Close the connections of a synchronous client. It has no word of its own for that, and else leaves its sockets
    to the garbage collector. Its events are connected by a thread of theirs; to disconnect while that is half done
    ends in an `AttributeError` of the client."""
    dispatcher = sdk._event_dispatcher
    if dispatcher._bg_thread is not None:
        dispatcher._bg_thread.join()
    dispatcher.disconnect()
    sdk._http_client.close()
    for client in (sdk._api_client, sdk._toolbox_api_client):
        client.rest_client.pool_manager.clear()
