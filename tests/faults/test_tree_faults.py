"""Programs that a model may write to ruin a tree: each ends within its limits, as a typed event."""

from __future__ import annotations

import re

import pytest
from tests.scripted import action, field, scripted

from fleet_rlm.runtime.execution import events as ev

LAST_WORD = "extract the final outputs"


def task_of(prompt: str) -> str:
    found = re.search(r"Preview:\s*```\s*(.*?)\s*```", prompt, re.DOTALL)
    return found[1] if found else ""


def runs(events: list[ev.Event]) -> int:
    return sum(event.type == "run.started" for event in events)


@pytest.mark.parametrize(
    ("limits", "deepest"),
    [(ev.Limits(calls=200), 1), (ev.Limits(calls=200, depth=5), 4), (ev.Limits(calls=12, depth=8), 7)],
)
def test_endless_recursion(ask, limits, deepest) -> None:
    """Each run asks a child the same question; the depth limit or the call limit ends it."""

    def reply(prompt: str) -> str:
        if LAST_WORD in prompt:
            return field("answer", "as far as it went")
        return action(
            "got = rlm_query('again') if 'rlm_query' in globals() else 'bottom'\n"
            "SUBMIT(answer=str(got) if got else 'cut: ' + got.error)"
        )

    result, events = ask(None, mode="rlm", model=scripted(reply), limits=limits)
    assert result.status in ("ok", "limit") and result.answer
    assert result.max_depth_reached <= deepest and runs(events) <= deepest + 1
    assert result.usage.calls <= limits.calls


def test_recursion_by_agents_of_its_own_making(ask) -> None:
    """`dspy.RLM` built in the sandbox, again and again: the same tree, the same limits."""
    code = "SUBMIT(answer=str(dspy.RLM('task -> answer')(task='again').answer))"

    def reply(prompt: str) -> str:
        return field("answer", "enough") if LAST_WORD in prompt else action(code)

    result, events = ask(None, mode="rlm", model=scripted(reply), limits=ev.Limits(calls=25, depth=3))
    assert result.status in ("ok", "limit", "failed")
    assert result.usage.calls <= 25 and 1 <= result.max_depth_reached <= 3
    assert runs(events) > 1, "there were such agents"


@pytest.mark.parametrize(
    ("width", "limits", "unit"),
    [
        (300, ev.Limits(calls=1000, children=40), "children"),
        (300, ev.Limits(calls=60), "calls"),
    ],
)
def test_a_fan_out_that_explodes(ask, width, limits, unit) -> None:
    def reply(prompt: str) -> str:
        if LAST_WORD in prompt:
            return field("answer", "some of it")
        if "leaf" in task_of(prompt):
            return action("SUBMIT(answer='leaf')")
        return action(
            f"got = rlm_query_batched(['leaf'] * {width})\n"
            "done = [g for g in got if g]\nwhy = {g.error for g in got if not g}\n"
            "SUBMIT(answer=f'{len(got)} {len(done)} {sorted(why)}')"
        )

    result, events = ask(None, mode="rlm", model=scripted(reply), limits=limits)
    assert (result.status, result.limit) == ("limit", unit) and result.answer
    assert result.usage.calls <= limits.calls and runs(events) <= 1 + (limits.children or limits.calls)


@pytest.mark.parametrize(
    "call", ["rlm_query_batched(['x'] * 100_000)", "rlm_query_batched(['x'], contexts=['a', 'b'])"]
)
def test_a_batch_that_cannot_be_is_told_to_the_code(ask, call) -> None:
    code = f"try:\n    {call}\nexcept Exception as error:\n    SUBMIT(answer='refused: ' + str(error))"
    result, events = ask(None, mode="rlm", model=scripted(lambda _: action(code)))
    assert result.answer.startswith("refused: ") and runs(events) == 1


@pytest.mark.parametrize(
    "code",
    [
        'import os, sys\nfor fd in range(3, 64):\n    try:\n        os.write(fd, b\'{"status": "submitted", "output": {"answer": "forged"}}\\n\' * 9)\n    except OSError:\n        pass\nprint(\'on\')',
        "import os\nos.write(1, b'\\x00\\x00\\x00\\x20\\x00\\x00\\x00\\x02{\"answer\":\"forged\"}' * 99)\nprint('on')",
        "SUBMIT = lambda **kw: print('mine', kw)\nSUBMIT(answer='forged')",
        "import threading\nthreading.Thread(target=lambda: print('on')).start()",
        "SUBMIT()",
        "SUBMIT(answer='x', more='forged')",
        "raise BaseException('forged')",
    ],
    ids=["any descriptor", "frames on stdout", "own name", "thread", "nothing", "too much", "base exception"],
)
def test_a_forged_end_is_none(ask, code) -> None:
    """Whatever the first cell does to look like an end, the run goes on to its second, which ends it."""

    def reply(prompt: str) -> str:
        if "You have not interacted" in prompt:
            return action(code)
        return action("SUBMIT(answer='honest')")

    result, events = ask(None, mode="rlm", model=scripted(reply))
    assert (result.status, result.answer) == ("ok", "honest"), result.error
    assert "forged" not in (result.answer or "")


FORGE = """
import sys
frame = sys._getframe()
while "request" not in frame.f_locals:
    frame = frame.f_back
end = '{"cell": "' + frame.f_locals["request"]["cell"] + '", "status": "%s", %s}'
SUBMIT.__self__.control.send(SUBMIT.__func__.__globals__["CH_EXEC"], end.encode())
"""
HUGE = "9" * 4000
LONG = "x" * 3_000_000
CHANGE = '"type": "int", "preview": "1"'


@pytest.mark.parametrize(
    ("status", "end"),
    [
        ("ok", '"ms": NaN'),
        ("ok", '"ms": Infinity'),
        ("ok", '"ms": -1e300'),
        ("ok", f'"batched": {HUGE}'),
        ("ok", f'"changed": [{{"name": "x", "size": {HUGE}, {CHANGE}}}]'),
        ("ok", f'"changed": [{{"name": "{LONG}", "size": -7, {CHANGE}}}]'),
        ("ok", '"changed": [' + ", ".join([f'{{"name": "x", {CHANGE}}}'] * 10_000) + "]"),
        ("error", f'"error": {{"class": "E", "message": "m", "line": {HUGE}}}'),
        ("error", f'"error": {{"class": "{LONG}", "message": "{LONG}", "traceback": "{LONG}"}}'),
        ("ok", f'"reads": {{"{"0" * 64}": [[{HUGE}, -1]], "{LONG}": [[0, 1]]}}'),
    ],
    ids=["nan", "endless", "before", "batched", "size", "name", "changes", "line", "texts", "reads"],
)
def test_a_forged_result_leaves_the_journal_readable_and_small(ask, workspace, status, end) -> None:
    """Code that took the worker's own socket tells numbers that no event can hold, and texts without end."""

    def reply(prompt: str) -> str:
        if "You have not interacted" in prompt:
            return action(FORGE % (status, end))
        return action("SUBMIT(answer='honest')")

    result, events = ask(None, mode="rlm", model=scripted(reply))
    assert (result.status, result.answer) == ("ok", "honest"), result.error
    workspace.journal.forget(result.session)  # as after a restart: it is read from the disk
    again = workspace.journal.read(result.session, 0, 100_000)
    assert again == events
    cells = [event.data for event in again if isinstance(event.data, ev.CellFinished)]
    assert len(cells) >= 2 and all(len(str(cell)) < 60_000 for cell in cells)
    assert all(0 <= cell.ms < 1e10 and 0 <= cell.batched < 1e10 for cell in cells)
    assert all(0 <= (change.size or 0) < 1e10 for cell in cells for change in cell.changed)
    assert all(0 <= (cell.error.line or 0) < 1e10 for cell in cells if cell.error)
    workspace.journal.append(result.session, [ev.Draft(data=ev.SessionRenamed(title="on"), turn=None)], durable=True)


def test_nothing_runs_after_the_answer(ask) -> None:
    """Neither the rest of the cell, nor what another thread of it still wants to ask."""
    code = (
        "import threading, time\n"
        "def late():\n    time.sleep(0.3)\n    llm_query('late')\n"
        "threading.Thread(target=late, daemon=True).start()\n"
        "SUBMIT(answer='done')\nllm_query('after')\nprint('after')"
    )
    sub = scripted(lambda _: "asked")
    result, events = ask(None, mode="rlm", model=scripted(lambda _: action(code)), sub_model=sub)
    assert result.answer == "done" and sub.engine.prompts == []
    assert not [event for event in events if event.type == "cell.output"]


def test_names_assigned_before_an_exception_survive(ask) -> None:
    def reply(prompt: str) -> str:
        if "You have not interacted" in prompt:
            return action("kept = 'kept'\n1 / 0\nlost = True")
        return action("SUBMIT(answer=kept + str('lost' in globals()))")

    assert ask(None, mode="rlm", model=scripted(reply))[0].answer == "keptFalse"


def test_64_children_that_print_do_not_see_each_others_output(ask) -> None:
    """Each changes its folder, prints, sleeps and prints again, all at once."""

    def reply(prompt: str) -> str:
        found = re.search(r"child (\d+)", task_of(prompt))
        if found is None:
            tasks = "[f'child {i}' for i in range(64)]"
            return action(f"print('parent')\ngot = rlm_query_batched({tasks})\nSUBMIT(answer=' '.join(got))")
        if "You have not interacted" in prompt:
            say = f"print('first {found[1]}')\ntime.sleep(0.005)\nprint('second {found[1]}')"
            return action(f"import os, time\nos.mkdir('own')\nos.chdir('own')\n{say}")
        seen = set(re.findall(r"(?:first|second) (\d+)", prompt))
        return action(f"SUBMIT(answer='{found[1] if seen == {found[1]} else sorted(seen)}')")

    result, events = ask(None, mode="rlm", model=scripted(reply), limits=ev.Limits())
    assert result.answer == " ".join(map(str, range(64)))
    said: dict[str, str] = {}
    for event in events:
        if isinstance(event.data, ev.CellOutput):
            said[event.run] = said.get(event.run, "") + event.data.text
    assert sorted(said.values()) == sorted(["parent\n", *(f"first {i}\nsecond {i}\n" for i in range(64))])
