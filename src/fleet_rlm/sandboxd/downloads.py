"""Bulk downloads: one multipart part per requested path, streamed, with the path echoed byte for byte."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Sequence
from typing import Final
from urllib.parse import quote

from fleet_rlm.sandboxd.errors import envelope, from_os_error
from fleet_rlm.sandboxd.jail.warm import Jail

_CHUNK: Final = 256 * 1024
# The SDK's parser takes header lines of up to 4224 bytes; the plain name is cut before the exact one is endangered.
_LINE: Final = 4000
_SHORT_NAME: Final = 64


class CutOff(OSError):
    """A file became shorter while it was sent, so the answer has to break off."""


class Download:
    """A multipart/form-data body over the files of a jail."""

    def __init__(self, jail: Jail, paths: Sequence[str]) -> None:
        self._jail = jail
        self._paths = paths
        self._boundary = f"sandboxd-{secrets.token_hex(16)}"

    @property
    def media_type(self) -> str:
        """The Content-Type of the body."""
        return f"multipart/form-data; boundary={self._boundary}"

    async def stream(self) -> AsyncIterator[bytes]:
        """The body, part by part. A file that cannot be read becomes an `error` part with the envelope."""
        for path in self._paths:
            try:
                fd = await self._jail.open(path, os.O_RDONLY)
            except ConnectionError:
                raise
            except OSError as error:
                body = envelope(from_os_error(error, path), path="/toolbox/", method="POST")
                yield self._head("error", path, "application/json", len(body)) + body + b"\r\n"
                continue
            try:
                size = os.fstat(fd).st_size
                yield self._head("file", path, "application/octet-stream", size)
                async for chunk in contents(fd, size):
                    yield chunk
                yield b"\r\n"
            finally:
                os.close(fd)
        yield f"--{self._boundary}--\r\n".encode()

    def _head(self, name: str, path: str, content_type: str, size: int) -> bytes:
        exact = quote(path, safe="")
        plain = "".join("_" if ord(char) < 32 or char == "\x7f" else char for char in path)
        plain = plain.replace("\\", "\\\\").replace('"', '\\"')
        if len(exact) + len(plain.encode()) > _LINE:
            plain = quote(path[-_SHORT_NAME:], safe="/")
        return (
            f"--{self._boundary}\r\n"
            f'Content-Disposition: form-data; name="{name}"; filename="{plain}"; filename*=utf-8\'\'{exact}\r\n'
            f"Content-Type: {content_type}\r\n"
            f"Content-Length: {size}\r\n\r\n"
        ).encode()


async def contents(fd: int, size: int) -> AsyncIterator[bytes]:
    """Exactly `size` bytes of a file; what was added meanwhile is left out."""
    left = size
    while left:
        try:
            chunk = await asyncio.to_thread(os.read, fd, min(_CHUNK, left))
        except OSError as error:
            raise CutOff(str(error)) from error
        if not chunk:
            raise CutOff("the file became shorter while it was read")
        left -= len(chunk)
        yield chunk
