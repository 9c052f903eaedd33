"""Control API: volumes."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from fleet_rlm.sandboxd.models import CreateVolume
from fleet_rlm.sandboxd.sandboxes import Sandboxes
from fleet_rlm.sandboxd.settings import Settings
from fleet_rlm.sandboxd.volumes import Volumes
from fleet_rlm.sandboxd.wire import answer, read_json, route


class VolumeApi:
    """/volumes and what is below it."""

    def __init__(self, volumes: Volumes, sandboxes: Sandboxes, settings: Settings) -> None:
        self._volumes = volumes
        self._sandboxes = sandboxes
        self._settings = settings

    def routes(self) -> Sequence[BaseRoute]:
        """The routes, relative to the API's base."""
        return [
            route("/volumes", GET=self.list, POST=self.create),
            route("/volumes/by-name/{name}", GET=self.by_name),
            route("/volumes/{id}", GET=self.get, DELETE=self.delete),
        ]

    async def list(self, request: Request) -> Response:
        """Every volume, oldest first."""
        return answer([self._volumes.dto(record) for record in self._volumes.all()])

    async def create(self, request: Request) -> Response:
        """A new volume, ready at once."""
        body = await read_json(request, CreateVolume, self._settings.bounds.json_body)
        return answer(self._volumes.dto(self._volumes.create(body.name)))

    async def get(self, request: Request) -> Response:
        """A volume by id."""
        return answer(self._volumes.dto(self._volumes.get(request.path_params["id"])))

    async def by_name(self, request: Request) -> Response:
        """A volume by name."""
        return answer(self._volumes.dto(self._volumes.by_name(request.path_params["name"])))

    async def delete(self, request: Request) -> Response:
        """Delete a volume that no sandbox mounts."""
        work = self._volumes.delete(request.path_params["id"], self._sandboxes.mounts())
        self._sandboxes.in_background(work)
        return Response(status_code=200)
