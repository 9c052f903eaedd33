"""A server that has had sessions, contexts, followed logs, previews and listeners holds nothing of them afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from pathlib import Path

import aiohttp
import httpx
from daytona import CreateSandboxFromSnapshotParams, SessionExecuteRequest

PATIENCE_S = 60


def held(server) -> tuple[int, int]:
    """Descriptors and children of the server's process."""
    pid = server.process.pid
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return len(os.listdir(f"/proc/{pid}/fd")), len(children)


async def use_everything(server, client, ending: str) -> None:
    sandbox = await client.create(CreateSandboxFromSnapshotParams(auto_stop_interval=0))
    process, headers = sandbox.process, {"Authorization": f"Bearer {server.key}"}
    await process.create_session("s")
    running = await process.execute_session_command("s", SessionExecuteRequest(command="sleep 300", run_async=True))
    await process.execute_session_command("s", SessionExecuteRequest(command="echo waits", run_async=True))
    context = await sandbox.code_interpreter.create_context()
    await sandbox.code_interpreter.run_code("x = 1", context=context)
    await process.exec("python3 -m http.server 8000 >/dev/null 2>&1 &")
    link = await sandbox.get_preview_link(8000)
    toolbox = f"{server.api.removesuffix('/api')}/toolbox/{sandbox.id}"
    async with aiohttp.ClientSession(headers=headers) as http, contextlib.AsyncExitStack() as stack:
        urls = (
            f"{toolbox}/process/session/s/command/{running.cmd_id}/logs?follow=true",
            f"{toolbox}/process/interpreter/execute",
            f"{server.api}/socket.io/?transport=websocket&EIO=4",
        )
        for url in urls:
            await stack.enter_async_context(http.ws_connect(url))
        preview = {"X-Daytona-Preview-Token": link.token}
        async with httpx.AsyncClient(trust_env=False, timeout=PATIENCE_S, headers=preview) as web:
            while (await web.get(link.url)).status_code != 200:
                await asyncio.sleep(0.05)
        waiting = asyncio.create_task(
            sandbox.code_interpreter.run_code("import time; time.sleep(300)", context=context)
        )
        await asyncio.sleep(0.2)
        if ending == "kill":
            await process.exec("kill -9 -1")
        elif ending == "stop":
            await sandbox.stop()
        await sandbox.delete()
        await asyncio.wait((waiting,), timeout=PATIENCE_S)
        assert waiting.done()
        waiting.exception()  # it was cut off, which is no failure here


async def test_nothing_is_left(server):
    async with server.async_sdk() as client:
        await use_everything(server, client, "delete")  # what is made once is made now
    deadline = time.monotonic() + PATIENCE_S
    before = held(server)
    for ending in ("kill", "stop", "delete"):
        async with server.async_sdk() as client:
            await use_everything(server, client, ending)
    while held(server)[0] > before[0] or held(server)[1] > before[1]:
        assert time.monotonic() < deadline, (before, held(server))
        await asyncio.sleep(0.1)
    assert "Traceback" not in server.log.read_text()
    assert "exception" not in server.log.read_text().lower()
