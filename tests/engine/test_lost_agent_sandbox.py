"""The agent's sandbox when it cannot be had, and when it is lost in the middle of a turn."""

import json
from pathlib import Path
from typing import Any

from tests.engine.conftest import events_of
from tests.engine.sse_model import sse_model
from tests.engine.test_agent_tools import results, script
from tests.engine.test_turns import ask, check_journal

from fleet_rlm.runtime.config import load_settings
from fleet_rlm.runtime.execution.events import Limits
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
