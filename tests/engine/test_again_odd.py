"""Odd shapes of turns that are run again: refusals, shares, failures, stops side by side, edits of repaired cells."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dspy
import pytest
from tests.engine.conftest import events_of
from tests.engine.sse_model import sse_model
from tests.engine.test_again import finished, of_kind, of_turn
from tests.engine.test_again_questions import check_replays
from tests.engine.test_agent_tools import script
from tests.engine.test_turns import ask, task_of
from tests.faults.broken_model import BrokenModel, says
from tests.scripted import action, field, scripted

from fleet_rlm.runtime.config import load_settings
from fleet_rlm.runtime.execution import events as ev
from fleet_rlm.runtime.execution.events import Limits
from fleet_rlm.runtime.execution.normalised import first_difference
from fleet_rlm.runtime.execution.requests import Change, ForkEdit, Submitted, TurnRequest, TurnResult
from fleet_rlm.runtime.factory import Workspace, open_workspace

Reply = Callable[[str], str]
FIRST = "You have not interacted"


def steps(*cells: str, sub: Reply | None = None, child: Reply | None = None) -> Reply:
    """A root that runs these cells, then submits `got`; `child` is what its children say, `sub` what plain calls get."""

    def reply(prompt: str) -> str:
        if "extract the final outputs" in prompt:
            return field("answer", "cut short")
        if "Your task:" not in prompt:
            return sub(prompt) if sub else "yes"
        if child is not None and task_of(prompt) != "q":
            return child(prompt)
        for number, cell in enumerate(cells):
            if f"# {number}\n" not in prompt:
                return action(f"# {number}\n{cell}")
        return action("SUBMIT(answer=str(got))")

    return reply


def begin(workspace: Workspace, reply: Reply, limits: Limits | None = None) -> tuple[Submitted, dspy.LM]:
    lm = scripted(reply)
    request = TurnRequest(question="q", mode="rlm", model=lm, limits=limits or Limits(), title="t")
    return workspace.submit(request), lm


def whole(workspace: Workspace, reply: Reply, limits: Limits | None = None) -> tuple[TurnResult, dspy.LM]:
    turn, lm = begin(workspace, reply, limits)
    return finished(workspace, turn), lm


def too_long(prompt: str) -> str:
    if "# 1\n" in prompt and len(prompt) > 9000:
        raise dspy.ContextWindowExceededError(message="too long", model="test/scripted")
    return steps("print('x' * 4000)\ngot = 1", "print('y' * 4000)\ngot = 2", "print(got)")(prompt)


def test_a_prompt_that_was_too_long_is_so_again(workspace: Workspace) -> None:
    first, lm = whole(workspace, too_long)
    assert (first.status, first.answer) == ("ok", "2")
    check_replays(workspace, first, lm.engine.prompts)
    cut, lm = whole(workspace, too_long, Limits(calls=5))
    assert cut.status == "limit"
    resumed = finished(workspace, workspace.resume(cut.turn, Limits(calls=50), lm=lm))
    assert (resumed.status, resumed.answer) == ("ok", "2"), resumed.error


@pytest.mark.parametrize("schema", ["any", "str?", {"type": "string", "enum": ["abc"]}])
def test_a_childs_value_that_may_be_a_text_is_taken_again(workspace: Workspace, schema: Any) -> None:
    broken = [True]

    def reply(prompt: str) -> str:
        if task_of(prompt) != "q":
            return action("SUBMIT(answer='abc')")
        if FIRST in prompt:
            return action(f"got = rlm_query('child', schema={schema!r})\nprint(repr(got))")
        if broken:
            raise ValueError("down")
        return action("SUBMIT(answer=repr(got))")

    first, lm = whole(workspace, reply)
    assert first.status == "failed"
    broken.clear()
    resumed = finished(workspace, workspace.resume(first.turn, lm=lm))
    assert (resumed.status, resumed.answer) == ("ok", "'abc'"), resumed.error


def test_a_text_that_looks_like_json_is_what_it_was(workspace: Workspace) -> None:
    broken = [True]

    def reply(prompt: str) -> str:
        if task_of(prompt) != "q":
            return action("SUBMIT(answer='\"42\"')")
        if FIRST in prompt:
            return action("got = rlm_query('child', schema='any')\nprint(repr(got))")
        if broken:
            raise ValueError("down")
        return action("SUBMIT(answer=repr(got))")

    first, lm = whole(workspace, reply)
    printed = "".join(each.text for each in of_kind(of_turn(workspace, first), ev.CellOutput)).strip()
    broken.clear()
    resumed = finished(workspace, workspace.resume(first.turn, lm=lm))
    assert (resumed.status, resumed.answer) == ("ok", printed), resumed.error


def test_a_child_that_was_refused_gets_the_same_words(workspace: Workspace) -> None:
    begun: list[Submitted] = []

    def child(prompt: str) -> str:
        if "2" in task_of(prompt):
            workspace.set_limits(begun[0].turn, {"children": 3})
        return action("SUBMIT(answer='leaf')")

    code = (
        "got = [rlm_query('t0')]\nfor i in range(1, 6):\n    got.append(rlm_query(f't{i} ' + str(got[-1])))\nprint(got)"
    )
    turn, lm = begin(workspace, steps(code, child=child), Limits(children=50))
    begun.append(turn)
    check_replays(workspace, finished(workspace, turn), lm.engine.prompts)


def test_children_that_were_refused_side_by_side(workspace: Workspace) -> None:
    def child(prompt: str) -> str:
        time.sleep(random.random() * 0.1)
        return action("print(llm_query('x' + task))") if FIRST in prompt else action("SUBMIT(answer='leaf')")

    code = "got = rlm_query_batched(['leaf %d' % i for i in range(6)])\nprint(got)"
    for _ in range(3):
        first, lm = whole(workspace, steps(code, child=child), Limits(calls=8))
        check_replays(workspace, first, lm.engine.prompts)


def test_a_refusal_below_a_share_and_one_of_an_earlier_turn(workspace: Workspace) -> None:
    def child(prompt: str) -> str:
        if task_of(prompt) == "X":
            return action("got = rlm_query('leaf')\nSUBMIT(answer=str(got))")
        return action("SUBMIT(answer='leaf')")

    first, lm = whole(workspace, steps("got = rlm_query('X')\nprint(got)", child=child), Limits(children=1, depth=3))
    check_replays(workspace, first, lm.engine.prompts)
    resumed = finished(workspace, workspace.resume(first.turn, Limits(children=9, depth=3), lm=lm))
    again = finished(workspace, workspace.replay(resumed.turn))
    assert (again.status, again.answer) == (resumed.status, resumed.answer), again.error
    share, lm = whole(
        workspace,
        steps("got = rlm_query('X', budget={'calls': 2})\nprint(got)", child=child),
        Limits(depth=3, calls=40),
    )
    check_replays(workspace, share, lm.engine.prompts)


def test_a_share_that_is_met_is_not_the_turns_limit(workspace: Workspace) -> None:
    def child(prompt: str) -> str:
        return action(f"# s{prompt.count('# s')}\nprint(llm_query('x'))")

    first, lm = whole(
        workspace, steps("got = rlm_query('child', budget={'calls': 3})\nprint(got)", child=child), Limits(calls=50)
    )
    assert first.status == "ok"
    check_replays(workspace, first, lm.engine.prompts)


def test_the_words_of_a_failure_name_the_same_server(tmp_path: Path) -> None:
    def reply(_number: int, prompt: str) -> Any:
        if "Your task" in prompt:
            code = "got = llm_query_batched(['good', 'bad'])\nprint(got)"
            return says(action(code if FIRST in prompt else "SUBMIT(answer=str(got))"))
        return (lambda handler, _body: handler.connection.close()) if prompt.strip().endswith("bad") else says("fine")

    with BrokenModel(reply) as model:
        overrides = {"model": "openai/tiny", "api_base": model.address}
        with open_workspace(load_settings(home=tmp_path, environ={}, overrides=overrides)) as workspace:
            first = finished(workspace, workspace.submit(TurnRequest(question="q", mode="rlm", title="t")))
            again = finished(workspace, workspace.replay(first.turn))
            assert (again.status, again.answer) == ("ok", first.answer), again.error


def test_what_ran_beside_a_call_that_was_cancelled_comes_as_far(workspace: Workspace) -> None:
    stuck = threading.Event()

    def child(prompt: str) -> str:
        if "A" in task_of(prompt):
            return action("print(llm_query('stuck'))")
        n = prompt.count("# s")
        code = f"# s{n}\nimport time; time.sleep(0.3)\nprint({n})" if n < 4 else "SUBMIT(answer='b')"
        return action(code)

    code = "got = rlm_query_batched(['child A', 'child B'])"
    turn, lm = begin(workspace, steps(code, child=child, sub=lambda _: "yes" if stuck.wait(30) else "no"))
    while not any(event.type == "run.finished" for event in events_of(workspace, turn.session)):
        time.sleep(0.02)
    workspace.cancel(turn.turn)
    first = finished(workspace, turn)
    stuck.set()
    check_replays(workspace, first, lm.engine.prompts)


def test_a_call_that_the_deadline_cut(workspace: Workspace) -> None:
    gate = threading.Event()
    first, lm = whole(
        workspace,
        steps("got = llm_query('p')\nprint(got)", sub=lambda _: "y" if gate.wait(20) else "n"),
        Limits(wall_s=2.0),
    )
    gate.set()
    assert (first.status, first.limit) == ("limit", "wall")
    check_replays(workspace, first, lm.engine.prompts)


def test_a_time_limit_that_was_set_while_a_cell_slept(workspace: Workspace) -> None:
    turn, _ = begin(workspace, steps("got=1\nprint(1)", "import time\ntime.sleep(60)"))
    while sum(event.type == "cell.started" for event in events_of(workspace, turn.session)) < 2:
        time.sleep(0.02)
    workspace.set_limits(turn.turn, {"wall_s": 3.0})
    first = finished(workspace, turn)
    again = workspace.wait(workspace.replay(first.turn).turn, timeout=20)
    assert (again.status, again.limit) == (first.status, first.limit) == ("limit", "wall")


def test_a_repaired_cell_can_be_edited(workspace: Workspace) -> None:
    def reply(prompt: str) -> str:
        return action("print 'hello'\ngot = 3" if FIRST in prompt else "SUBMIT(answer=str(got))")

    first, lm = whole(workspace, reply)
    cell = of_kind(of_turn(workspace, first), ev.CellStarted)[1]
    forked = finished(workspace, workspace.fork(first.turn, ForkEdit(cell=Change(cell.id, "got = 4")), lm=lm))
    assert forked.answer == "4"


def test_calls_of_threads_that_come_in_another_order(workspace: Workspace) -> None:
    code = (
        "from concurrent.futures import ThreadPoolExecutor\n"
        "def f(i):\n    llm_query(f'one {i}')\n    return llm_query(f'two {i}')\n"
        "with ThreadPoolExecutor(6) as pool:\n    got = list(pool.map(f, range(6)))\nprint(got)"
    )

    def sub(prompt: str) -> str:
        if "one" in prompt:
            time.sleep(0.1 * (5 - int(prompt.split()[-1])))
        return "yes"

    first, lm = whole(workspace, steps(code, sub=sub))
    check_replays(workspace, first, lm.engine.prompts)


def test_one_question_of_several_threads(workspace: Workspace) -> None:
    code = (
        "from concurrent.futures import ThreadPoolExecutor\nimport time\n"
        "def f(i):\n    time.sleep(0.15 * i)\n    return ask_user('same?')\n"
        "with ThreadPoolExecutor(3) as pool:\n    got = list(pool.map(f, range(3)))\nprint(got)"
    )
    turn, lm = begin(workspace, steps(code))

    def questions() -> list[ev.Event]:
        return [event for event in events_of(workspace, turn.session) if event.type == "approval.requested"]

    while len(questions()) < 3:
        time.sleep(0.02)
    for number, event in reversed(list(enumerate(questions()))):
        workspace.answer(turn.turn, event.data.id, f"answer {number}")
        time.sleep(0.1)
    check_replays(workspace, finished(workspace, turn), lm.engine.prompts)


def test_artifacts_of_siblings_keep_their_versions(workspace: Workspace) -> None:
    def child(prompt: str) -> str:
        if task_of(prompt) == "A":
            time.sleep(0.4)
        return action("v = save_artifact(task, 'x.txt')['version']\nSUBMIT(answer=str(v))")

    first, lm = whole(workspace, steps("got = rlm_query_batched(['A', 'B'])\nprint(got)", child=child))
    again = check_replays(workspace, first, lm.engine.prompts)
    made = {each.version: each.sha256 for each in of_kind(of_turn(workspace, first), ev.ArtifactPublished)}
    assert {each.version: each.sha256 for each in of_kind(again, ev.ArtifactPublished)} == made


def test_what_a_fork_took_from_its_origin_counts_when_it_is_resumed(workspace: Workspace) -> None:
    cells = [f"got = [llm_query(f'{word} {{i}}') for i in range(6)]" for word in ("part", "more", "other")]
    first, lm = whole(workspace, steps(*cells[:2]))
    cell = of_kind(of_turn(workspace, first), ev.CellStarted)[1]
    edit = ForkEdit(cell=Change(cell.id, f"# 1\n{cells[2]}"), limits=Limits(calls=12))
    forked = finished(workspace, workspace.fork(first.turn, edit, lm=lm))
    assert (forked.status, forked.usage.calls) == ("limit", 12)
    resumed = finished(workspace, workspace.resume(forked.turn, Limits(calls=14), lm=lm))
    assert resumed.usage.calls >= 12


def test_a_replay_of_a_fork_that_took_children_whole(workspace: Workspace) -> None:
    def child(prompt: str) -> str:
        if FIRST in prompt:
            return action("got = llm_query('more ' + task)\nprint(got)")
        return action("SUBMIT(answer=got)")

    first, lm = whole(workspace, steps("got = rlm_query_batched(['t0', 't1'])\nprint(got)", child=child))
    forked = finished(workspace, workspace.fork(first.turn, ForkEdit(limits=Limits(calls=99)), lm=lm))
    assert forked.status == "ok"
    check_replays(workspace, forked, lm.engine.prompts)


def test_memory_that_is_written_side_by_side(workspace: Workspace) -> None:
    both = [("memory_append", {"block": "facts", "text": word}) for word in ("one", "two")]
    with sse_model(script(both)) as model:
        for _ in range(4):
            first = ask(workspace, "do it", model=model.lm(), title="t")
            kept = of_kind(of_turn(workspace, first), ev.MemoryChanged)
            assert [each.after for each in kept] == ["one", "one\ntwo"], "in the order in which they were said"
            again = check_replays(workspace, first, model.asked)
            assert [each.after for each in of_kind(again, ev.MemoryChanged)] == ["one", "one\ntwo"]


@pytest.mark.parametrize("limits", [Limits(calls=8), Limits(calls=12), Limits()])
def test_a_loop_that_was_left_while_calls_ahead_were_refused(workspace: Workspace, limits: Limits) -> None:
    code = (
        "got = []\ntry:\n    for i in range(20):\n        a = llm_query(f'item {i}')\n        got.append(int(a))\n"
        "except ValueError:\n    pass\nprint(got)"
    )
    first, lm = whole(workspace, steps(code, sub=lambda prompt: "last" if "item 3" in prompt else "7"), limits)
    assert (first.status, first.answer) == ("ok", "[7, 7, 7]")
    check_replays(workspace, first, lm.engine.prompts)


def test_a_resumed_turn_that_had_written_memory_is_replayed(workspace: Workspace) -> None:
    broken = [True]
    usual = script(
        [("memory_append", {"block": "facts", "text": "kept"})], [("memory_append", {"block": "facts", "text": "more"})]
    )

    def reply(body: dict[str, Any]) -> list[Any]:
        if broken and sum(message["role"] == "tool" for message in body["messages"]):
            raise ConnectionError("down")
        return usual(body)

    with sse_model(reply) as model:
        first = ask(workspace, "do it", model=model.lm(), title="t")
        assert first.status == "failed"
        broken.clear()
        resumed = finished(workspace, workspace.resume(first.turn, lm=model.lm()))
        assert resumed.status == "ok", resumed.error
        made = len(model.asked)
        again = finished(workspace, workspace.replay(resumed.turn))
        assert (again.status, again.answer, again.error) == ("ok", resumed.answer, None)
        assert len(model.asked) == made
        of_root = [[each for each in of_turn(workspace, turn) if each.run] for turn in (resumed, again)]
        assert first_difference(*of_root) is None, "the edit of the turn before is told in the replay alone"
        assert workspace.memory(again.session).saved()["facts"] == "kept\nmore"
