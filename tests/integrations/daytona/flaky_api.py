"""A proxy before the sandbox server that fails on demand: the control API of a bad day."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import aiohttp
from aiohttp import web

from fleet_rlm.integrations.daytona.settings import DaytonaSettings

Fault = Callable[[str, str], str | None]
"""(method, path) -> None (pass), "503", "429", "drop" (no answer), or "lost" (done, but the answer is dropped)."""


class FlakyApi:
    """Passes requests to a server, or fails them; no WebSocket passes. Runs on the loop that starts it.

    `toolbox`: the requests to sandboxes take the same way.
    """

    def __init__(self, settings: DaytonaSettings, *, toolbox: bool = False) -> None:
        self._behind = settings
        self._toolbox = toolbox
        self.fault: Fault = lambda method, path: None
        self.seen: list[tuple[str, str]] = []
        self.port = 0

    async def start(self) -> None:
        self._http = aiohttp.ClientSession()
        app = web.Application(client_max_size=64 << 20)
        app.router.add_route("*", "/{tail:.*}", self._handle)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        await self._http.close()
        await self._runner.cleanup()

    @property
    def settings(self) -> DaytonaSettings:
        behind = self._behind
        return DaytonaSettings(behind.api_key, f"http://127.0.0.1:{self.port}/api", "local", "local", behind.isolation)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self.seen.append((request.method, request.path))
        fault = self.fault(request.method, request.path)
        if fault in ("503", "429"):
            return web.json_response(
                {"statusCode": int(fault), "message": "not now"}, status=int(fault), headers={"Retry-After": "0"}
            )
        if fault == "drop":
            return self._cut(request)
        origin = self._behind.api_url.removesuffix("/api")
        headers = {k: v for k, v in request.headers.items() if k.lower() not in ("host", "content-length")}
        async with self._http.request(
            request.method, f"{origin}{request.rel_url}", data=await request.read(), headers=headers
        ) as answer:
            body = await answer.read()
        if self._toolbox and request.path.startswith("/api/"):
            body = body.replace(origin.encode(), f"http://127.0.0.1:{self.port}".encode())
        if fault == "lost":
            return self._cut(request)
        return web.Response(body=body, status=answer.status, content_type=answer.content_type)

    def _cut(self, request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        raise asyncio.CancelledError
