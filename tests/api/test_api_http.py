"""The HTTP resources: good and bad input, on a real server."""

from __future__ import annotations

import hashlib
import itertools
import json
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from served import Running, Serve

from content.documents import encrypted_pdf, pdf, zipped
from fleet_rlm.api.routers.upload import PIECE
from fleet_rlm.runtime.execution.events import Draft, SandboxReady, SandboxReleased


def failure(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The inside of a well-formed error answer."""
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert set(error) == {"code", "message", "hint", "request_id"} and error["code"] == code
    assert error["message"] and "\n" not in error["message"] and "Traceback" not in answer.text
    assert error["request_id"] == answer.headers["x-request-id"]
    return error


def finish(api: httpx.Client, turn: str) -> dict[str, Any]:
    deadline = time.monotonic() + 30
    while (state := api.get(f"/turns/{turn}").json())["status"] == "running":
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return state


def ask(api: httpx.Client, sid: str, question: str, key: str | None = None, **more: Any) -> httpx.Response:
    headers = {"Idempotency-Key": key} if key else {}
    return api.post(f"/sessions/{sid}/turns", json={"question": question, **more}, headers=headers)


# ---------------------------------------------------------------------- status


def test_health_ready_status(serve: Serve) -> None:
    running = serve()
    api = running.bearer()
    root = httpx.Client(base_url=running.base)
    assert root.get("/health").json() == {"status": "ok"}
    ready = root.get("/ready")
    assert ready.status_code == 200 and ready.json()["sandbox"]["isolation"] == "scripted"
    running.workspace.isolation = None
    assert root.get("/ready").status_code == 503 and root.get("/ready").json()["ready"] is False
    status = api.get("/status").json()
    assert status["modes"] == ["auto", "rlm", "direct"] and status["configured"] is False
    assert status["limits"]["depth"] == running.workspace.settings.limits.depth and "calls" in status["limits"]
    root.close()
    api.close()


def test_live_sandboxes_are_counted(running: Running, api: httpx.Client, sid: str) -> None:
    ready = SandboxReady(id="sbx_1", sandbox="b", provider="local", isolation="x", ms=1)
    running.workspace.journal.append(sid, [Draft(ready)], durable=True)
    assert api.get("/status").json()["live_sandboxes"] == 1
    running.workspace.journal.append(sid, [Draft(SandboxReleased(id="sbx_1"))], durable=True)
    assert api.get("/status").json()["live_sandboxes"] == 0


# ---------------------------------------------------------------------- sessions


def test_sessions_from_birth_to_end(api: httpx.Client) -> None:
    made = api.post("/sessions", json={"title": " One "})
    assert made.status_code == 201 and made.json()["title"] == "One" and made.json()["head"] == 1
    sid = made.json()["id"]
    assert api.post("/sessions").json()["title"]  # no body at all is fine
    assert [s["id"] for s in api.get("/sessions").json()["sessions"]][1] == sid  # newest first
    renamed = api.patch(f"/sessions/{sid}", json={"title": "Two"}).json()
    assert renamed["title"] == "Two" and renamed["head"] == 2
    assert [s["id"] for s in api.get("/sessions").json()["sessions"]][0] == sid  # newest change first
    assert api.get(f"/sessions/{sid}").json() == renamed
    assert api.delete(f"/sessions/{sid}").status_code == 204
    failure(api.get(f"/sessions/{sid}"), 404, "not_found")
    failure(api.delete(f"/sessions/{sid}"), 404, "not_found")
    failure(api.patch(f"/sessions/{sid}", json={"title": "x"}), 404, "not_found")


@pytest.mark.parametrize(
    "body", [{}, {"title": ""}, {"title": "  "}, {"title": "x" * 201}, {"title": 5}, {"title": "a", "b": 1}, [], "x"]
)
def test_bad_titles(api: httpx.Client, sid: str, body: Any) -> None:
    failure(api.patch(f"/sessions/{sid}", json=body), 400, "invalid_input")


def test_a_session_with_a_running_turn_is_not_deleted(api: httpx.Client, sid: str) -> None:
    turn = ask(api, sid, "wait").json()["turn"]
    assert api.get(f"/sessions/{sid}").json()["active_turn"] == turn
    failure(api.delete(f"/sessions/{sid}"), 409, "conflict")
    assert api.post(f"/turns/{turn}/cancel").json() == {"turn": turn, "cancelling": True}
    assert finish(api, turn)["status"] == "cancelled"
    assert api.post(f"/turns/{turn}/cancel").json()["cancelling"] is False
    assert api.delete(f"/sessions/{sid}").status_code == 204


# ---------------------------------------------------------------------- turns


def test_a_turn_and_its_idempotency_key(api: httpx.Client, sid: str) -> None:
    first = ask(api, sid, "hello", "key-1")
    assert first.status_code == 202
    state = finish(api, first.json()["turn"])
    assert state["answer"] == "you said hello" and state["usage"] == {
        "calls": 1, "prompt_tokens": 0, "completion_tokens": 0, "cached_tokens": 0, "cost_usd": 0.25, "wall_s": 0.0,
    }  # fmt: skip
    assert ask(api, sid, "hello", "key-1").json() == first.json()
    failure(ask(api, sid, "other", "key-1"), 409, "conflict")
    assert ask(api, sid, "hello", "key-2").json()["turn"] != first.json()["turn"]


def test_a_key_that_comes_again_with_another_model_or_other_limits(api: httpx.Client, sid: str) -> None:
    asked = {"model": "openai/a", "limits": {"calls": 5, "wall_s": 60}}
    turn = ask(api, sid, "hello", key="k", **asked).json()["turn"]
    finish(api, turn)
    for same in (asked, {}, {"limits": {"calls": 5}}):
        assert ask(api, sid, "hello", key="k", **same).json()["turn"] == turn
    for other in ({"model": "openai/b"}, {"sub_model": "n/n"}, {"limits": {"calls": 6}}, {"limits": {"wall_s": None}}):
        failure(ask(api, sid, "hello", key="k", **{**asked, **other}), 409, "conflict")


def test_one_turn_at_a_time(api: httpx.Client, sid: str) -> None:
    turn = ask(api, sid, "wait").json()["turn"]
    failure(ask(api, sid, "hello"), 409, "conflict")
    assert api.get(f"/turns/{turn}").json()["status"] == "running"
    api.post(f"/turns/{turn}/cancel")


def test_the_same_key_many_times_at_once_makes_one_turn(running: Running, sid: str) -> None:
    answers: list[str] = []

    def post() -> None:
        with running.bearer() as client:
            answers.append(ask(client, sid, "hello", "same").json()["turn"])

    threads = [threading.Thread(target=post) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 8 and len(set(answers)) == 1
    assert running.workspace.sessions.get(sid).turns == 1


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({}, 400, "invalid_input"),
        ({"question": ""}, 400, "invalid_input"),
        ({"question": "   "}, 400, "invalid_input"),
        ({"question": "q" * 200_001}, 400, "invalid_input"),
        ({"question": "q", "mode": "fast"}, 400, "invalid_input"),
        ({"question": "q", "limits": {"calls": -1}}, 400, "invalid_input"),
        ({"question": "q", "limits": {"cost_usd": 0}}, 400, "invalid_input"),
        ({"question": "q", "limits": {"depth": 99}}, 400, "invalid_input"),
        ({"question": "q", "limits": {"typo": 1}}, 400, "invalid_input"),
        ({"question": "q", "contexts": ["nonsense"]}, 400, "invalid_input"),
        ({"question": "q", "contexts": ["0" * 64]}, 404, "not_found"),
        ({"question": "q", "unknown": True}, 400, "invalid_input"),
    ],
)
def test_bad_turns(api: httpx.Client, sid: str, body: Any, status: int, code: str) -> None:
    failure(api.post(f"/sessions/{sid}/turns", json=body), status, code)


def test_bad_json_unknown_session_turn_and_key(api: httpx.Client, sid: str) -> None:
    failure(
        api.post(f"/sessions/{sid}/turns", content=b"{", headers={"Content-Type": "application/json"}),
        400,
        "invalid_input",
    )
    failure(ask(api, "ses_no", "q"), 404, "not_found")
    failure(ask(api, sid, "q", "k" * 201), 400, "invalid_input")
    failure(api.get("/turns/trn_no"), 404, "not_found")
    failure(api.post("/turns/trn_no/cancel"), 404, "not_found")
    failure(api.get("/turns/trn_no/events"), 404, "not_found")
    failure(api.get("/nowhere"), 404, "not_found")
    failure(api.put("/sessions"), 405, "method_not_allowed")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"[" * 100_000, "nested too deeply"),
        (b'{"question": "\xff"}', "not UTF-8"),
        (b'{"question": ' + b"1" * 5_000 + b"}", "too many digits"),
        (b'{"question": "q", "limits": {"calls": true}}', "limits.calls: "),
        (b'{"question": "q", "limits": {"calls": "3"}}', "limits.calls: "),
        (b'{"question": "q", "limits": {"wall_s": "3"}}', "limits.wall_s: "),
    ],
)
def test_a_body_that_cannot_be_read_is_told_why(api: httpx.Client, sid: str, body: bytes, said: str) -> None:
    headers = {"Content-Type": "application/json"}
    refused = failure(api.post(f"/sessions/{sid}/turns", content=body, headers=headers), 400, "invalid_input")
    assert said in refused["message"]


@pytest.mark.parametrize("title", ["\0", "\u200b\u200b", " \x07 "])
def test_a_title_of_which_nothing_is_seen(api: httpx.Client, sid: str, title: str) -> None:
    failure(api.post("/sessions", json={"title": title}), 400, "invalid_input")
    failure(api.patch(f"/sessions/{sid}", json={"title": title}), 400, "invalid_input")


def test_a_body_beyond_the_bound(api: httpx.Client, sid: str) -> None:
    failure(api.post("/contexts", json={"name": "n", "text": "x" * 17_000_000}), 413, "too_large")

    def endless() -> Any:
        for _ in range(300):
            yield b"x" * 100_000

    chunked = api.post(f"/sessions/{sid}/turns", content=endless(), headers={"Content-Type": "application/json"})
    failure(chunked, 413, "too_large")


# ---------------------------------------------------------------------- events


def test_event_pages(api: httpx.Client, sid: str) -> None:
    finish(api, ask(api, sid, "deltas 30").json()["turn"])
    page = api.get(f"/sessions/{sid}/events", params={"after": 3, "limit": 10}).json()
    assert [event["seq"] for event in page["events"]] == list(range(4, 14))
    assert page["head"] == api.get(f"/sessions/{sid}").json()["head"] and page["epoch"] == page["events"][0]["epoch"]
    assert api.get(f"/sessions/{sid}/events", params={"after": page["head"]}).json()["events"] == []
    for bad in ({"after": -1}, {"limit": 0}, {"limit": 1001}, {"after": "x"}):
        failure(api.get(f"/sessions/{sid}/events", params=bad), 400, "invalid_input")
    for beyond in (2**63 - 1, 2**63, 2**80):
        past = api.get(f"/sessions/{sid}/events", params={"after": beyond})
        assert past.status_code == 200 and past.json()["events"] == []
    failure(api.get("/sessions/ses_no/events"), 404, "not_found")


def sse(lines: Any, stop: str) -> list[tuple[str, dict[str, Any]]]:
    """(id, event) of a stream up to the first event of a type."""
    found: list[tuple[str, dict[str, Any]]] = []
    name = ""
    for line in lines:
        if line.startswith("id: "):
            name = line[4:]
        elif line.startswith("data: "):
            found.append((name, json.loads(line[6:])))
            if found[-1][1]["type"] == stop:
                break
    return found


def test_session_events_as_a_stream_that_resumes(api: httpx.Client, sid: str) -> None:
    url, accept = f"/sessions/{sid}/events", {"Accept": "text/event-stream"}
    turn = ask(api, sid, "slow 60").json()["turn"]
    with api.stream("GET", url, headers=accept) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        first = sse(stream.iter_lines(), "message.delta")
    with api.stream("GET", url, headers={**accept, "Last-Event-ID": first[-1][0]}) as stream:
        rest = sse(stream.iter_lines(), "turn.finished")
    events = [event for _, event in first + rest]
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1)) and events[-1]["turn"] == turn
    with api.stream("GET", url, headers={**accept, "Last-Event-ID": "otherepoch:50"}) as stream:
        assert sse(stream.iter_lines(), "session.created")[0][1]["seq"] == 1
    failure(api.get(url, headers={**accept, "Last-Event-ID": "nonsense"}), 400, "invalid_input")


def test_turn_events_as_a_stream_that_ends(api: httpx.Client, sid: str) -> None:
    finish(api, ask(api, sid, "first").json()["turn"])
    turn = ask(api, sid, "slow 20").json()["turn"]
    with api.stream("GET", f"/turns/{turn}/events") as stream:
        events = [json.loads(line[6:]) for line in stream.iter_lines() if line.startswith("data: ")]
    assert {event["turn"] for event in events} == {turn}
    assert events[0]["type"] == "turn.accepted" and events[-1]["type"] == "turn.finished"


@pytest.mark.parametrize("behind", [-1, 0, 999_999])
def test_a_turn_stream_resumed_at_or_after_its_end_is_over(api: httpx.Client, sid: str, behind: int) -> None:
    """With the id that a browser's EventSource comes back with after the end; 204 tells it to stay away."""
    turn = ask(api, sid, "first").json()["turn"]
    finish(api, turn)
    finish(api, ask(api, sid, "second").json()["turn"])
    with api.stream("GET", f"/turns/{turn}/events") as stream:
        name, _ = sse(stream.iter_lines(), "turn.finished")[-1]
    epoch, _, seq = name.partition(":")
    cursor = f"{epoch}:{int(seq) + behind}"
    with api.stream("GET", f"/turns/{turn}/events", headers={"Last-Event-ID": cursor}) as stream:
        assert stream.status_code == (200 if behind < 0 else 204)
        found = list(itertools.takewhile(lambda line: "heartbeat" not in line, stream.iter_lines()))
        assert sum(line.startswith("id: ") for line in found) == (1 if behind < 0 else 0)


# ---------------------------------------------------------------------- contexts and blobs


def test_a_text_context(api: httpx.Client, sid: str) -> None:
    made = api.post("/contexts", json={"name": "notes.txt", "text": "one\ntwo\nthree"})
    assert made.status_code == 201
    reference = made.json()
    assert (reference["name"], reference["kind"], reference["lines"], reference["files"]) == ("notes.txt", "text", 3, 1)
    assert api.get(f"/contexts/{reference['sha256']}").json()["chars"] == 13
    lines = api.get(f"/contexts/{reference['sha256']}/lines", params={"path": "notes.txt", "first": 2, "last": 9})
    assert lines.json() == {"lines": ["two", "three"]}
    turn = ask(api, sid, "hello", contexts=[reference["sha256"]]).json()["turn"]
    finish(api, turn)
    accepted = api.get(f"/sessions/{sid}/events").json()["events"][1]
    assert accepted["data"]["contexts"][0]["sha256"] == reference["sha256"]


def test_uploads_of_one_file_and_of_a_folder(api: httpx.Client, running: Running) -> None:
    text = "".join(f"line {n} é\n" for n in range(300_000))
    made = api.post("/contexts", files={"file": ("big.log", text.encode())})
    assert made.status_code == 201 and made.json()["chars"] == len(text) and made.json()["bytes"] > 2 * PIECE
    assert made.json()["sha256"] == hashlib.sha256(text.encode()).hexdigest() and made.json()["name"] == "big.log"
    parts = [
        ("file", ("src/a.py", b"a = 1\n")),
        ("file", ("src/b/c.py", b"c = 2\n\n")),
        ("file", ("src/x.bin", b"\0\1")),
    ]
    tree = api.post("/contexts", data={"name": "src"}, files=parts)
    assert tree.status_code == 201, tree.text
    assert (tree.json()["kind"], tree.json()["files"], tree.json()["name"]) == ("tree", 2, "src")
    lines = api.get(f"/contexts/{tree.json()['sha256']}/lines", params={"path": "src/b/c.py", "first": 1, "last": 1})
    assert lines.json() == {"lines": ["c = 2"]}
    span = tree.json()["chars"] - 2
    place = api.get(f"/contexts/{tree.json()['sha256']}/place", params={"char": span})
    assert place.json() == {"path": "src/b/c.py", "line": 1}
    assert api.get(f"/contexts/{tree.json()['sha256']}/place", params={"char": 10**9}).status_code == 404
    assert list((running.workspace.settings.home / "uploads").iterdir()) == []


def test_uploads_of_documents_and_archives(api: httpx.Client) -> None:
    made = api.post("/contexts", data={"name": "The plan"}, files={"file": ("plan.pdf", pdf(["alpha", "beta"]))})
    assert (made.status_code, made.json()["name"], made.json()["kind"]) == (201, "The plan", "text")
    lines = api.get(f"/contexts/{made.json()['sha256']}/lines", params={"path": "The plan", "first": 3, "last": 4})
    assert lines.json() == {"lines": ["=== page 2 ===", "beta"]}
    made = api.post("/contexts", files={"file": ("set.zip", zipped({"b.txt": "bee\n", "d/a.pdf": pdf(["inside"])}))})
    assert (made.status_code, made.json()["kind"], made.json()["files"]) == (201, "tree", 2)
    lines = api.get(f"/contexts/{made.json()['sha256']}/lines", params={"path": "d/a.pdf", "first": 2, "last": 2})
    assert lines.json() == {"lines": ["inside"]}
    for name, data in {
        "scan.pdf": pdf([""]),
        "lock.pdf": encrypted_pdf(["x"]),
        "cut.zip": zipped({"a": "b"})[:-9],
    }.items():
        error = failure(api.post("/contexts", files={"file": (name, data)}), 400, "invalid_input")
        assert error["message"].startswith(f"{name}: ")


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"nothing", "multipart/form-data", 400),
        (b"nothing", "multipart/form-data; boundary=x", 400),
        (b"--x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\ncut", "multipart/form-data; boundary=x", 400),
        (b"--x\r\nContent-Disposition: form-data; name=\"name\"\r\n\r\nn\r\n--x--\r\n", "multipart/form-data; boundary=x", 400),
        (b"--x\r\nContent-Disposition: form-data; name=\"other\"; filename=\"a\"\r\n\r\nn\r\n--x--\r\n", "multipart/form-data; boundary=x", 400),
        (b"--x\r\nContent-Disposition: form-data; name=\"name\"\r\n\r\n" + b"n" * 5000 + b"\r\n--x--\r\n", "multipart/form-data; boundary=x", 413),
        (b"--x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\n\r\n--x--\r\n", "multipart/form-data; boundary=x", 400),
        (b"--x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\n\0\1\r\n--x--\r\n", "multipart/form-data; boundary=x", 400),
        (b"--x--", "multipart/form-data; boundary=" + "x" * 300, 400),
        (b"plain", "text/plain", 400),
        (b"{", "application/json", 400),
        (b"{}", "application/json", 400),
        (b'{"name": "n", "text": ""}', "application/json", 400),
    ],
)  # fmt: skip
def test_bad_uploads(api: httpx.Client, running: Running, content: bytes, kind: str, status: int) -> None:
    code = {400: "invalid_input", 413: "too_large"}[status]
    failure(api.post("/contexts", content=content, headers={"Content-Type": kind}), status, code)
    folder = running.workspace.settings.home / "uploads"
    assert not folder.exists() or list(folder.iterdir()) == []


def test_paths_of_an_upload_cannot_climb(api: httpx.Client, tmp_path: Path) -> None:
    answer = api.post("/contexts", files=[("file", ("../../evil", b"x\n")), ("file", ("/etc/evil", b"y\n"))])
    assert answer.status_code in (201, 400)
    if answer.status_code == 201:
        listed = api.get(f"/contexts/{answer.json()['sha256']}/lines", params={"path": "../../evil"})
        assert listed.status_code == 404
    assert not (tmp_path / "evil").exists() and not Path("/etc/evil").exists()


def test_bad_context_lookups(api: httpx.Client) -> None:
    failure(api.get(f"/contexts/{'0' * 64}"), 404, "not_found")
    failure(api.get("/contexts/nonsense"), 400, "invalid_input")
    sha = api.post("/contexts", json={"name": "n", "text": "t"}).json()["sha256"]
    failure(api.get(f"/contexts/{sha}/lines"), 400, "invalid_input")
    failure(api.get(f"/contexts/{sha}/lines", params={"path": "n", "first": 0}), 400, "invalid_input")
    for name, params in {"lines": {"path": "n", "first": 2**64}, "place": {"char": 2**64}}.items():
        assert api.get(f"/contexts/{sha}/{name}", params=params).status_code in (200, 400, 404)


def test_a_number_that_no_database_holds(api: httpx.Client, sid: str) -> None:
    failure(api.post(f"/sessions/{sid}/memory/undo", json={"seq": 2**64}), 400, "invalid_input")


def test_blobs(api: httpx.Client, running: Running) -> None:
    ref = running.workspace.blobs.put("<script>alert(1)</script> é".encode())
    whole = api.get(f"/blobs/{ref}")
    assert whole.text == "<script>alert(1)</script> é" and whole.headers["x-blob-bytes"] == "28"
    assert whole.headers["content-type"] == "text/plain; charset=utf-8"
    assert whole.headers["x-content-type-options"] == "nosniff"
    assert api.get(f"/blobs/{ref}", params={"offset": 1, "limit": 6}).text == "script"
    text = "aé‖𝄞" * 50
    ref = running.workspace.blobs.put(text.encode())
    size = len(text.encode())
    for page in (3, 7, 64, 1000):
        parts = [api.get(f"/blobs/{ref}", params={"offset": at, "limit": page}).text for at in range(0, size, page)]
        assert "".join(parts) == text, page
    for beyond in (size, 2**63 - 1, 2**63, 2**80):
        past = api.get(f"/blobs/{ref}", params={"offset": beyond})
        assert (past.status_code, past.content, past.headers["x-blob-bytes"]) == (200, b"", str(size))
    failure(api.get("/blobs/blob_no"), 404, "not_found")
    failure(api.get(f"/blobs/{ref}", params={"offset": -1}), 400, "invalid_input")


# ---------------------------------------------------------------------- settings


def test_model_settings(serve: Serve) -> None:
    running = serve()
    api = running.bearer()
    before = api.get("/settings/models").json()
    assert before["model"] is None and before["key"] == {"set": False, "ends": None, "source": None}
    assert [(s["kind"], s["model"]) for s in before["suggestions"]] == [
        ("env", "openai/gpt-5-mini"), ("local", "ollama_chat/q"), ("demo", "demo/search"),
    ]  # fmt: skip
    secret = "sk-very-secret-value-a1b2"
    after = api.put(
        "/settings/models", json={"model": "openai/x", "api_key": secret, "api_base": "http://127.0.0.1:9/v1"}
    )
    assert after.status_code == 200 and secret not in after.text
    assert after.json()["key"] == {"set": True, "ends": "a1b2", "source": "file"}
    assert after.json()["model"] == "openai/x" and after.json()["sources"]["model"] == "file"
    assert running.workspace.settings.model == "openai/x" and running.workspace.settings.api_key.reveal() == secret
    assert api.put("/settings/models", json={"model": "openai/y"}).json()["key"]["set"]  # what is left out stays
    roles = api.put("/settings/models", json={"verify": "judge", "models_allowed": ["openai/y"]}).json()
    assert (roles["verify"], roles["models_allowed"]) == ("judge", ["openai/y"])
    assert [fact["role"] for fact in roles["roles"]] == ["root", "sub", "judge"]
    assert (roles["roles"][0]["price"], roles["roles"][0]["weak"]) == (None, "it sees 8,192 tokens at once")
    with (running.workspace.settings.file).open("a") as file:
        file.write('[prices."openai/y"]\ninput_usd_per_million = 1\noutput_usd_per_million = 2\ndate = 2026-11-01\n')
    priced = api.put("/settings/models", json={"verify": None, "models_allowed": None}).json()
    assert (priced["verify"], priced["models_allowed"]) == ("off", [])
    assert priced["roles"][0]["price"] == {
        "input_usd": 1.0, "output_usd": 2.0, "cached_usd": None, "source": "settings", "date": "2026-11-01",
    }  # fmt: skip
    gone = api.put("/settings/models", json={"api_key": None, "api_base": ""}).json()
    assert gone["key"]["set"] is False and gone["api_base"] is None and gone["model"] == "openai/y"
    api.close()


@pytest.mark.parametrize(
    "body",
    [
        {"model": "nonsense"},
        {"api_base": "ftp://x/"},
        {"api_base": "http://例子/v1"},
        {"model": 5},
        {"other": 1},
        {"api_key": "x\ny"},
    ],
)
def test_bad_model_settings(fresh: httpx.Client, body: Any) -> None:
    api = fresh
    error = failure(api.put("/settings/models", json=body), 400, "invalid_input")
    assert "x\\ny" not in error["message"]
    assert api.get("/settings/models").json()["model"] is None


def test_settings_of_the_environment_are_not_overridden_in_silence(
    serve: Serve, fleet_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLEET_MODEL", "openai/from-env")
    with serve().bearer() as api:
        error = failure(api.put("/settings/models", json={"model": "openai/x"}), 409, "conflict")
        assert "FLEET_MODEL" in error["message"]
        assert api.get("/settings/models").json()["sources"]["model"] == "environment"


def test_trying_a_model_saves_nothing(fresh: httpx.Client) -> None:
    api = fresh
    tried = api.post("/settings/models/test", json={"model": "openai/x"}).json()
    assert tried["ok"] is False and tried["steps"][0]["fix"] == "set a key"
    assert api.post("/settings/models/test", json={"model": "openai/x", "api_key": "sk-1"}).json()["ok"] is True
    failure(api.post("/settings/models/test", json={"model": "what/ever"}), 400, "invalid_input")
    failure(api.post("/settings/models/test"), 409, "not_configured")
    assert api.get("/settings/models").json()["model"] is None
