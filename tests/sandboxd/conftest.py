"""One sandbox server, with its real jail, for all tests that do not stop it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from daytona import CreateSandboxFromSnapshotParams, Daytona, Sandbox
from sandboxd_server import Server

WARM_SCRIPT = """
import os, sys
assert __name__ == "__main__" and sys.argv[0] == "<warm>"
os.write(1, b"ready " + os.environ["GREETING"].encode() + b"\\n")
while data := os.read(0, 65536):
    if data == b"quit":
        sys.exit(7)
    sent = 0
    while sent < len(data):
        sent += os.write(1, data[sent:])
"""


@pytest.fixture(scope="session")
def warm_script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A script for terminals: says that it is ready, then echoes bytes as they come."""
    path = tmp_path_factory.mktemp("warm") / "echo.py"
    path.write_text(WARM_SCRIPT)
    return path


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, warm_script: Path) -> Iterator[Server]:
    started = Server(tmp_path_factory.mktemp("sandboxd") / "data", "--warm-script", str(warm_script))
    assert "api_url" in started.first_line, started.log.read_text()
    yield started
    started.stop()


@pytest.fixture(scope="session")
def client(server: Server) -> Daytona:
    return server.sdk()


@pytest.fixture
def make(client: Daytona) -> Iterator[Callable[..., Sandbox]]:
    """Creates sandboxes that are deleted after the test."""
    made: list[Sandbox] = []

    def create(**params) -> Sandbox:
        sandbox = client.create(CreateSandboxFromSnapshotParams(**{"auto_stop_interval": 0, **params}))
        made.append(sandbox)
        return sandbox

    yield create
    for sandbox in made:
        with contextlib.suppress(Exception):
            sandbox.delete()


@pytest.fixture(scope="module")
def sandbox(client: Daytona) -> Iterator[Sandbox]:
    """One sandbox for the tests of a module that leave it as it was."""
    created = client.create(CreateSandboxFromSnapshotParams(ephemeral=True))
    yield created
    created.delete()
