"""Metrics, environment, languages, and the rest of a sandbox's life, through the SDK."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import time
from pathlib import Path

import aiohttp
import pytest
from daytona import (
    CodeRunParams,
    CreateSandboxFromSnapshotParams,
    DaytonaBadRequestError,
    DaytonaNotFoundError,
    Resources,
)

PATIENCE_S = 60
GIB = 1024**3


def test_metrics_of_now_and_as_series(make):
    sandbox = make()
    sandbox.process.exec("head -c 20000000 /dev/urandom > big; (while :; do :; done) >/dev/null 2>&1 &")
    now = sandbox.get_metrics_latest()
    assert (now.cpu_count, now.mem_total, now.disk_total) == (sandbox.cpu, sandbox.memory * GIB, sandbox.disk * GIB)
    assert 20_000_000 <= now.disk_used < GIB and 0 < now.mem_used < GIB
    assert now.cpu_used_pct > 0
    (sample,) = sandbox.get_metrics()
    assert sample.disk_used == now.disk_used and sample.mem_total == now.mem_total
    sandbox.stop()
    with pytest.raises(DaytonaBadRequestError):
        sandbox.get_metrics_latest()


def test_environment_of_programs_started_later(make):
    sandbox = make(env_vars={"KEPT": "1"})
    sandbox.process.create_session("early")
    sandbox.update_env({"LATER": "a b", "TOKEN": "placeholder-1"})
    read = "echo $KEPT $LATER $TOKEN"
    assert sandbox.process.exec(read).result == "1 a b placeholder-1\n"
    assert "a b" in sandbox.code_interpreter.run_code("import os; print(os.environ['LATER'])").stdout
    sandbox.update_env({}, unset=["LATER", "TOKEN"])
    assert sandbox.process.exec(read).result == "1\n"
    with pytest.raises(DaytonaBadRequestError, match="not a usable name"):
        sandbox.update_env({"not a name": "x"})
    with pytest.raises(DaytonaBadRequestError, match="more than"):
        sandbox.update_env({"LARGE": "x" * 100_000})


def test_values_that_begin_alike_are_taken_away(server, make):
    sandbox = make()
    sandbox.update_env({"A": "secret:1", "B": "secret:2", "C": "other"})
    with server.http() as http:
        body = {"unsetValuePrefix": "secret:", "set": {"B": "secret:3"}}
        http.post(f"/toolbox/{sandbox.id}/env", json=body).raise_for_status()
    assert sandbox.process.exec("echo $A.$B.$C").result == ".secret:3.other\n"


@pytest.mark.skipif(shutil.which("node") is None, reason="Node.js is not installed")
def test_javascript(make):
    sandbox = make(language="javascript")
    params = CodeRunParams(argv=["one"], env={"X": "7"})
    done = sandbox.process.code_run("console.log(process.argv.slice(2), process.env.X); process.exit(4)", params)
    assert (done.exit_code, done.result) == (4, "[ 'one' ] 7\n")
    assert done.artifacts.charts == []


def test_languages_that_are_not_there(server, make):
    sandbox = make()
    with server.http() as http:
        url = f"/toolbox/{sandbox.id}/process/code-run"
        answer = http.post(url, json={"code": "1", "language": "cobol"})
        assert answer.status_code == 400 and "cobol" in answer.json()["message"]
        answer = http.post(url, json={"code": "const x: number = 4; console.log(x)", "language": "typescript"})
    if answer.status_code == 200:  # a Node.js that leaves types out
        assert answer.json()["result"] == "4\n"
    else:
        assert answer.status_code == 501 and "needs Node.js" in answer.json()["message"]


def test_what_one_machine_cannot_says_why(make):
    sandbox = make()
    for call, word in (
        (sandbox.pause, "stop it"),
        (sandbox.archive, "object store"),
        (sandbox.fork, "virtual machine"),
        (lambda: sandbox.create_ssh_access(60), "create_pty_session"),
    ):
        with pytest.raises(DaytonaBadRequestError, match=word):
            call()
    assert sandbox.process.exec("echo unharmed").result == "unharmed\n"


def test_resize_is_for_stopped_sandboxes(make):
    sandbox = make()
    with pytest.raises(DaytonaBadRequestError, match="stop it first"):
        sandbox.resize(Resources(memory=2))
    sandbox.stop()
    with pytest.raises(DaytonaBadRequestError, match="only grow"):
        sandbox.resize(Resources(disk=1))
    with pytest.raises(DaytonaBadRequestError, match="between"):
        sandbox.resize(Resources(memory=1000))
    sandbox.resize(Resources(cpu=2, memory=2, disk=4))
    assert (sandbox.cpu, sandbox.memory, sandbox.disk) == (2, 2, 4)
    sandbox.start()
    code = "x = bytearray(1_300_000_000); print(len(x))"
    assert sandbox.process.code_run(code).result == "1300000000\n"  # more than a sandbox has by default


def test_recover_is_for_sandboxes_in_error(make, server):
    sandbox = make()
    with pytest.raises(DaytonaBadRequestError, match="only one in state error"):
        sandbox.recover()
    sandbox.process.exec("echo kept > file")
    with server.http() as http:
        _break(server, http, sandbox)
        assert http.post(f"/api/sandbox/{sandbox.id}/recover?skipStart=true").json()["state"] == "stopped"
        sandbox.start()
        _break(server, http, sandbox)
    sandbox.refresh_data()
    assert sandbox.state.value == "error" and sandbox.recoverable
    sandbox.recover()
    assert sandbox.process.exec("cat file").result == "kept\n"


def _break(server, http, sandbox):
    """Kill the first process of the server's newest jail from outside: for the server, the sandbox ends by itself."""

    def parent(pid: int) -> int:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])

    def is_ours(pid: int) -> bool:
        while pid > 1 and pid != server.process.pid:
            pid = parent(pid)
        return pid == server.process.pid

    firsts = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            numbers = re.search(r"^NSpid:(.*)$", (folder / "status").read_text(), re.MULTILINE)[1].split()
            if len(numbers) > 1 and numbers[-1] == "1" and is_ours(int(folder.name)):
                started = int((folder / "stat").read_text().rpartition(")")[2].split()[19])
                firsts.append((started, int(folder.name)))
    os.kill(max(firsts)[1], signal.SIGKILL)
    deadline = time.monotonic() + PATIENCE_S
    while http.get(f"/api/sandbox/{sandbox.id}").json()["state"] == "started":
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_activity(server, make):
    """Toolbox requests count, for as long as they are open; reading the sandbox does not."""
    sandbox = make()
    with server.http() as http:

        def last() -> str:
            http.get("/api/sandbox").raise_for_status()
            return http.get(f"/api/sandbox/{sandbox.id}").raise_for_status().json()["lastActivityAt"]

        first = last()
        time.sleep(0.05)
        assert last() == first
        skip = {"X-Daytona-Skip-Last-Activity-Update": "true"}
        http.get(f"/toolbox/{sandbox.id}/work-dir", headers=skip).raise_for_status()
        assert last() == first
        http.get(f"/toolbox/{sandbox.id}/work-dir").raise_for_status()
        second = last()
        assert second > first
        time.sleep(0.05)
        assert http.post(f"/api/sandbox/{sandbox.id}/last-activity").status_code == 201
        third = last()
        assert third > second

        async def open_for_a_while() -> None:
            headers = {"Authorization": f"Bearer {server.key}"}
            url = f"{server.api.removesuffix('/api')}/toolbox/{sandbox.id}/process/interpreter/execute"
            async with aiohttp.ClientSession(headers=headers) as session, session.ws_connect(url) as ws:
                await ws.send_str(json.dumps({"code": "import time; time.sleep(0.5)"}))
                await asyncio.wait_for(ws.receive(), PATIENCE_S)

        asyncio.run(open_for_a_while())
        deadline = time.monotonic() + PATIENCE_S
        while last() <= third:
            assert time.monotonic() < deadline


def test_autopause_is_never(server, make):
    sandbox = make()
    with server.http() as http:
        assert http.post(f"/api/sandbox/{sandbox.id}/autopause/0").status_code == 200
        assert http.post(f"/api/sandbox/{sandbox.id}/autopause/5").status_code == 400
        assert http.get(f"/api/sandbox/{sandbox.id}/forks").status_code == 400
        assert http.get(f"/api/sandbox/{sandbox.id}/telemetry/logs?from=a&to=b").status_code == 501


async def test_the_asynchronous_client(server):
    async with server.async_sdk() as client:
        sandbox = await client.create(CreateSandboxFromSnapshotParams(ephemeral=True))
        try:
            await sandbox.update_env({"A": "1"})
            assert (await sandbox.process.exec("echo $A")).result == "1\n"
            assert (await sandbox.get_metrics_latest()).mem_used > 0
            with pytest.raises(DaytonaBadRequestError):
                await sandbox.pause()
            link = await sandbox.get_preview_link(3000)
            assert link.token and link.url.startswith("http://127.")
        finally:
            await sandbox.delete()
        with pytest.raises(DaytonaNotFoundError):
            await sandbox.refresh_data()
