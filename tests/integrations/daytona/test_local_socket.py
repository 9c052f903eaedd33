"""One socket of this machine, written by threads and read on a loop."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator

import pytest

from fleet_rlm.integrations.daytona.local_socket import LocalSocket

PATIENCE_S = 20.0
Ends = tuple[LocalSocket, socket.socket]
MANY = 8_000_000  # bytes: more than the kernel keeps


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    made = asyncio.new_event_loop()
    thread = threading.Thread(target=made.run_forever, daemon=True)
    thread.start()
    yield made
    made.call_soon_threadsafe(made.stop)
    thread.join(PATIENCE_S)
    made.close()


@pytest.fixture
def ends(loop: asyncio.AbstractEventLoop) -> Iterator[tuple[LocalSocket, socket.socket]]:
    near, far = socket.socketpair()
    far.settimeout(PATIENCE_S)

    async def make() -> LocalSocket:
        return LocalSocket(near)

    line = asyncio.run_coroutine_threadsafe(make(), loop).result(PATIENCE_S)
    with far:
        yield line, far
        closed(loop, line)


def closed(loop: asyncio.AbstractEventLoop, line: LocalSocket) -> None:
    async def close() -> None:
        line.close()

    asyncio.run_coroutine_threadsafe(close(), loop).result(PATIENCE_S)


def test_who_writes_faster_than_is_read_can_wait_for_room(ends: Ends) -> None:
    line, far = ends
    line.write(b"x" * MANY)
    waits = threading.Thread(target=line.await_room, args=(MANY // 2,), daemon=True)
    waits.start()
    waits.join(0.1)
    assert waits.is_alive(), "nobody reads"
    left = MANY
    while left:
        left -= len(far.recv(1 << 20))
    waits.join(PATIENCE_S)
    assert not waits.is_alive()


def test_who_waits_for_room_is_let_go_when_the_line_ends(loop: asyncio.AbstractEventLoop, ends: Ends) -> None:
    line, _ = ends
    line.write(b"x" * MANY)
    waits = threading.Thread(target=line.await_room, args=(0,), daemon=True)
    waits.start()
    closed(loop, line)
    waits.join(PATIENCE_S)
    assert not waits.is_alive()
    line.write(b"dropped")
    line.await_room(0)


def test_what_is_paused_is_not_read_until_it_is_resumed(loop: asyncio.AbstractEventLoop, ends: Ends) -> None:
    (line, far), heard, came = ends, list[bytes](), threading.Event()

    def hear(data: bytes) -> None:
        heard.append(data)
        came.set()
        line.pause()

    loop.call_soon_threadsafe(line.listen, hear)
    far.sendall(b"one")
    assert came.wait(PATIENCE_S)
    came.clear()
    far.sendall(b"two")
    assert not came.wait(0.1)
    loop.call_soon_threadsafe(line.resume)
    assert came.wait(PATIENCE_S) and heard == [b"one", b"two"]
