"""Resume, replay and fork over HTTP and the socket, on the real engine with its demo program."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from served import Running

from fleet_rlm.api.routers.ws.endpoint import SocketLimits
from fleet_rlm.runtime.config import load_settings
from fleet_rlm.runtime.execution.events import Event, decode_event
from fleet_rlm.runtime.execution.normalised import first_difference
from fleet_rlm.runtime.factory import open_workspace
from fleet_rlm.runtime.models.registry import ModelRegistry

LOG = "".join(f"{n} ERROR payment failed for order 77\n" if n == 13_001 else f"{n} INFO ok\n" for n in range(20_000))
QUESTION = "Which order failed?"


def served(home: Path, **overrides: Any) -> Iterator[Running]:
    settings = load_settings(home=home, overrides={"model": "demo/search", **overrides})
    running = Running(open_workspace(settings), home, SocketLimits(), None, ModelRegistry)
    yield running
    running.stop()


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    yield from served(tmp_path_factory.mktemp("again"))


@pytest.fixture
def asking(fleet_home: Path) -> Iterator[Running]:
    yield from served(fleet_home, at_limit="ask")


def begin(api: Any, **more: Any) -> dict[str, Any]:
    """A question about the log in a new session, accepted."""
    reference = api.post("/contexts", files={"file": ("app.log", LOG.encode())}).json()
    sid = api.post("/sessions").json()["id"]
    body = {"question": QUESTION, "mode": "rlm", "contexts": [reference["sha256"]], **more}
    return api.post(f"/sessions/{sid}/turns", json=body).json()


def ended(api: Any, turn: str) -> dict[str, Any]:
    deadline = time.monotonic() + 60
    while (info := api.get(f"/turns/{turn}").json())["status"] == "running":
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return info


def events_of(api: Any, sid: str, turn: str) -> list[Event]:
    found = []
    while page := api.get(f"/sessions/{sid}/events", params={"after": found[-1]["seq"] if found else 0}).json()[
        "events"
    ]:
        found += page
    return [decode_event(json.dumps(event)) for event in found if event["turn"] == turn]


def said(answer: Any, status: int) -> str:
    """The one line of a refusal."""
    assert answer.status_code == status, answer.text
    message = answer.json()["error"]["message"]
    assert message and "\n" not in message
    return message


@pytest.fixture(scope="module")
def whole(real: Running) -> dict[str, Any]:
    """A turn that came to its answer: session, turn, seq, and its end."""
    with real.bearer() as api:
        turn = begin(api)
        return {**turn, "end": ended(api, turn["turn"])}


def ask(tab: Any, id: str, sid: str, op: str, **args: Any) -> dict[str, Any]:
    tab.say("cmd", id=id, sid=sid, op=op, args=args)
    return tab.until("ack")[0]


def test_a_turn_that_met_its_limit_is_resumed(real: Running, whole: dict[str, Any]) -> None:
    with real.bearer() as api:
        cut = begin(api, limits={"calls": 2, "depth": 1})
        turn, key = cut["turn"], {"Idempotency-Key": "more"}
        assert ended(api, turn)["status"] == "limit"
        assert "would end there again" in said(api.post(f"/turns/{turn}/resume"), 400)
        assert said(api.post(f"/turns/{turn}/resume", json={"limits": {"calls": 0}}), 400)
        assert said(api.post(f"/turns/{turn}/resume", json={"limit": {}}), 400)
        answer = api.post(f"/turns/{turn}/resume", json={"limits": {"calls": 500}}, headers=key)
        assert answer.status_code == 202
        more = answer.json()
        assert more["session"] == cut["session"] and more["seq"] > cut["seq"]
        end = ended(api, more["turn"])
        assert end["status"] == "ok" and "order 77" in end["answer"]
        first = events_of(api, more["session"], more["turn"])[0].data
        assert (first.limits.calls, first.limits.depth) == (500, 1), "what is not named stays as it was"
        assert api.post(f"/turns/{turn}/resume", json={"limits": {"calls": 500}}, headers=key).json() == more
        assert "goes on from this one" in said(api.post(f"/turns/{turn}/resume", json={"limits": {"calls": 9}}), 409)
        assert "came to its end" in said(api.post(f"/turns/{more['turn']}/resume"), 409)
        assert "something else" in said(api.post(f"/turns/{more['turn']}/resume", headers=key), 409)
        other = {"limits": {"calls": 501}}
        assert "something else" in said(api.post(f"/turns/{turn}/resume", json=other, headers=key), 409)
        path = f"/sessions/{cut['session']}/turns"
        assert "another question" in said(api.post(path, json={"question": QUESTION, "mode": "rlm"}, headers=key), 409)
        assert said(api.post("/turns/trn_none/resume"), 404)
        assert said(api.post(f"/turns/{turn}/resume", headers={"Idempotency-Key": "x" * 201}), 400)


def test_the_socket_resumes(real: Running) -> None:
    with real.bearer() as api, real.tab() as tab:
        cut = begin(api, limits={"calls": 2})
        assert ended(api, cut["turn"])["status"] == "limit"
        args = {"turn": cut["turn"], "limits": {"calls": 500}}
        ack = ask(tab, "r", cut["session"], "turn.resume", **args)
        assert ack["ok"] and ack["session"] == cut["session"] and ack["turn"] != cut["turn"]
        assert ask(tab, "r", cut["session"], "turn.resume", **args) == ack
        assert ended(api, ack["turn"])["status"] == "ok"


def test_a_replay_is_a_session_of_its_own(real: Running, whole: dict[str, Any]) -> None:
    with real.bearer() as api, real.tab() as tab:
        ack = ask(tab, "p1", whole["session"], "turn.replay", turn=whole["turn"])
        assert ack["ok"] and ack["session"] != whole["session"] and ack["seq"] > 0
        assert ask(tab, "p1", whole["session"], "turn.replay", turn=whole["turn"])["turn"] == ack["turn"]
        assert ended(api, ack["turn"])["answer"] == whole["end"]["answer"]
        mine = events_of(api, whole["session"], whole["turn"])
        theirs = events_of(api, ack["session"], ack["turn"])
        assert first_difference(mine, theirs) is None
        calls = [event.data for event in theirs if event.type == "call.finished"]
        assert calls and all(call.replayed for call in calls)
        assert ack["session"] in [row["id"] for row in api.get("/sessions").json()["sessions"]]
        same = api.post(f"/turns/{whole['turn']}/replay", headers={"Idempotency-Key": "p1"})
        assert same.status_code == 202 and same.json()["turn"] == ack["turn"], "HTTP and socket are one"
        assert said(api.post("/turns/trn_none/replay"), 404)


def test_a_fork_with_another_question(real: Running, whole: dict[str, Any]) -> None:
    edit = {"question": "Which ERROR is there?", "limits": {"calls": 77}}
    with real.bearer() as api, real.tab() as tab:
        ack = ask(tab, "f1", whole["session"], "fork", turn=whole["turn"], edit=edit)
        assert ack["ok"] and ack["session"] != whole["session"]
        end = ended(api, ack["turn"])
        assert end["status"] == "ok" and "order 77" in end["answer"]
        accepted = events_of(api, ack["session"], ack["turn"])[0].data
        assert (accepted.question, accepted.limits.calls) == (edit["question"], 77)
        assert (accepted.origin.kind, accepted.origin.turn) == ("fork", whole["turn"])
        later = api.post(f"/sessions/{ack['session']}/turns", json={"question": "thanks", "mode": "direct"}).json()
        ended(api, later["turn"])
        body = {"turn": whole["turn"], "edit": edit}
        same = api.post(f"/sessions/{whole['session']}/fork", json=body, headers={"Idempotency-Key": "f1"})
        assert same.json()["turn"] == ack["turn"], "also when more was asked in the fork"


def test_a_key_that_comes_again_with_another_edit(real: Running, whole: dict[str, Any]) -> None:
    path, turn = f"/sessions/{whole['session']}/fork", whole["turn"]
    with real.bearer() as api, real.tab() as tab:
        events = events_of(api, whole["session"], turn)
        cells = [event.data.id for event in events if event.type == "cell.started"]
        calls = [event.data.id for event in events if event.type == "call.started"]
        cell = {"cell": {"id": cells[0], "code": "SUBMIT(answer='a')"}}
        edits: list[tuple[dict[str, Any], dict[str, Any]]] = [
            ({"edit": {"question": "Which ERROR?"}}, {"edit": {"question": "Which WARNING?"}}),
            ({"edit": {"question": "Which ERROR?"}}, {"edit": {"question": "Which ERROR?", "limits": {"calls": 9}}}),
            ({"edit": {"question": "Which ERROR?"}}, {"edit": {"question": "Which ERROR?"}, "at": whole["seq"]}),
            ({"edit": {"limits": {"calls": 80}}}, {"edit": {"limits": {"calls": 81}}}),
            ({"edit": {"limits": {"calls": 80}}}, {"edit": {"question": QUESTION}}),
            ({"edit": cell}, {"edit": {"cell": {"id": cells[0], "code": "SUBMIT(answer='b')"}}}),
            ({"edit": cell}, {"edit": {"cell": {"id": cells[-1], "code": "SUBMIT(answer='a')"}}}),
            ({"edit": cell}, {"edit": {"prompt": {"call": calls[0], "text": "Say a."}}}),
            ({"at": whole["seq"]}, {"at": whole["seq"] + 1}),
            ({"edit": {"model": "demo/search"}}, {"edit": {"sub_model": "demo/search"}}),
        ]
        for n, (first, other) in enumerate(edits):
            key = {"Idempotency-Key": f"edit {n}"}
            made = api.post(path, json={"turn": turn, **first}, headers=key)
            assert made.status_code == 202, made.text
            before = api.get("/sessions").json()["sessions"]
            assert "something else" in said(api.post(path, json={"turn": turn, **other}, headers=key), 409)
            ack = ask(tab, f"edit {n}", whole["session"], "fork", turn=turn, **other)
            assert not ack["ok"] and ack["error"]["code"] == "conflict"
            assert api.post(path, json={"turn": turn, **first}, headers=key).json() == made.json()
            assert len(api.get("/sessions").json()["sessions"]) == len(before)
            ended(api, made.json()["turn"])


def test_a_key_of_a_fork_of_a_running_turn_holds_when_the_turn_has_ended(asking: Running) -> None:
    with asking.bearer() as api, asking.tab() as tab:
        turn = begin(api, limits={"calls": 2})
        tab.say("subscribe", sid=turn["session"])
        tab.events_until("approval.requested", timeout=40)
        key, path = {"Idempotency-Key": "early"}, f"/sessions/{turn['session']}/fork"
        body = {"turn": turn["turn"], "edit": {"question": "Which ERROR?", "limits": {"calls": 500}}}
        made = api.post(path, json=body, headers=key).json()
        ended(api, made["turn"])
        api.post(f"/turns/{turn['turn']}/cancel")
        ended(api, turn["turn"])
        assert api.post(path, json=body, headers=key).json() == made


def test_a_fork_with_an_edited_cell_an_edited_prompt_and_from_an_event_on(real: Running, whole: dict[str, Any]) -> None:
    path = f"/sessions/{whole['session']}/fork"
    with real.bearer() as api:
        events = events_of(api, whole["session"], whole["turn"])
        cell = next(event for event in events if event.type == "cell.started")
        call = next(event for event in events if event.type == "call.started" and event.data.role == "root")
        edit = {"cell": {"id": cell.data.id, "code": "SUBMIT(answer='another end')"}}
        made = api.post(path, json={"turn": whole["turn"], "edit": edit}).json()
        assert ended(api, made["turn"])["answer"] == "another end"
        made = api.post(path, json={"turn": whole["turn"], "at": whole["seq"]}).json()
        assert ended(api, made["turn"])["status"] == "ok"
        calls = [event.data for event in events_of(api, made["session"], made["turn"]) if event.type == "call.finished"]
        assert calls and not any(each.replayed for each in calls), "before its first call everything is new"
        edit = {"prompt": {"call": call.data.id, "text": "Say hello."}}
        answer = api.post(path, json={"turn": whole["turn"], "edit": edit})
        assert answer.status_code == 202
        ended(api, answer.json()["turn"])


def test_what_cannot_be_forked_is_said_in_one_line_and_leaves_nothing(real: Running, whole: dict[str, Any]) -> None:
    path, turn = f"/sessions/{whole['session']}/fork", whole["turn"]
    with real.bearer() as api, real.tab() as tab:
        other = api.post("/sessions").json()["id"]
        before = {row["id"] for row in api.get("/sessions").json()["sessions"]}
        assert "nothing is different" in said(api.post(path, json={"turn": turn, "edit": {}}), 400)
        assert "question" in said(api.post(path, json={"turn": turn, "edit": {"question": " "}}), 400)
        assert "wish" in said(api.post(path, json={"turn": turn, "edit": {"wish": "x"}}), 400)
        assert said(api.post(path, json={"turn": "trn_none", "edit": {"question": "q"}}), 404)
        assert "not of this session" in said(
            api.post(f"/sessions/{other}/fork", json={"turn": turn, "edit": {"question": "q"}}), 400
        )
        assert "no cell" in said(
            api.post(path, json={"turn": turn, "edit": {"cell": {"id": "cel_0", "code": "1"}}}), 404
        )
        assert "no call" in said(
            api.post(path, json={"turn": turn, "edit": {"prompt": {"call": "c", "text": "1"}}}), 404
        )
        assert "not of this turn" in said(api.post(path, json={"turn": turn, "at": 999_999}), 400)
        key = {"Idempotency-Key": "wrong"}
        wrong = {"turn": turn, "edit": {"model": "nobody/nothing"}}
        assert "nobody/nothing" in said(api.post(path, json=wrong, headers=key), 400)
        ack = ask(tab, "b", other, "fork", turn=turn, edit={"question": "q"})
        assert not ack["ok"] and ack["error"]["code"] == "invalid_input"
        assert "prompt" in ask(tab, "c", other, "fork", turn=turn, edit={"prompt": "x"})["error"]["message"]
        assert {row["id"] for row in api.get("/sessions").json()["sessions"]} == before
        fixed = api.post(path, json={"turn": turn, "edit": {"question": QUESTION.lower()}}, headers=key)
        assert fixed.status_code == 202 and ended(api, fixed.json()["turn"])["status"] == "ok"


def test_a_running_turn_is_neither_resumed_nor_replayed(asking: Running) -> None:
    with asking.bearer() as api, asking.tab() as tab:
        turn = begin(api, limits={"calls": 2})
        tab.say("subscribe", sid=turn["session"])
        tab.events_until("approval.requested", timeout=40)
        assert "still running" in said(api.post(f"/turns/{turn['turn']}/resume"), 409)
        assert "still running" in said(api.post(f"/turns/{turn['turn']}/replay"), 409)
        ack = ask(tab, "r", turn["session"], "turn.replay", turn=turn["turn"])
        assert ack["error"]["code"] == "conflict"
        assert api.patch(f"/turns/{turn['turn']}/limits", json={"tokens": 123_456_789}).status_code == 200
        api.post(f"/turns/{turn['turn']}/cancel")
        assert ended(api, turn["turn"])["status"] == "cancelled"
        resumed = api.post(f"/turns/{turn['turn']}/resume", json={"limits": {"calls": 500}}).json()
        assert ended(api, resumed["turn"])["status"] == "ok"
        limits = events_of(api, resumed["session"], resumed["turn"])[0].data.limits
        assert (limits.calls, limits.tokens) == (500, 123_456_789), "what was changed while it ran holds"


def test_one_key_for_two_questions_at_once_in_two_servers(tmp_path: Path) -> None:
    """The one that came first is answered, the other is refused, never answered with the first one's turn."""
    with contextlib.ExitStack() as stack:
        two = [stack.enter_context(contextlib.contextmanager(served)(tmp_path / "home")) for _ in range(2)]
        apis = [stack.enter_context(running.bearer()) for running in two]
        for n in range(6):
            path, together = f"/sessions/{apis[0].post('/sessions').json()['id']}/turns", threading.Barrier(2)

            def put(n: int, path: str = path, together: threading.Barrier = together) -> Any:
                together.wait(30)
                body = {"question": f"Question {n}?", "mode": "direct"}
                return apis[n].post(path, json=body, headers={"Idempotency-Key": "k"})

            with ThreadPoolExecutor(2) as pool:
                answers = sorted(pool.map(put, range(2)), key=lambda answer: answer.status_code)
            assert [answer.status_code for answer in answers] == [202, 409], [answer.text for answer in answers]
            assert "another question" in said(answers[1], 409)
            ended(apis[n % 2], answers[0].json()["turn"])
