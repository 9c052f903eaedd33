"""Reading and writing the non-blocking pipes of a jailed process on the event loop."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from typing import Final

_CHUNK: Final = 65536


async def collect(fd: int, limit: int) -> str:
    """Everything that comes until the end, as text; above `limit` bytes the rest is read but not kept."""
    kept = bytearray()
    dropped = 0
    while chunk := await _read(fd):
        room = limit - len(kept)
        kept += chunk[:room]
        dropped += max(0, len(chunk) - room)
    text = kept.decode(errors="replace")
    return f"{text}\n[output cut off: {dropped} more bytes]" if dropped else text


async def feed(fd: int | None, data: bytes) -> None:
    """Write everything, then close the descriptor; a reader that is gone ends it early."""
    if fd is None:
        return
    try:
        await write_all(fd, data)
    finally:
        os.close(fd)


async def write_all(fd: int, data: bytes) -> None:
    """Write everything as there is room; a reader that is gone ends it early."""
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[os.write(fd, rest[:_CHUNK]) :]
        except BlockingIOError:
            await _ready(fd, writing=True)
        except BrokenPipeError:
            return


def read_now(fd: int) -> bytes | None:
    """What can be read without waiting: None when there is nothing yet, empty at the end."""
    try:
        return os.read(fd, _CHUNK)
    except BlockingIOError:
        return None


async def readable(fds: Iterable[int]) -> None:
    """Wait until one of these can be read."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = loop.create_future()
    watched = tuple(fds)
    for fd in watched:
        loop.add_reader(fd, _resolve, future)
    try:
        await future
    finally:
        for fd in watched:
            loop.remove_reader(fd)


async def _read(fd: int) -> bytes:
    while True:
        try:
            return os.read(fd, _CHUNK)
        except BlockingIOError:
            await _ready(fd, writing=False)


async def _ready(fd: int, *, writing: bool) -> None:
    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = loop.create_future()
    add, remove = (loop.add_writer, loop.remove_writer) if writing else (loop.add_reader, loop.remove_reader)
    add(fd, _resolve, future)
    try:
        await future
    finally:
        remove(fd)


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
