"""Two servers on one data folder: what the one writes, the readers of the other hear."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest
from served import Running, Serve, Tab


@pytest.fixture
def two(serve: Serve) -> tuple[Running, Running]:
    return serve(), serve()


@pytest.fixture
def sid(two: tuple[Running, Running]) -> str:
    with two[0].bearer() as api:
        return api.post("/sessions").json()["id"]


def finished_turn(api: httpx.Client, sid: str, question: str) -> str:
    turn = api.post(f"/sessions/{sid}/turns", json={"question": question}).json()["turn"]
    with api.stream("GET", f"/turns/{turn}/events") as stream:
        assert list(events(stream))[-1]["type"] == "turn.finished"
    return turn


def events(stream: httpx.Response) -> Iterator[dict[str, object]]:
    """The events of a stream; a silence, which a heartbeat tells of, is a failure."""
    for line in stream.iter_lines():
        assert "heartbeat" not in line
        if line.startswith("data: "):
            yield json.loads(line[6:])


def test_a_socket_hears_the_turns_of_both_without_gap_or_double(two: tuple[Running, Running], sid: str) -> None:
    one, other = two
    with one.tab() as tab, one.bearer() as here, other.bearer() as there:
        tab.say("subscribe", sid=sid)
        tab.until("caught_up")
        turns = [finished_turn(api, sid, "deltas 40") for api in (here, there, here, there)]
        heard = []
        while sum(event["type"] == "turn.finished" for event in heard) < 4:
            frame = tab.hear()
            heard += frame if isinstance(frame, list) else []
    assert [event["seq"] for event in heard] == list(range(2, len(heard) + 2))
    assert [event["turn"] for event in heard if event["type"] == "turn.finished"] == turns


def test_the_stream_of_a_turn_of_the_other_server_ends_with_it(two: tuple[Running, Running], sid: str) -> None:
    with two[0].bearer() as here, two[1].bearer() as there:
        turn = there.post(f"/sessions/{sid}/turns", json={"question": "wait"}).json()["turn"]
        with here.stream("GET", f"/turns/{turn}/events") as stream:
            told = events(stream)
            assert next(told)["type"] == "turn.accepted"
            there.post(f"/turns/{turn}/cancel")
            assert list(told)[-1]["type"] == "turn.finished"


def test_a_session_that_the_other_server_deletes_ends_its_readers(two: tuple[Running, Running], sid: str) -> None:
    with two[0].tab() as tab, two[1].bearer() as there:
        tab.say("subscribe", sid=sid)
        tab.until("caught_up")
        assert there.delete(f"/sessions/{sid}").status_code == 204
        error, _ = tab.until("error")
        assert error["sid"] == sid and error["code"] == "not_found"


def notices(tab: Tab, seconds: float) -> int:
    """How many changes of the list the tab is told of within so many seconds."""
    told, end = 0, time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        with suppress(TimeoutError):
            frame = tab.hear(left)
            told += isinstance(frame, dict) and frame["type"] == "sessions.changed"
    return told


def test_a_tab_is_told_what_the_other_server_does_to_the_list(two: tuple[Running, Running]) -> None:
    with two[0].tab() as tab, two[1].bearer() as there:
        time.sleep(0.3)  # its first look
        sid = there.post("/sessions").json()["id"]
        tab.until("sessions.changed", timeout=5)
        assert there.patch(f"/sessions/{sid}", json={"title": "T"}).status_code == 200
        tab.until("sessions.changed", timeout=5)
        turn = there.post(f"/sessions/{sid}/turns", json={"question": "wait"}).json()["turn"]
        tab.until("sessions.changed", timeout=5)
        there.post(f"/turns/{turn}/cancel")
        tab.until("sessions.changed", timeout=5)
        notices(tab, 1.5)
        assert there.put(f"/sessions/{sid}/memory/notes", json={"text": "x"}).status_code == 200
        assert notices(tab, 1.5) == 0, "it moves the session, and the list does not show it"
        assert there.delete(f"/sessions/{sid}").status_code == 204
        tab.until("sessions.changed", timeout=5)


def test_what_a_server_does_itself_is_told_once(two: tuple[Running, Running]) -> None:
    with two[0].tab() as tab, two[0].bearer() as here:
        time.sleep(0.3)
        sid = here.post("/sessions").json()["id"]
        assert notices(tab, 1.5) == 1
        finished_turn(here, sid, "deltas 5")
        assert notices(tab, 1.5) <= 2, "its beginning and its end"
        assert here.delete(f"/sessions/{sid}").status_code == 204
        assert notices(tab, 1.5) == 1


DYING = """
import sys, time
from pathlib import Path
from scripted_workspace import ScriptedWorkspace
from fleet_rlm.runtime.execution.requests import TurnRequest
workspace = ScriptedWorkspace(Path(sys.argv[1]))
print(workspace.submit(TurnRequest(question="wait", session=sys.argv[2])).turn, flush=True)
time.sleep(60)
"""


@contextmanager
def dying(home: Path, sid: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A process with a turn that waits; killed at the end if not before."""
    command = [sys.executable, "-c", DYING, str(home), sid]
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environ) as process:
        assert process.stdout is not None
        try:
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


def test_who_watches_a_turn_sees_the_end_that_its_process_did_not_write(
    two: tuple[Running, Running], sid: str, fleet_home: Path
) -> None:
    with two[0].tab() as tab, two[1].bearer() as there, dying(fleet_home, sid) as (process, turn):
        tab.say("subscribe", sid=sid)
        tab.until("caught_up")
        answer = there.post(f"/turns/{turn}/cancel")
        assert answer.status_code == 409 and "another fleet process" in answer.json()["error"]["message"]
        process.kill()
        end = tab.events_until("turn.finished", timeout=10)[-1]
        assert end["turn"] == turn and end["data"]["status"] == "interrupted"
        assert there.get(f"/turns/{turn}").json()["status"] == "interrupted"
        assert there.delete(f"/sessions/{sid}").status_code == 204


def test_a_turn_of_a_dead_process_is_not_said_to_run_elsewhere(
    two: tuple[Running, Running], sid: str, fleet_home: Path
) -> None:
    with two[0].bearer() as here, dying(fleet_home, sid) as (process, turn):
        process.kill()
        process.wait(10)
        answer = here.post(f"/turns/{turn}/cancel")
        assert answer.status_code == 202 and answer.json()["cancelling"] is False, answer.text
        assert here.get(f"/turns/{turn}").json()["status"] == "interrupted"
