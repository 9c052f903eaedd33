"""Turns in which a person stopped a run, run again: what was stopped alone stays stopped, and its parent goes on."""

import threading

import msgspec
import pytest
from tests.engine.conftest import events_of
from tests.engine.test_again import finished, of_kind, of_turn
from tests.engine.test_cancel_run import run_of, statuses, stop
from tests.engine.test_turns import FREE, check_journal, task_of
from tests.scripted import action, scripted

from fleet_rlm.runtime.execution import events as ev
from fleet_rlm.runtime.execution.normalised import first_difference
from fleet_rlm.runtime.execution.requests import Change, ForkEdit, TurnRequest, TurnResult
from fleet_rlm.runtime.factory import Workspace

FIRST = "You have not interacted"
QUERY = "got = rlm_query('below')\ngot = f'{bool(got)} {got.error}'"
BUILT = (
    "try:\n    got = dspy.RLM('task -> answer')(task='below').answer\nexcept Exception as error:\n    got = str(error)"
)
SAID = {QUERY: "False cancelled", BUILT: "this sub-agent was stopped by a person"}


class Stopped:
    """A turn whose root asks a run below, which a person stops `where` it is: in a cell, or in a call."""

    def __init__(self, workspace: Workspace, code: str, where: str, limits: ev.Limits = FREE) -> None:
        self.below = 0
        answer = threading.Event()

        def reply(prompt: str) -> str:
            if task_of(prompt) == "go":
                return action(code if FIRST in prompt else "SUBMIT(answer=got)")
            self.below += 1
            if FIRST in prompt:
                return action("answer = 'begun'")
            assert where == "cell" or answer.wait(60)
            return action("import time; time.sleep(1000)")

        self.lm = scripted(reply)
        request = TurnRequest(question="go", mode="rlm", model=self.lm, limits=limits)
        turn = workspace.submit(request)
        child = run_of(workspace, turn.session, "below" if code.startswith(QUERY) else "sub-agent")
        _second(workspace, turn.session, child.run, where)
        stop(workspace, turn.turn, child.run)
        self.result = finished(workspace, turn)
        answer.set()
        self.made = len(self.lm.engine.prompts)
        self.events = of_turn(workspace, self.result)

    def check(self, workspace: Workspace, again: TurnResult) -> list[ev.Event]:
        """It is the same again, and the run below asked its model nothing."""
        assert (again.status, again.answer) == (self.result.status, self.result.answer), again.error
        events = of_turn(workspace, again)
        check_journal(events_of(workspace, again.session))
        assert statuses(events) == statuses(self.events)
        return events


def _second(workspace: Workspace, session: str, run: str, where: str) -> None:
    """Wait for its second cell or call to begin."""
    began = "cell.started" if where == "cell" else "call.started"
    ticks = threading.Event()
    for _ in range(3000):
        if sum(event.type == began and event.run == run for event in events_of(workspace, session)) == 2:
            return
        ticks.wait(0.02)
    raise AssertionError(f"no second {began}")


@pytest.mark.parametrize("where", ["cell", "call"])
@pytest.mark.parametrize("code", [QUERY, BUILT], ids=["rlm_query", "dspy.RLM"])
def test_a_replay_stops_it_again_without_a_call(workspace: Workspace, code: str, where: str) -> None:
    first = Stopped(workspace, code, where)
    assert (first.result.status, first.result.answer) == ("ok", SAID[code])
    events = first.check(workspace, finished(workspace, workspace.replay(first.result.turn)))
    assert len(first.lm.engine.prompts) == first.made
    assert not of_kind(events, ev.Warning)
    assert first_difference(first.events, events) is None


@pytest.mark.parametrize("where", ["cell", "call"])
@pytest.mark.parametrize("code", [QUERY, BUILT], ids=["rlm_query", "dspy.RLM"])
def test_a_fork_at_a_later_step_leaves_it_stopped(workspace: Workspace, code: str, where: str) -> None:
    first = Stopped(workspace, code, where)
    below = first.below
    last = next(e.data.id for e in reversed(first.events) if e.type == "cell.started" and e.parent is None)
    edit = ForkEdit(cell=Change(last, "SUBMIT(answer=got + '')"))
    again = finished(workspace, workspace.fork(first.result.turn, edit, lm=first.lm))
    events = first.check(workspace, again)
    assert first.below == below, "the run below is not asked again"
    assert not of_kind(events, ev.Warning)


@pytest.mark.parametrize("status", ["cancelled", "interrupted"])
def test_a_replay_of_a_turn_that_ended_in_a_cell_does_not_wait_for_the_cell(workspace: Workspace, status: str) -> None:
    lm = scripted(lambda prompt: action("x = 1" if FIRST in prompt else "import time; time.sleep(1000)"))
    turn = workspace.submit(TurnRequest(question="go", mode="rlm", model=lm, limits=FREE))
    root = run_of(workspace, turn.session, "go")
    _second(workspace, turn.session, root.run, "cell")
    workspace.cancel(turn.turn)
    first = finished(workspace, turn)
    events = [_ended_as(status, event) for event in of_turn(workspace, first)]
    again = finished(workspace, workspace.replay_events(events))
    assert (again.status, first.status) == ("cancelled", "cancelled")
    assert len(lm.engine.prompts) == 2
    check_journal(events_of(workspace, again.session))


def _ended_as(status: str, event: ev.Event) -> ev.Event:
    """As if its process had died then."""
    if not isinstance(event.data, ev.RunFinished | ev.TurnFinished):
        return event
    return msgspec.structs.replace(event, data=msgspec.structs.replace(event.data, status=status))


@pytest.mark.parametrize("code", [QUERY, BUILT], ids=["rlm_query", "dspy.RLM"])
def test_a_turn_that_goes_on_after_its_limit_leaves_it_stopped(workspace: Workspace, code: str) -> None:
    limits = ev.Limits(calls=5, sandboxes=4)
    first = Stopped(workspace, f"{code}\nmore = llm_query_batched(['1', '2', '3', '4'])", "call", limits)
    assert (first.result.status, first.result.limit) == ("limit", "calls")
    below = first.below
    more = ev.Limits(calls=50, sandboxes=4)
    done = finished(workspace, workspace.resume(first.result.turn, more, lm=first.lm))
    assert (done.status, done.answer) == ("ok", SAID[code]), done.error
    assert first.below == below, "the run below is not asked again"
    check_journal(events_of(workspace, done.session))
