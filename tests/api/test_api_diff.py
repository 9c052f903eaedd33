"""Two turns compared, over HTTP and on the command line, on the real engine with its demo program."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from served import Running, Tab

from fleet_rlm.api.routers.ws.endpoint import SocketLimits
from fleet_rlm.runtime.config import load_settings
from fleet_rlm.runtime.factory import open_workspace
from fleet_rlm.runtime.models.registry import ModelRegistry

LOG = "".join(f"{n} ERROR payment failed for order 77\n" if n == 13_001 else f"{n} INFO ok\n" for n in range(20_000))
FLEET = Path(sys.executable).parent / "fleet"


@pytest.fixture
def running(fleet_home: Path) -> Iterator[Running]:
    settings = load_settings(home=fleet_home, overrides={"model": "demo/search"})
    running = Running(open_workspace(settings), fleet_home, SocketLimits(), None, ModelRegistry)
    yield running
    running.stop()


def answered(api: Any, tab: Tab, reference: str, question: str) -> str:
    """The id of a turn in a session of its own, after its end."""
    sid = api.post("/sessions").json()["id"]
    tab.say("subscribe", sid=sid)
    args = {"question": question, "mode": "rlm", "contexts": [reference]}
    tab.say("cmd", id=f"start {question}", sid=sid, op="turn.start", args=args)
    return tab.events_until("turn.finished", timeout=60)[-1]["turn"]


def test_two_turns_are_compared(running: Running, fleet_home: Path) -> None:
    with running.bearer() as api, running.tab() as tab:
        reference = api.post("/contexts", files={"file": ("app.log", LOG.encode())}).json()["sha256"]
        one = answered(api, tab, reference, "Which order failed?")
        two = answered(api, tab, reference, "Which payment failed?")
        same = api.get(f"/turns/{one}/diff/{one}").json()
        assert same["runs"] and {pair["change"] for pair in same["runs"]} == {"same"}
        found = api.get(f"/turns/{one}/diff/{two}").json()
        assert (found["a"]["turn"], found["b"]["turn"]) == (one, two) and found["a"]["status"] == "ok"
        assert found["a"]["usage"]["calls"] > 0 and found["a"]["runs"] >= 1 and "order 77" in found["a"]["answer"]
        root = found["runs"][0]
        assert (root["path"], root["change"], root["b"]["task"]) == ("root", "changed", "Which payment failed?")
        assert root["a"]["cells"] and not [pair for pair in found["runs"] if ":" in pair["path"]]
        missing = api.get(f"/turns/{one}/diff/trn_none")
        assert missing.status_code == 404 and missing.json()["error"]["code"] == "not_found"

    def fleet(*words: str) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "FLEET_HOME": str(fleet_home)}
        return subprocess.run([FLEET, "sessions", "diff", *words], capture_output=True, text=True, env=env, check=False)

    shown = fleet(one, two)
    assert shown.returncode == 0, shown.stderr
    assert f"- {one}" in shown.stdout and "  -Which order failed?" in shown.stdout and "~ root" in shown.stdout
    told = json.loads(fleet(one, two, "--json").stdout)
    assert told["a"]["turn"] == one and told["runs"][0]["path"] == "root"
    wrong = fleet(one, "trn_none")
    assert (wrong.returncode, wrong.stdout, len(wrong.stderr.splitlines())) == (2, "", 1)
