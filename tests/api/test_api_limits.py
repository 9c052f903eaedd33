"""Limits of a running turn over the API, on the real engine: the turn waits at a limit and goes on when it is raised."""

from __future__ import annotations

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


@pytest.fixture
def asking(fleet_home: Path) -> Iterator[Running]:
    settings = load_settings(home=fleet_home, overrides={"model": "demo/search", "at_limit": "ask"})
    running = Running(open_workspace(settings), fleet_home, SocketLimits(), None, ModelRegistry)
    yield running
    running.stop()


def waiting_turn(api: Any, tab: Tab) -> tuple[str, str]:
    """A turn that waits at its limit of two calls: (session, turn)."""
    reference = api.post("/contexts", files={"file": ("app.log", LOG.encode())}).json()
    sid = api.post("/sessions").json()["id"]
    tab.say("subscribe", sid=sid)
    args = {"question": "Which order failed?", "mode": "rlm", "limits": {"calls": 2}, "contexts": [reference["sha256"]]}
    tab.say("cmd", id="start", sid=sid, op="turn.start", args=args)
    asked = tab.events_until("approval.requested", timeout=40)[-1]
    assert asked["data"]["kind"] == "limit"
    return sid, asked["turn"]


def test_a_raised_limit_lets_a_waiting_turn_go_on(asking: Running) -> None:
    with asking.bearer() as api, asking.tab() as tab:
        _, turn = waiting_turn(api, tab)
        refused = api.patch(f"/turns/{turn}/limits", json={"wall_s": 0.001})
        assert refused.status_code == 400 and "time limit cannot be 0.001" in refused.json()["error"]["message"]
        assert api.patch(f"/turns/{turn}/limits", json={"calls": 0}).status_code in (400, 422)
        now = api.patch(f"/turns/{turn}/limits", json={"calls": 500, "wall_s": None})
        assert now.status_code == 200 and (now.json()["calls"], now.json()["wall_s"]) == (500, None)
        end = tab.events_until("turn.finished", timeout=40)[-1]["data"]
        assert end["status"] == "ok" and "order 77" in end["answer"]
        assert api.patch(f"/turns/{turn}/limits", json={"calls": 600}).status_code == 409
        assert api.patch("/turns/trn_none/limits", json={"calls": 600}).status_code == 404


def test_the_socket_raises_it_too(asking: Running) -> None:
    with asking.bearer() as api, asking.tab() as tab:
        sid, turn = waiting_turn(api, tab)
        tab.say("cmd", id="more", sid=sid, op="budget.set", args={"turn": turn, "limits": {"calls": 500}})
        end = tab.events_until("turn.finished", timeout=40)[-1]["data"]
        assert end["status"] == "ok" and "order 77" in end["answer"]
        tab.say("cmd", id="late", sid=sid, op="budget.set", args={"turn": turn, "limits": {"calls": 900}})
        assert tab.until("ack")[0]["error"]["code"] == "conflict"
