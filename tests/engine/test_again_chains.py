"""Chains of turns that went on from each other: forks of resumed turns, resumes of forks, replays of both.

What a turn wrote to its session's memory or published stands there once, and asks nothing twice.
"""

from __future__ import annotations

import time
from typing import Any

import msgspec
import pytest
from tests.engine.conftest import events_of
from tests.engine.sse_model import say, sse_model
from tests.engine.test_again import finished, of_kind, of_turn
from tests.engine.test_again_odd import FIRST, steps, whole
from tests.engine.test_agent_tools import results, script
from tests.engine.test_turns import ask, check_journal
from tests.scripted import action

from fleet_rlm.errors import NotFound
from fleet_rlm.runtime.execution import events as ev
from fleet_rlm.runtime.execution.events import Limits
from fleet_rlm.runtime.execution.requests import ForkEdit, Submitted, TurnResult
from fleet_rlm.runtime.factory import Workspace


def stopped(workspace: Workspace, turn: Submitted, cell: int = 1) -> TurnResult:
    """The turn, stopped while this cell of it runs."""
    for _ in range(600):
        if sum(e.turn == turn.turn and e.type == "cell.started" for e in events_of(workspace, turn.session)) >= cell:
            break
        time.sleep(0.05)
    workspace.cancel(turn.turn)
    result = finished(workspace, turn)
    assert result.status == "cancelled"
    return result


NOTES = [[("memory_append", {"block": "facts", "text": word})] for word in ("one", "two", "three")]
KEPT = "one\ntwo\nthree"


class Down:
    """A model of `script` that is down when so many tools have worked."""

    def __init__(self, *steps: Any) -> None:
        self._usual = script(*steps)
        self.at: int | None = None

    def __call__(self, body: dict[str, Any]) -> list[Any]:
        if self.at is not None and len(results(body)) >= self.at:
            raise ConnectionError("down")
        return self._usual(body)


def facts(workspace: Workspace, result: TurnResult) -> str | None:
    return workspace.memory(result.session).saved().get("facts")


def child(prompt: str) -> str:
    """Asks once more and saves a file."""
    if FIRST in prompt:
        return action("got = llm_query('more ' + task)\nprint(save_artifact(got, task + '.txt'))")
    return action("SUBMIT(answer=got)")


FAMILY_CELL = "got = rlm_query_batched(['t0', 't1'])\nprint(got)"
LAST_CELL = "import time\ntime.sleep(2)\ngot = llm_query('last')\nprint(got)"
FAMILY = steps(FAMILY_CELL, LAST_CELL, child=child)
FILES = {("t0.txt", 1), ("t1.txt", 1)}


def files(workspace: Workspace, result: TurnResult) -> set[tuple[str, int]]:
    return {(each.name, each.version) for each in of_kind(events_of(workspace, result.session), ev.ArtifactPublished)}


@pytest.mark.parametrize("how", ["replay", "fork", "resume"])
def test_a_fork_goes_on_when_its_origin_was_deleted(workspace: Workspace, how: str) -> None:
    first, lm = whole(workspace, FAMILY)
    begun = workspace.fork(first.turn, ForkEdit(limits=Limits(calls=99)), lm=lm)
    forked = stopped(workspace, begun, cell=2) if how == "resume" else finished(workspace, begun)
    workspace.journal.delete(first.session)
    made = len(lm.engine.prompts)
    match how:
        case "replay":
            again = workspace.replay(forked.turn)
        case "fork":
            again = workspace.fork(forked.turn, ForkEdit(limits=Limits(calls=98)), lm=lm)
        case _:
            again = workspace.resume(forked.turn, lm=lm)
    done = finished(workspace, again)
    assert (done.status, done.answer) == ("ok", first.answer), done.error
    assert len(lm.engine.prompts) == made, "the fork kept what its origin knew"
    assert files(workspace, done) == FILES
    workspace.journal.delete(forked.session) if how != "resume" else None
    last = finished(workspace, workspace.replay(done.turn))
    assert (last.status, last.answer) == ("ok", first.answer), last.error
    assert len(lm.engine.prompts) == made
    check_journal(events_of(workspace, last.session))


def test_a_replay_that_needs_what_was_deleted_is_refused_by_name(workspace: Workspace) -> None:
    """Forks of earlier versions kept nothing: those that ran everything themselves still have it."""
    first, lm = whole(workspace, FAMILY)
    forks = [ForkEdit(limits=Limits(calls=99)), ForkEdit(question="q", model=lm)]
    turns = [finished(workspace, workspace.fork(first.turn, edit, lm=lm)) for edit in forks]
    took, ran = ([_without_kept(event) for event in of_turn(workspace, turn)] for turn in turns)
    assert finished(workspace, workspace.replay_events(took)).answer == first.answer
    workspace.journal.delete(first.session)
    sessions = len(workspace.sessions.list())
    with pytest.raises(
        NotFound, match=f"took finished runs from a turn of session {first.session}, which is not there"
    ):
        workspace.replay_events(took)
    assert len(workspace.sessions.list()) == sessions
    assert finished(workspace, workspace.replay_events(ran)).answer == first.answer


def _without_kept(event: ev.Event) -> ev.Event:
    if not isinstance(event.data, ev.TurnAccepted):
        return event
    assert event.data.origin is not None and event.data.origin.kept
    origin = msgspec.structs.replace(event.data.origin, kept=[])
    return msgspec.structs.replace(event, data=msgspec.structs.replace(event.data, origin=origin))


@pytest.mark.parametrize("meanwhile", ["nothing", "a person's edit", "another question"])
@pytest.mark.parametrize("how", ["replay", "fork", "fork of the fork"])
def test_a_copy_of_a_resumed_turn_has_its_memory_once(workspace: Workspace, how: str, meanwhile: str) -> None:
    reply = Down(*NOTES)
    with sse_model(reply) as model:
        reply.at = 2
        first = ask(workspace, "do it", model=model.lm(), title="t")
        assert (first.status, facts(workspace, first)) == ("failed", "one\ntwo")
        if meanwhile == "a person's edit":
            workspace.memory(first.session).set("person", "Ada", "person")
        reply.at = None
        if meanwhile == "another question":
            with sse_model(lambda body: say("no")) as other:
                assert ask(workspace, "and you?", session=first.session, model=other.lm()).status == "ok"
        resumed = finished(workspace, workspace.resume(first.turn, lm=model.lm()))
        assert (resumed.status, facts(workspace, resumed)) == ("ok", KEPT), resumed.error
        made = len(model.asked)
        if how == "replay":
            again = finished(workspace, workspace.replay(resumed.turn))
        else:
            again = finished(workspace, workspace.fork(resumed.turn, ForkEdit(limits=Limits(calls=99)), lm=model.lm()))
        if how == "fork of the fork":
            again = finished(workspace, workspace.fork(again.turn, ForkEdit(limits=Limits(calls=98)), lm=model.lm()))
        assert (again.status, again.answer) == ("ok", resumed.answer), again.error
        assert len(model.asked) == made, "nothing is asked twice"
        assert facts(workspace, again) == KEPT, "each edit once"
        person = workspace.memory(again.session).saved().get("person")
        assert person == ("Ada" if meanwhile == "a person's edit" else None)
        questions = [data.question for data in of_kind(events_of(workspace, again.session), ev.TurnAccepted)]
        assert questions == [*(["and you?"] if meanwhile == "another question" else []), "do it"]
        assert not of_kind(of_turn(workspace, again), ev.Warning)
        check_journal(events_of(workspace, again.session))


@pytest.mark.parametrize("meanwhile", ["nothing", "a person's edit"])
def test_a_resume_of_a_fork_of_a_resumed_turn(workspace: Workspace, meanwhile: str) -> None:
    """The fork shares the resumed turn up to its second tool, and its model is down there; a copy is resumed too."""
    reply = Down(*NOTES)
    with sse_model(reply) as model:
        reply.at = 1
        first = ask(workspace, "do it", model=model.lm(), title="t")
        if meanwhile == "a person's edit":
            workspace.memory(first.session).set("person", "Ada", "person")
        reply.at = None
        resumed = finished(workspace, workspace.resume(first.turn, lm=model.lm()))
        at = [e.seq for e in of_turn(workspace, resumed) if e.type == "tool.finished"][1]
        reply.at = 0
        forked = finished(workspace, workspace.fork(resumed.turn, ForkEdit(), at=at, lm=model.lm()))
        assert (forked.status, facts(workspace, forked)) == ("failed", "one\ntwo")
        reply.at = None
        with sse_model(lambda body: say("no")) as other:
            later = ask(workspace, "and you?", session=forked.session, model=other.lm())
            copied = finished(workspace, workspace.fork(later.turn, ForkEdit(limits=Limits(calls=99)), lm=other.lm()))
        copy = next(e.turn for e in events_of(workspace, copied.session) if e.type == "turn.accepted")
        made = len(model.asked)
        for turn in (forked.turn, copy):
            done = finished(workspace, workspace.resume(turn, lm=model.lm()))
            assert (done.status, done.answer) == ("ok", resumed.answer), done.error
            assert not of_kind(of_turn(workspace, done), ev.Warning)
            again = finished(workspace, workspace.replay(done.turn))
            assert (again.status, again.answer) == ("ok", resumed.answer), again.error
            assert facts(workspace, again) == KEPT
        assert len(model.asked) == made + 4, "each asked for its third edit and for its end"


WAIT = ("run_python", {"code": "import time; time.sleep(2)"})


@pytest.mark.parametrize("at", [0, 1, 3])
def test_a_fork_that_is_resumed_has_the_memory_once(workspace: Workspace, at: int) -> None:
    """The fork is stopped before, between and after the edits that its origin made."""
    reply = Down(*NOTES[:at], [WAIT], *NOTES[at:])
    with sse_model(reply) as model:
        first = ask(workspace, "do it", model=model.lm(), title="t")
        assert (first.status, facts(workspace, first)) == ("ok", KEPT)
        forked = stopped(workspace, workspace.fork(first.turn, ForkEdit(limits=Limits(calls=99)), lm=model.lm()))
        made = len(model.asked)
        resumed = finished(workspace, workspace.resume(forked.turn, lm=model.lm()))
        assert (resumed.status, resumed.answer) == ("ok", first.answer), resumed.error
        assert facts(workspace, resumed) == KEPT
        assert len(model.asked) == made
        again = finished(workspace, workspace.replay(resumed.turn))
        assert (again.status, facts(workspace, again)) == ("ok", KEPT), again.error


def test_a_fork_that_is_resumed_has_the_files_of_runs_that_it_takes_whole(workspace: Workspace) -> None:
    first, lm = whole(workspace, steps("import time\ntime.sleep(2)\nprint(1)", FAMILY_CELL, child=child))
    forked = stopped(workspace, workspace.fork(first.turn, ForkEdit(limits=Limits(calls=99)), lm=lm))
    assert files(workspace, forked) == set()
    made = len(lm.engine.prompts)
    resumed = finished(workspace, workspace.resume(forked.turn, lm=lm))
    assert (resumed.status, resumed.answer, len(lm.engine.prompts)) == ("ok", first.answer, made), resumed.error
    assert files(workspace, resumed) == FILES
    again = finished(workspace, workspace.replay(resumed.turn))
    assert (again.status, files(workspace, again)) == ("ok", FILES), again.error


def test_a_run_that_is_taken_whole_again_and_again_leaves_its_file_once(workspace: Workspace) -> None:
    """The first fork shares the file but not the end of the run that saved it, so it saves it once more."""
    first, lm = whole(workspace, FAMILY)
    at = [event.seq for event in of_turn(workspace, first) if event.type == "artifact.published"][-1]
    turn, calls = first.turn, [90, 91, 92]
    for number in calls:
        edit = ForkEdit(limits=Limits(calls=number))
        forked = finished(workspace, workspace.fork(turn, edit, at=at if turn == first.turn else None, lm=lm))
        assert (forked.status, forked.answer) == ("ok", first.answer)
        told = of_kind(events_of(workspace, forked.session), ev.ArtifactPublished)
        assert sorted((each.name, each.version) for each in told) == sorted(FILES)
        assert len(forked.artifacts) == len(FILES)
        turn = forked.turn
