"""HTTP/1 on streams, one request per connection: heads read and written whole, bodies passed on exactly as long as
the head says, so that nothing a client sends after its request goes anywhere."""

from __future__ import annotations

import asyncio
import contextlib
import re
from dataclasses import dataclass
from typing import Final

HEAD_LIMIT: Final = 64 * 1024  # bytes
_CHUNK: Final = 64 * 1024
_IDLE_S: Final = 3600.0
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_REQUEST: Final = re.compile(r"([A-Z]{1,20}) (/[\x21-\x7e]*|\*) HTTP/1\.[01]")
_ANSWER: Final = re.compile(r"HTTP/1\.[01] ([1-5][0-9]{2})( .*)?")
_BETWEEN_TWO: Final = frozenset({"connection", "keep-alive", "proxy-connection", "te", "trailer", "upgrade"})

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Malformed(Exception):
    """What came is no HTTP/1 message; the text says why."""


@dataclass(slots=True)
class Head:
    """The first line and the fields of a message; field names in lower case."""

    first: str
    fields: list[tuple[str, str]]

    def get(self, name: str) -> str:
        """The first value of a field, else an empty text."""
        return next((value for key, value in self.fields if key == name), "")

    def without(self, *names: str) -> Head:
        """A head that lacks these fields and those that are for one connection alone."""
        return Head(self.first, [(k, v) for k, v in self.fields if k not in _BETWEEN_TWO and k not in names])

    def request(self) -> tuple[str, str]:
        """Method and target of a request."""
        if (found := _REQUEST.fullmatch(self.first)) is None:
            raise Malformed("not an HTTP/1.1 request for a path")
        return found[1], found[2]

    def status(self) -> int:
        """The status of an answer."""
        if (found := _ANSWER.fullmatch(self.first)) is None:
            raise Malformed("not an HTTP/1.1 answer")
        return int(found[1])

    def encode(self) -> bytes:
        """As it goes over the wire."""
        lines = [self.first, *(f"{name}: {value}" for name, value in self.fields), "", ""]
        return "\r\n".join(lines).encode("latin-1")


async def read_head(reader: asyncio.StreamReader, seconds: float) -> Head | None:
    """The next head; None when the other side left without one. Malformed, TimeoutError."""
    try:
        async with asyncio.timeout(seconds):
            data = await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError as error:
        raise Malformed(f"the head is larger than {HEAD_LIMIT} bytes") from error
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise Malformed("the head was cut off") from error
        return None
    first, *lines = data[:-4].decode("latin-1").split("\r\n")
    head = Head(first, [_field(line) for line in lines])
    if sum(name in ("content-length", "transfer-encoding") for name, _ in head.fields) > 1:
        raise Malformed("two statements about the length of the body")
    return head


def _field(line: str) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    if not colon or not _TOKEN.fullmatch(name) or any(ord(letter) < 32 and letter != "\t" for letter in value):
        raise Malformed("a header field is malformed")
    return name.lower(), value.strip()


async def send_body(head: Head, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass on exactly the body that a request's head announces."""
    with contextlib.suppress(OSError, EOFError, ValueError):
        if coding := head.get("transfer-encoding"):
            if coding.lower() == "chunked":
                await _send_chunks(reader, writer)
        elif (length := head.get("content-length")).isdecimal():
            await _copy(reader, writer, int(length[:18]))


async def _send_chunks(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        size = int((await reader.readline()).split(b";")[0], 16)
        if size < 0:
            raise ValueError("a chunk of negative size")
        writer.write(b"%x\r\n" % size)
        await _copy(reader, writer, size)
        if size == 0:  # trailers are not passed on
            writer.write(b"\r\n")
            await writer.drain()
            return
        await reader.readexactly(2)
        writer.write(b"\r\n")


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, size: int) -> None:
    while size > 0:
        data = await reader.read(min(_CHUNK, size))
        if not data:
            raise EOFError
        size -= len(data)
        writer.write(data)
        await writer.drain()


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass everything on until the end."""
    with contextlib.suppress(OSError):
        while data := await asyncio.wait_for(reader.read(_CHUNK), _IDLE_S):
            writer.write(data)
            await writer.drain()


async def either(*work: asyncio.Task[None]) -> None:
    """Wait for the first of these to end, then end the others."""
    try:
        await asyncio.wait(work, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in work:
            task.cancel()
        await asyncio.gather(*work, return_exceptions=True)


async def refuse(writer: asyncio.StreamWriter, status: int, text: str) -> None:
    """An answer of the server's own, as plain text that no browser takes for a page."""
    body = f"{text}\n".encode()
    fields = [
        ("content-type", "text/plain; charset=utf-8"),
        ("content-length", str(len(body))),
        ("x-content-type-options", "nosniff"),
        ("cache-control", "no-store"),
        ("connection", "close"),
    ]
    with contextlib.suppress(OSError):
        writer.write(Head(f"HTTP/1.1 {status} Refused", fields).encode() + body)
        await writer.drain()
