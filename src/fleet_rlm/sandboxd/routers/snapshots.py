"""Control API: snapshots."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Final

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute

from fleet_rlm.sandboxd.disk import free_bytes
from fleet_rlm.sandboxd.errors import ApiError, bad_request, not_implemented
from fleet_rlm.sandboxd.listing import single
from fleet_rlm.sandboxd.models import Url
from fleet_rlm.sandboxd.sandboxes import Sandboxes
from fleet_rlm.sandboxd.settings import Settings
from fleet_rlm.sandboxd.snapshot_models import CreateSnapshot, SnapshotName, SnapshotPage, SnapshotRecord
from fleet_rlm.sandboxd.wire import answer, read_json, route

_PAGE_LIMIT: Final = 200
_LOOK_S: Final = 0.2  # how often a followed log is looked at


class SnapshotApi:
    """/snapshots, and /sandbox/{id}/snapshot."""

    def __init__(self, sandboxes: Sandboxes, settings: Settings) -> None:
        self._sandboxes = sandboxes
        self._snapshots = sandboxes.snapshots
        self._settings = settings

    def routes(self) -> Sequence[BaseRoute]:
        """The routes, relative to the API's base."""
        one = "/snapshots/{snapshot}"
        return [
            route("/snapshots", GET=self.list, POST=self.create),
            route(one, GET=self.get, DELETE=self.delete),
            route(f"{one}/activate", POST=self.activate),
            route(f"{one}/deactivate", POST=self.deactivate),
            route(f"{one}/build-logs", GET=self.log),
            route(f"{one}/build-logs-url", GET=self.log_url),
            route("/sandbox/{key}/snapshot", POST=self.from_sandbox),
        ]

    async def list(self, request: Request) -> Response:
        """One page of snapshots, newest first."""
        query = request.query_params
        page = _number("page", query.get("page", "1"), 10**6)
        limit = _number("limit", query.get("limit", "100"), _PAGE_LIMIT)
        source, name = query.get("sourceSandboxId"), query.get("name", "").lower()
        found = [
            record
            for record in self._snapshots.all()
            if (not source or record.source_sandbox_id == source) and record.name.lower().startswith(name)
        ]
        shown = [self._snapshots.dto(record) for record in found[(page - 1) * limit : page * limit]]
        return answer(SnapshotPage(shown, len(found), page, -(-len(found) // limit)))

    async def create(self, request: Request) -> Response:
        """Begin to build a snapshot."""
        body = await read_json(request, CreateSnapshot, self._settings.bounds.json_body)
        if free_bytes(self._settings.data) < self._settings.bounds.free_disk:
            raise ApiError(507, "the disk of this machine is nearly full", code="NO_SPACE")
        return answer(self._snapshots.dto(await self._snapshots.create(body)))

    async def get(self, request: Request) -> Response:
        """A snapshot by id or name."""
        return answer(self._snapshots.dto(self._named(request)))

    async def delete(self, request: Request) -> Response:
        """Delete a snapshot that no sandbox uses."""
        names = [sandbox.record.snapshot for sandbox in self._sandboxes.all()]
        await self._snapshots.delete(request.path_params["snapshot"], names)
        return Response(status_code=200)

    async def activate(self, request: Request) -> Response:
        """Let sandboxes be made from a snapshot again."""
        return answer(self._snapshots.dto(await self._snapshots.set_active(request.path_params["snapshot"], True)))

    async def deactivate(self, request: Request) -> Response:
        """Let no more sandboxes be made from a snapshot; those there are stay."""
        await self._snapshots.set_active(request.path_params["snapshot"], False)
        return Response(status_code=204)

    async def log_url(self, request: Request) -> Response:
        """Where the log of the build is."""
        record = self._named(request)
        return answer(Url(f"{self._settings.origin}/api/snapshots/{record.id}/build-logs"))

    async def log(self, request: Request) -> Response:
        """The log of the build as text; with `follow=true` it comes as it grows."""
        record = self._named(request)
        follow = request.query_params.get("follow", "").lower() == "true"

        async def lines() -> AsyncIterator[bytes]:
            sent = 0
            while True:
                growing = self._snapshots.building(record)
                for line in self._snapshots.log(record)[sent:]:
                    sent += 1
                    yield f"{line}\n".encode()
                if not follow or not growing:
                    return
                await asyncio.sleep(_LOOK_S)

        return StreamingResponse(lines(), media_type="text/plain")

    async def from_sandbox(self, request: Request) -> Response:
        """The files of a stopped sandbox as a snapshot."""
        sandbox = self._sandboxes.find(request.path_params["key"])
        body = await read_json(request, SnapshotName, self._settings.bounds.json_body)
        if body.include_memory:
            raise not_implemented("a snapshot with memory")
        await self._sandboxes.snapshot(sandbox.record.id, body.name)
        return answer(single(sandbox, f"{self._settings.origin}/toolbox"))

    def _named(self, request: Request) -> SnapshotRecord:
        return self._snapshots.find(request.path_params["snapshot"])


def _number(name: str, text: str, high: int) -> int:
    if not text.isascii() or not text.isdecimal() or not 1 <= int(text[:9]) <= high:
        raise bad_request(f"{name} is a number from 1 to {high}")
    return int(text)
