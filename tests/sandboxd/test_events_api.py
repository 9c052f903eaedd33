"""Changes of state over Socket.IO: the SDK's waits use them, and the frames are right."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time

import aiohttp
import pytest
from daytona import CreateSandboxFromSnapshotParams

PATIENCE_S = 60


@contextlib.asynccontextmanager
async def listening(server, token=None):
    """A raw client: its socket, and a reader of the next packet."""
    url = f"{server.api}/socket.io/?transport=websocket&EIO=4&source=test"
    async with aiohttp.ClientSession() as session, session.ws_connect(url) as ws:

        async def packet() -> str:
            message = await asyncio.wait_for(ws.receive(), PATIENCE_S)
            return message.data if message.type is aiohttp.WSMsgType.TEXT else f"closed {ws.close_code}"

        opened = await packet()
        assert opened[0] == "0" and json.loads(opened[1:])["pingInterval"] > 0
        await ws.send_str("40" + json.dumps({"token": server.key if token is None else token}))
        yield ws, packet


async def test_the_packets_of_a_sandboxs_life(server):
    async with listening(server) as (ws, packet):
        answer = await packet()
        assert answer.startswith("40") and json.loads(answer[2:])["sid"]
        await ws.send_str("2")
        assert await packet() == "3"
        async with server.async_sdk() as client:
            sandbox = await client.create(CreateSandboxFromSnapshotParams(labels={"a": "b"}))
            await sandbox.stop()
            await sandbox.delete()
        seen = []
        while not seen or seen[-1][1].get("newState") != "destroyed":
            name, body = json.loads((await packet()).removeprefix("42"))
            if body.get("sandbox", body)["id"] == sandbox.id:
                seen.append((name, body))
        assert seen[0][0] == "sandbox.created" and seen[0][1]["labels"] == {"a": "b"} | seen[0][1]["labels"]
        moves = [(body["oldState"], body["newState"]) for name, body in seen[1:]]
        states = ["creating", "started", "stopping", "stopped", "destroying", "destroyed"]
        assert moves == list(zip(states, states[1:], strict=False))
        assert all(body["sandbox"]["state"] == body["newState"] for _, body in seen[1:])
        assert "env" in seen[0][1] and not any("env" in body["sandbox"] for _, body in seen[1:])


@pytest.mark.parametrize("token", ["", "wrong", "ключ"])
async def test_a_wrong_key_gets_no_events(server, token):
    async with listening(server, token) as (_, packet):
        assert (await packet()).startswith("44")
        assert await packet() == "closed 1008"


async def test_packets_that_are_none(server):
    for packets in (["40"], ["40" + "[" * 10_000], ["42[]"], ["x" * 100_000]):
        url = f"{server.api}/socket.io/?transport=websocket&EIO=4"
        async with aiohttp.ClientSession() as session, session.ws_connect(url) as ws:
            await ws.receive()
            for packet in packets:
                await ws.send_str(packet)
            assert (await asyncio.wait_for(ws.receive(), PATIENCE_S)).data.startswith("44")


def test_other_transports_and_origins(server):
    with server.http() as http:
        assert http.get("/api/socket.io/?transport=polling&EIO=4").status_code == 404
        assert http.get("/api/socket.io/", headers={"Authorization": ""}).status_code == 401

    async def foreign() -> None:
        async with aiohttp.ClientSession(headers={"Origin": "http://evil.example"}) as session:
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await session.ws_connect(f"{server.api}/socket.io/?transport=websocket&EIO=4")
            assert refused.value.status == 403

    asyncio.run(foreign())


def test_the_sdk_learns_states_without_asking(server, make):
    """A stop by another client reaches the object of the first, which makes no request meanwhile."""
    sandbox = make()
    dispatcher = sandbox._subscription_manager.dispatcher
    deadline = time.monotonic() + PATIENCE_S
    while not dispatcher.is_connected:
        assert time.monotonic() < deadline, dispatcher.fail_error
        sandbox._ensure_subscribed()
        time.sleep(0.05)
    with server.http() as http:
        assert http.post(f"/api/sandbox/{sandbox.id}/stop").status_code == 200
    while sandbox.state.value != "stopped":
        assert time.monotonic() < deadline
        time.sleep(0.02)
