"""A multipart body to one file on disk, in pieces: nothing of it is ever whole in memory."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect

from fleet_rlm.errors import InvalidInput, StorageError, TooLarge
from fleet_rlm.runtime.content.contexts import MAX_BYTES

PIECE = 1 << 20
MAX_PARTS = 50_000
MAX_FIELD = 4_096
MAX_HEADER = 16_384


@dataclass(slots=True)
class Part:
    """A file of the upload: its relative path and where its bytes lie in the temporary file."""

    path: str
    start: int
    size: int = 0


@dataclass(slots=True)
class Upload:
    """What came: files in order, and the name for a set of them."""

    file: Path
    parts: list[Part] = field(default_factory=list[Part])
    name: str | None = None

    def chunks(self, part: Part) -> Iterator[bytes]:
        """The bytes of a file, piece by piece."""
        left = part.size
        with self.file.open("rb") as file:
            file.seek(part.start)
            while left > 0 and (piece := file.read(min(PIECE, left))):
                left -= len(piece)
                yield piece


@asynccontextmanager
async def receive_upload(request: Request, folder: Path) -> AsyncGenerator[Upload]:
    """Read the body to a private temporary file, gone when the block ends.

    Errors: InvalidInput for a malformed body, TooLarge, StorageError for a full disk.
    """
    boundary = parse_options_header(request.headers.get("content-type"))[1].get(b"boundary")
    if not boundary:
        raise InvalidInput("the multipart body names no boundary")
    path = folder / f"up_{secrets.token_hex(8)}"
    try:
        with await asyncio.to_thread(_create, path) as file:
            upload = await _read(request, file, boundary, Upload(path))
        yield upload
    except OSError as error:
        raise StorageError(f"the upload cannot be kept: {error.strerror or error}") from error
    finally:
        await asyncio.to_thread(path.unlink, missing_ok=True)


def _create(path: Path) -> FileIO:
    path.parent.mkdir(mode=0o700, exist_ok=True)
    return FileIO(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600), "wb")


async def _read(request: Request, file: FileIO, boundary: bytes, upload: Upload) -> Upload:
    try:
        reader = _Reader(boundary, upload)
        async for piece in request.stream():
            reader.parser.write(piece)
            if len(reader.pending) >= PIECE:
                await asyncio.to_thread(_write_all, file, reader.take())
        reader.parser.finalize()
    except FormParserError as error:
        raise InvalidInput(f"the multipart body is malformed: {error}") from None
    except ClientDisconnect:
        raise InvalidInput("the upload broke off") from None
    await asyncio.to_thread(_write_all, file, reader.take())
    if not reader.complete:
        raise InvalidInput("the upload broke off before its end")
    if not upload.parts:
        raise InvalidInput("the upload holds no part named 'file'")
    return upload


def _write_all(file: FileIO, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[file.write(view) or 0 :]


class _Reader:
    """Turns the parser's callbacks into parts and pending bytes."""

    def __init__(self, boundary: bytes, upload: Upload) -> None:
        self.upload = upload
        self.pending = bytearray()
        self.complete = False
        self._written = 0
        self._headers: dict[bytes, bytes] = {}
        self._name = self._value = b""
        self._field: bytearray | None = None
        self._part: Part | None = None
        self._field_name = ""
        self.parser = MultipartParser(
            boundary,
            callbacks={
                "on_part_begin": self._begin,
                "on_header_field": self._on_name,
                "on_header_value": self._on_value,
                "on_header_end": self._on_header,
                "on_headers_finished": self._on_headers,
                "on_part_data": self._on_data,
                "on_part_end": self._on_part_end,
                "on_end": self._on_end,
            },
        )

    def take(self) -> bytes:
        """The bytes to be written now."""
        data, self.pending = bytes(self.pending), bytearray()
        return data

    def _begin(self) -> None:
        self._headers, self._field, self._part = {}, None, None

    def _on_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _on_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]
        if len(self._value) > MAX_HEADER:
            raise TooLarge("a part's header is too long")

    def _on_header(self) -> None:
        self._headers[self._name.lower()] = self._value
        self._name = self._value = b""

    def _on_headers(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition"))
        self._field_name = options.get(b"name", b"").decode("utf-8", "replace")
        if b"filename" in options:
            if self._field_name != "file":
                raise InvalidInput(f"files come in parts named 'file', not {self._field_name[:80]!r}")
            if len(self.upload.parts) >= MAX_PARTS:
                raise TooLarge(f"more than {MAX_PARTS} files", hint="upload a smaller folder")
            path = options[b"filename"].decode("utf-8", "replace") or "text"
            self._part = Part(path, self._written)
        else:
            self._field = bytearray()

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        if self._part is not None:
            self._part.size += end - start
            self._written += end - start
            if self._written > MAX_BYTES:
                raise TooLarge(f"the upload is larger than {MAX_BYTES / 1e9:g} GB", hint="attach a part of it")
            self.pending += data[start:end]
        elif self._field is not None:
            self._field += data[start:end]
            if len(self._field) > MAX_FIELD:
                raise TooLarge(f"the field {self._field_name[:80]!r} is too long")

    def _on_part_end(self) -> None:
        if self._part is not None:
            self.upload.parts.append(self._part)
        elif self._field_name == "name" and self._field:
            self.upload.name = self._field.decode("utf-8", "replace")

    def _on_end(self) -> None:
        self.complete = True
