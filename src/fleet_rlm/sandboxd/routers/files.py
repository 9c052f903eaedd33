"""Toolbox: files. Every path is resolved by a process inside the sandbox, so none can lead out of it."""

from __future__ import annotations

import contextlib
import stat
from collections.abc import AsyncIterator, Generator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute

from fleet_rlm.sandboxd.activity import using
from fleet_rlm.sandboxd.downloads import Download
from fleet_rlm.sandboxd.errors import bad_request, from_os_error, not_implemented
from fleet_rlm.sandboxd.jail.warm import Jail
from fleet_rlm.sandboxd.models import DownloadRequest, FileInfo, UploadResponse, timestamp
from fleet_rlm.sandboxd.sandboxes import Sandboxes
from fleet_rlm.sandboxd.settings import WORKSPACE, Settings
from fleet_rlm.sandboxd.uploads import Upload, check_path
from fleet_rlm.sandboxd.wire import answer, read_json, route

_KINDS: Final = {"file": stat.S_IFREG, "dir": stat.S_IFDIR, "symlink": stat.S_IFLNK}
_DEPTH_LIMIT: Final = 64
_OWNERS: Final = frozenset({"", "sandbox", "1000"})  # a jail has one user
_FLAGS: Final = {"true": True, "false": False}


class FilesApi:
    """/files and what is below it."""

    def __init__(self, sandboxes: Sandboxes, settings: Settings) -> None:
        self._sandboxes = sandboxes
        self._bounds = settings.bounds
        self._data = settings.data

    def routes(self) -> Sequence[BaseRoute]:
        """The routes, relative to a sandbox's toolbox."""
        return [
            route("/files", GET=self.list, DELETE=self.delete),
            route("/files/info", GET=self.info),
            route("/files/folder", POST=self.folder),
            route("/files/move", POST=self.move),
            route("/files/permissions", POST=self.permissions),
            route("/files/bulk-upload", POST=self.upload),
            route("/files/bulk-download", POST=self.download),
        ]

    async def upload(self, request: Request) -> Response:
        """Write files; those that exist are overwritten."""
        with using(self._sandboxes, request) as sandbox:
            done = await Upload(sandbox.running(), self._bounds, self._data).run(request)
            return answer(UploadResponse(done))

    async def download(self, request: Request) -> Response:
        """Read files, one multipart part each."""
        with using(self._sandboxes, request) as sandbox:
            body = await read_json(request, DownloadRequest, self._bounds.json_body)
            if not 0 < len(body.paths) <= self._bounds.files_per_download:
                raise bad_request(f"paths has 1 to {self._bounds.files_per_download} entries")
            download = Download(sandbox.running(), [check_path(path) for path in body.paths])

        async def stream() -> AsyncIterator[bytes]:
            with using(self._sandboxes, request):
                async for chunk in download.stream():
                    yield chunk

        return StreamingResponse(stream(), media_type=download.media_type)

    async def list(self, request: Request) -> Response:
        """The entries of a folder, by name."""
        path = _query_path(request, default=".")
        depth = request.query_params.get("depth") or "1"
        if not depth.isdecimal() or not 1 <= int(depth[:4]) <= _DEPTH_LIMIT:
            raise bad_request(f"depth is a number from 1 to {_DEPTH_LIMIT}")
        with using(self._sandboxes, request) as sandbox, _file_errors(path):
            return answer(await self._entries(sandbox.running(), str(PurePosixPath(WORKSPACE, path)), int(depth)))

    async def _entries(self, jail: Jail, root: str, depth: int) -> list[FileInfo]:
        """The entries of a folder and, level by level, of those below it; links are not followed."""
        found: list[FileInfo] = []
        level = [root]
        for number in range(depth):
            below: list[str] = []
            for folder in level:
                try:
                    entries: list[dict[str, Any]] = await jail.file_op("list", path=folder)
                except (FileNotFoundError, NotADirectoryError, PermissionError):
                    if number == 0:
                        raise
                    continue  # gone meanwhile, or not to be read: the rest is still wanted
                for entry in sorted(entries, key=lambda entry: str(entry["name"])):
                    full = str(PurePosixPath(folder, entry["name"]))
                    found.append(file_info(entry, full))
                    if entry["kind"] == "dir":
                        below.append(full)
                if len(found) > self._bounds.list_entries:
                    raise bad_request(f"more than {self._bounds.list_entries} entries; ask for less depth")
            level = below
        return found

    async def info(self, request: Request) -> Response:
        """One file or folder."""
        path = _query_path(request)
        with using(self._sandboxes, request) as sandbox, _file_errors(path):
            entry = await sandbox.running().file_op("stat", path=path)
        full = PurePosixPath(WORKSPACE, path)
        return answer(file_info({**entry, "name": full.name or "/"}, str(full)))

    async def folder(self, request: Request) -> Response:
        """Make a folder, with those above it."""
        path = _query_path(request)
        mode = _mode(request.query_params.get("mode") or "755")
        with using(self._sandboxes, request) as sandbox, _file_errors(path):
            await sandbox.running().file_op("mkdir", path=path, mode=mode, parents=True)
        return Response(status_code=201)

    async def delete(self, request: Request) -> Response:
        """Remove a file, or a folder when `recursive=true`."""
        path = _query_path(request)
        recursive = _FLAGS.get(request.query_params.get("recursive", "false").lower())
        if recursive is None:
            raise bad_request("recursive is true or false")
        with using(self._sandboxes, request) as sandbox, _file_errors(path):
            await sandbox.running().file_op("remove", path=path, recursive=recursive)
        return Response(status_code=204)

    async def move(self, request: Request) -> Response:
        """Rename a file or folder."""
        source, target = _query_path(request, "source"), _query_path(request, "destination")
        with using(self._sandboxes, request) as sandbox, _file_errors(source):
            await sandbox.running().file_op("move", source=source, target=target)
        return Response(status_code=200)

    async def permissions(self, request: Request) -> Response:
        """Change the mode; a sandbox has one user, so any other owner or group is refused."""
        path = _query_path(request)
        with using(self._sandboxes, request) as sandbox, _file_errors(path):
            jail = sandbox.running()
            if not any(request.query_params.get(name) for name in ("mode", "owner", "group")):
                raise bad_request("the query has no mode, owner or group")
            for name in ("owner", "group"):
                if request.query_params.get(name, "") not in _OWNERS:
                    raise not_implemented(f"a file's {name} other than 'sandbox', the one user of a sandbox,")
            if mode := request.query_params.get("mode"):
                await jail.file_op("chmod", path=path, mode=_mode(mode))
            else:
                await jail.file_op("stat", path=path)  # nothing to change, but the file has to be there
        return Response(status_code=200)


def file_info(entry: Mapping[str, Any], path: str) -> FileInfo:
    """A jail's stat as the API shows it."""
    mode = _KINDS.get(entry["kind"], 0) | int(entry["mode"])
    changed = timestamp(float(entry["mtime"]))
    return FileInfo(
        name=_plain(str(entry["name"])),
        size=int(entry["size"]),
        mode=stat.filemode(mode),
        mod_time=changed,
        modified_at=changed,
        is_dir=stat.S_ISDIR(mode),
        owner=_owner(entry["uid"]),
        group=_owner(entry["gid"]),
        permissions=f"{stat.S_IMODE(mode):04o}",
        path=_plain(path),
    )


def _plain(name: str) -> str:
    """As JSON can say it: a name in a sandbox may be any bytes."""
    return name.encode(errors="surrogateescape").decode(errors="replace")


def _owner(number: int) -> str:
    """A jail knows two users: the system's and its own, whose number on the host concerns nobody."""
    return "root" if number == 0 else "sandbox"


@contextlib.contextmanager
def _file_errors(path: str) -> Generator[None]:
    """File errors of the jail as API errors about this path."""
    try:
        yield
    except ConnectionError:
        raise
    except OSError as error:
        raise from_os_error(error, path) from error


def _query_path(request: Request, name: str = "path", default: str | None = None) -> str:
    path = request.query_params.get(name) or default
    if path is None:
        raise bad_request(f"the query has no {name}")
    return check_path(path)


def _mode(text: str) -> int:
    try:
        mode = int(text, 8)
    except ValueError:
        mode = -1
    if not 0 <= mode <= 0o7777:
        raise bad_request(f"mode {text[:20]!r} is not an octal number like 755")
    return mode
