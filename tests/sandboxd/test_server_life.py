"""Start, end and restart of the server: what it prints, what it leaves, what it finds again."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from daytona import CreateSandboxFromSnapshotParams, SandboxState, VolumeMount
from sandboxd_server import Server


def wait_for(condition, seconds: float = 30) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return condition()


def descendants(pid: int) -> set[int]:
    found: set[int] = set()
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in children.read_text().split():
            found |= {int(child)} | descendants(int(child))
    return found


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_first_line_and_clean_end(tmp_path):
    server = Server(tmp_path / "data", "--api-key", "my-own-key-123")
    assert server.first_line["api_key"] == "my-own-key-123"
    assert server.first_line["isolation"] == "namespaces"
    assert server.api == f"http://127.0.0.1:{server.port}/api"
    sandbox = server.sdk().create()
    sandbox.process.exec("sleep 1000 >/dev/null 2>&1 &")
    pids = descendants(server.process.pid)
    assert pids
    assert server.stop(signal.SIGTERM) == 0
    assert wait_for(lambda: not any(map(alive, pids)))


def test_a_random_key_each_time_and_a_key_from_the_environment(tmp_path):
    one = Server(tmp_path / "one")
    two = Server(tmp_path / "two", env={"SANDBOXD_API_KEY": "from-environment"})
    try:
        assert len(one.key) >= 40
        assert two.key == "from-environment"
    finally:
        one.stop(), two.stop()


def test_restart_finds_sandboxes_stopped_with_their_files(tmp_path):
    data = tmp_path / "data"
    first = Server(data)
    client = first.sdk()
    volume = client.volume.create("kept")
    mounts = [VolumeMount(volume_id=volume.id, mount_path="/data", subpath="s")]
    kept = client.create(CreateSandboxFromSnapshotParams(name="kept", labels={"a": "b"}, volumes=mounts))
    kept.process.exec("echo file > f; echo volume > /data/v; mkdir locked; chmod 000 locked")
    gone = client.create(CreateSandboxFromSnapshotParams(ephemeral=True))
    gone.fs.upload_file(b"x", "f")
    first.stop()
    second = Server(data)
    try:
        client = second.sdk()
        assert [s.id for s in client.list()] == [kept.id]
        again = client.get("kept")
        assert (again.state, again.labels["a"]) == (SandboxState.STOPPED, "b")
        again.start()
        assert again.process.exec("cat f /data/v").result == "file\nvolume\n"
        assert wait_for(lambda: not (data / "sandboxes" / gone.id).exists())
        assert wait_for(lambda: not list((data / "sandboxes" / ".trash").iterdir()))
        again.delete()
        assert wait_for(lambda: not list((data / "sandboxes" / ".trash").iterdir())), "locked folders go as well"
    finally:
        second.stop()


def test_kill_9_leaves_no_process_and_loses_no_file(tmp_path):
    server = Server(tmp_path / "data")
    client = server.sdk()
    sandboxes = [client.create(CreateSandboxFromSnapshotParams(labels={"n": str(n)})) for n in range(3)]
    for sandbox in sandboxes:
        sandbox.process.exec("echo kept > f; (setsid sleep 1000 >/dev/null 2>&1 &)")
    terminal = sandboxes[0].process.create_pty_session("busy")
    terminal.send_input("while :; do :; done\n")
    pids = descendants(server.process.pid)
    assert len(pids) >= 6
    server.stop(signal.SIGKILL)
    assert wait_for(lambda: not any(map(alive, pids))), [p for p in pids if alive(p)]
    again = Server(tmp_path / "data")
    try:
        found = {s.id: s for s in again.sdk().list()}
        assert set(found) == {s.id for s in sandboxes}
        for sandbox in (again.sdk().get(key) for key in found):
            assert sandbox.state == SandboxState.STOPPED
            sandbox.start()
            assert sandbox.fs.download_file("f") == b"kept\n"
    finally:
        again.stop()


def test_the_parent_pipe_ends_it(tmp_path):
    server = Server(tmp_path / "data", "--parent-pipe")
    server.sdk().create()
    pids = descendants(server.process.pid)
    server.process.stdin.close()
    assert server.process.wait(30) == 0
    assert wait_for(lambda: not any(map(alive, pids)))
    server.process.stdout.close()


def test_ended_while_it_starts(tmp_path):
    argv = [sys.executable, "-m", "fleet_rlm.sandboxd", "serve", "--data", str(tmp_path / "data"), "--parent-pipe"]
    for delay in (0.3, 0.6, 0.9):
        process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        time.sleep(delay)
        pids = descendants(process.pid)
        _, text = process.communicate(timeout=60)  # closes standard input
        assert process.returncode == 0, text.decode()
        assert wait_for(lambda pids=pids: not any(map(alive, pids)))


def test_private_files(tmp_path):
    server = Server(tmp_path / "data")
    try:
        server.sdk().create()
        server.sdk().volume.create("v")
        for top in ("sandboxes", "volumes"):
            assert stat.S_IMODE((server.data / top).stat().st_mode) == 0o700
            for folder in (server.data / top).iterdir():
                assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        for record in server.data.glob("*/*/record.json"):
            assert stat.S_IMODE(record.stat().st_mode) == 0o600
    finally:
        server.stop()


def test_a_broken_record_is_left_alone(tmp_path):
    server = Server(tmp_path / "data")
    broken = server.sdk().create()
    server.stop()
    record = server.data / "sandboxes" / broken.id / "record.json"
    record.write_text("{ not json")
    again = Server(tmp_path / "data")
    try:
        assert list(again.sdk().list()) == []
        assert "cannot be read" in again.log.read_text()
        assert record.exists()
    finally:
        again.stop()


def fail_to_start(*options: str, **env: str) -> tuple[int, dict, str]:
    argv = [sys.executable, "-m", "fleet_rlm.sandboxd", "serve", *options]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, env={**os.environ, **env})
    assert "Traceback" not in done.stderr
    return done.returncode, json.loads(done.stdout), done.stderr


def test_a_taken_port(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, line, text = fail_to_start("--data", str(tmp_path / "d"), "--port", str(port))
    assert (code, line["code"]) == (2, "PORT_TAKEN")
    assert str(port) in line["error"] and line["error"] in text and text.count("\n") == 1


def test_a_data_folder_in_use(tmp_path):
    server = Server(tmp_path / "data")
    try:
        code, line, _ = fail_to_start("--data", str(tmp_path / "data"))
        assert (code, line["code"]) == (2, "DATA_IN_USE")
    finally:
        server.stop()


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (["--data", "/proc/nowhere"], "DATA_NOT_WRITABLE"),
        (["--data", "{file}"], "DATA_NOT_WRITABLE"),
        (["--host", "0.0.0.0"], "HOST_NOT_LOOPBACK"),
        (["--host", "example.com"], "HOST_NOT_LOOPBACK"),
        (["--port", "many"], "USAGE"),
        (["--port", "70000"], "USAGE"),
        (["--api-key", "short"], "USAGE"),
        (["--warm-script", "/nowhere.py"], "USAGE"),
        (["--nonsense"], "USAGE"),
        (["--spares", "-1"], "USAGE"),
    ],
)
def test_what_cannot_be_started(tmp_path, options, code):
    file = tmp_path / "file"
    file.write_text("")
    status, line, _ = fail_to_start(*(option.format(file=file) for option in options))
    assert (status, line["code"]) == (2, code)
