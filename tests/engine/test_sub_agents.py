"""Sub-agents that model-written code builds with `dspy.RLM`, and those that theirs build: one tree, the same limits."""

import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import dspy
import msgspec
import pytest
from tests.engine.conftest import events_of
from tests.engine.test_again import of_turn
from tests.engine.test_cancel_run import DONE_S, stop
from tests.engine.test_turns import ask, check_journal
from tests.scripted import action, scripted

from fleet_rlm.runtime.config import load_settings
from fleet_rlm.runtime.execution import events as ev
from fleet_rlm.runtime.execution.events import Limits
from fleet_rlm.runtime.execution.normalised import first_difference
from fleet_rlm.runtime.execution.paths import digest
from fleet_rlm.runtime.execution.requests import TurnRequest
from fleet_rlm.runtime.factory import Workspace, open_workspace
from fleet_rlm.runtime.policy import Policy


@pytest.fixture(scope="module")
def careful(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """A workspace that refuses what is two levels below the root, since nobody is there to ask."""
    home: Path = tmp_path_factory.mktemp("careful-home")
    with open_workspace(load_settings(home=home, environ={})) as opened:
        opened.configure(replace(opened.settings, policy=Policy(ask_depth=2, ask_seconds=0)))
        yield opened


def nest(most: int, at_the_bottom: str = "SUBMIT(answer='bottom')") -> dspy.LM:
    """Each run builds one sub-agent below it, down to level `most`; its answer is what came back or went wrong."""

    def reply(prompt: str) -> str:
        level = int((re.findall(r"level (\d+)", prompt) or ["0"])[-1])
        if level == most:
            return action(at_the_bottom)
        return action(
            f"try:\n    got = dspy.RLM('q -> answer', max_iters=2)(q='level {level + 1}').answer\n"
            "except Exception as error:\n    got = f'{type(error).__name__}: {error}'\nSUBMIT(answer=got)"
        )

    return scripted(reply)


def started(workspace: Workspace, session: str) -> list[ev.Event]:
    return [event for event in events_of(workspace, session) if isinstance(event.data, ev.RunStarted)]


def test_those_of_theirs_are_deeper(workspace: Workspace) -> None:
    result = ask(workspace, mode="rlm", model=nest(2), limits=Limits(depth=3))
    assert (result.answer, result.runs, result.max_depth_reached) == ("bottom", 3, 2)
    runs = started(workspace, result.session)
    assert [(run.depth, run.parent) for run in runs] == [(0, None), (1, runs[0].run), (2, runs[1].run)]
    assert [run.data.path.count("dspy.RLM") for run in runs] == [0, 1, 2]
    check_journal(events_of(workspace, result.session))


def test_the_depth_limit_is_theirs_too(workspace: Workspace) -> None:
    result = ask(workspace, mode="rlm", model=nest(5), limits=Limits(depth=2))
    assert result.runs == 2 and result.answer.startswith("LimitReached"), result


def test_they_do_not_wait_for_each_other_for_ever(workspace: Workspace) -> None:
    """Each holds a sandbox while it waits for the one below: too deep for so few sandboxes is refused."""
    turn = workspace.submit(TurnRequest(question="go", mode="rlm", model=nest(3), limits=Limits(depth=4, sandboxes=3)))
    try:
        result = workspace.wait(turn.turn, timeout=30)
    finally:
        workspace.cancel(turn.turn)
        workspace.wait(turn.turn, timeout=30)
    assert result.runs == 3 and result.answer.startswith("LimitReached"), result


def test_a_person_is_asked_at_their_depth(careful: Workspace) -> None:
    result = ask(careful, mode="rlm", model=nest(2), limits=Limits(depth=3))
    assert result.runs == 2 and "was not allowed" in result.answer, result
    asked = [event for event in events_of(careful, result.session) if event.type == "approval.requested"]
    assert [(event.data.kind, event.depth) for event in asked] == [("depth", 1)], "the sub-agent asks, not the root"


def test_one_is_stopped_with_those_below_it(workspace: Workspace) -> None:
    model = nest(2, "import time; time.sleep(100)")
    turn = workspace.submit(TurnRequest(question="go", mode="rlm", model=model, limits=Limits(depth=3)))
    until = time.monotonic() + 60
    while len(runs := started(workspace, turn.session)) < 3 and time.monotonic() < until:
        time.sleep(0.02)
    assert stop(workspace, turn.turn, runs[1].run) < DONE_S
    result = workspace.wait(turn.turn, 30)
    assert (result.status, result.answer) == ("ok", "RuntimeError: this sub-agent was stopped by a person")
    events = events_of(workspace, turn.session)
    check_journal(events)
    assert [e.data.status for e in events if e.type == "run.finished"] == ["cancelled", "cancelled", "ok"]
    assert [e.data.reserved_calls for e in events if e.type == "budget.updated"][-1] == 0, "nothing stays reserved"


IN_THREADS = """
import random, time
from concurrent.futures import ThreadPoolExecutor
chance = random.SystemRandom()
def part(i):
    time.sleep(chance.random() * 0.3)
    return dspy.RLM('q -> answer', max_iters=3)(q=f'part {i}').answer
with ThreadPoolExecutor(4) as pool:
    got = list(pool.map(part, range(4)))
SUBMIT(answer=' '.join(got))
"""


def in_threads(prompt: str) -> str:
    if "Your task:" in prompt:
        return action(IN_THREADS)
    return action(f"SUBMIT(answer='done {re.findall(r'part ([0-9])', prompt)[-1]}')")


def named_by_order(event: ev.Event) -> ev.Event:
    """As a journal has it in which nothing of what a sub-agent was asked is in its name."""
    if not (isinstance(event.data, ev.RunStarted) and "dspy.RLM" in event.data.path):
        return event
    path = re.sub(r"(dspy.RLM:)[0-9a-f]+", rf"\g<1>{digest(None)}", event.data.path)
    return msgspec.structs.replace(event, data=msgspec.structs.replace(event.data, path=path))


@pytest.mark.parametrize(
    "older", [False, True], ids=["by what they are asked", "of a journal that names them by order"]
)
def test_those_of_several_threads_are_the_same_in_a_replay(workspace: Workspace, older: bool) -> None:
    """They begin in another order each time, unless they are as many as one."""
    code = IN_THREADS.replace("range(4)", "range(1)") if older else IN_THREADS
    lm = scripted(lambda prompt: in_threads(prompt).replace(IN_THREADS, code))
    first = ask(workspace, mode="rlm", model=lm)
    assert first.status == "ok", first.error
    made, events = len(lm.engine.prompts), of_turn(workspace, first)
    for _ in range(3):
        turn = workspace.replay_events(map(named_by_order, events)) if older else workspace.replay(first.turn)
        again = workspace.wait(turn.turn, timeout=60)
        assert (again.status, again.answer) == ("ok", first.answer), again.error
        named = events if not older else list(map(named_by_order, events))
        assert first_difference(named, of_turn(workspace, again)) is None
    assert len(lm.engine.prompts) == made
