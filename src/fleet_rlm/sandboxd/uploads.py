"""Multipart uploads written straight into a sandbox: at most one piece of a file is in memory at a time."""

from __future__ import annotations

import asyncio
import os
import re
from collections import deque
from pathlib import Path, PurePosixPath
from typing import Final, NamedTuple

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError, MultipartParseError
from python_multipart.multipart import parse_options_header
from starlette.requests import Request

from fleet_rlm.sandboxd.disk import free_bytes
from fleet_rlm.sandboxd.errors import ApiError, bad_request, from_os_error
from fleet_rlm.sandboxd.jail.warm import Jail
from fleet_rlm.sandboxd.models import Uploaded
from fleet_rlm.sandboxd.settings import MIB, Bounds
from fleet_rlm.sandboxd.wire import drain, too_large

_FIELD: Final = re.compile(r"files\[(\d{1,6})\]\.(path|file)")
_PATH_LIMIT: Final = 4096
_PIECE: Final = MIB  # bytes gathered before they are written by a thread
_WRITE: Final = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
_MODE: Final = 0o666  # less the umask of the jail, which lets those who share a volume write
_FOLDER_MODE: Final = 0o777


class _Part(NamedTuple):
    """One event of the parser: a part begins (`name` set), brings data, or ends (both empty)."""

    name: str | None = None
    filename: str | None = None
    data: bytes = b""


class _Events:
    """Turns the parser's callbacks into a queue of events."""

    def __init__(self, boundary: bytes) -> None:
        self.ready: deque[_Part] = deque()
        self._field = bytearray()
        self._value = bytearray()
        self._headers: dict[str, bytes] = {}
        self._parser = MultipartParser(
            boundary,
            callbacks={
                "on_part_begin": self._headers.clear,
                "on_header_field": lambda data, start, end: self._field.extend(data[start:end]),
                "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
                "on_header_end": self._header_end,
                "on_headers_finished": self._part,
                "on_part_data": lambda data, start, end: self.ready.append(_Part(data=bytes(data[start:end]))),
                "on_part_end": lambda: self.ready.append(_Part()),
                "on_end": self._end,
            },
            max_header_size=3 * _PATH_LIMIT + 512,  # a path of 4096 bytes, escaped
        )
        self.complete = False

    def feed(self, chunk: bytes) -> None:
        try:
            self._parser.write(chunk)
        except (MultipartParseError, FormParserError) as error:
            raise bad_request(f"the multipart body is malformed: {error}") from error

    def _header_end(self) -> None:
        self._headers[self._field.decode("latin-1").lower()] = bytes(self._value)
        self._field.clear()
        self._value.clear()

    def _part(self) -> None:
        _, options = parse_options_header(self._headers.get("content-disposition", b""))
        name = options.get(b"name", b"").decode(errors="replace")
        filename = options.get(b"filename")
        self.ready.append(_Part(name, None if filename is None else filename.decode(errors="replace")))

    def _end(self) -> None:
        self.complete = True


class Upload:
    """One bulk upload into a jail; `run` gives the files written. The data folder's free disk is watched."""

    def __init__(self, jail: Jail, bounds: Bounds, data: Path) -> None:
        self._jail = jail
        self._bounds = bounds
        self._data = data
        self._paths: dict[str, str] = {}
        self._done: list[Uploaded] = []
        self._text: bytearray | None = None  # the path field that is being read
        self._index = ""
        self._fd = -1
        self._path = ""
        self._piece = bytearray()
        self._size = 0
        self._single: str | None = None  # the only path, told outside of the body

    async def run_single(self, request: Request, path: str) -> list[Uploaded]:
        """Take a form whose part `file` is one file; other parts are passed over. Errors as `run`."""
        self._single = path
        return await self.run(request)

    async def run_raw(self, request: Request, path: str) -> list[Uploaded]:
        """Take a body that is one file, whole. Errors as `run`."""
        self._path = path
        self._fd = await create_file(self._jail, path)
        try:
            async for chunk in request.stream():
                if chunk:
                    await self._take(_Part(data=chunk), request)
            await self._finish()
        finally:
            self._close()
        return self._done

    async def run(self, request: Request) -> list[Uploaded]:
        """Take the body. 400 for malformed multipart, 413 and 507 for what is too big, else the file's error."""
        content_type, options = parse_options_header(request.headers.get("content-type", ""))
        boundary = options.get(b"boundary", b"")
        if content_type != b"multipart/form-data" or not 0 < len(boundary) <= 200:
            raise bad_request("an upload is multipart/form-data with a boundary")
        events = _Events(boundary)
        try:
            async for chunk in request.stream():
                events.feed(chunk)
                while events.ready:
                    await self._take(events.ready.popleft(), request)
            if not events.complete:
                raise bad_request("the multipart body ends before its closing boundary")
        finally:
            self._close()
        return self._done

    async def _take(self, event: _Part, request: Request) -> None:
        if event.name is not None:
            await self._begin(event.name, event.filename)
        elif not event.data:
            await self._finish()
        elif self._text is not None:
            self._text += event.data
            if len(self._text) > _PATH_LIMIT:
                raise bad_request(f"a path is longer than {_PATH_LIMIT} bytes")
        elif self._fd >= 0:
            self._piece += event.data
            self._size += len(event.data)
            if self._size > self._bounds.file_size:
                await drain(request)
                raise too_large(self._bounds.file_size)
            if len(self._piece) >= _PIECE:
                await self._flush()

    async def _begin(self, name: str, filename: str | None) -> None:
        if self._single is not None:
            if name == "file" and not self._done:
                self._path, self._size = self._single, 0
                self._fd = await create_file(self._jail, self._single)
            return
        match = _FIELD.fullmatch(name)
        if match is None:
            raise bad_request(f"unexpected part {name[:40]!r}; parts are files[i].path and files[i].file")
        self._index = match[1]
        if match[2] == "path":
            self._text = bytearray()
            return
        if len(self._done) >= self._bounds.files_per_upload:
            raise bad_request(f"at most {self._bounds.files_per_upload} files in one upload")
        path = self._paths.pop(self._index, None) or filename
        if not path:
            raise bad_request(f"files[{self._index}].file came without files[{self._index}].path")
        self._path, self._size = path, 0
        self._fd = await create_file(self._jail, path)

    async def _finish(self) -> None:
        if self._text is not None:
            try:
                self._paths[self._index] = check_path(self._text.decode())
            except UnicodeDecodeError as error:
                raise bad_request("a path is not UTF-8", "INVALID_FILE_PATH") from error
            self._text = None
            if len(self._paths) > self._bounds.files_per_upload:
                raise bad_request(f"at most {self._bounds.files_per_upload} files in one upload")
        elif self._fd >= 0:
            await self._flush()
            self._close()
            self._done.append(Uploaded(self._path, self._size))

    async def _flush(self) -> None:
        if not self._piece:
            return
        if free_bytes(self._data) < self._bounds.free_disk:
            raise ApiError(507, "the disk of this machine is nearly full", code="NO_SPACE")
        piece, self._piece = self._piece, bytearray()
        try:
            await asyncio.to_thread(_write_all, self._fd, piece)
        except OSError as error:
            raise from_os_error(error, self._path) from error

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        self._piece.clear()


async def create_file(jail: Jail, path: str) -> int:
    """Open a file of a sandbox for writing, emptied; folders above it are made."""
    try:
        try:
            return await jail.open(path, _WRITE, _MODE)
        except FileNotFoundError:
            await jail.file_op("mkdir", path=str(PurePosixPath(path).parent), mode=_FOLDER_MODE, parents=True)
            return await jail.open(path, _WRITE, _MODE)
    except ConnectionError:
        raise
    except OSError as error:
        raise from_os_error(error, path) from error


def check_path(path: str) -> str:
    """A path that a kernel could take. 400 otherwise."""
    if not path or "\0" in path or len(path) > _PATH_LIMIT:
        raise bad_request(f"a path has 1 to {_PATH_LIMIT} characters and no NUL", "INVALID_FILE_PATH")
    return path


def _write_all(fd: int, data: bytearray) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]
