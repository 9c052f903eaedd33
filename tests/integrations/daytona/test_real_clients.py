"""Daytona's own clients, unmodified, on the local server: the examples, and a loop that leaves nothing behind."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from daytona import CreateSandboxFromSnapshotParams, Daytona, DaytonaConfig

from fleet_rlm.integrations.daytona.runtime import SandboxRuntime
from sandboxd.sandboxd_server import close_sdk

EXAMPLES = Path(__file__).resolve().parents[3] / "examples" / "daytona"
GROUPS = {
    "sync_client.py": "life files programs sessions terminal contexts git volumes network errors",
    "async_client.py": "life files programs sessions terminal contexts volumes errors",
    "typescript": "life files programs sessions terminal contexts git volumes errors",
}


def environment(runtime: SandboxRuntime) -> dict[str, str]:
    settings = runtime.settings
    return {
        **os.environ,
        "DAYTONA_API_KEY": settings.api_key,
        "DAYTONA_API_URL": settings.api_url,
        "DAYTONA_TARGET": "local",
    }


def check(runtime: SandboxRuntime, done: subprocess.CompletedProcess[str], name: str, label: str) -> None:
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line.partition(":")[0] for line in done.stdout.splitlines()] == GROUPS[name].split()
    assert runtime.list({"example": label}) == []


@pytest.mark.parametrize("name", ["sync_client.py", "async_client.py"])
def test_the_python_sdk(runtime: SandboxRuntime, name: str) -> None:
    done = subprocess.run(
        [sys.executable, EXAMPLES / name], capture_output=True, text=True, env=environment(runtime), timeout=110
    )
    check(runtime, done, name, name.partition("_")[0])


@pytest.mark.timeout(400)
def test_the_typescript_sdk(runtime: SandboxRuntime) -> None:
    if shutil.which("npm") is None and not os.environ.get("CI"):
        pytest.skip("npm was not found")
    folder = EXAMPLES / "typescript"
    if not (folder / "node_modules" / "@daytonaio" / "sdk").is_dir():
        subprocess.run(["npm", "ci", "--no-audit", "--no-fund"], cwd=folder, check=True, timeout=250)
    subprocess.run(["npm", "run", "build"], cwd=folder, check=True, capture_output=True, timeout=100)
    done = subprocess.run(
        ["node", "build/scenario.js"],
        cwd=folder,
        capture_output=True,
        text=True,
        env=environment(runtime),
        timeout=110,
    )
    check(runtime, done, "typescript", "typescript")


def test_two_hundred_leave_nothing(runtime: SandboxRuntime) -> None:
    settings = runtime.settings
    daytona = Daytona(DaytonaConfig(api_key=settings.api_key, api_url=settings.api_url, target="local"))
    params = CreateSandboxFromSnapshotParams(language="python", labels={"test": "loop"})
    before = {info.id for info in runtime.list({})}
    try:
        for _ in range(200):
            daytona.create(params).delete()
    finally:
        close_sdk(daytona)
    assert {info.id for info in runtime.list({})} == before
