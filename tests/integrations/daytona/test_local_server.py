"""The local server as a child process: one per process and data folder, several processes beside each other."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fleet_rlm.integrations.daytona.interpreter import DaytonaInterpreter
from fleet_rlm.integrations.daytona.local_server import local_server
from fleet_rlm.integrations.daytona.runtime import SandboxRuntime
from integrations.daytona.host_processes import descendants

OTHER = """
import sys
from pathlib import Path
from fleet_rlm.integrations.daytona.local_server import local_server
server = local_server(home=Path(sys.argv[1]))
print(server.settings.api_url, flush=True)
server.close()
"""


def test_a_second_process_on_the_same_home_gets_a_server_of_its_own(tmp_path: Path) -> None:
    mine = local_server(home=tmp_path)
    try:
        again = local_server(home=tmp_path)
        assert again.settings == mine.settings
        again.close()
        other = subprocess.run(
            [sys.executable, "-c", OTHER, str(tmp_path)], capture_output=True, text=True, timeout=100
        )
        assert other.stdout.startswith("http://127.0.0.1:"), other.stderr
        assert other.stdout.strip() != mine.settings.api_url
    finally:
        mine.close()


def test_what_is_asked_of_the_server_is_asked(tmp_path: Path) -> None:
    plain, degraded = local_server(home=tmp_path / "a"), local_server(home=tmp_path / "a", allow_degraded=True)
    try:
        assert plain.settings.api_url != degraded.settings.api_url, "two servers, for two wishes"
        # Namespaces are to be had here, and allowing less does not make it less.
        assert plain.settings.isolation == degraded.settings.isolation == "namespaces"
    finally:
        plain.close()
        degraded.close()


def test_some_sandboxes_are_begun_before_anybody_asks(tmp_path: Path) -> None:
    before = len(descendants(os.getpid()))
    server = local_server(home=tmp_path)
    try:
        until = time.monotonic() + 30
        while len(descendants(os.getpid())) < before + 2 + 1:  # the server, its warm process, and the first
            assert time.monotonic() < until
            time.sleep(0.05)
    finally:
        server.close()
    assert len(descendants(os.getpid())) == before


def test_no_proxy_of_the_environment_stands_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nobody is there
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    server = local_server(home=tmp_path)
    runtime = SandboxRuntime(server.settings)
    try:
        with DaytonaInterpreter(runtime=runtime, labels={"test": "proxy"}) as it:
            assert it.execute("print(6 * 7)") == "42"
            assert len(runtime.list({"test": "proxy"})) == 1
    finally:
        runtime.close()
        server.close()
