"""A session's memory over HTTP and over the socket, and on the command line."""

from __future__ import annotations

import httpx
from served import Running
from test_api_http import failure


def test_memory_over_http(api: httpx.Client, sid: str) -> None:
    empty = api.get(f"/sessions/{sid}/memory").json()
    assert [block["name"] for block in empty["blocks"]] == ["persona", "person", "notes"]
    assert all(block["text"] == "" and block["limit"] > 0 and block["about"] for block in empty["blocks"])
    assert empty["edits"] == []
    put = api.put(f"/sessions/{sid}/memory/person", json={"text": "Ada"})
    assert put.status_code == 200 and put.json()["text"] == "Ada"
    assert api.put(f"/sessions/{sid}/memory/person", json={"text": "Ada"}).json()["seq"] is None
    assert api.delete(f"/sessions/{sid}/memory/person").json()["text"] is None
    undone = api.post(f"/sessions/{sid}/memory/undo", json={"seq": put.json()["seq"] + 1}).json()
    assert undone["text"] == "Ada"
    now = api.get(f"/sessions/{sid}/memory").json()
    assert next(block["text"] for block in now["blocks"] if block["name"] == "person") == "Ada"
    assert [edit["who"] for edit in now["edits"]] == ["person", "person", "undo"]


def test_bad_edits_over_http(api: httpx.Client, sid: str) -> None:
    failure(api.put(f"/sessions/{sid}/memory/persona", json={"text": "x" * 1501}), 400, "invalid_input")
    failure(api.put(f"/sessions/{sid}/memory/A%20B", json={"text": "x"}), 400, "invalid_input")
    failure(api.put(f"/sessions/{sid}/memory/notes", json={"words": "x"}), 400, "invalid_input")
    failure(api.post(f"/sessions/{sid}/memory/undo", json={"seq": 1}), 404, "not_found")
    failure(api.get("/sessions/ses_none/memory"), 404, "not_found")
    failure(api.put("/sessions/ses_none/memory/notes", json={"text": "x"}), 404, "not_found")


def test_memory_over_the_socket(running: Running, sid: str) -> None:
    with running.tab() as tab:
        tab.say("subscribe", sid=sid, after=0, epoch=None, detail="full")
        tab.say("cmd", id="m1", sid=sid, op="memory.set", args={"block": "notes", "text": "blue"})
        ack, events = tab.until("ack")
        assert ack["ok"] and ack["text"] == "blue"
        if not any(event["type"] == "memory.changed" for event in events):
            events = tab.events_until("memory.changed", events)
        changed = next(event for event in events if event["type"] == "memory.changed")
        assert changed["data"] == {"block": "notes", "before": None, "after": "blue", "who": "person"}
        tab.say("cmd", id="m2", sid=sid, op="memory.undo", args={"seq": ack["seq"]})
        ack, _ = tab.until("ack")
        assert ack["ok"] and ack["text"] is None
        tab.say("cmd", id="m3", sid=sid, op="memory.undo", args={"seq": 1})
        ack, _ = tab.until("ack")
        assert not ack["ok"] and ack["error"]["code"] == "not_found"
        tab.say("cmd", id="m4", sid=sid, op="memory.set", args={"block": "notes"})
        ack, _ = tab.until("ack")
        assert not ack["ok"] and ack["error"]["code"] == "invalid_input"
