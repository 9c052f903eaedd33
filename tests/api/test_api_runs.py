"""What a person does to a running turn, over HTTP and the socket, on the real engine."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from served import Running, Tab

from fleet_rlm.api.routers.ws.endpoint import SocketLimits
from fleet_rlm.runtime.config import load_settings
from fleet_rlm.runtime.factory import open_workspace
from fleet_rlm.runtime.models.registry import ModelRegistry

LOG = "".join(f"{n} ERROR payment failed for order 77\n" if n == 13_001 else f"{n} INFO ok\n" for n in range(1, 20_000))


@pytest.fixture(scope="module")
def asking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """The demo program, whose children each wait for a person."""
    home: Path = tmp_path_factory.mktemp("asking")
    settings = load_settings(home=home, environ={}, overrides={"model": "demo/search", "policy.ask_depth": 1})
    running = Running(open_workspace(settings), home, SocketLimits(), None, ModelRegistry)
    yield running
    running.stop()


def begin(api: httpx.Client, tab: Tab) -> tuple[str, dict[str, Any]]:
    """A turn whose first child is asked about: (session, the question's event)."""
    reference = api.post("/contexts", files={"file": ("app.log", LOG.encode())}).json()
    sid = api.post("/sessions").json()["id"]
    tab.say("subscribe", sid=sid)
    args = {"question": "Which order failed?", "mode": "auto", "contexts": [reference["sha256"]]}
    tab.say("cmd", id="c1", sid=sid, op="turn.start", args=args)
    return sid, tab.events_until("approval.requested", timeout=40)[-1]


def refused(answer: httpx.Response, status: int, code: str) -> str:
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (status, code), answer.text
    assert error["message"] and "\n" not in error["message"]
    return error["message"]


def test_a_question_is_listed_answered_and_stays_answered(asking: Running) -> None:
    with asking.bearer() as api, asking.tab() as tab:
        sid, asked = begin(api, tab)
        turn, question = asked["turn"], asked["data"]["id"]
        waiting = api.get(f"/sessions/{sid}/approvals", params={"open": 1}).json()["approvals"]
        assert [(each["id"], each["status"], each["kind"]) for each in waiting] == [(question, "open", "depth")]
        path = f"/turns/{turn}/approvals/{question}"
        assert "not a choice" in refused(api.post(path, json={"answer": "sure"}), 400, "invalid_input")
        refused(api.post(path, json={"answer": ""}), 400, "invalid_input")
        refused(api.post(path, json={"answer": "deny", "more": 1}), 400, "invalid_input")
        refused(api.post(path, json={}), 400, "invalid_input")
        refused(api.post(f"/turns/{turn}/approvals/apr_none", json={"answer": "deny"}), 404, "not_found")
        refused(api.post(f"/turns/trn_none/approvals/{question}", json={"answer": "deny"}), 404, "not_found")
        said = {"answer": "allow for this turn"}
        assert api.post(path, json=said).json() == {"turn": turn, "approval": question, **said}
        assert api.post(path, json=said).status_code == 200
        assert "answered" in refused(api.post(path, json={"answer": "deny"}), 409, "conflict")
        end = tab.events_until("turn.finished", timeout=90)[-1]["data"]
        assert end["status"] == "ok" and "order 77" in end["answer"]
        assert api.get(f"/sessions/{sid}/approvals", params={"open": 1}).json() == {"approvals": []}
        (kept,) = api.get(f"/sessions/{sid}/approvals").json()["approvals"]
        assert (kept["status"], kept["answer"], kept["who"]) == ("answered", "allow for this turn", "person")
        refused(api.get("/sessions/ses_none/approvals"), 404, "not_found")


def test_the_socket_answers_and_stops_a_run(asking: Running) -> None:
    with asking.bearer() as api, asking.tab() as tab:
        sid, asked = begin(api, tab)
        other = api.post("/sessions").json()["id"]
        turn, question, root = asked["turn"], asked["data"]["id"], asked["run"]

        def say(id: str, op: str, args: dict[str, Any], session: str = sid) -> dict[str, Any]:
            tab.say("cmd", id=id, sid=session, op=op, args=args)
            return tab.until("ack")[0]

        good = {"turn": turn, "approval": question, "answer": "allow once"}
        assert say("a1", "approve", {**good, "answer": "what"})["error"]["code"] == "invalid_input"
        assert say("a2", "approve", {"turn": turn})["error"]["code"] == "invalid_input"
        assert say("a3", "approve", good, other)["error"]["code"] == "invalid_input"
        assert say("r1", "run.cancel", {"turn": turn, "run": "run_none"})["error"]["code"] == "not_found"
        assert say("r2", "run.cancel", {"turn": turn})["error"]["code"] == "invalid_input"
        assert say("r3", "run.cancel", {"turn": turn, "run": root}, other)["error"]["code"] == "invalid_input"
        acknowledged = say("a4", "approve", good)
        assert acknowledged == {"type": "ack", "id": "a4", "ok": True, "turn": turn, "approval": question}
        stopped = say("r4", "run.cancel", {"turn": turn, "run": root})
        assert stopped["ok"] and stopped["cancelling"] is True and stopped["run"] == root
        deadline = time.monotonic() + 30
        while api.get(f"/turns/{turn}").json()["status"] == "running":
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert api.get(f"/turns/{turn}").json()["status"] == "cancelled"


def test_stopping_a_run_over_http(asking: Running) -> None:
    with asking.bearer() as api, asking.tab() as tab:
        _, asked = begin(api, tab)
        turn, root = asked["turn"], asked["run"]
        refused(api.post(f"/turns/{turn}/runs/run_none/cancel"), 404, "not_found")
        refused(api.post(f"/turns/trn_none/runs/{root}/cancel"), 404, "not_found")
        answer = api.post(f"/turns/{turn}/runs/{root}/cancel")
        assert (answer.status_code, answer.json()) == (202, {"turn": turn, "run": root, "cancelling": True})
        assert tab.events_until("turn.finished")[-1]["data"]["status"] == "cancelled"
        assert api.post(f"/turns/{turn}/runs/{root}/cancel").json()["cancelling"] is False
        late = api.post(f"/turns/{turn}/approvals/{asked['data']['id']}", json={"answer": "deny"})
        assert "was stopped" in refused(late, 409, "conflict")
