"""Ports of a sandbox: which are in use (toolbox), and the links under which they can be reached (control API)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from fleet_rlm.sandboxd.activity import using
from fleet_rlm.sandboxd.errors import bad_request, not_found
from fleet_rlm.sandboxd.previews import Previews
from fleet_rlm.sandboxd.process_models import PortInUse, PortList, PreviewUrl
from fleet_rlm.sandboxd.sandboxes import Sandbox, Sandboxes
from fleet_rlm.sandboxd.wire import answer, route

_EXPIRES_S: Final = "60"  # when a request names no time


class PortApi:
    """/port of the toolbox, /sandbox/{id}/ports of the control API."""

    def __init__(self, sandboxes: Sandboxes, previews: Previews) -> None:
        self._sandboxes = sandboxes
        self._previews = previews

    def routes(self) -> Sequence[BaseRoute]:
        """The routes, relative to the API's base."""
        one = "/sandbox/{key}/ports/{port}"
        return [
            route(f"{one}/preview-url", GET=self.link),
            route(f"{one}/signed-preview-url", GET=self.sign),
            route(f"{one}/signed-preview-url/{{token}}/expire", POST=self.expire),
        ]

    def toolbox_routes(self) -> Sequence[BaseRoute]:
        """The routes, relative to a sandbox's toolbox."""
        return [route("/port", GET=self.ports), route("/port/{port}/in-use", GET=self.in_use)]

    async def ports(self, request: Request) -> Response:
        """The TCP ports on which programs of the sandbox listen."""
        with using(self._sandboxes, request) as sandbox:
            return answer(PortList(await sandbox.running().ports()))

    async def in_use(self, request: Request) -> Response:
        """Whether a program of the sandbox listens on a port."""
        with using(self._sandboxes, request) as sandbox:
            port = _number("port", request.path_params["port"])
            return answer(PortInUse(port in await sandbox.running().ports()))

    async def link(self, request: Request) -> Response:
        """Where a port can be reached with the token of the answer."""
        sandbox, port = self._named(request)
        door = await self._previews.door(sandbox, port)
        return answer(PreviewUrl(sandbox.record.id, f"http://{door.authority}", door.keys.token))

    async def sign(self, request: Request) -> Response:
        """A URL that needs no token besides itself, for a while."""
        sandbox, port = self._named(request)
        seconds = _number("expiresInSeconds", request.query_params.get("expiresInSeconds", _EXPIRES_S))
        door, token = await self._previews.sign(sandbox, port, seconds)
        return answer(PreviewUrl(sandbox.record.id, door.signed_url(token), token, port))

    async def expire(self, request: Request) -> Response:
        """Let a signed URL open nothing from now on."""
        sandbox, port = self._named(request)
        if not self._previews.expire(sandbox, port, request.path_params["token"]):
            raise not_found("there is no such signed URL, or it has expired")
        return Response(status_code=200)

    def _named(self, request: Request) -> tuple[Sandbox, int]:
        sandbox = self._sandboxes.find(request.path_params["key"])
        return sandbox, _number("port", request.path_params["port"])


def _number(name: str, text: str) -> int:
    if not text.isdecimal() or not text.isascii() or len(text) > 9:
        raise bad_request(f"{name} is a whole number")
    return int(text)
