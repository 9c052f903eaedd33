"""Direct lines: a warm script on a socket of whoever started the server."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from daytona import CreateSandboxFromSnapshotParams, Sandbox
from fake_jail import FakeJail, FakeWarm
from sandboxd_server import Server

from fleet_rlm.sandboxd.jail.spec import JailClosed, JailSpec
from fleet_rlm.sandboxd.lines import Lines
from fleet_rlm.sandboxd.models import CreateSandbox
from fleet_rlm.sandboxd.sandboxes import Sandboxes
from fleet_rlm.sandboxd.settings import Bounds, Settings
from fleet_rlm.sandboxd.store import Store
from fleet_rlm.sandboxd.volumes import Volumes

PATIENCE = 30.0


@pytest.fixture(scope="module")
def door() -> Iterator[tuple[socket.socket, socket.socket]]:
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with near, far:
        yield near, far


@pytest.fixture(scope="module")
def lined(
    tmp_path_factory: pytest.TempPathFactory, warm_script: Path, door: tuple[socket.socket, socket.socket]
) -> Iterator[Server]:
    """A server that was given the far end of the door."""
    fd = door[1].fileno()
    data = tmp_path_factory.mktemp("lined") / "data"
    server = Server(data, "--warm-script", str(warm_script), "--line", str(fd), "--spares", "2", pass_fds=(fd,))
    assert "api_url" in server.first_line, server.log.read_text()
    yield server
    server.stop()


@pytest.fixture
def box(lined: Server) -> Iterator[Sandbox]:
    client = lined.sdk()
    made = client.create(CreateSandboxFromSnapshotParams(env_vars={"GREETING": "you"}, auto_stop_interval=0))
    yield made
    made.delete()


@pytest.fixture
def script(warm_script: Path) -> str:
    return hashlib.sha256(warm_script.read_bytes()).hexdigest()


@pytest.fixture
def ask(door: tuple[socket.socket, socket.socket]) -> Iterator[Callable[..., socket.socket]]:
    """Ask at the door with one socket (or `sockets` of them): its other end."""
    kept: list[socket.socket] = []

    def go(message: object, sockets: int = 1) -> socket.socket:
        near, far = socket.socketpair()
        near.settimeout(PATIENCE)
        kept.append(near)
        raw = message if isinstance(message, bytes) else json.dumps(message).encode()
        socket.send_fds(door[0], [raw], [far.fileno()] * sockets)
        far.close()
        return near

    yield go
    for each in kept:
        each.close()


def read_line(line: socket.socket) -> bytes:
    got = b""
    while not got.endswith(b"\n") and (more := line.recv(65536)):
        got += more
    return got


def refusal(line: socket.socket) -> dict[str, object]:
    told = json.loads(read_line(line))
    assert line.recv(1) == b"", "and nothing more"
    return told


def test_a_script_talks_and_ends_on_the_socket(box: Sandbox, ask, script: str) -> None:
    line = ask({"sandbox": box.id, "script": script})
    assert read_line(line) == b"ready you\n"
    sent = os.urandom(3_000_000)
    line.setblocking(False)
    got, at, until = bytearray(), 0, time.monotonic() + PATIENCE
    while len(got) < len(sent) and time.monotonic() < until:  # both ways at once, more than any buffer holds
        with contextlib.suppress(BlockingIOError):
            at += line.send(sent[at : at + 65536]) if at < len(sent) else 0
        try:
            got += line.recv(65536)
        except BlockingIOError:
            time.sleep(0.001)
    assert bytes(got) == sent
    line.settimeout(PATIENCE)
    line.sendall(b"quit")
    assert line.recv(1) == b""


def test_a_sandbox_with_a_line_is_in_use(lined: Server, box: Sandbox, ask, script: str) -> None:
    """Else it would be stopped under code that runs: the server sees nothing of what passes."""
    line = ask({"sandbox": box.id, "script": script})
    assert read_line(line)
    first = activity(lined, box)
    time.sleep(0.3)
    line.sendall(b"quit")
    assert line.recv(1) == b""
    until = time.monotonic() + PATIENCE
    while activity(lined, box) <= first and time.monotonic() < until:
        time.sleep(0.02)
    assert activity(lined, box) > first


def activity(server: Server, box: Sandbox) -> str:
    with server.http() as http:
        return http.get(f"/api/sandbox/{box.id}").json()["lastActivityAt"]


def test_a_line_ends_with_its_sandbox(box: Sandbox, ask, script: str) -> None:
    line = ask({"sandbox": box.id, "script": script})
    assert read_line(line)
    box.stop()
    assert line.recv(1) == b""
    told = refusal(ask({"sandbox": box.id, "script": script}))
    assert (told["status"], told["code"]) == (400, "SANDBOX_NOT_STARTED")
    box.start()
    assert read_line(ask({"sandbox": box.id, "script": script})) == b"ready you\n"


class LostAsItSpeaks(FakeJail):
    """Its script has spoken, and the jail is gone before it could tell of the start."""

    async def line(self, script: str, fds: list[int]) -> None:
        os.write(fds[0], b"ready you\n")
        raise JailClosed("gone")


class WarmForOne(FakeWarm):
    def has_script(self, sha256: str) -> bool:
        return True

    async def spawn(self, spec: JailSpec) -> FakeJail:
        return LostAsItSpeaks(spec)


def test_nothing_is_told_on_a_line_whose_script_has_spoken(tmp_path: Path) -> None:
    """Whoever reads there would take it for the script's own words."""

    async def run() -> bytes:
        settings = Settings(host="127.0.0.1", port=1, api_key="k", data=tmp_path / "data", bounds=Bounds())
        store = Store(settings.data)
        store.open()
        sandboxes = Sandboxes(store, Volumes(store, settings.bounds), WarmForOne(), settings)  # type: ignore[arg-type]
        box = await sandboxes.create(CreateSandbox(name="box"))
        door, asking = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        near, far = socket.socketpair()
        near.setblocking(False)
        lines = Lines(door, sandboxes)
        lines.start()
        with asking, near:
            with far:
                message = json.dumps({"sandbox": box.record.id, "script": "0" * 64}).encode()
                socket.send_fds(asking, [message], [far.fileno()])
            heard = b""
            while more := await asyncio.wait_for(asyncio.get_running_loop().sock_recv(near, 65536), PATIENCE):
                heard += more
        lines.close()
        await sandboxes.delete(box.record.id)
        await sandboxes.close()
        return heard

    assert asyncio.run(run()) == b"ready you\n"


def test_what_cannot_be_is_refused_in_one_line(box: Sandbox, ask, script: str) -> None:
    assert refusal(ask({"sandbox": "no-such", "script": script}))["status"] == 404
    assert "no warm script" in str(refusal(ask({"sandbox": box.id, "script": "0" * 64}))["error"])
    assert refusal(ask({"sandbox": box.id}))["status"] == 400
    assert refusal(ask({"sandbox": 7, "script": ["x"]}))["status"] == 400
    assert "to 4 sockets" in str(refusal(ask({"sandbox": box.id, "script": script}, sockets=5))["error"])
    assert ask({"sandbox": box.id, "script": script}, sockets=0).recv(1) == b"", "without a socket there is no line"
    assert read_line(ask({"sandbox": box.id, "script": script})) == b"ready you\n"


def test_nobody_in_a_sandbox_has_the_door(lined: Server, box: Sandbox, ask, script: str) -> None:
    """Who has it can enter every sandbox of the server."""
    line = ask({"sandbox": box.id, "script": script})
    assert read_line(line)
    server = lined.process.pid
    inode = os.readlink(f"/proc/{server}/fd/{fd_of_line(server)}")
    for pid in below(server):
        assert inode not in descriptors(pid), f"process {pid} has the server's door"
    assert inode in descriptors(server)


def fd_of_line(pid: int) -> int:
    words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    return int(words[words.index(b"--line") + 1])


def below(pid: int) -> list[int]:
    found = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    assert found, "the warm process, at least"
    deeper = [each for child in found for each in below_or_none(child)]
    return found + deeper


def below_or_none(pid: int) -> list[int]:
    try:
        found = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
    return found + [each for child in found for each in below_or_none(child)]


def descriptors(pid: int) -> list[str]:
    folder, found = Path(f"/proc/{pid}/fd"), list[str]()
    for name in os.listdir(folder):
        try:
            found.append(os.readlink(folder / name))
        except OSError:
            continue
    return found


@pytest.mark.parametrize("fd", [1, 99])
def test_a_number_that_is_no_socket_is_refused(tmp_path: Path, fd: int) -> None:
    server = Server(tmp_path / "data", "--line", str(fd))
    assert server.first_line == {"error": f"--line {fd}: there is no open socket with this number", "code": "USAGE"}
    assert server.process.wait(20) == 2
    server.stop()


def test_nonsense_at_the_door_closes_it_and_nothing_else(tmp_path: Path, warm_script: Path) -> None:
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with near:
        server = Server(
            tmp_path / "data", "--warm-script", str(warm_script), "--line", str(far.fileno()), pass_fds=(far.fileno(),)
        )
        far.close()
        near.send(b"\xff{")
        with server.http() as http:
            assert http.get("/api/sandbox").status_code == 200
        assert server.stop() == 0
