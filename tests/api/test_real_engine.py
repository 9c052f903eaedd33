"""The API over the real engine: demo program, real sandboxes, nothing scripted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from served import Running

from fleet_rlm.api.routers.ws.endpoint import SocketLimits
from fleet_rlm.runtime.config import load_settings
from fleet_rlm.runtime.execution.events import decode_event
from fleet_rlm.runtime.execution.views import Workbench
from fleet_rlm.runtime.execution.workbench import reduce
from fleet_rlm.runtime.factory import open_workspace
from fleet_rlm.runtime.models.registry import ModelRegistry

LINES = 20_000
LOG = "".join(f"{n} ERROR payment failed for order 77\n" if n == 13_001 else f"{n} INFO ok\n" for n in range(1, LINES))


@pytest.fixture
def real(fleet_home: Path) -> Iterator[Running]:
    settings = load_settings(home=fleet_home, overrides={"model": "demo/search"})
    running = Running(open_workspace(settings), fleet_home, SocketLimits(), None, ModelRegistry)
    yield running
    running.stop()


def ends_match_starts(events: list[dict[str, Any]]) -> None:
    """Every start has one end, and no run ends before what it started."""
    opened: dict[tuple[str, str], str | None] = {}
    for event in events:
        kind, _, verb = event["type"].partition(".")
        key = (kind, event["run"] if kind == "run" else event["data"].get("id", event["turn"]))
        if verb in ("accepted", "started", "requested"):
            if verb == "started" and kind == "turn":
                continue
            assert key not in opened
            opened[key] = event["parent"] if kind == "run" else event["run"]
        elif verb in ("finished", "released"):
            assert key in opened, f"{event['type']} without a start"
            del opened[key]
            if kind == "run":
                assert not [k for k, owner in opened.items() if owner == event["run"]], (
                    f"{key} ended before its children"
                )
    assert not opened


def test_a_question_about_a_file_through_the_socket(real: Running) -> None:
    with real.bearer() as api, real.tab() as tab:
        reference = api.post("/contexts", files={"file": ("app.log", LOG.encode())}).json()
        sid = api.post("/sessions").json()["id"]
        tab.say("subscribe", sid=sid)
        args = {"question": "Which order failed?", "mode": "auto", "contexts": [reference["sha256"]]}
        tab.say("cmd", id="c1", sid=sid, op="turn.start", args=args)
        events = tab.events_until("turn.finished", timeout=90)
        end = events[-1]["data"]
        assert end["status"] == "ok" and "order 77" in end["answer"] and end["isolation"]
        cited = end["citations"][0]
        assert (cited["path"], cited["line"]) == ("app.log", 13_001)
        place = {"path": cited["path"], "first": cited["line"], "last": cited["line"]}
        shown = api.get(f"/contexts/{reference['sha256']}/lines", params=place)
        assert shown.json()["lines"] == ["13001 ERROR payment failed for order 77"]
        ends_match_starts(events)
        assert {event["depth"] for event in events if event["type"] == "run.started"} >= {0, 1}
        # the page's view of it, and the same turn over HTTP
        bench = reduce(Workbench(sid=sid), [decode_event(json.dumps(event)) for event in events])
        assert bench.seq == events[-1]["seq"] and all(run.status == "ok" for run in bench.runs.values())
        assert api.get(f"/turns/{events[-1]['turn']}").json()["answer"] == end["answer"]
        assert api.get(f"/sessions/{sid}").json()["title"] == "Which order failed?"
        assert httpx.get(f"{real.base}/ready").json()["ready"] is True
        prompts = [event["data"]["prompt"] for event in events if event["type"] == "call.started"]
        whole = next(prompt for prompt in prompts if "ref" in prompt)
        blob = api.get(f"/blobs/{whole['ref']}")
        assert len(blob.content) == whole["bytes"] and blob.text.startswith(whole["head"])


def test_model_settings_of_the_real_registry(real: Running) -> None:
    with real.bearer() as api:
        shown = api.get("/settings/models").json()
        assert shown["model"] == "demo/search" and shown["suggestions"][-1]["kind"] == "demo"
        tried = api.post("/settings/models/test").json()
        assert tried["ok"] is True and tried["steps"][0]["name"] == "answer"
        sid = api.post("/sessions").json()["id"]
        refused = api.post(f"/sessions/{sid}/turns", json={"question": "q", "model": "openai/gpt-5-mini"})
        assert refused.status_code == 409 and refused.json()["error"]["code"] == "not_configured"
