"""One run is stopped with everything below it; its parent gets a failure and goes on."""

import threading
import time
from collections.abc import Callable

import pytest
from tests.engine.conftest import events_of
from tests.engine.test_turns import FREE, check_journal, task_of
from tests.scripted import action, scripted

from fleet_rlm.runtime.execution import events as ev
from fleet_rlm.runtime.execution.requests import Submitted, TurnRequest
from fleet_rlm.runtime.factory import Workspace

DONE_S = 5.0
"""Outer bound of a cancel; the benchmark measures the figure itself."""

PARENT = action("got = rlm_query('the child', context='x')\nSUBMIT(answer=f'{bool(got)} {got.error}: {got.message}')")


def start(workspace: Workspace, reply: Callable[[str], str], sub: Callable[[str], str] = str) -> Submitted:
    """A turn whose runs `reply` drives; bare prompts, which are sub-calls of code, go to `sub`."""

    def model(prompt: str) -> str:
        return reply(prompt) if "Preview:" in prompt else sub(prompt)

    return workspace.submit(TurnRequest(question="go", mode="rlm", model=scripted(model), limits=FREE))


def run_of(workspace: Workspace, session: str, task: str, timeout: float = 60) -> ev.Event:
    """The `run.started` of a task, once it is there."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        for event in events_of(workspace, session):
            if isinstance(event.data, ev.RunStarted) and event.data.task.startswith(task):
                return event
        time.sleep(0.02)
    raise AssertionError(f"no run for {task!r}")


def statuses(events: list[ev.Event]) -> dict[str, str]:
    """Status by task."""
    tasks = {event.run: event.data.task for event in events if isinstance(event.data, ev.RunStarted)}
    return {tasks[e.run]: e.data.status for e in events if isinstance(e.data, ev.RunFinished)}


def stop(workspace: Workspace, turn: str, run: str) -> float:
    """Stop a run; seconds until its end is written."""
    began = time.monotonic()
    assert workspace.cancel_run(turn, run)
    while time.monotonic() - began < 30:
        sid = workspace.sessions.get_turn(turn).sid
        if any(event.type == "run.finished" and event.run == run for event in events_of(workspace, sid)):
            return time.monotonic() - began
        time.sleep(0.01)
    raise AssertionError("the run did not end")


def gone(workspace: Workspace, run: str) -> bool:
    deadline = time.monotonic() + 10
    while workspace.sandboxes.list({"fleet.run": run}) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not workspace.sandboxes.list({"fleet.run": run})


def test_inside_a_cell(workspace: Workspace) -> None:
    def reply(prompt: str) -> str:
        if "the child" in task_of(prompt):
            return action("answer = 'half way'\nimport time; time.sleep(100)")
        return PARENT

    turn = start(workspace, reply)
    child = run_of(workspace, turn.session, "the child")
    _cell(workspace, turn.session, child.run)
    assert stop(workspace, turn.turn, child.run) < DONE_S
    result = workspace.wait(turn.turn, 30)
    assert (result.status, result.answer) == ("ok", "False cancelled: this run was stopped by a person")
    events = events_of(workspace, turn.session)
    check_journal(events)
    assert statuses(events) == {"go": "ok", "the child": "cancelled"}
    cells = {e.data.id: e.run for e in events if e.type == "cell.started"}
    ended = [e.data for e in events if e.type == "cell.finished" and cells[e.data.id] == child.run]
    assert [cell.status for cell in ended] == ["interrupted"], [c.error for c in ended][:2]
    assert [change.name for change in ended[0].changed if change.name == "answer"] == ["answer"]
    finished = next(e.data for e in events if e.type == "run.finished" and e.run == child.run)
    assert finished.output.head == "half way", "what was reached stands in the journal"
    assert gone(workspace, child.run)


def test_a_cell_that_ignores_sigint_is_killed(workspace: Workspace) -> None:
    stubborn = "import time\nwhile True:\n    try:\n        time.sleep(100)\n    except BaseException:\n        pass"

    def reply(prompt: str) -> str:
        return action(stubborn) if "the child" in task_of(prompt) else PARENT

    turn = start(workspace, reply)
    child = run_of(workspace, turn.session, "the child")
    _cell(workspace, turn.session, child.run)
    assert stop(workspace, turn.turn, child.run) < DONE_S
    assert workspace.wait(turn.turn, 30).answer.startswith("False cancelled")
    check_journal(events_of(workspace, turn.session))
    assert gone(workspace, child.run)


def test_a_subtree_ends_whole_and_nothing_else(workspace: Workspace) -> None:
    def reply(prompt: str) -> str:
        task = task_of(prompt)
        if "leaf" in task:
            return action("import time; time.sleep(100)" if "left" in task else "SUBMIT(answer='leaf ok')")
        if "branch" in task:
            side = "left" if "left" in task else "right"
            return action(f"got = rlm_query_batched(['leaf {side} 1', 'leaf {side} 2'])\nSUBMIT(answer=str(got[0]))")
        return action(
            "got = rlm_query_batched(['branch left', 'branch right'])\nSUBMIT(answer=f'{got[0].error} {got[1]}')"
        )

    request = TurnRequest(question="go", mode="rlm", model=scripted(reply), limits=ev.Limits(depth=3, calls=100))
    turn = workspace.submit(request)
    leaf = run_of(workspace, turn.session, "leaf left 2")
    _cell(workspace, turn.session, leaf.run)
    assert stop(workspace, turn.turn, leaf.parent) < DONE_S
    result = workspace.wait(turn.turn, 60)
    assert (result.status, result.answer) == ("ok", "cancelled leaf ok")
    events = events_of(workspace, turn.session)
    check_journal(events)
    ended = statuses(events)
    assert {task for task, status in ended.items() if status == "cancelled"} == {
        "branch left", "leaf left 1", "leaf left 2"
    }  # fmt: skip
    assert [e.data.reserved_calls for e in events if e.type == "budget.updated"][-1] == 0, "nothing stays reserved"


@pytest.mark.parametrize("where", ["cell", "call"])
def test_a_sub_agent_that_the_code_built(workspace: Workspace, where: str) -> None:
    """The cell that built it gets an exception, and its run goes on."""
    answer = threading.Event()
    parent = (
        "try:\n    got = dspy.RLM('task -> answer')(task='below').answer\n"
        "except Exception as error:\n    got = f'{type(error).__name__}: {error}'\nSUBMIT(answer=got)"
    )

    def reply(prompt: str) -> str:
        if task_of(prompt) == "go":
            return action(parent)
        assert where == "cell" or answer.wait(60)
        return action("import time; time.sleep(100)")

    turn = start(workspace, reply)
    child = run_of(workspace, turn.session, "sub-agent")
    if where == "cell":
        _cell(workspace, turn.session, child.run)
    assert stop(workspace, turn.turn, child.run) < DONE_S
    result = workspace.wait(turn.turn, 30)
    answer.set()
    assert (result.status, result.answer) == ("ok", "RuntimeError: this sub-agent was stopped by a person")
    events = events_of(workspace, turn.session)
    check_journal(events)
    assert statuses(events) == {"go": "ok", "sub-agent": "cancelled"}
    assert gone(workspace, child.run)


def test_one_item_of_a_batch(workspace: Workspace) -> None:
    go_on = threading.Event()

    def sub(prompt: str) -> str:
        assert go_on.wait(60)
        return "fine"

    def reply(prompt: str) -> str:
        if "item" in task_of(prompt):
            return action("SUBMIT(answer=llm_query('q ' + task))")
        return action(
            "got = rlm_query_batched(['item 0', 'item 1', 'item 2'])\n"
            "SUBMIT(answer=' '.join(str(g) if g else g.error for g in got))"
        )

    turn = start(workspace, reply, sub)
    runs = [run_of(workspace, turn.session, f"item {n}").run for n in range(3)]
    _calls(workspace, turn.session, 6)  # each child's own and its sub-call
    assert stop(workspace, turn.turn, runs[1]) < DONE_S
    go_on.set()
    assert workspace.wait(turn.turn, 30).answer == "fine cancelled fine"
    events = events_of(workspace, turn.session)
    check_journal(events)
    calls = {e.data.id: e.run for e in events if e.type == "call.started" and e.data.role == "sub"}
    ends = {calls[e.data.id]: e.data.status for e in events if e.type == "call.finished" and e.data.id in calls}
    assert ends == {runs[0]: "ok", runs[1]: "cancelled", runs[2]: "ok"}


def test_the_root_run_is_the_turn(workspace: Workspace) -> None:
    turn = start(workspace, lambda _: action("import time; time.sleep(100)"))
    root = run_of(workspace, turn.session, "go")
    assert workspace.cancel_run(turn.turn, root.run)
    assert workspace.wait(turn.turn, 30).status == "cancelled"
    events = events_of(workspace, turn.session)
    check_journal(events)
    assert statuses(events) == {"go": "cancelled"}


@pytest.mark.parametrize("after_s", [0.0, 0.03, 0.1, 0.2, 0.4])
def test_at_any_moment_of_a_child(workspace: Workspace, after_s: float) -> None:
    """In the start of its sandbox, in its model's call, in a cell, at its end: always orderly, and the parent goes on."""

    def reply(prompt: str) -> str:
        if "the child" in task_of(prompt):
            return action("x = llm_query('a')\nSUBMIT(answer='done')")
        return action("got = rlm_query('the child')\nSUBMIT(answer=str(got) if got else got.error)")

    turn = start(workspace, reply, lambda _: time.sleep(0.1) or "fine")
    child = run_of(workspace, turn.session, "the child")
    time.sleep(after_s)
    workspace.cancel_run(turn.turn, child.run)
    result = workspace.wait(turn.turn, 30)
    assert result.status == "ok" and result.answer in ("done", "cancelled"), result
    events = events_of(workspace, turn.session)
    check_journal(events)
    assert statuses(events)["the child"] == ("ok" if result.answer == "done" else "cancelled")
    assert gone(workspace, child.run)


def test_a_sandbox_that_never_was_ready_is_not_counted_off(workspace: Workspace) -> None:
    for after_s in (0.0, 0.005, 0.01, 0.015, 0.02, 0.03):
        turn = start(workspace, lambda _: time.sleep(1) or action("SUBMIT(answer='x')"))
        time.sleep(after_s)
        workspace.cancel(turn.turn)
        workspace.wait(turn.turn, 30)
        told = [e.data.live_sandboxes for e in events_of(workspace, turn.session) if e.type == "budget.updated"]
        assert min(told, default=0) >= 0, (after_s, told)


def _event(workspace: Workspace, session: str, type_: str, at_least: int = 1, run: str | None = None) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        found = [e for e in events_of(workspace, session) if e.type == type_ and run in (None, e.run)]
        if len(found) >= at_least:
            return
        time.sleep(0.02)
    raise AssertionError(f"no {type_}")


def _cell(workspace: Workspace, session: str, run: str | None) -> None:
    _event(workspace, session, "cell.started", run=run)
    time.sleep(0.2)  # it is in its sleep by now


def _calls(workspace: Workspace, session: str, count: int) -> None:
    deadline = time.monotonic() + 60
    while sum(e.type == "call.started" and e.data.role == "sub" for e in events_of(workspace, session)) < count:
        assert time.monotonic() < deadline
        time.sleep(0.02)
