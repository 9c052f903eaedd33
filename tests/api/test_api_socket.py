"""The socket, on a real server."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from typing import Any

import httpx
import pytest
from served import Running, Serve, Tab
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from fleet_rlm.api.routers.ws.endpoint import SocketLimits
from fleet_rlm.runtime.execution import events as ev


def seqs(events: list[dict[str, Any]]) -> list[int]:
    return [event["seq"] for event in events]


def closed(tab: Tab) -> int:
    """The code with which the server closes; frames before it are read away."""
    try:
        while True:
            tab.hear(30)
    except ConnectionClosed as error:
        assert error.rcvd is not None
        return error.rcvd.code


def start(tab: Tab, sid: str, question: str, id: str = "c1", **more: Any) -> None:
    tab.say("cmd", id=id, sid=sid, op="turn.start", args={"question": question, **more})


def test_handshake_replay_and_live_turn(running: Running, sid: str) -> None:
    with running.tab() as tab:
        tab.say("subscribe", sid=sid, after=0, epoch=None, detail="full")
        subscribed, _ = tab.until("subscribed")
        assert subscribed["mode"] == "replay" and subscribed["from"] == 1 and subscribed["head"] == 1
        caught, events = tab.until("caught_up")
        assert caught["seq"] == 1 and [e["type"] for e in events] == ["session.created"]
        start(tab, sid, "hello")
        events = tab.events_until("turn.finished", events)
        assert seqs(events) == list(range(1, len(events) + 1))
        assert events[-1]["data"]["answer"] == "you said hello"
        assert events[1]["data"]["command"] == "c1"


def test_ack_names_the_turn_and_repetition_is_idempotent(running: Running, sid: str, api: httpx.Client) -> None:
    with running.tab() as tab:
        start(tab, sid, "hello")
        ack, _ = tab.until("ack")
        start(tab, sid, "hello")
        again, _ = tab.until("ack")
        assert ack["ok"] and ack == again
        start(tab, sid, "something else")
        other, _ = tab.until("ack")
        assert not other["ok"] and other["error"]["code"] == "conflict"
    by_http = api.post(f"/sessions/{sid}/turns", json={"question": "hello"}, headers={"Idempotency-Key": "c1"})
    assert by_http.status_code == 202 and by_http.json()["turn"] == ack["turn"]


def test_resume_in_the_middle_of_a_stream_without_gap_or_double(running: Running, sid: str) -> None:
    got: list[dict[str, Any]] = []
    with running.tab() as tab:
        tab.say("subscribe", sid=sid, after=0)
        start(tab, sid, "slow 300")
        while len(got) < 60:
            frame = tab.hear()
            got += frame if isinstance(frame, list) else []
    for _ in range(20):  # drops again and again while the turn runs
        with running.tab() as tab:
            tab.say("subscribe", sid=sid, after=got[-1]["seq"], epoch=got[-1]["epoch"])
            frame = tab.hear()
            while not isinstance(frame, list):
                if frame["type"] == "caught_up" and any(e["type"] == "turn.finished" for e in got):
                    break
                frame = tab.hear()
            got += frame if isinstance(frame, list) else []
    with running.tab() as tab:
        tab.say("subscribe", sid=sid, after=got[-1]["seq"], epoch=got[-1]["epoch"])
        got = tab.events_until("turn.finished", got)
    assert seqs(got) == list(range(1, len(got) + 1))
    text = "".join(e["data"]["text"] for e in got if e["type"] == "message.delta")
    assert text == "".join(f"{n} " for n in range(300))


def test_two_sockets_see_the_same(running: Running, sid: str) -> None:
    seen: list[list[int]] = [[], []]

    def watch(place: int, ready: threading.Barrier) -> None:
        with running.tab() as tab:
            tab.say("subscribe", sid=sid)
            tab.until("subscribed")
            ready.wait(20)
            seen[place] = seqs(tab.events_until("turn.finished"))

    ready = threading.Barrier(3)
    threads = [threading.Thread(target=watch, args=(place, ready)) for place in (0, 1)]
    for thread in threads:
        thread.start()
    ready.wait(20)
    with running.tab() as tab:
        start(tab, sid, "deltas 500")
        for thread in threads:
            thread.join(40)
    assert seen[0] == seen[1] == list(range(1, len(seen[0]) + 1)) and len(seen[0]) > 500


def test_far_behind_gets_a_snapshot_that_equals_the_replay(serve: Serve) -> None:
    running = serve(limits=SocketLimits(snapshot_gap=100))
    sid = running.workspace.sessions.create("s").sid
    with running.tab() as tab:
        # before the start: whoever subscribes when 100 events are past is given a snapshot already here
        tab.say("subscribe", sid=sid, after=1)
        tab.until("caught_up")
        start(tab, sid, "deltas 300")
        tab.events_until("turn.finished")
    with running.tab() as tab:
        tab.say("subscribe", sid=sid, after=0)
        subscribed, _ = tab.until("subscribed")
        snapshot, before = tab.until("snapshot")
        caught, after = tab.until("caught_up")
        assert subscribed["mode"] == "snapshot" and not before and not after
        state = snapshot["state"]
        assert snapshot["seq"] == state["seq"] == caught["seq"] == subscribed["head"]
        (turn,) = state["turns"].values()
        assert turn["status"] == "ok" and state["messages"][turn["messages"][0]]["text"].endswith("0000000299 ")
        # and it goes on from there
        start(tab, sid, "more", id="c2")
        more = tab.events_until("turn.finished")
        assert seqs(more) == list(range(snapshot["seq"] + 1, more[-1]["seq"] + 1))


def test_a_cursor_of_another_epoch_gets_a_snapshot(running: Running, sid: str) -> None:
    with running.tab() as tab:
        tab.say("subscribe", sid=sid, after=1, epoch="not-this-one")
        assert tab.until("subscribed")[0]["mode"] == "snapshot"
        assert tab.until("snapshot")[0]["state"]["title"] == "A session"


def test_cancel(running: Running, sid: str) -> None:
    with running.tab() as tab:
        tab.say("subscribe", sid=sid)
        start(tab, sid, "wait")
        turn = tab.until("ack")[0]["turn"]
        tab.say("cmd", id="c2", sid=sid, op="turn.cancel", args={"turn": turn})
        assert tab.until("ack")[0] == {"type": "ack", "id": "c2", "ok": True, "turn": turn}
        with running.tab() as other:
            other.say("subscribe", sid=sid)
            assert other.events_until("turn.finished")[-1]["data"]["status"] == "cancelled"
        tab.say("cmd", id="c3", sid=sid, op="turn.cancel", args={"turn": "trn_none"})
        assert tab.until("ack")[0]["error"]["code"] == "not_found"


def test_a_closed_tab_never_stops_a_turn(running: Running, sid: str, api: httpx.Client) -> None:
    with running.tab() as tab:
        start(tab, sid, "slow 50")
        turn = tab.until("ack")[0]["turn"]
    deadline = time.monotonic() + 30
    while api.get(f"/turns/{turn}").json()["status"] == "running" and time.monotonic() < deadline:
        time.sleep(0.05)
    assert api.get(f"/turns/{turn}").json()["status"] == "ok"


def test_session_list_notices(running: Running, api: httpx.Client) -> None:
    with running.tab() as tab:
        sid = api.post("/sessions").json()["id"]
        tab.until("sessions.changed")
        time.sleep(0.2)
        assert api.patch(f"/sessions/{sid}", json={"title": "T"}).status_code == 200
        tab.until("sessions.changed")


def test_deleted_session_ends_its_subscription(running: Running, sid: str, api: httpx.Client) -> None:
    with running.tab() as tab:
        tab.say("subscribe", sid=sid)
        tab.until("caught_up")
        assert api.delete(f"/sessions/{sid}").status_code == 204
        error, _ = tab.until("error")
        assert error["code"] == "not_found" and error["sid"] == sid
        tab.say("subscribe", sid=sid)
        assert closed(tab) == 4404


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        ("{not json", 1007),
        (b"\x00\x01", 1003),
        ("x" * 1_100_000, 1009),
        ('{"type":"cmd","id":"c","sid":"s","op":"fork","args":' + "[" * 40_000 + "]" * 40_000 + "}", 1007),
    ],
    ids=["malformed", "binary", "oversized", "deep"],
)
def test_bad_frames_close_the_socket(running: Running, frame: str | bytes, code: int) -> None:
    with running.tab() as tab:
        tab.ws.send(frame)
        assert closed(tab) == code


@pytest.mark.parametrize(
    "frame",
    [
        {"type": "subscribe"},
        {"type": "subscribe", "sid": 5},
        {"type": "subscribe", "sid": "s", "after": -1},
        {"type": "nothing"},
        {"no": "type"},
        [],
        17,
        {"type": "cmd", "id": "1", "sid": "s", "op": "rm", "args": {}},
        {"type": "hello", "v": 1},
    ],
)
def test_wrong_shapes_get_an_error_and_the_socket_lives(running: Running, sid: str, frame: Any) -> None:
    with running.tab() as tab:
        tab.ws.send(json.dumps(frame))
        error, _ = tab.until("error")
        assert error["code"] == "invalid_input" and "\n" not in error["message"]
        tab.say("subscribe", sid=sid)
        tab.until("caught_up")


@pytest.mark.parametrize(
    "args",
    [{}, {"question": ""}, {"question": " "}, {"question": "q", "mode": "x"}, {"question": "q", "limits": {"calls": 0}},
     {"question": "q", "limits": {"nonsense": 1}}, {"question": "q", "contexts": ["../x"]},
     {"question": "q", "contexts": ["0" * 64]}, {"question": "q", "extra": 1}, 5],
)  # fmt: skip
def test_bad_commands_get_a_negative_ack(running: Running, sid: str, args: Any) -> None:
    with running.tab() as tab:
        tab.say("cmd", id="1", sid=sid, op="turn.start", args=args)
        ack, _ = tab.until("ack")
        assert not ack["ok"] and ack["error"]["code"] in ("invalid_input", "not_found")
    assert running.workspace.sessions.get(sid).turns == 0


def test_limits_of_a_command_lie_over_the_settings(running: Running, sid: str) -> None:
    with running.tab() as tab:
        tab.say("subscribe", sid=sid)
        start(tab, sid, "q", limits={"calls": 7, "wall_s": None})
        accepted = next(e for e in tab.events_until("turn.accepted") if e["type"] == "turn.accepted")
    limits = running.workspace.settings.limits
    assert accepted["data"]["limits"]["calls"] == 7
    assert limits.wall_s is not None and "wall_s" not in accepted["data"]["limits"]
    assert accepted["data"]["limits"].get("depth", ev.Limits().depth) == limits.depth


def test_unknown_session(running: Running) -> None:
    with running.tab() as tab:
        tab.say("subscribe", sid="ses_unknown")
        assert closed(tab) == 4404


def test_without_hello(serve: Serve) -> None:
    running = serve(limits=SocketLimits(hello_s=0.3))
    with running.raw_socket() as ws:
        assert closed(Tab(ws)) == 1002
    with running.raw_socket() as ws:
        Tab(ws).say("subscribe", sid="x")
        assert closed(Tab(ws)) == 1002


def test_without_identity_the_socket_says_4401(running: Running) -> None:
    with running.raw_socket(Authorization="") as ws:
        assert closed(Tab(ws)) == 4401
    with running.raw_socket(Authorization="Bearer wrong") as ws:
        assert closed(Tab(ws)) == 4401


def test_the_browsers_cookie_opens_the_socket(running: Running) -> None:
    with running.browser() as client:
        cookie = f"{running.access.cookie}={client.cookies[running.access.cookie]}"
    with running.raw_socket(Authorization="", Cookie=cookie, Origin=running.base) as ws:
        tab = Tab(ws)
        tab.say("hello", v=1)
        welcome = tab.hear()
        assert welcome["type"] == "welcome"
        assert {"turn.start", "fork", "memory.set", "memory.undo", "snapshot"} <= set(welcome["capabilities"])


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://127.0.0.1:1", "http://127.0.0.1.evil.example"]
)
def test_wrong_origin_is_refused_before_the_upgrade(running: Running, origin: str) -> None:
    with pytest.raises(InvalidStatus) as refused, running.raw_socket(Origin=origin):
        pass
    assert refused.value.response.status_code == 403


def test_wrong_host_is_refused_before_the_upgrade(running: Running) -> None:
    bearer = {"Authorization": f"Bearer {running.access.token}"}
    with socket.create_connection(("127.0.0.1", running.port)) as sock, pytest.raises(InvalidStatus) as refused:
        connect(f"ws://rebound.example:{running.port}/api/v1/ws", sock=sock, additional_headers=bearer)
    assert refused.value.response.status_code == 403
    with pytest.raises(InvalidStatus) as refused, running.raw_socket(Host="rebound.example"):  # a second Host header
        pass
    assert refused.value.response.status_code == 403


def test_heartbeats_have_no_seq(serve: Serve) -> None:
    running = serve(limits=SocketLimits(heartbeat_s=0.2))
    with running.tab() as tab:
        beat, _ = tab.until("heartbeat")
        assert "seq" not in beat and beat["ts"] > 1_700_000_000_000


def test_too_many_frames_and_too_many_sockets(serve: Serve) -> None:
    running = serve(limits=SocketLimits(frames_per_s=1, burst=5, sockets=2))
    with running.tab() as tab:
        with contextlib.suppress(ConnectionClosed):  # the server may close before the last frame is sent
            for _ in range(10):
                tab.say("unsubscribe", sid="x")
        assert closed(tab) == 4429
    with running.tab(), running.tab(), running.raw_socket() as ws:
        assert closed(Tab(ws)) == 4429


def test_a_slow_consumer_is_closed_and_slows_nobody(serve: Serve) -> None:
    running = serve(limits=SocketLimits(send_s=1.0, snapshot_gap=10**9))
    sid = running.workspace.sessions.create("s").sid
    turn = ""
    with running.tab() as slow:
        slow.say("subscribe", sid=sid)
        slow.until("caught_up")
        # The client library reads ahead only so far; 12 MB in flight are more than all buffers together.
        start(slow, sid, "deltas 6000 2000")
        with running.tab() as quick:
            quick.say("subscribe", sid=sid)
            got = quick.events_until("turn.finished", timeout=60)
            assert seqs(got) == list(range(1, len(got) + 1)) and len(got) > 6_000
            turn = got[-1]["turn"]
        time.sleep(1.5)
        events: list[dict[str, Any]] = []
        with pytest.raises(ConnectionClosed) as end:
            while True:
                frame = slow.hear(30)
                events += frame if isinstance(frame, list) else []
        assert end.value.rcvd is not None and end.value.rcvd.code == 4408
        assert seqs(events) == list(range(2, len(events) + 2)) and len(events) < len(got)
    with running.tab() as again:  # it resumes by its cursor and misses nothing
        again.say("subscribe", sid=sid, after=events[-1]["seq"])
        events = again.events_until("turn.finished", events, timeout=60)
        assert seqs(events) == list(range(2, len(events) + 2)) and events[-1]["turn"] == turn


def test_the_server_going_down_closes_with_1012(serve: Serve) -> None:
    running = serve()
    sid = running.workspace.sessions.create("s").sid
    with running.tab() as tab:
        tab.say("subscribe", sid=sid)
        tab.until("caught_up")
        running.server.should_exit = True
        assert closed(tab) == 1012
