"""Turns in which a sandbox was lost, run again: it is lost again where it was, and the run goes on as it did."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest
from tests.engine.conftest import events_of
from tests.engine.test_again import finished, of_kind, of_turn
from tests.engine.test_turns import task_of
from tests.scripted import action, scripted

from faults.conftest import check_orderly, nothing_left
from faults.test_sandbox_faults import FIRST, Thief
from fleet_rlm.runtime.execution import events as ev
from fleet_rlm.runtime.execution.normalised import first_difference
from fleet_rlm.runtime.execution.record import Past, Record
from fleet_rlm.runtime.execution.requests import Change, ForkEdit, TurnRequest, TurnResult
from fleet_rlm.runtime.factory import Workspace

Reply = Callable[[str], str]
LIMITS = ev.Limits(calls=60)


class Robbed:
    """A turn whose sandbox is stolen once, when its model or a sub-call says so by `steal`."""

    def __init__(self, workspace: Workspace, reply: Callable[[Robbed, str], str], limits: ev.Limits = LIMITS) -> None:
        self._workspace = workspace
        self._thief = Thief(workspace)
        self.stolen = 0
        self.lm = scripted(lambda prompt: reply(self, prompt))
        request = TurnRequest(
            question="go", mode="rlm", model=self.lm, sub_model=self.lm, limits=limits, session=self._thief.session
        )
        self.result = finished(workspace, workspace.submit(request))
        self.events = of_turn(workspace, self.result)
        self.prompts: list[str] = self.lm.engine.prompts
        check_orderly(events_of(workspace, self.result.session))

    def steal(self, times: int = 1) -> None:
        if self.stolen < times:
            self.stolen += 1
            self._thief.steal()

    def lost(self, events: list[ev.Event] | None = None) -> list[str]:
        """Of each loss of the root's cells, what it was."""
        found = self.events if events is None else events
        return [
            "sandbox" if isinstance(event.data, ev.SandboxLost) else event.data.status
            for event in found
            if isinstance(event.data, ev.SandboxLost | ev.CellFinished) and event.depth == 0
        ]

    def check_replays(self) -> None:
        """Twice: the turn, and its replay."""
        made, turn = len(self.prompts), self.result
        for _ in range(2):
            turn = finished(self._workspace, self._workspace.replay(turn.turn))
            assert (turn.status, turn.answer) == (self.result.status, self.result.answer), turn.error
            assert len(self.prompts) == made
            again = of_turn(self._workspace, turn)
            assert first_difference(self.events, again) is None
            assert self.lost(again).count("sandbox") == self.lost().count("sandbox")
            check_orderly(events_of(self._workspace, turn.session))
            assert nothing_left(self._workspace, turn.turn)


LOOP = "got = []\nwhile len(got) < 6:\n    got.append(llm_query(f'item {len(got)}'))\nprint('all ' + 'there')"


def in_a_loop(robbed: Robbed, prompt: str) -> str:
    if "Your task:" not in prompt:
        if "item 3" in prompt:
            robbed.steal()
        return "said " + prompt.strip()[-6:]
    if "all there" in prompt:
        return action("SUBMIT(answer=' '.join(got))")
    return action(LOOP)


def before_it_asks(robbed: Robbed, prompt: str) -> str:
    """The cell does nothing but compute; it is long over in a replay before the loss is due."""
    if "mark" in prompt and "Your task:" not in prompt:
        threading.Timer(0.5, robbed.steal).start()
        return "marked"
    if "was lost" in prompt:
        return action("SUBMIT(answer=f'{x if \"x\" in globals() else None}')")
    return action("x = llm_query('mark')\nimport time; time.sleep(0 if 'again' in x else 30)")


def between_two(robbed: Robbed, prompt: str) -> str:
    if FIRST in prompt:
        return action("precious = 1")
    if "was lost" not in prompt:
        robbed.steal()
        return action("print(precious)")
    return action("SUBMIT(answer=str('precious' in globals()))")


def with_children(robbed: Robbed, prompt: str) -> str:
    if "child" in task_of(prompt):
        return action("SUBMIT(answer='done ' + task)")
    if "all there" in prompt:
        return action("SUBMIT(answer=' '.join(got))")
    return action(
        "got = rlm_query_batched([f'child {i}' for i in range(4)])\nllm_query('now')\nprint('all ' + 'there')"
    )


def after_children(robbed: Robbed, prompt: str) -> str:
    if "Your task:" not in prompt:
        robbed.steal()
        return "late"
    return with_children(robbed, prompt)


def twice(robbed: Robbed, prompt: str) -> str:
    if FIRST not in prompt:
        robbed.steal(2)
    return action(f"x = 1\nprint({robbed.stolen})")


def with_a_sub_agent(robbed: Robbed, prompt: str) -> str:
    """The sub-agent loses its own sandbox too."""
    if "below" in task_of(prompt):
        if FIRST not in prompt:
            robbed.steal()
        return action("y = 1" if FIRST in prompt else "SUBMIT(answer='from below')")
    if "was lost" in prompt:
        return action("SUBMIT(answer='went on')")
    return action("got = dspy.RLM('task -> answer')(task='below').answer\nprint(got)")


SHAPES = {
    "with a sub-agent": (with_a_sub_agent, "ok"),
    "in a loop": (in_a_loop, "ok"),
    "while it computes": (before_it_asks, "ok"),
    "between two cells": (between_two, "ok"),
    "after its children": (after_children, "ok"),
    "twice, and for good": (twice, "failed"),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_replay_loses_it_again_and_makes_no_call(workspace: Workspace, shape: str) -> None:
    reply, status = SHAPES[shape]
    robbed = Robbed(workspace, reply)
    assert robbed.result.status == status, robbed.result.error
    assert "sandbox" in robbed.lost()
    robbed.check_replays()


def test_a_replay_ends_a_call_with_the_run_that_had_no_use_for_it(workspace: Workspace) -> None:
    answer = threading.Event()

    def reply(robbed: Robbed, prompt: str) -> str:
        if "Your task:" not in prompt:
            robbed.steal()
            assert answer.wait(60)
            return "too late"
        return action("llm_query('slow')") if FIRST in prompt else action("SUBMIT(answer='after')")

    robbed = Robbed(workspace, reply)
    answer.set()
    assert [each.status for each in of_kind(robbed.events, ev.CallFinished)] == ["ok", "ok", "cancelled"]
    robbed.check_replays()


def test_a_replay_ends_children_with_the_run_that_had_no_use_for_them(workspace: Workspace) -> None:
    answer = threading.Event()

    def reply(robbed: Robbed, prompt: str) -> str:
        if "child" in task_of(prompt):
            robbed.steal()
            assert answer.wait(60)
            return action("SUBMIT(answer='too late')")
        return action("rlm_query('child')") if FIRST in prompt else action("SUBMIT(answer='after')")

    robbed = Robbed(workspace, reply)
    answer.set()
    assert sorted(each.status for each in of_kind(robbed.events, ev.RunFinished)) == ["cancelled", "ok"]
    robbed.check_replays()


def test_calls_are_counted_from_the_first_in_each_sandbox(workspace: Workspace) -> None:
    robbed = Robbed(workspace, in_a_loop)
    places = [each.place for each in of_kind(robbed.events, ev.CallStarted) if each.place]
    assert places == ["1", "2", "3", "4", "1", "2", "3", "4", "5", "6"]


def again(workspace: Workspace, robbed: Robbed, limits: ev.Limits) -> tuple[TurnResult, list[str]]:
    before = len(robbed.prompts)
    done = finished(workspace, workspace.resume(robbed.result.turn, limits, lm=robbed.lm, sub_lm=robbed.lm))
    check_orderly(events_of(workspace, done.session))
    return done, robbed.prompts[before:]


@pytest.mark.parametrize(("reply", "calls"), [(in_a_loop, 9), (after_children, 9)], ids=["calls", "children"])
def test_a_resume_goes_on_behind_the_loss_and_asks_nothing_twice(
    workspace: Workspace, reply: Callable[[Robbed, str], str], calls: int
) -> None:
    robbed = Robbed(workspace, reply, ev.Limits(calls=calls))
    assert (robbed.result.status, robbed.result.limit) == ("limit", "calls")
    assert robbed.lost()[:2] == ["sandbox", "lost"]
    done, asked = again(workspace, robbed, LIMITS)
    assert done.status == "ok", done.error
    assert not of_kind(of_turn(workspace, done), ev.Warning)
    whole = Robbed(workspace, reply)
    assert done.answer == whole.result.answer
    had, made = (Record.read([Past(events)]).calls for events in (robbed.events, of_turn(workspace, done)))
    again_made = {key for key, call in made.items() if call.finished and not call.finished.replayed}
    assert again_made and not again_made & {key for key, call in had.items() if call.finished}
    assert len(again_made) == len(asked)
    replayed = finished(workspace, workspace.replay(done.turn))
    assert (replayed.status, replayed.answer) == ("ok", done.answer), replayed.error


def test_a_resume_of_a_run_that_failed_with_its_sandbox_does_not_lose_it_once_more(workspace: Workspace) -> None:
    def reply(robbed: Robbed, prompt: str) -> str:
        if robbed.stolen < 2:
            return twice(robbed, prompt)
        return action("SUBMIT(answer='in the end')")

    robbed = Robbed(workspace, reply)
    assert robbed.result.status == "failed"
    done, _ = again(workspace, robbed, LIMITS)
    assert (done.status, done.answer) == ("ok", "in the end"), done.error


def test_a_fork_at_the_lost_cell_keeps_its_sandbox(workspace: Workspace) -> None:
    robbed = Robbed(workspace, before_it_asks)
    cell = next(each for each in of_kind(robbed.events, ev.CellStarted))
    edit = ForkEdit(cell=Change(cell.id, "x = llm_query('mark')\nSUBMIT(answer=x)"))
    forked = finished(workspace, workspace.fork(robbed.result.turn, edit, lm=robbed.lm, sub_lm=robbed.lm))
    assert (forked.status, forked.answer) == ("ok", "marked"), forked.error
    assert not of_kind(of_turn(workspace, forked), ev.SandboxLost)


def test_a_fork_at_a_later_cell_loses_it_again(workspace: Workspace) -> None:
    robbed = Robbed(workspace, in_a_loop)
    made = len(robbed.prompts)
    last = of_kind(robbed.events, ev.CellStarted)[-1]
    edit = ForkEdit(cell=Change(last.id, "SUBMIT(answer=str(len(got)))"))
    forked = finished(workspace, workspace.fork(robbed.result.turn, edit, lm=robbed.lm, sub_lm=robbed.lm))
    assert (forked.status, forked.answer) == ("ok", "6"), forked.error
    assert len(robbed.prompts) == made
    assert robbed.lost(of_turn(workspace, forked)) == robbed.lost()


def test_nothing_more_is_begun_for_a_cell_that_was_lost(workspace: Workspace) -> None:
    """Neither calls that waited for their place at the provider nor children; what is under way ends."""

    def reply(robbed: Robbed, prompt: str) -> str:
        if "Your task:" not in prompt:
            time.sleep(0.05)
            if "item 9" in prompt:
                robbed.steal()
                time.sleep(0.5)
            return "x"
        if "child" in task_of(prompt):
            return action("SUBMIT(answer='x')")
        if "was lost" not in prompt:
            return action(
                "import threading\n"
                "threading.Thread(target=rlm_query_batched, args=([f'child {i}' for i in range(300)],)).start()\n"
                "llm_query_batched([f'item {i}' for i in range(400)])"
            )
        time.sleep(3)
        return action("SUBMIT(answer='went on')")

    robbed = Robbed(workspace, reply, ev.Limits(calls=2000))
    assert (robbed.result.status, robbed.result.answer) == ("ok", "went on")
    at = next(event.ts for event in robbed.events if event.type == "sandbox.lost")
    later = [event for event in robbed.events if event.ts > at + 1000]
    assert not [each for each in of_kind(later, ev.CallStarted) if each.place], "its own next step has none"
    assert of_kind(later, ev.CellFinished)
    assert not [event for event in later if event.type == "run.started"]
