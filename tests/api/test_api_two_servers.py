"""Two servers on one data folder: what the one writes, the readers of the other hear."""

from __future__ import annotations

import json
from collections.abc import Iterator

import httpx
import pytest
from served import Running, Serve


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
