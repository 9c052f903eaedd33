"""Control API: what else can happen to a sandbox."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from fleet_rlm.sandboxd.admission import check_size
from fleet_rlm.sandboxd.errors import bad_request
from fleet_rlm.sandboxd.listing import single
from fleet_rlm.sandboxd.models import SandboxRecord, State
from fleet_rlm.sandboxd.process_models import ResizeSandbox
from fleet_rlm.sandboxd.sandboxes import Sandboxes
from fleet_rlm.sandboxd.settings import Settings
from fleet_rlm.sandboxd.wire import answer, read_json, route


class LifecycleApi:
    """/sandbox/{id}/recover, resize, last-activity and autopause."""

    def __init__(self, sandboxes: Sandboxes, settings: Settings) -> None:
        self._sandboxes = sandboxes
        self._settings = settings
        self._toolbox = f"{settings.origin}/toolbox"

    def routes(self) -> Sequence[BaseRoute]:
        """The routes, relative to the API's base."""
        one = "/sandbox/{key}"
        return [
            route(f"{one}/recover", POST=self.recover),
            route(f"{one}/resize", POST=self.resize),
            route(f"{one}/last-activity", POST=self.touch),
            route(f"{one}/autopause/{{value}}", POST=self.autopause),
        ]

    async def recover(self, request: Request) -> Response:
        """Start a sandbox in state error on its kept files; with `skipStart` it is only stopped."""
        key = request.path_params["key"]
        sandbox = self._sandboxes.find(key)
        if sandbox.state is not State.ERROR:
            raise bad_request(f"the sandbox is {sandbox.state}; only one in state error can be recovered")
        skip = request.query_params.get("skipStart") == "true"
        recovered = await (self._sandboxes.stop(key) if skip else self._sandboxes.start(key))
        return answer(single(recovered, self._toolbox))

    async def resize(self, request: Request) -> Response:
        """Change processors, memory and disk of a stopped sandbox; its next start has them."""
        body = await read_json(request, ResizeSandbox, self._settings.bounds.json_body)
        wanted = {name: value for name in ("cpu", "memory", "disk") if (value := getattr(body, name)) is not None}
        if not wanted:
            raise bad_request("resize needs at least one of cpu, memory and disk")
        for name, value in wanted.items():
            check_size(name, value)
        sandbox = self._sandboxes.find(request.path_params["key"])

        def apply(record: SandboxRecord) -> None:
            if sandbox.state not in (State.STOPPED, State.ERROR):
                raise bad_request(f"the sandbox is {sandbox.state}: stop it first, its limits are set at the start")
            if wanted.get("disk", record.disk) < record.disk:
                raise bad_request(f"disk is {record.disk} GiB and can only grow")
            for name, value in wanted.items():
                setattr(record, name, value)

        return answer(single(await self._sandboxes.change(sandbox.record.id, apply), self._toolbox))

    async def touch(self, request: Request) -> Response:
        """Begin to count the time to the automatic stop anew."""
        sandbox = self._sandboxes.find(request.path_params["key"])
        sandbox.last_activity = self._sandboxes.now()
        return Response(status_code=201)

    async def autopause(self, request: Request) -> Response:
        """Zero means never, and there is nothing else here."""
        sandbox = self._sandboxes.find(request.path_params["key"])
        if request.path_params["value"] != "0":
            raise bad_request("a sandbox here cannot be paused, so the interval can only be 0: stop keeps its files")
        return answer(single(sandbox, self._toolbox))
