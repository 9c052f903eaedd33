"""Single files as plain bodies, which signed URLs reach without the key; and the keys that sign."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from pathlib import PurePosixPath
from urllib.parse import quote

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute
from starlette.types import Receive, Scope, Send

from fleet_rlm.sandboxd.activity import using
from fleet_rlm.sandboxd.downloads import contents
from fleet_rlm.sandboxd.errors import bad_request, from_os_error
from fleet_rlm.sandboxd.models import SandboxRecord
from fleet_rlm.sandboxd.sandboxes import Sandboxes
from fleet_rlm.sandboxd.settings import Settings
from fleet_rlm.sandboxd.signing import new_key
from fleet_rlm.sandboxd.uploads import Upload, check_path
from fleet_rlm.sandboxd.wire import answer, route


class UploadedFile(Struct):
    """Answer of POST /files/upload-v2."""

    name: str
    path: str
    type: str = "file"


class SignedApi:
    """/sandbox/{id}/signing-key, and /files/download and /files/upload-v2 of the toolbox."""

    def __init__(self, sandboxes: Sandboxes, settings: Settings) -> None:
        self._sandboxes = sandboxes
        self._settings = settings

    def routes(self) -> Sequence[BaseRoute]:
        """The routes, relative to the API's base."""
        return [
            route("/sandbox/{key}/signing-key", GET=self.key),
            route("/sandbox/{key}/signing-key/rotate", POST=self.rotate),
        ]

    def toolbox_routes(self) -> Sequence[BaseRoute]:
        """The routes, relative to a sandbox's toolbox."""
        return [
            route("/files/download", GET=self.download),
            route("/files/upload-v2", POST=self.upload),
        ]

    async def key(self, request: Request) -> Response:
        """The key that signs URLs of this sandbox's files; made when it is first asked for."""
        sandbox = self._sandboxes.find(request.path_params["key"])
        if not sandbox.record.signing_key:
            await self._sandboxes.change(sandbox.record.id, _ensure_key)
        return answer(sandbox.record.signing_key)

    async def rotate(self, request: Request) -> Response:
        """A new key; every URL that was signed with the old one stops working."""
        sandbox = await self._sandboxes.change(request.path_params["key"], _replace_key)
        return answer(sandbox.record.signing_key)

    async def download(self, request: Request) -> Response:
        """One file as it is."""
        path = _path(request)
        with using(self._sandboxes, request) as sandbox:
            try:
                fd = await sandbox.running().open(path, os.O_RDONLY)
            except ConnectionError:
                raise
            except OSError as error:
                raise from_os_error(error, path) from error
        size = os.fstat(fd).st_size

        async def stream() -> AsyncIterator[bytes]:
            with using(self._sandboxes, request):
                async for chunk in contents(fd, size):
                    yield chunk

        # A browser that opens the URL must take the file for a file: code of a sandbox never runs on this origin.
        headers = {
            "content-length": str(size),
            "content-disposition": f"attachment; filename*=utf-8''{quote(PurePosixPath(path).name, safe='')}",
            "x-content-type-options": "nosniff",
            "content-security-policy": "sandbox",
        }
        return FileResponse(fd, stream(), media_type="application/octet-stream", headers=headers)

    async def upload(self, request: Request) -> Response:
        """Write one file: the part `file` of a form, or the whole body."""
        path = _path(request)
        with using(self._sandboxes, request) as sandbox:
            upload = Upload(sandbox.running(), self._settings.bounds, self._settings.data)
            if request.headers.get("content-type", "").startswith("multipart/form-data"):
                if not await upload.run_single(request, path):
                    raise bad_request("the form has no part named file")
            else:
                await upload.run_raw(request, path)
        return answer(UploadedFile(PurePosixPath(path).name, path))


class FileResponse(StreamingResponse):
    """A streamed file whose descriptor is closed however the answer ends."""

    def __init__(self, fd: int, content: AsyncIterator[bytes], *, media_type: str, headers: dict[str, str]) -> None:
        super().__init__(content, media_type=media_type, headers=headers)
        self._fd = fd

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            os.close(self._fd)


def _path(request: Request) -> str:
    path = request.query_params.get("path")
    if path is None:
        raise bad_request("the query has no path")
    return check_path(path)


def _ensure_key(record: SandboxRecord) -> None:
    record.signing_key = record.signing_key or new_key()


def _replace_key(record: SandboxRecord) -> None:
    record.signing_key = new_key()
