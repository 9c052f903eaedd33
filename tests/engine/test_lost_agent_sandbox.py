"""The agent's sandbox when it cannot be had, and when it is lost in the middle of a turn."""

import json
import threading
from pathlib import Path
from typing import Any

from tests.engine.conftest import events_of
from tests.engine.sse_model import sse_model
from tests.engine.test_again import finished, of_turn
from tests.engine.test_agent_tools import results, script
from tests.engine.test_turns import ask, check_journal

from fleet_rlm.runtime.config import load_settings
from fleet_rlm.runtime.execution.events import Limits
from fleet_rlm.runtime.execution.normalised import first_difference
from fleet_rlm.runtime.factory import Workspace, open_workspace


def test_a_sandbox_that_cannot_be_had_keeps_no_place(tmp_path: Path, closed: str) -> None:
    nowhere = {"DAYTONA_API_KEY": "none-of-yours", "DAYTONA_API_URL": closed}
    steps = [[("run_python", {"code": "1"})], [("write_file", {"path": "a", "text": "b"})]]
    with open_workspace(load_settings(home=tmp_path, environ=nowhere)) as workspace, sse_model(script(*steps)) as model:
        result = ask(workspace, "do it", model=model.lm(), limits=Limits(sandboxes=2))
        assert result.status == "ok" and result.answer is not None
        said = json.loads(result.answer)
        assert len(said) == 2 and all("failed" in each for each in said), said
        check_journal(events_of(workspace, result.session))


def test_a_sandbox_that_is_lost_is_made_anew(workspace: Workspace) -> None:
    session = workspace.sessions.create("lost").sid
    steps = [
        [("run_python", {"code": "x = 41"})],
        [("run_python", {"code": "x"})],  # it is gone
        [("run_python", {"code": "6 * 7"})],
        [("write_file", {"path": "a.txt", "text": "b"})],  # gone again
        [("write_file", {"path": "a.txt", "text": "b"})],
        [("run_python", {"code": "open('a.txt').read()"})],
    ]
    usual = script(*steps)

    def reply(body: dict[str, Any]) -> list[Any]:
        if len(results(body)) in (1, 3):
            workspace.sandboxes.delete_labelled({"fleet.session": session})
        return usual(body)

    with sse_model(reply) as model:
        result = ask(workspace, "do it", model=model.lm(), session=session, limits=Limits(sandboxes=2))
    assert result.status == "ok" and result.answer is not None
    said = json.loads(result.answer)
    assert "failed" in said[1] and "failed" in said[3], said
    assert (said[2], said[4], said[5]) == ("42", "a.txt: 1 bytes", "'b'"), said
    events = events_of(workspace, session)
    check_journal(events)
    live = 0
    for event in events:
        live += {"sandbox.ready": 1, "sandbox.released": -1}.get(event.type, 0)
        assert live <= 2
    assert live == 0


def test_a_replay_of_a_turn_that_lost_its_sandbox_gives_the_same_events(workspace: Workspace) -> None:
    session = workspace.sessions.create("lost again").sid
    steps = [
        [("run_python", {"code": "x = 41"})],
        [("run_python", {"code": "print(x)"})],  # it is gone
        [("write_file", {"path": "a.txt", "text": "b"})],
        [("run_python", {"code": "import os\nprint('x' in globals(), os.path.exists('a.txt'))"})],
        [("write_file", {"path": "b.txt", "text": "b"})],  # gone again
        [("run_python", {"code": "import os\nprint(os.path.exists('a.txt'), os.path.exists('b.txt'))"})],
        [("run_python", {"code": "import time\nprint('on')\ntime.sleep(30)"})],  # in the cell
        [("run_python", {"code": "import os\nprint(os.path.exists('a.txt'))"})],
    ]
    usual = script(*steps)

    def reply(body: dict[str, Any]) -> list[Any]:
        number = len(results(body))
        if number in (1, 4):
            workspace.sandboxes.delete_labelled({"fleet.session": session})
        elif number == 6:
            threading.Timer(1.0, lambda: workspace.sandboxes.delete_labelled({"fleet.session": session})).start()
        return usual(body)

    with sse_model(reply) as model:
        first = ask(workspace, "do it", model=model.lm(), session=session, limits=Limits(sandboxes=2))
        made = len(model.asked)
        assert first.status == "ok", first.error
        turn = first
        for _ in range(2):
            turn = finished(workspace, workspace.replay(turn.turn))
            assert (turn.status, turn.answer) == ("ok", first.answer), turn.error
            assert first_difference(of_turn(workspace, first), of_turn(workspace, turn)) is None
            check_journal(events_of(workspace, turn.session))
        assert len(model.asked) == made
