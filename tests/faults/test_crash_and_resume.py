"""A process is killed in the middle of a turn; another one resumes the turn, and no finished call is made twice."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.scripted import action

from faults.broken_model import BrokenModel, Reply, hangs, says
from faults.conftest import check_orderly
from fleet_rlm.runtime.config import load_settings
from fleet_rlm.runtime.execution import events as ev
from fleet_rlm.runtime.execution.requests import TurnResult
from fleet_rlm.runtime.factory import Workspace, open_workspace

WIDTH = 64
PATIENCE_S = 120.0
ANSWER = " ".join(f"SEEN {number}" for number in range(WIDTH))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def settings(model: BrokenModel, **more: Any) -> dict[str, Any]:
    return {"model": "openai/tiny", "api_base": model.address, **more}


@contextmanager
def running(home: Path, model: BrokenModel | None, question: str, **given: Any) -> Generator[Victim]:
    """A process that works on a question. Its words: the ids of its session and turn."""
    chosen = {} if model is None else settings(model)
    told = {"home": str(home), "settings": chosen, "question": question, "mode": "rlm", "limits": {}, **given}
    program = Path(__file__).with_name("turn_process.py")
    environ = os.environ | {"PYTHONPATH": str(program.parents[2])}
    process = subprocess.Popen(
        [sys.executable, str(program), json.dumps(told)], stdout=subprocess.PIPE, text=True, env=environ
    )
    try:
        yield Victim(process)
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


class Victim:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.session, self.turn = (process.stdout.readline().split() if process.stdout else [])[:2]

    def died(self) -> None:
        """It has killed itself (`die_on`)."""
        assert self._process.wait(PATIENCE_S) == -signal.SIGKILL

    def kill(self) -> None:
        """SIGKILL; nothing that it started is left after a while."""
        left = started_by(self._process.pid)
        assert left, "it has started a sandbox server"
        os.kill(self._process.pid, signal.SIGKILL)
        self._process.wait()
        until(lambda: not {pid for pid, began in left.items() if born(pid) == began}, "its sandboxes end with it")


def born(pid: int) -> str | None:
    """When a process began, in ticks; None when there is none, or only its exit status."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else fields[19]


def started_by(pid: int) -> dict[int, str]:
    """Everything below a process, with when each began."""
    parents: dict[int, int] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return {child: began for child in found - {pid} if (began := born(child)) is not None}


def until(true: Callable[[], object], what: str, patience_s: float = PATIENCE_S) -> None:
    deadline = time.monotonic() + patience_s
    while not true():
        assert time.monotonic() < deadline, f"not in time: {what}"
        time.sleep(0.05)


def open_questions(home: Path) -> set[str]:
    """What is on the disk of questions that nobody has answered, read beside the process that writes them."""
    connection = sqlite3.connect(f"file:{home / 'fleet.db'}?mode=ro", uri=True)
    try:
        rows = connection.execute("select raw from events where type like 'approval.%' order by seq").fetchall()
    finally:
        connection.close()
    told = [json.loads(raw) for (raw,) in rows]
    over = {event["data"]["id"] for event in told if event["type"] == "approval.resolved"}
    return {event["data"]["id"] for event in told} - over


@contextmanager
def opened(home: Path, model: BrokenModel, **more: Any) -> Generator[Workspace]:
    with open_workspace(load_settings(home=home, environ={}, overrides=settings(model, **more))) as workspace:
        yield workspace


def events_of(workspace: Workspace, session: str, turn: str | None = None) -> list[ev.Event]:
    workspace.journal.flush()
    return [e for e in workspace.journal.read(session, 0, 100_000) if turn in (None, e.turn)]


def answered(workspace: Workspace, events: list[ev.Event]) -> Counter[str]:
    """How often each thing was asked and answered, as the journal knows it."""
    ok = {e.data.id for e in events if isinstance(e.data, ev.CallFinished) and e.data.status == "ok"}
    started = [e.data for e in events if isinstance(e.data, ev.CallStarted)]
    return Counter(asked_for(workspace.blobs.text(call.prompt)) for call in started if call.id in ok)


def check_interrupted(events: list[ev.Event]) -> None:
    """The dead turn has its ends, the children's before their parents'."""
    check_orderly(events)
    end = events[-1].data
    assert isinstance(end, ev.TurnFinished) and end.status == "interrupted"


def all_hang(model: BrokenModel) -> bool:
    """All that can be under way is, and gets no answer: twelve calls, or the four that are the least that a provider is
    asked for at once where a busy machine makes the answers slow."""
    seen = len(model.prompts)
    if model.in_flight < 4 or seen <= 74:
        return False
    time.sleep(0.5)
    return len(model.prompts) == seen


# -- 64 children ----------------------------------------------------------------------------------------------------


def task_of(prompt: str) -> str:
    return re.search(r"Preview:\s*```\s*(.*?)\s*```", prompt, re.DOTALL)[1]  # type: ignore[index]


def asked_for(prompt: str) -> str:
    """What a prompt of these tests is about, the same for the same request."""
    if found := re.search(r"look at child (\d+)$", prompt.strip()):
        return f"look {found[1]}"
    step = "first" if "You have not interacted" in prompt else "second"
    return f"{step} of {task_of(prompt)}"


def family(prompt: str) -> str:
    """A parent of 64 children, each with one call of its own besides its two steps."""
    asked = asked_for(prompt)
    if asked.startswith("look"):
        return asked.replace("look", "seen")
    if asked.startswith("first of child"):
        return action("part = llm_query('look at ' + task)\nprint(part)")
    if asked.startswith("second of child"):
        return action("SUBMIT(answer=part.upper())")
    if asked.startswith("first"):
        return action(
            f"names = {{f'child {{i}}' for i in range({WIDTH})}}\n"
            "print(list(names)[:5])  # the order of a set is the same when the cell is run again\n"
            "got = dict(zip(names, rlm_query_batched(list(names))))\nprint(len(got))"
        )
    return action(f"SUBMIT(answer=' '.join(got[f'child {{i}}'] for i in range({WIDTH})))")


def test_a_turn_of_64_children_survives_a_sigkill(home: Path) -> None:
    alive = True

    def script(number: int, prompt: str) -> Reply:
        asked = asked_for(prompt)
        stuck = alive and (asked.startswith("look") or "second of child" in asked) and number > 70
        return hangs if stuck else says(family(prompt))

    limits = {"calls": 400, "sandboxes": 12}
    with BrokenModel(script) as model:
        with running(home, model, "go", limits=limits) as victim:
            until(lambda: all_hang(model), "the turn is in the middle")
            victim.kill()
        alive, before = False, Counter(map(asked_for, model.prompts))
        with opened(home, model) as workspace:
            dead = events_of(workspace, victim.session)
            check_interrupted(dead)
            known = answered(workspace, dead)
            in_flight = before - known
            assert sum(known.values()) > 40 and len(in_flight) >= 4
            assert sum(e.type == "run.started" for e in dead) > 10
            result = finished(workspace, victim.turn)
            after = Counter(map(asked_for, model.prompts)) - before
            assert (result.status, result.answer) == ("ok", ANSWER), result.error
            assert not after & known, "no finished call was made again"
            assert set(in_flight) <= set(after), "those in flight were"
            assert sum(after.values()) + sum(known.values()) == 2 + 3 * WIDTH
            events = events_of(workspace, victim.session)
            check_orderly(events)
            mine = [e.data for e in events if e.turn == result.turn]
            assert not [data for data in mine if isinstance(data, ev.Warning) and data.code.startswith("replay")]
            # The journal knows of a call before the provider does: one that the kill met in between counts as spent.
            begun = Counter(asked_for(text_of(workspace, e)) for e in dead if isinstance(e.data, ev.CallStarted))
            never_arrived = sum((begun - before).values())
            assert result.usage.calls == len(model.prompts) + never_arrived, "calls in flight at the crash are spent"
            assert result.usage.cost_usd is None or result.usage.cost_usd == 0


def text_of(workspace: Workspace, started: ev.Event) -> str:
    assert isinstance(started.data, ev.CallStarted)
    return workspace.blobs.text(started.data.prompt)


def finished(workspace: Workspace, turn: str) -> TurnResult:
    return workspace.wait(workspace.resume(turn).turn, PATIENCE_S)


# -- limits and questions ---------------------------------------------------------------------------------------------


def test_a_raised_limit_outlives_the_crash_and_only_the_open_question_is_asked_again(home: Path) -> None:
    """Limits set while the turn ran hold in the resumed one; the question that waited at the crash is put again."""

    def script(number: int, prompt: str) -> Reply:
        if prompt.strip().startswith("item"):
            return says(f"got {prompt.split()[-1]}")
        if "You have not interacted" in prompt:
            return says(action("found = []\nfor i in range(8):\n    found.append(llm_query(f'item {len(found)}'))"))
        return says(action("SUBMIT(answer=found[-1])"))

    with BrokenModel(script) as model:
        given = {"limits": {"calls": 3}, "change": {"calls": 6, "tokens": 90_000}, "change_after": 1}
        asks = settings(model, at_limit="ask")
        with running(home, model, "go", settings=asks, **given) as victim:
            until(lambda: len(model.prompts) >= 5, "the raised limit lets it go on")
            until(lambda: open_questions(home), "it meets the raised limit, and asks")
            victim.kill()
        made = len(model.prompts)
        with opened(home, model, at_limit="ask") as workspace:
            dead = events_of(workspace, victim.session)
            check_interrupted(dead)
            asked = [e.data for e in dead if isinstance(e.data, ev.ApprovalRequested)]
            assert asked, "it waited for an answer"
            again = workspace.resume(victim.turn).turn

            def open_question() -> ev.ApprovalRequested | None:
                mine = [e.data for e in events_of(workspace, victim.session, again)]
                done = {data.id for data in mine if isinstance(data, ev.ApprovalResolved)}
                return next((d for d in mine if isinstance(d, ev.ApprovalRequested) and d.id not in done), None)

            until(open_question, "the open question is put again")
            assert len(model.prompts) == made, "nothing is asked before the answer"
            workspace.set_limits(again, {"calls": 100})
            result = workspace.wait(again, PATIENCE_S)
            assert (result.status, result.answer) == ("ok", "got 7"), result.error
            assert max(Counter(model.prompts).values()) == 1, "no call was made twice"
            told = [e.data for e in events_of(workspace, victim.session, again)]
            assert next(d for d in told if isinstance(d, ev.TurnAccepted)).limits.calls == 6
