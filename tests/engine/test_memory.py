"""Core memory: bounded, edited by the agent and the person, undone by seq, and nothing but a projection of the journal."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from tests.engine.conftest import events_of
from tests.engine.sse_model import sse_model, tool
from tests.engine.test_again import of_turn
from tests.engine.test_agent_tools import script
from tests.engine.test_turns import ask, check_journal

from fleet_rlm.errors import InvalidInput, NotFound
from fleet_rlm.runtime.agent.memory import MAX_BLOCKS, fold
from fleet_rlm.runtime.execution.normalised import first_difference
from fleet_rlm.runtime.execution.views import Workbench
from fleet_rlm.runtime.execution.workbench import reduce
from fleet_rlm.runtime.factory import Workspace


@pytest.fixture
def sid(workspace: Workspace) -> str:
    return workspace.sessions.create("memory").sid


def state(workspace: Workspace, sid: str) -> dict[str, str]:
    """What the reducer of the screens makes of the same journal."""
    return reduce(Workbench(sid=sid), events_of(workspace, sid)).memory


def test_a_persons_edits_are_events_that_can_be_undone(workspace: Workspace, sid: str) -> None:
    first = workspace.set_memory(sid, "person", "Ada, likes short answers")
    second = workspace.set_memory(sid, "person", "Ada, likes long answers")
    assert workspace.set_memory(sid, "person", "Ada, likes long answers").seq is None, "no event for no change"
    undone = workspace.undo_memory(sid, second.seq)
    assert undone.text == "Ada, likes short answers" and undone.seq == second.seq + 1
    again = workspace.undo_memory(sid, undone.seq)
    assert again.text == "Ada, likes long answers", "an undo is an edit that can be undone"
    workspace.undo_memory(sid, first.seq)
    assert workspace.memory(sid).saved() == {} == state(workspace, sid)
    edits = workspace.memory(sid).edits()
    assert [edit.data.who for edit in edits] == ["person", "person", "undo", "undo", "undo"]
    assert fold(edits[:2]) == {"person": "Ada, likes long answers"}


def test_sizes_and_names_are_bounded(workspace: Workspace, sid: str) -> None:
    with pytest.raises(InvalidInput, match="1,501 characters, more than 1,500"):
        workspace.set_memory(sid, "persona", "x" * 1501)
    for bad in ("", "Persona", "a b", "../x", "x" * 40):
        with pytest.raises(InvalidInput, match="no name of a block"):
            workspace.set_memory(sid, bad, "x")
    for bad in ("\x00", "\x1b", "\x7f", "\x80", "\x85", "\x9b", "\u202a", "\u202e", "\u2066", "\u2069"):
        with pytest.raises(InvalidInput, match=f"control characters .U.{ord(bad):04X}"):
            workspace.set_memory(sid, "notes", f"a{bad}b")
        with pytest.raises(InvalidInput, match="control characters"):
            workspace.memory(sid).append("notes", f"a{bad}b", "agent")
    for number in range(5):
        workspace.set_memory(sid, f"own{number}", "x" * 2000)
    with pytest.raises(InvalidInput, match=r"14,000 characters, more than 12,000"):
        workspace.set_memory(sid, "notes", "x" * 4000)
    for number in range(5):
        workspace.set_memory(sid, f"own{number}", "x")
    with pytest.raises(InvalidInput, match=f"{MAX_BLOCKS} blocks"):
        for number in range(20):
            workspace.set_memory(sid, f"more{number}", "x")
    with pytest.raises(NotFound):
        workspace.undo_memory(sid, 1)
    with pytest.raises(NotFound):
        workspace.set_memory("ses_none", "notes", "x")


def test_the_agent_keeps_and_sees_its_memory_and_other_sessions_do_not(workspace: Workspace) -> None:
    def reply(body: dict[str, Any]) -> list[Any]:
        text = str(body["messages"])
        if "notes now has" in text:
            return tool("submit", {"answer": "kept" if "more than 2,000" in text else "no error was told"})
        if "my colour?" in text:
            return tool("submit", {"answer": "green" if "[notes]" in text else "I do not know"})
        if "remember" in text:
            return [
                *tool("memory_append", {"block": "notes", "text": "Green is my colour"}),
                *tool("memory_append", {"block": "person", "text": "x" * 2001}, index=1),
            ]
        raise AssertionError(text)

    with sse_model(reply) as model:
        kept = ask(workspace, "remember that green is my colour", model=model.lm())
        assert kept.answer == "kept"
        assert (
            workspace.memory(kept.session).saved() == {"notes": "Green is my colour"} == state(workspace, kept.session)
        )
        events = events_of(workspace, kept.session)
        check_journal(events)
        edit = next(event for event in events if event.type == "memory.changed")
        run = next(event.run for event in events if event.type == "run.started")
        assert (edit.data.who, edit.turn, edit.run) == ("agent", kept.turn, run)
        workspace.journal.forget(kept.session)  # as after a restart: nothing but the journal is left
        assert ask(workspace, "my colour?", session=kept.session, model=model.lm()).answer == "green"
        assert ask(workspace, "my colour?", model=model.lm()).answer == "I do not know"
        assert "Green" not in str(model.asked[-1])


def test_replacing_needs_a_passage_that_stands_there_once(workspace: Workspace, sid: str) -> None:
    memory = workspace.memory(sid)
    memory.append("notes", "one", "agent")
    memory.append("notes", "two", "agent")
    with pytest.raises(InvalidInput, match="0 times, not once"):
        memory.replace("notes", "three", "x", "agent")
    assert memory.replace("notes", "two", "2", "agent").text == "one\n2"
    assert memory.replace("notes", "", "all new", "agent").text == "all new"


def test_line_ends_are_made_plain_whoever_writes_them(workspace: Workspace, sid: str) -> None:
    memory = workspace.memory(sid)
    assert workspace.set_memory(sid, "person", "Ada\r\nlikes\rtea\r\n").text == "Ada\nlikes\ntea"
    assert workspace.set_memory(sid, "person", "Ada\nlikes\u2028tea").seq is None, "it says that already"
    assert memory.append("notes", "one\r\ntwo\r\n", "agent").text == "one\ntwo"
    assert memory.append("notes", "\r\nשלום \u200fשלום\tfour", "agent").text == "one\ntwo\nשלום \u200fשלום\tfour"
    assert memory.replace("notes", "one\r\ntwo\r\n", "1\r\n2\r\n", "agent").text == "1\n2\nשלום \u200fשלום\tfour"
    assert memory.saved() == state(workspace, sid) == {"person": "Ada\nlikes\ntea", "notes": memory.saved()["notes"]}
    assert not any("\r" in str(edit.data.after) for edit in memory.edits())
    assert workspace.set_memory(sid, "persona", "x\r\n" * 750).text == "\n".join("x" * 750), "as long as what is kept"


def test_an_edit_that_was_refused_is_not_made_in_a_replay(workspace: Workspace, sid: str) -> None:
    usual = script(
        [("memory_append", {"block": "notes", "text": "more than there is room for"})],
        [("memory_append", {"block": "person", "text": "Ada"})],
    )

    def reply(body: dict[str, Any]) -> list[Any]:
        workspace.set_memory(sid, "notes", "x" * 3_990)  # by the person, while the turn runs
        return usual(body)

    with sse_model(reply) as model:
        first = ask(workspace, "?", session=sid, model=model.lm())
        again = workspace.wait(workspace.replay(first.turn).turn, timeout=60)
    assert "more than 4,000" in (first.answer or "") and again.answer == first.answer
    assert first_difference(of_turn(workspace, first), of_turn(workspace, again)) is None
    assert workspace.memory(again.session).saved() == {"person": "Ada"}


def test_edits_at_once_lose_nothing(workspace: Workspace, sid: str) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: workspace.memory(sid).append("notes", f"line {n}", "agent"), range(40)))
    assert sorted(workspace.memory(sid).saved()["notes"].split("\n")) == sorted(f"line {n}" for n in range(40))


def test_secrets_never_enter_the_memory(tmp_path: Any) -> None:
    from fleet_rlm.runtime.config import load_settings
    from fleet_rlm.runtime.factory import open_workspace

    settings = load_settings(home=tmp_path, environ={"OPENAI_API_KEY": "sk-secret-0123456789"})
    with open_workspace(settings) as opened:
        made = opened.sessions.create("s").sid
        opened.set_memory(made, "notes", "key sk-secret-0123456789 !")
        assert "secret" not in opened.memory(made).saved()["notes"]
