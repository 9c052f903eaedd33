"""`fleet web` as a process of its own, and a scenario of the page in a real Chromium against it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
SHOTS = os.environ.get("BROWSER_SHOTS")
"""A folder for pictures of what the scenarios see, in both themes; none are taken without it."""


@dataclass
class Served:
    """The workspace, its address with the one-time key, and its process."""

    address: str
    process: subprocess.Popen[str]

    def die(self) -> None:
        """As when the power fails: nothing is told and nothing is closed."""
        self.process.kill()
        self.process.wait(20)


@contextmanager
def served(home: Path, **environment: str) -> Iterator[Served]:
    """`fleet web` on a free port."""
    env = os.environ | {"FLEET_HOME": str(home)} | environment
    command = [sys.executable, "-m", "fleet_rlm.cli.main", "web", "--no-open", "--port", "0"]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if found := re.search(r"http://\S+k=\S+", line):
                break
        else:
            pytest.fail(f"fleet web ended with {process.wait()}")
        try:
            yield Served(found[0], process)
        finally:
            process.terminate()
            assert process.wait(20) is not None


def browse(script: str, scenario: str, **given: object) -> dict[str, Any]:
    """What a scenario of `script` saw. It asked no other host, and the browser found no error."""
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    assert chromium, "Chromium is missing: install the distribution's package"
    arguments = json.dumps({"chromium": chromium, "shots": SHOTS, **given})
    done = subprocess.run(
        ["node", str(HERE / script), scenario, arguments], capture_output=True, text=True, timeout=220
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert "failure" not in seen, seen
    assert seen["foreign"] == [], "the page asked another host"
    assert seen["errors"] == []
    return seen


def gapless(events: list[dict[str, Any]]) -> None:
    """Every event once, in order."""
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
