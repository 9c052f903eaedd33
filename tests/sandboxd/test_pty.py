"""Terminals through the SDK and over bare WebSockets."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import time
from collections.abc import AsyncIterator

import aiohttp
import pytest
from daytona import DaytonaConflictError, DaytonaError, DaytonaGoneError, DaytonaNotFoundError, PtySize

EXIT_CONTROL = "X-Daytona-Pty-Exit-Control"
PATIENCE = 30.0


class Screen(bytearray):
    """What a terminal has shown, and a way to wait for more."""

    async def until(self, text: bytes | None = None, size: int = 0) -> None:
        async with asyncio.timeout(PATIENCE):
            while (text is not None and text not in self) or len(self) < size:
                await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def inside(server, sandbox) -> AsyncIterator:
    async with server.async_sdk() as client:
        yield await client.get(sandbox.id)


def socket_url(server, sandbox, tail: str) -> str:
    return f"{server.api.removesuffix('/api')}/toolbox/{sandbox.id}/process/pty/{tail}"


@contextlib.asynccontextmanager
async def bare(server, sandbox, tail: str, **options) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    headers = {"Authorization": f"Bearer {server.key}"}
    options = {"max_msg_size": 0, **options}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.ws_connect(socket_url(server, sandbox, tail), **options) as socket,
    ):
        yield socket


def test_shell_echo_environment_and_exit_code(server, sandbox):
    async def run() -> None:
        async with inside(server, sandbox) as box:
            screen = Screen()
            envs = {"GREETING": "hällo", "LONG": "x" * 3000}
            handle = await box.process.create_pty_session("shell", screen.extend, cwd="/tmp", envs=envs)
            await handle.send_input('echo "$GREETING-$((6*7))" ${#LONG} $PWD $TERM\n')
            await screen.until("hällo-42 3000 /tmp xterm-256color".encode())
            await handle.send_input("exit 7\n")
            result = await asyncio.wait_for(handle.wait(), PATIENCE)
            assert result.exit_code == 7 and not handle.is_connected()
            assert (await box.process.get_pty_session_info("shell")).active is False

    asyncio.run(run())


def test_sync_sdk_terminal(sandbox):
    handle = sandbox.process.create_pty_session("sync", pty_size=PtySize(cols=100, rows=30))
    handle.send_input("stty size; exit 0\n")
    screen = bytearray()
    result = handle.wait(on_data=screen.extend, timeout=PATIENCE)
    assert result.exit_code == 0
    assert b"30 100" in screen


def test_several_clients_reconnect_and_the_process_goes_on(server, sandbox):
    async def run() -> None:
        async with inside(server, sandbox) as box:
            first, second, third = Screen(), Screen(), Screen()
            one = await box.process.create_pty_session("shared", first.extend)
            two = await box.process.connect_pty_session("shared", second.extend)
            await one.send_input("echo from-$((40+1))\n")
            await first.until(b"from-41")
            await second.until(b"from-41")
            await one.disconnect()
            await two.disconnect()
            # Nobody is attached: output far larger than any buffer must not block the process.
            again = await box.process.connect_pty_session("shared", third.extend)
            await again.send_input("sleep 0.5; head -c 20000000 /dev/zero | tr '\\0' x; touch flooded\n")
            await again.disconnect()
            async with asyncio.timeout(PATIENCE):
                while (await box.process.exec("ls flooded")).exit_code:
                    await asyncio.sleep(0.1)
            last = Screen()
            back = await box.process.connect_pty_session("shared", last.extend)
            await back.send_input("echo still-$((1+1))\n")
            await last.until(b"still-2")
            await box.process.kill_pty_session("shared")
            assert (await asyncio.wait_for(back.wait(), PATIENCE)).exit_code == 137

    asyncio.run(run())


def test_list_get_resize_and_errors(server, sandbox):
    async def run() -> None:
        async with inside(server, sandbox) as box:
            screen = Screen()
            handle = await box.process.create_pty_session("sized", screen.extend, pty_size=PtySize(cols=90, rows=20))
            info = await box.process.get_pty_session_info("sized")
            assert (info.cols, info.rows, info.active, info.cwd) == (90, 20, True, "/workspace")
            assert "sized" in {session.id for session in await box.process.list_pty_sessions()}
            assert (await handle.resize(PtySize(cols=120, rows=40))).cols == 120
            await handle.send_input("stty size\n")
            await screen.until(b"40 120")
            with pytest.raises(DaytonaConflictError):
                await box.process.create_pty_session("sized", screen.extend)
            with pytest.raises(DaytonaNotFoundError):
                await box.process.get_pty_session_info("absent")
            with pytest.raises(DaytonaError):
                await box.process.connect_pty_session("absent", screen.extend)
            await handle.send_input("exit\n")
            await handle.wait()
            with pytest.raises(DaytonaGoneError):
                await box.process.resize_pty_session("sized", PtySize(cols=80, rows=24))
            late = await box.process.connect_pty_session("sized", screen.extend)
            assert (await asyncio.wait_for(late.wait(), PATIENCE)).exit_code == 0, "the exit can still be learnt"
            await box.process.kill_pty_session("sized")
            with pytest.raises(DaytonaNotFoundError):
                await box.process.kill_pty_session("sized")

    asyncio.run(run())


def test_a_warm_script_echoes_binary_frames(server, sandbox, warm_script):
    envs = {"SANDBOXD_WARM_SCRIPT": hashlib.sha256(warm_script.read_bytes()).hexdigest(), "GREETING": "warmly"}

    async def run() -> None:
        async with inside(server, sandbox) as box:
            screen = Screen()
            handle = await box.process.create_pty_session("warm", screen.extend, envs=envs)
            await screen.until(b"ready warmly\n")
            assert bytes(screen) == b"ready warmly\n", "the terminal is raw: no prompt, no echo, no \\r"
            data = os.urandom(1 << 20)
            for start in range(0, len(data), 32768):
                seen = len(screen)
                await handle.send_input(data[start : start + 32768])
                await screen.until(size=seen + 32768)
            assert screen.endswith(data)
            await handle.send_input(b"quit")
            assert (await asyncio.wait_for(handle.wait(), PATIENCE)).exit_code == 7

    asyncio.run(run())


def test_an_unknown_warm_script_is_an_ordinary_shell(server, sandbox):
    async def run() -> None:
        async with inside(server, sandbox) as box:
            screen = Screen()
            envs = {"SANDBOXD_WARM_SCRIPT": "0" * 64}
            handle = await box.process.create_pty_session("cold", screen.extend, envs=envs)
            await handle.send_input("echo $((2+3))-$SANDBOXD_WARM_SCRIPT; exit\n")
            await screen.until(b"5-0000")
            await asyncio.wait_for(handle.wait(), PATIENCE)

    asyncio.run(run())


def test_the_wire_protocol(server, sandbox):
    """Control texts, binary output, exit message only when offered, code and reason of the close."""

    async def run() -> None:
        async with bare(server, sandbox, "create-connect?id=wire&cols=80&rows=24") as socket:
            assert json.loads((await socket.receive()).data) == {"type": "control", "status": "connected"}
            await socket.send_str("exit 3\n")  # text is input as well
            kinds, closed = await drain(socket)
            assert kinds == {aiohttp.WSMsgType.BINARY}
            assert (closed.data, json.loads(closed.extra)) == (1011, {"exitCode": 3})
        options = {"protocols": [EXIT_CONTROL]}
        async with bare(server, sandbox, "create-connect?id=wire&cols=80&rows=24", **options) as socket:
            assert socket.protocol == EXIT_CONTROL
            await socket.send_bytes(b"exit 0\n")
            texts: list[str] = []
            _, closed = await drain(socket, texts)
            assert json.loads(texts[-1]) == {"type": "control", "status": "exited", "exitCode": 0}
            assert closed.data == 1000

    asyncio.run(run())


async def drain(socket, texts: list[str] | None = None):
    kinds = set()
    async with asyncio.timeout(PATIENCE):
        while (message := await socket.receive()).type in (aiohttp.WSMsgType.BINARY, aiohttp.WSMsgType.TEXT):
            if message.type == aiohttp.WSMsgType.TEXT and texts is not None:
                texts.append(message.data)
            kinds.add(message.type)
    return kinds, message


def test_too_large_an_input_message_closes_with_1009(server, sandbox):
    async def run() -> None:
        async with bare(server, sandbox, "create-connect?id=large") as socket:
            await socket.send_bytes(b"#" * 65536 + b"")
            await socket.send_bytes(b"#" * 65537)
            _, closed = await drain(socket)
            assert closed.data == 1009
        async with bare(server, sandbox, "large/connect") as socket:  # the terminal goes on
            assert json.loads((await socket.receive()).data)["status"] == "connected"

    asyncio.run(run())


def test_a_slow_consumer_is_dropped_and_the_process_goes_on(server, sandbox):
    async def run() -> None:
        async with bare(server, sandbox, "create-connect?id=slow") as socket:
            await socket.receive()
            await socket.send_bytes(b"head -c 60000000 /dev/zero | tr '\\0' x; touch slow-done\n")
            async with inside(server, sandbox) as box, asyncio.timeout(60):
                while (await box.process.exec("ls slow-done")).exit_code:  # nothing is read from the socket meanwhile
                    await asyncio.sleep(0.2)
            _, closed = await drain(socket)
            assert (closed.data, closed.extra) == (1008, "slow consumer")

    asyncio.run(run())


@pytest.mark.parametrize(
    ("tail", "headers", "status"),
    [
        ("create-connect?id=x", {"Authorization": "Bearer wrong"}, 401),
        ("create-connect", {}, 400),
        ("create-connect?id=x&cols=0", {}, 400),
        ("create-connect?id=x&rows=many", {}, 400),
        ("create-connect?id=x&cwd=/nowhere", {}, 400),
        ("create-connect?id=x", {"Sec-WebSocket-Protocol": "X-Daytona-Pty-Envs~!!!"}, 400),
        ("create-connect?id=x", {"Host": "evil.example"}, 403),
        ("create-connect?id=x", {"Origin": "http://evil.example"}, 403),
        ("absent/connect", {}, 404),
        ("absent/other", {}, 501),
    ],
)
def test_refused_upgrades_carry_the_http_status(server, sandbox, tail, headers, status):
    async def run() -> None:
        async with aiohttp.ClientSession() as session:
            merged = {"Authorization": f"Bearer {server.key}", **headers}
            with pytest.raises(aiohttp.WSServerHandshakeError) as raised:
                await session.ws_connect(socket_url(server, sandbox, tail), headers=merged)
            assert raised.value.status == status

    asyncio.run(run())


def test_killing_a_terminal_ends_its_background_jobs(sandbox):
    handle = sandbox.process.create_pty_session("jobs")
    handle.send_input("sleep 777 & sleep 888 & touch jobs-run; wait\n")
    assert sandbox.process.exec("while ! test -e jobs-run; do sleep 0.05; done", timeout=30).exit_code == 0
    sandbox.process.kill_pty_session("jobs")
    assert handle.wait(timeout=PATIENCE).exit_code == 137
    ended = (
        "for n in $(seq 600); do cat /proc/[0-9]*/cmdline | grep -aq 'sleep.[78]' || exit 0; sleep 0.05; done; exit 1"
    )
    assert sandbox.process.exec(ended, timeout=60).exit_code == 0


def test_deleting_the_sandbox_ends_its_terminals(server, make):
    sandbox = make(ephemeral=True)

    async def run() -> None:
        async with inside(server, sandbox) as box:
            handle = await box.process.create_pty_session("last", lambda _: None)
            started = time.monotonic()
            await box.delete()
            assert (await asyncio.wait_for(handle.wait(), PATIENCE)).exit_code == 137
            assert time.monotonic() - started < PATIENCE

    asyncio.run(run())
