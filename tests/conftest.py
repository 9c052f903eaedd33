"""What all tests share: a data folder of their own, no keys, no proxy on loopback, and no skips in CI; and a sandbox
server that lets nobody in."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

LOOPBACK = "127.0.0.1,localhost,::1"

# Before any test module imports a client that reads these once: no test may reach a paid account or a real home.
for name in list(os.environ):
    if name.startswith(("FLEET_", "DAYTONA_")) or name.endswith("_API_KEY"):
        del os.environ[name]
for name in ("NO_PROXY", "no_proxy"):
    os.environ[name] = ",".join(filter(None, (os.environ.get(name), LOOPBACK)))


@pytest.fixture(autouse=True)
def fleet_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty data folder for each test, also for the processes that it starts."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("FLEET_HOME", str(home))
    return home


class NoEntry(BaseHTTPRequestHandler):
    """Answers everything with 401."""

    def do_GET(self) -> None:
        self.send_error(401)

    do_POST = do_GET

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def closed() -> Iterator[str]:
    """The address of a sandbox server that lets nobody in."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), NoEntry)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):
    report = yield
    if os.environ.get("CI") and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped, and in CI nothing may be skipped: {report.longrepr}"
    return report
