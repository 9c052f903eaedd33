"""A person's leave for one act is for that act, also where several acts were asked about side by side."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from tests.engine.conftest import events_of
from tests.engine.sse_model import sse_model
from tests.engine.test_again import finished, of_kind, of_turn
from tests.engine.test_agent_tools import script
from tests.engine.test_approvals import until

from fleet_rlm.runtime.config import load_settings
from fleet_rlm.runtime.execution import events as ev
from fleet_rlm.runtime.execution.normalised import first_difference
from fleet_rlm.runtime.execution.requests import Submitted, TurnRequest
from fleet_rlm.runtime.factory import Workspace, open_workspace
from fleet_rlm.runtime.policy import ONCE

SERVER = str(Path(__file__).parents[1] / "faults" / "notes_server.py")
BOTH = [("notes_write", {"text": word}) for word in ("one", "two")]


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    return tmp_path / "notes.txt"


@pytest.fixture
def own(tmp_path: Path, notes: Path) -> Iterator[Workspace]:
    server = f"command = {json.dumps(sys.executable)}\nargs = {json.dumps([SERVER, str(notes)])}"
    (tmp_path / "settings.toml").write_text(f'tools = ["mcp"]\n[mcp.notes]\n{server}\n')
    with open_workspace(load_settings(home=tmp_path, environ={})) as opened:
        yield opened


def open_questions(workspace: Workspace, turn: Submitted) -> list[ev.ApprovalRequested]:
    mine = [event for event in events_of(workspace, turn.session) if event.turn == turn.turn]
    over = {data.id for data in of_kind(mine, ev.ApprovalResolved)}
    return [data for data in of_kind(mine, ev.ApprovalRequested) if data.id not in over]


def test_leave_for_one_of_two_acts_side_by_side_is_not_taken_for_the_other(own: Workspace, notes: Path) -> None:
    with sse_model(script(BOTH)) as model:
        turn = own.submit(TurnRequest(question="go", model=model.lm()))
        until(lambda: open_questions(own, turn), 60)
        own.answer(turn.turn, open_questions(own, turn)[0].id, ONCE)
        until(lambda: notes.exists() and len(open_questions(own, turn)) == 1, 60)
        written = notes.read_text()
        assert written in ("one\n", "two\n")
        own.cancel(turn.turn)
        cancelled = finished(own, turn)
        named = of_kind(of_turn(own, cancelled), ev.ApprovalRequested)
        tools = {data.id: data.arguments.head for data in of_kind(of_turn(own, cancelled), ev.ToolStarted)}
        assert sorted(tools[data.tool] for data in named) == ['{"text": "one"}', '{"text": "two"}']
        again = own.resume(turn.turn, lm=model.lm())
        until(lambda: open_questions(own, again), 60)
        assert notes.read_text() == written, "nobody gave leave for the other one"
        (question,) = open_questions(own, again)
        own.answer(again.turn, question.id, ONCE)
        result = finished(own, again)
        assert (result.status, open_questions(own, again)) == ("ok", [])
        assert sorted(notes.read_text().split()) == ["one", "two"]
        replayed = finished(own, own.replay(result.turn))
        assert replayed.status == "ok", replayed.error
        assert first_difference(of_turn(own, result), of_turn(own, replayed)) is None
        assert sorted(notes.read_text().split()) == ["one", "two"]


@pytest.mark.parametrize("told", [True, False], ids=["named", "of an older journal"])
def test_what_was_asked_side_by_side_is_told_again_with_its_answer(own: Workspace, notes: Path, told: bool) -> None:
    with sse_model(script(BOTH)) as model:
        turn = own.submit(TurnRequest(question="go", model=model.lm()))
        for _ in BOTH:
            until(lambda: open_questions(own, turn), 60)
            own.answer(turn.turn, open_questions(own, turn)[0].id, ONCE)
        first = finished(own, turn)
        events = of_turn(own, first) if told else [_unnamed(event) for event in of_turn(own, first)]
        again = finished(own, own.replay_events(events))
        assert (again.status, again.answer) == ("ok", first.answer), again.error
        assert first_difference(events, of_turn(own, again)) is None
        assert not open_questions(own, Submitted(again.session, again.turn, 0))
        assert sorted(notes.read_text().split()) == ["one", "two"]


def _unnamed(event: ev.Event) -> ev.Event:
    if not isinstance(event.data, ev.ApprovalRequested | ev.ApprovalResolved):
        return event
    return msgspec.structs.replace(event, data=msgspec.structs.replace(event.data, tool=None))
