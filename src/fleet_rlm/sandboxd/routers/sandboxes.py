"""Control API: sandboxes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from fleet_rlm.sandboxd.admission import set_interval
from fleet_rlm.sandboxd.errors import bad_request
from fleet_rlm.sandboxd.listing import item, page, single
from fleet_rlm.sandboxd.models import CreateSandbox, Labels, SandboxRecord
from fleet_rlm.sandboxd.sandboxes import Sandbox, Sandboxes
from fleet_rlm.sandboxd.settings import Settings
from fleet_rlm.sandboxd.wire import Handler, answer, read_json, route

_INTERVALS: Final = {
    "autostop": "auto_stop_interval",
    "autoarchive": "auto_archive_interval",
    "autodelete": "auto_delete_interval",
    "ttl": "ttl_minutes",
}
_FLAGS: Final = {"true": True, "false": False}


class SandboxApi:
    """/sandbox and what is below it."""

    def __init__(self, sandboxes: Sandboxes, settings: Settings) -> None:
        self._sandboxes = sandboxes
        self._settings = settings
        self._toolbox = f"{settings.origin}/toolbox"

    def routes(self) -> Sequence[BaseRoute]:
        """The routes, relative to the API's base."""
        one = "/sandbox/{key}"
        intervals = [route(f"{one}/{word}/{{value}}", POST=self._interval(word)) for word in _INTERVALS]
        return [
            route("/sandbox", GET=self.list, POST=self.create),
            route(one, GET=self.get, DELETE=self.delete),
            route(f"{one}/start", POST=self.start),
            route(f"{one}/stop", POST=self.stop),
            route(f"{one}/labels", PUT=self.labels),
            route(f"{one}/public/{{value}}", POST=self.public),
            route(f"{one}/toolbox-proxy-url", GET=self.toolbox_url),
            *intervals,
        ]

    async def create(self, request: Request) -> Response:
        """Make and start a sandbox; the answer comes when it runs."""
        body = await read_json(request, CreateSandbox, self._settings.bounds.json_body)
        return self._single(await self._sandboxes.create(body))

    async def list(self, request: Request) -> Response:
        """One page of sandboxes, newest first."""
        found = page(self._sandboxes.all(), request.query_params, lambda sandbox: item(sandbox, self._toolbox))
        return answer(found)

    async def get(self, request: Request) -> Response:
        """A sandbox by id or name."""
        return self._single(self._sandboxes.find(request.path_params["key"]))

    async def start(self, request: Request) -> Response:
        """Start a stopped sandbox."""
        return self._single(await self._sandboxes.start(request.path_params["key"]))

    async def stop(self, request: Request) -> Response:
        """Stop a sandbox."""
        return self._single(await self._sandboxes.stop(request.path_params["key"]))

    async def delete(self, request: Request) -> Response:
        """Delete a sandbox."""
        return self._single(await self._sandboxes.delete(request.path_params["key"]))

    async def labels(self, request: Request) -> Response:
        """Replace the labels."""
        body = await read_json(request, Labels, self._settings.bounds.json_body)
        sandbox = await self._sandboxes.set_labels(request.path_params["key"], body.labels)
        return answer(Labels(sandbox.record.labels))

    async def public(self, request: Request) -> Response:
        """Store the public flag; nothing here can be reached from outside the machine either way."""
        flag = _FLAGS.get(request.path_params["value"])
        if flag is None:
            raise bad_request("public is true or false")

        def apply(record: SandboxRecord) -> None:
            record.public = flag

        return self._single(await self._sandboxes.change(request.path_params["key"], apply))

    async def toolbox_url(self, request: Request) -> Response:
        """Where the toolbox of a sandbox is."""
        self._sandboxes.find(request.path_params["key"])
        return answer({"url": self._toolbox})

    def _interval(self, word: str) -> Handler:
        field = _INTERVALS[word]

        async def change(request: Request) -> Response:
            """Set this interval, in minutes."""
            try:
                minutes = int(request.path_params["value"])
            except ValueError as error:
                raise bad_request(f"{word} is a whole number of minutes") from error
            apply: Callable[[SandboxRecord], None] = lambda record: set_interval(record, field, minutes)  # noqa: E731
            return self._single(await self._sandboxes.change(request.path_params["key"], apply))

        return change

    def _single(self, sandbox: Sandbox) -> Response:
        return answer(single(sandbox, self._toolbox))
