"""Toolbox: content found, names found and text replaced in a sandbox's files, by a program inside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from fleet_rlm.sandboxd.activity import using
from fleet_rlm.sandboxd.errors import ApiError, bad_request
from fleet_rlm.sandboxd.guests import SEARCH, ask
from fleet_rlm.sandboxd.sandboxes import Sandboxes
from fleet_rlm.sandboxd.settings import MIB, Settings
from fleet_rlm.sandboxd.uploads import check_path
from fleet_rlm.sandboxd.wire import answer, read_json, route

_TIMEOUT: Final = 120.0  # seconds
_OUTPUT: Final = 32 * MIB
_RESULTS: Final = 20_000
_PATTERN: Final = 4096  # characters


class Match(msgspec.Struct):
    """A line that contains the pattern."""

    file: str
    line: int
    content: str


class ReplaceRequest(msgspec.Struct, rename="camel"):
    """Body of POST /files/replace."""

    files: list[str]
    pattern: str
    new_value: str


class ReplaceResult(msgspec.Struct, omit_defaults=True):
    """What became of one file."""

    file: str
    success: bool
    error: str | None = None


class SearchFiles(msgspec.Struct):
    """Answer of GET /files/search."""

    files: list[str]


class _Matches(msgspec.Struct):
    ok: list[Match]
    cut: bool


class _Names(msgspec.Struct):
    ok: list[str]
    cut: bool


class _Replaced(msgspec.Struct):
    ok: list[ReplaceResult]
    cut: bool


class SearchApi:
    """/files/find, /files/search, /files/replace: patterns are plain text, those of search are globs."""

    def __init__(self, sandboxes: Sandboxes, settings: Settings) -> None:
        self._sandboxes = sandboxes
        self._bounds = settings.bounds

    def routes(self) -> Sequence[BaseRoute]:
        """The routes, relative to a sandbox's toolbox."""
        return [
            route("/files/find", GET=self.find),
            route("/files/search", GET=self.search),
            route("/files/replace", POST=self.replace),
        ]

    async def find(self, request: Request) -> Response:
        """Lines of the files below a path that contain a text."""
        found = await self._ask(request, _Matches, **_query(request), op="find")
        return answer(found.ok)

    async def search(self, request: Request) -> Response:
        """Paths below a path whose last component fits a glob such as `*.py`."""
        found = await self._ask(request, _Names, **_query(request), op="search")
        return answer(SearchFiles(found.ok))

    async def replace(self, request: Request) -> Response:
        """Replace a text in files; each file says for itself whether that was possible."""
        body = await read_json(request, ReplaceRequest, self._bounds.json_body)
        if not 0 < len(body.files) <= self._bounds.files_per_upload:
            raise bad_request(f"files has 1 to {self._bounds.files_per_upload} paths")
        files = [check_path(path) for path in body.files]
        pattern = _check_pattern(body.pattern)
        wanted = {"files": files, "pattern": pattern, "new_value": body.new_value, "path": files[0]}
        done = await self._ask(request, _Replaced, **wanted, op="replace")
        return answer(done.ok)

    async def _ask(self, request: Request, kind: type[Any], **wanted: Any) -> Any:
        with using(self._sandboxes, request) as sandbox:
            question = {**wanted, "limit": _RESULTS}
            found = await ask(sandbox.running(), SEARCH, question, kind, timeout=_TIMEOUT, limit=_OUTPUT)
        if found.cut:
            raise ApiError(400, f"more than {_RESULTS} results; ask for less", code="TOO_MANY_RESULTS")
        return found


def _query(request: Request) -> dict[str, str]:
    path = request.query_params.get("path")
    if path is None:
        raise bad_request("the query has no path")
    return {"path": check_path(path), "pattern": _check_pattern(request.query_params.get("pattern", ""))}


def _check_pattern(pattern: str) -> str:
    if not 0 < len(pattern) <= _PATTERN:
        raise bad_request(f"a pattern has 1 to {_PATTERN} characters")
    return pattern
