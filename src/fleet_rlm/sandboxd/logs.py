"""The output of one session command, kept whole up to a bound: with stream markers as it goes over the wire, and
each stream by itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from enum import Enum
from typing import Final

_CHUNK: Final = 32 * 1024


class Stream(bytes, Enum):
    """A stream by the three bytes that announce it."""

    OUT = b"\x01\x01\x01"
    ERR = b"\x02\x02\x02"


class CommandLog:
    """Grows until `limit` bytes or its end; what comes above the limit is counted and dropped."""

    def __init__(self, limit: int) -> None:
        self.raw = bytearray()
        self._streams = {Stream.OUT: bytearray(), Stream.ERR: bytearray()}
        self._limit = limit
        self._dropped = 0
        self._last: Stream | None = None
        self._ended = False
        self._changed = asyncio.Event()

    @property
    def size(self) -> int:
        """Bytes of memory that the log takes, about."""
        return 2 * len(self.raw)

    def text(self, stream: Stream | None = None) -> str:
        """All of one stream, or of both with markers; bytes that are no UTF-8 are replaced."""
        return (self.raw if stream is None else self._streams[stream]).decode(errors="replace")

    def add(self, stream: Stream, data: bytes) -> None:
        """Append what a stream gave."""
        kept = data[: max(0, self._limit - len(self.raw))]
        self._dropped += len(data) - len(kept)
        if kept:
            self._append(stream, kept)

    def end(self) -> None:
        """Followers get what is left and then the end. Late output of background programs may still be added."""
        if self._dropped:
            self._append(Stream.ERR, f"\n[output cut off: {self._dropped} more bytes]\n".encode())
        self._ended = True
        self._wake()

    async def follow(self) -> AsyncIterator[bytes]:
        """Everything from the first byte, then what comes, until the end."""
        at = 0
        while True:
            ended, changed = self._ended, self._changed
            while at < len(self.raw):
                chunk = bytes(self.raw[at : at + _CHUNK])
                at += len(chunk)
                yield chunk
            if ended:
                return
            if changed is self._changed:
                await changed.wait()

    def _append(self, stream: Stream, data: bytes) -> None:
        if stream is not self._last:
            self.raw += stream.value
            self._last = stream
        self.raw += data
        self._streams[stream] += data
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
