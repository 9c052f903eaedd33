"""Whatever comes through the control socket, from a first process taken over by hostile code or to it from a broken
server, neither side crashes, stalls or keeps what it was sent."""

import asyncio
import json
import os
import random
import signal
import socket
from pathlib import Path

import pytest
from jail_support import PATIENCE_S, output

from fleet_rlm.sandboxd.jail.handle import Jail
from fleet_rlm.sandboxd.jail.inside import wire
from fleet_rlm.sandboxd.jail.link import Link
from fleet_rlm.sandboxd.jail.spec import JailClosed, JailSpec, Rung
from fleet_rlm.sandboxd.jail.warm import WarmServer

MALFORMED = [
    b"\x00",
    b"null",
    b"[]",
    b"7",
    b'"text"',
    b"{",
    b"\xff\xfe{}",
    b"[" * 100_000,
    b'{"a":' * 20_000,
    b'{"id":' + b"9" * 10_000 + b"}",
    b'{"exit":"x","code":1}',
    b'{"exit":5}',
    b'{"exit":1e999,"code":1}',
    b'{"exit":[],"code":{}}',
    b'{"error":5}',
    b'{"id":1,"error":7}',
    b'{"id":1,"error":{}}',
    b'{"id":1,"part":5}',
    b'{"id":1,"part":{"a":1}}',
]


def a_jail() -> Jail:
    return Jail(JailSpec("a", Path("/nowhere")), {}, None, Rung.NAMESPACES)


async def answer(packets: list[bytes], *, fds: int = 0) -> str:
    """Ask through a link whose other side sends these packets: `closed` or the error's name."""
    own, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ended = asyncio.Event()
    link = Link(own, a_jail().event, ended.set)
    asking = asyncio.create_task(link.request({"op": "stat"}))
    await asyncio.sleep(0)
    with other:
        null = os.open("/dev/null", os.O_RDONLY)
        for packet in packets:
            try:
                socket.send_fds(other, [packet], [null] * fds)
            except OSError:
                break  # it hung up on us
        os.close(null)
    try:
        await asyncio.wait_for(asking, PATIENCE_S)
        return "answered"
    except OSError as error:
        return type(error).__name__
    finally:
        link.close()


@pytest.mark.parametrize("packet", MALFORMED, ids=lambda packet: packet[:24].decode("latin-1"))
async def test_malformed_packets_end_the_jail_and_nothing_else(packet: bytes) -> None:
    before = len(os.listdir("/proc/self/fd"))
    assert await answer([packet], fds=3) in ("JailClosed", "OSError")
    assert len(os.listdir("/proc/self/fd")) == before


async def test_random_packets() -> None:
    source = random.Random(7)
    before = len(os.listdir("/proc/self/fd"))
    words = ["id", "ok", "error", "part", "exit", "code", "pid", "ready", "over_memory", "errno", "text", "path"]
    values = [None, 1, 0, -1, 2**70, 1.5, "x", [], {}, [{}], True, {"errno": "x"}, {"errno": 2, "text": [], "path": 7}]
    for _ in range(300):
        if source.random() < 0.3:
            packet = source.randbytes(source.randrange(1, 2000))
        else:
            packet = json.dumps({source.choice(words): source.choice(values) for _ in range(3)}).encode()
        await answer([packet], fds=source.randrange(3))
    assert len(os.listdir("/proc/self/fd")) == before


async def test_packets_too_large_and_too_many_descriptors() -> None:
    own, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with own, other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
        other.send(b"{" + b" " * (wire.MAX_MESSAGE + 100) + b"}")
        with pytest.raises(ValueError, match="cannot be read"):
            wire.receive(own)
        null = os.open("/dev/null", os.O_RDONLY)
        before = len(os.listdir("/proc/self/fd"))
        socket.send_fds(other, [b"{}"], [null] * 100)
        with pytest.raises(ValueError, match="cannot be read"):
            wire.receive(own)
        assert len(os.listdir("/proc/self/fd")) == before
        os.close(null)


async def test_an_answer_without_end_is_given_up() -> None:
    part = json.dumps({"id": 1, "part": [0] * 30_000}).encode()
    own, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    link = Link(own, lambda *_: None, lambda: None)
    asking = asyncio.create_task(link.request({"op": "list"}))
    other.setblocking(False)
    with other:
        for _ in range(10):
            try:
                await asyncio.get_running_loop().sock_sendall(other, part)
            except OSError:
                break
            await asyncio.sleep(0)
        with pytest.raises(JailClosed):
            await asyncio.wait_for(asking, PATIENCE_S)


async def test_a_flood_does_not_hold_up_the_loop() -> None:
    """While one jail's socket is never empty, the loop still turns."""
    own, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    seen = 0

    def refill(*_: object) -> None:
        nonlocal seen
        seen += 1
        other.send(b'{"over_memory":1}')

    link = Link(own, refill, lambda: None)
    with other:
        refill()
        for _ in range(20):
            await asyncio.wait_for(asyncio.sleep(0.001), PATIENCE_S)
        link.close()
    assert seen > 20


async def test_exits_of_processes_that_were_never_started_are_not_kept() -> None:
    jail = a_jail()
    for pid in range(100_000):
        jail.event({"exit": pid, "code": 0}, [])
    assert not jail._exits


def a_linked_jail() -> tuple[Jail, Link, socket.socket]:
    """With its link, and the end of that at which its first process would be."""
    own, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    jail = a_jail()
    jail._link = link = Link(own, jail.event, jail.link_ended)
    return jail, link, other


async def test_two_processes_cannot_be_one() -> None:
    """Else who waits for the first would wait for ever."""
    jail, _, other = a_linked_jail()
    with other:
        starts = [asyncio.create_task(jail.run(["true"])) for _ in range(2)]
        await asyncio.sleep(0)
        for number in (1, 2):
            other.send(json.dumps({"id": number, "ok": 7}).encode())
        first, second = await asyncio.gather(*starts, return_exceptions=True)
    assert not isinstance(first, BaseException) and isinstance(second, JailClosed)
    first.close()


async def test_an_exit_at_the_heels_of_its_start_is_heard() -> None:
    jail, link, other = a_linked_jail()
    with other:
        starting = asyncio.create_task(jail.run(["true"]))
        await asyncio.sleep(0)
        for message in ({"id": 1, "ok": 7}, {"exit": 7, "code": 3}):
            other.send(json.dumps(message).encode())
        process = await starting
        assert await asyncio.wait_for(process.wait(), PATIENCE_S) == 3
        process.close()
        link.close()
    assert not jail._exits


async def test_a_first_process_gone_mad_is_ended(warm: WarmServer, rung: Rung, tmp_path: Path) -> None:
    """Its link is closed on it: the jail ends whole, the others and the warm process go on."""
    jail = await warm.spawn(JailSpec("mad", tmp_path / "mad"))
    sleeper = await jail.run(["sleep", "600"])
    jail._live().close()
    await asyncio.wait_for(jail.closed.wait(), PATIENCE_S)
    assert await asyncio.wait_for(sleeper.wait(), PATIENCE_S) == 128 + signal.SIGKILL
    sleeper.close()
    other = await warm.spawn(JailSpec("other", tmp_path / "other"))
    assert await output(other, "echo", "alive") == (0, "alive\n")
    await other.kill()


@pytest.mark.parametrize("packet", [p for p in MALFORMED if p != b'{"id":1,"part":5}'][:10])
async def test_a_broken_server_ends_only_the_jail(warm: WarmServer, tmp_path: Path, packet: bytes) -> None:
    jail = await warm.spawn(JailSpec("broken", tmp_path / "broken"))
    jail._live()._sock.send(packet)
    try:
        await asyncio.wait_for(jail.file_op("stat", path="."), PATIENCE_S)
    except OSError:
        await asyncio.wait_for(jail.closed.wait(), PATIENCE_S)
    await asyncio.wait_for(jail.kill(), PATIENCE_S)
    other = await warm.spawn(JailSpec("other", tmp_path / "other"))
    assert await output(other, "echo", "alive") == (0, "alive\n")
    await other.kill()
