"""An agent's process is killed after tools have done their work and a person has answered: neither happens twice."""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from tests.engine.sse_model import sse_model, tool
from tests.engine.test_agent_tools import results

from faults.conftest import check_orderly
from faults.test_crash_and_resume import check_interrupted, events_of, running, until
from fleet_rlm.runtime.config import load_settings
from fleet_rlm.runtime.execution import events as ev
from fleet_rlm.runtime.factory import open_workspace
from fleet_rlm.runtime.policy import ONCE

NOTES = str(Path(__file__).with_name("notes_server.py"))
STEPS = (
    ("notes_write", {"text": "one"}),
    ("ask_user", {"question": "Which year?"}),
    ("memory_append", {"block": "notes", "text": "the year is 2026"}),
    ("notes_write", {"text": "two"}),
)


def test_what_an_agent_did_and_was_told_before_a_crash_stands(tmp_path: Path) -> None:
    home, notes = tmp_path / "home", tmp_path / "notes.txt"
    home.mkdir()
    server = f"command = {json.dumps(sys.executable)}\nargs = {json.dumps([NOTES, str(notes)])}"
    (home / "settings.toml").write_text(f'tools = ["mcp", "memory"]\n[mcp.notes]\n{server}\n')
    alive = True

    def reply(body: dict[str, Any]) -> list[Any]:
        done = results(body)
        if alive and len(done) == 3:
            return [60.0]
        return tool(*STEPS[len(done)]) if len(done) < len(STEPS) else tool("submit", {"answer": " | ".join(done)})

    with sse_model(reply) as model:

        def asked() -> list[int]:
            return [len(results(body)) for body in model.asked]

        answers = {"notes_write": ONCE, "Which year?": "2026"}
        with running(home, None, "go", mode="auto", native=model.address, settings={}, answers=answers) as victim:
            until(lambda: asked()[-1:] == [3], "three tools have done their work")
            victim.kill()
        alive = False
        assert notes.read_text() == "one\n"
        with open_workspace(load_settings(home=home, environ={})) as workspace:
            dead = events_of(workspace, victim.session)
            check_interrupted(dead)
            again = workspace.resume(victim.turn, lm=model.lm())

            def open_question() -> ev.ApprovalRequested | None:
                mine = [e.data for e in events_of(workspace, victim.session, again.turn)]
                done = {data.id for data in mine if isinstance(data, ev.ApprovalResolved)}
                return next((d for d in mine if isinstance(d, ev.ApprovalRequested) and d.id not in done), None)

            until(open_question, "the second note is asked about")
            question = open_question()
            assert question is not None and "notes_write" in question.question, "leave once is leave for once"
            assert notes.read_text() == "one\n"
            workspace.answer(again.turn, question.id, ONCE)
            result = workspace.wait(again.turn, 60)
            assert result.status == "ok", result
            assert result.answer is not None and result.answer.startswith("noted: one | 2026 | ")
            assert notes.read_text() == "one\ntwo\n", "each note was written once"
            assert workspace.memory(victim.session).saved()["notes"].count("2026") == 1
            mine = [e.data for e in events_of(workspace, victim.session, again.turn)]
            assert [d.replayed for d in mine if isinstance(d, ev.ApprovalResolved)] == [True, True, False]
            assert [d.replayed for d in mine if isinstance(d, ev.ToolFinished)] == [True, True, True, False]
            check_orderly(events_of(workspace, victim.session))
        assert asked() == [0, 1, 2, 3, 3, 4], "only the request in flight at the crash was sent again"


NOTE = ("memory_append", {"block": "notes", "text": "old"})
EDITS = {
    "append": ([NOTE], "old", ["notes now has 3 of 4000 characters"]),
    "replace": (
        [NOTE, ("memory_replace", {"block": "notes", "old": "old", "new": "new one"})],
        "new one",
        ["notes now has 3 of 4000 characters", "notes now has 7 of 4000 characters"],
    ),
}


@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_of_the_memory_that_a_crash_kept_from_its_end_is_made_once(tmp_path: Path, edit: str) -> None:
    """The edit is on the disk before its tool's end is: the process dies between the two."""
    steps, kept, said = EDITS[edit]
    begun = threading.Event()

    def reply(body: dict[str, Any]) -> list[Any]:
        begun.wait(60)
        done = results(body)
        return tool(*steps[len(done)]) if len(done) < len(steps) else tool("submit", {"answer": " | ".join(done)})

    with sse_model(reply) as model:
        given = {"native": model.address, "settings": {}, "die_on": ["memory.changed", len(steps)]}
        with running(tmp_path, None, "go", mode="auto", **given) as victim:
            begun.set()
            victim.died()
        with open_workspace(load_settings(home=tmp_path, environ={})) as workspace:
            dead = events_of(workspace, victim.session)
            check_interrupted(dead)
            result = workspace.wait(workspace.resume(victim.turn, lm=model.lm()).turn, 60)
            assert (result.status, result.answer) == ("ok", " | ".join(said)), result.error
            assert workspace.memory(victim.session).saved()["notes"] == kept
            events = events_of(workspace, victim.session)
            assert len([e for e in events if isinstance(e.data, ev.MemoryChanged)]) == len(steps)
            check_orderly(events)
            again = workspace.wait(workspace.replay(result.turn).turn, 60)
            assert (again.status, again.answer) == ("ok", result.answer), again.error
            assert workspace.memory(again.session).saved()["notes"] == kept
