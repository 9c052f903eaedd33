"""What all tests share: a data folder of their own, no keys, no proxy on loopback, and no skips in CI."""

from __future__ import annotations

import os
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


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):
    report = yield
    if os.environ.get("CI") and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped, and in CI nothing may be skipped: {report.longrepr}"
    return report
