"""Control API: what a sandbox may reach."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from fleet_rlm.sandboxd.listing import single
from fleet_rlm.sandboxd.models import NetworkSettings
from fleet_rlm.sandboxd.sandboxes import Sandboxes
from fleet_rlm.sandboxd.settings import Settings
from fleet_rlm.sandboxd.wire import answer, read_json, route


class NetworkApi:
    """/sandbox/{id}/network-settings."""

    def __init__(self, sandboxes: Sandboxes, settings: Settings) -> None:
        self._sandboxes = sandboxes
        self._settings = settings

    def routes(self) -> Sequence[BaseRoute]:
        """The routes, relative to the API's base."""
        return [route("/sandbox/{key}/network-settings", POST=self.update)]

    async def update(self, request: Request) -> Response:
        """Change the network settings of a sandbox, running or not; in force when the answer comes."""
        body = await read_json(request, NetworkSettings, self._settings.bounds.json_body)
        sandbox = await self._sandboxes.set_network(request.path_params["key"], body)
        return answer(single(sandbox, f"{self._settings.origin}/toolbox"))
