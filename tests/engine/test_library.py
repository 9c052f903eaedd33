"""The Python library as its users call it."""

import asyncio
import math
import re
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import dspy
import pytest

import fleet_rlm
from fleet_rlm.errors import Conflict, InvalidInput, NotConfigured, NotFound
from scripted import action, field, scripted


def find(prompt: str) -> str:
    if "You have not interacted" in prompt:
        return action("hit = grep('needle')[0]\nprint(hit)")
    return action("SUBMIT(answer=f'{hit.path}:{hit.line}')")


def test_run_answers_over_files_and_texts(tmp_path: Path) -> None:
    file = tmp_path / "a.log"
    file.write_text("hay\n" * 10 + "needle\n")
    result = fleet_rlm.run(
        "where?", context=[file, "no such thing here"], mode="rlm", lm=scripted(find), budget=fleet_rlm.Budget(calls=20)
    )
    assert (result.status, result.answer, result.limit) == ("ok", "a.log:11", None)
    assert result.usage.calls == 2 and result.citations[0].quote == "needle"
    assert result.journal[0].type == "turn.accepted" and result.journal[-1].type == "turn.finished"
    assert [run.status for run in result.tree.runs.values()] == ["ok"]


def test_stream_gives_the_events_as_they_come() -> None:
    async def collect() -> list[str]:
        events = fleet_rlm.stream("hello", lm=scripted(lambda _: "Hello."))
        return [event.type async for event in events]

    types = asyncio.run(collect())
    assert types[0] == "turn.accepted" and types[-1] == "turn.finished" and "call.finished" in types


def test_a_session_goes_on() -> None:
    lm = scripted(lambda prompt: "blue" if "my colour is blue" in prompt and "which" in prompt else "noted")
    session = fleet_rlm.Session()
    session.ask("my colour is blue", lm=lm)
    assert session.ask("which colour?", lm=lm).answer == "blue"


def test_the_interpreter_is_a_factory_for_dspy() -> None:
    lm = scripted(lambda _: action("SUBMIT(n=len(text))"))
    with dspy.context(lm=lm, adapter=dspy.ChatAdapter()):
        rlm = dspy.RLM("text -> n: int", interpreter_factory=fleet_rlm.DaytonaInterpreter)
        assert rlm(text="x" * 1234).n == 1234


def test_the_bounded_rlm_works_outside_of_a_turn() -> None:
    lm = scripted(lambda prompt: "PONG" if prompt.strip() == "ping" else action("SUBMIT(answer=llm_query('ping'))"))
    with dspy.context(lm=lm, adapter=dspy.ChatAdapter()):
        rlm = fleet_rlm.build_recursive_subquery_rlm("task -> answer", interpreter_factory=fleet_rlm.DaytonaInterpreter)
        assert rlm(task="t").answer == "PONG"


@pytest.mark.parametrize(
    "bad", [{"calls": 0}, {"depth": -1}, {"depth": 99}, {"wall_s": -1.0}, {"cost_usd": math.nan}, {"wall_s": math.inf}]
)
def test_a_budget_out_of_range_is_refused(bad: dict[str, float]) -> None:
    with pytest.raises(InvalidInput, match="budget"):
        fleet_rlm.run("q", lm=scripted(str), budget=fleet_rlm.Budget(**bad))


def test_one_class_catches_whatever_is_raised_on_purpose() -> None:
    with pytest.raises(fleet_rlm.FleetError) as refused:
        fleet_rlm.run("q", lm="nonsense/x")
    assert (refused.value.code, refused.value.retryable) == ("invalid_input", False)
    assert refused.value.message and refused.value.hint and "FleetError" in dir(fleet_rlm)


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({"budget": {"tokens": 1.5}}, "budget tokens must be a whole number, not 1.5"),
        ({"budget": {"calls": True}}, "budget calls must be a whole number, not True"),
        ({"budget": {"sandboxes": 4_097}}, "budget sandboxes cannot be 4097"),
        ({"budget": {"calls": 10**13}}, "budget calls cannot be 10000000000000"),
        ({"budget": {"wall_s": 0}}, "budget wall_s cannot be 0"),
        ({"budget": {"depth": 1.5}}, "budget depth must be a whole number, not 1.5"),
        ({"budget": {"depth": None}}, "budget depth must be a whole number, not None"),
        ({"budget": {"cost_usd": "1"}}, "budget cost_usd must be a number, not '1'"),
        ({"mode": "x"}, "the mode must be one of auto, rlm, direct, not 'x'"),
    ],
)
def test_what_the_journal_could_not_give_back_is_refused_and_the_session_goes_on(
    bad: dict[str, Any], said: str
) -> None:
    lm = scripted(lambda _: field("answer", "x"))
    session = fleet_rlm.Session()
    assert session.ask("one", mode="direct", lm=lm).status == "ok"
    wrong = {**bad, "budget": fleet_rlm.Budget(**bad["budget"]) if "budget" in bad else None}
    with pytest.raises(InvalidInput, match=re.escape(said)):
        session.ask("two", **{"mode": "direct", **wrong}, lm=lm)
    assert session.ask("three", mode="direct", lm=lm).status == "ok"
    assert [asked.question for asked in session.history] == ["one", "three"]


def test_a_whole_number_of_a_budget_may_be_written_as_a_float() -> None:
    session = fleet_rlm.Session()
    lm = scripted(lambda _: field("answer", "x"))
    result = session.ask("q", mode="direct", lm=lm, budget=fleet_rlm.Budget(tokens=1e6, depth=1.0))  # pyright: ignore
    assert result.journal[0].data.limits.tokens == 1_000_000, "and it is read back"
    assert session.ask("again", mode="direct", lm=lm).status == "ok"


def test_without_a_model_nothing_runs() -> None:
    with pytest.raises(NotConfigured):
        fleet_rlm.run("q")


def test_contexts_as_bytes_files_and_a_text_that_looks_like_an_address(tmp_path: Path) -> None:
    seen: list[str] = []

    def reply(prompt: str) -> str:
        seen.append(prompt)
        return field("answer", "x")

    (tmp_path / "b.txt").write_bytes(b"from a file")
    with (tmp_path / "b.txt").open("rb") as file:
        context = [b"from bytes", file, "https://example.invalid/ is only text"]
        result = fleet_rlm.run("q", context=context, mode="direct", lm=scripted(reply))
    assert result.status == "ok"
    assert all(text in seen[0] for text in ("from bytes", "from a file", "example.invalid/ is only text", "b.txt"))
    with pytest.raises(InvalidInput, match='"rb"'), (tmp_path / "b.txt").open() as text:
        fleet_rlm.run("q", context=text, mode="direct", lm=scripted(reply))  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="context 1 is a int"):
        fleet_rlm.run("q", context=[3], mode="direct", lm=scripted(reply))  # type: ignore[list-item]


@pytest.mark.parametrize("address", ["/etc/hostname", "", ".", "file:///etc/hostname", "git+file:///"])
def test_an_address_is_a_web_address_and_no_file(address: str) -> None:
    with pytest.raises(InvalidInput, match="is no web address"):
        fleet_rlm.run("q", context=fleet_rlm.Url(address), mode="direct", lm=scripted(str))


async def streamed(**options: Any) -> None:
    async for _ in fleet_rlm.stream("q", **options):
        pass


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda lm: fleet_rlm.run("q", context={"a": "needle"}, lm=lm), "the context is a dict"),
        (lambda lm: fleet_rlm.run("q", context=[{"a": "needle"}], lm=lm), "context 1 is a dict"),
        (lambda lm: fleet_rlm.run("q", context=5, lm=lm), "the context is a int"),
        (lambda lm: fleet_rlm.run("q", context=None, lm=lm), "the context is a NoneType"),
        (lambda lm: fleet_rlm.run("q", context=fleet_rlm.Url(None), lm=lm), "the address of a Url is a NoneType"),
        (lambda lm: fleet_rlm.run("q", home=5, lm=lm), "home is a int"),
        (lambda lm: fleet_rlm.run(None, lm=lm), "the question is a NoneType"),
        (lambda _: fleet_rlm.run("q", lm=5), "the model is a int"),
        (lambda lm: fleet_rlm.run("q", lm=lm, sub_lm=["x"]), "the model is a list"),
        (lambda lm: fleet_rlm.run("q", lm=lm, budget={}), "the budget is a dict"),
        (lambda lm: asyncio.run(fleet_rlm.arun("q", lm=lm, budget=5)), "the budget is a int"),
        (lambda lm: asyncio.run(streamed(lm=lm, context=5)), "the context is a int"),
        (lambda _: fleet_rlm.Session(5), "the session's id is a int"),
        (lambda _: fleet_rlm.replay(None), "the turn's id is a NoneType"),
        (lambda lm: fleet_rlm.resume(5, lm=lm), "the turn's id is a int"),
    ],
)
def test_what_is_of_the_wrong_type_is_refused_in_one_line(call: Any, said: str) -> None:
    with pytest.raises(InvalidInput, match=said) as refused:
        call(scripted(lambda _: field("answer", "x")))
    assert refused.value.hint is not None and "\n" not in str(refused.value)


def test_home_may_be_a_text_and_contexts_any_iterable(tmp_path: Path) -> None:
    lm = scripted(lambda _: field("answer", "x"))
    result = fleet_rlm.run("q", context=(text for text in ("a", "b")), mode="direct", lm=lm, home=str(tmp_path))  # pyright: ignore
    assert result.status == "ok" and "context-2" in lm.engine.prompts[0]
    assert [asked.question for asked in fleet_rlm.Session(result.session, home=tmp_path).history] == ["q"]


def test_arun_lets_the_event_loop_go_on() -> None:
    async def both() -> list[str | None]:
        lm = scripted(lambda _: field("answer", "x"), delay_s=0.2)
        results = await asyncio.gather(*(fleet_rlm.arun("q", mode="direct", lm=lm) for _ in range(2)))
        assert lm.engine.most_in_flight >= 1
        return [result.answer for result in results]

    assert asyncio.run(both()) == ["x", "x"]


class SlowName(str):
    """The name of a model, which takes until `go`: as long is a submit on its way."""

    __slots__ = ("asked", "go")

    def __str__(self) -> str:
        self.asked.set()
        assert self.go.wait(60)
        return str.__str__(self)


@pytest.mark.parametrize("door", ["arun", "stream"])
@pytest.mark.parametrize("late", [False, True], ids=["at once", "after the cancel"])
def test_a_cancel_while_it_is_submitted_leaves_no_turn_running(tmp_path: Path, door: str, late: bool) -> None:
    lm = scripted(lambda _: field("answer", "x"), delay_s=20)
    name = SlowName("test/scripted")
    name.asked, name.go = threading.Event(), threading.Event()
    lm.model = name

    async def work() -> None:
        if door == "arun":
            await fleet_rlm.arun("q", mode="direct", lm=lm, home=tmp_path)
        async for _ in fleet_rlm.stream("q", mode="direct", lm=lm, home=tmp_path):
            pass

    async def cancelled() -> None:
        task = asyncio.create_task(work())
        await asyncio.to_thread(name.asked.wait, 60)
        task.cancel()
        if not late:
            name.go.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        name.go.set()

    asyncio.run(cancelled())
    deadline = time.monotonic() + 15
    while (found := statuses(tmp_path)) != ["cancelled"]:
        assert time.monotonic() < deadline, found
        time.sleep(0.05)


def statuses(home: Path) -> list[str]:
    connection = sqlite3.connect(home / "fleet.db")
    try:
        return [status for (status,) in connection.execute("select status from turns")]
    finally:
        connection.close()


def test_a_result_shows_itself_in_a_notebook_and_its_text_is_only_text() -> None:
    bad = "<script>alert(1)</script>"
    result = fleet_rlm.run(bad, mode="direct", lm=scripted(lambda _: field("answer", f"hello {bad}")))
    shown = result._repr_html_()
    assert "hello &lt;script&gt;" in shown and "<script" not in shown
    assert "ok · 1 run · 1 call" in shown and "price unknown" in shown and result.artifacts == ()


def test_a_session_tells_its_questions_and_keeps_a_memory_that_can_be_edited() -> None:
    prompts: list[str] = []

    def reply(prompt: str) -> str:
        prompts.append(prompt)
        return "Noted."

    session = fleet_rlm.Session()
    assert session.history == () and dict(session.memory) == {} and session.memory.edits == ()
    session.memory["person"] = "Is called Ada."
    session.ask("hello", lm=scripted(reply))
    assert "Is called Ada." in prompts[0], "the agent's prompt has it"
    (first,) = session.history
    assert (first.question, first.answer, first.status) == ("hello", "Noted.", "ok")
    session.memory["notes"] = "x"
    del session.memory["person"]
    assert repr(session.memory) == "Memory({'notes': 'x'})"
    with pytest.raises(KeyError):
        del session.memory["person"]
    session.memory.undo(session.memory.edits[-1].seq)
    assert fleet_rlm.Session(session.id).memory == {"notes": "x", "person": "Is called Ada."}
    with pytest.raises(InvalidInput, match="no name of a block"):
        session.memory["No Such Name"] = "x"
    with pytest.raises(NotFound):
        _ = fleet_rlm.Session("ses_none").history
    with pytest.raises(NotFound):
        _ = dict(fleet_rlm.Session("ses_none").memory)


def test_resume_and_replay_take_what_is_known_from_the_journal() -> None:
    lm = scripted(
        lambda prompt: action("SUBMIT(answer=llm_query('a') + llm_query('b'))") if "interact" in prompt else "x"
    )
    cut = fleet_rlm.run("q", mode="rlm", lm=lm, budget=fleet_rlm.Budget(calls=2))
    assert cut.status == "limit"
    whole = fleet_rlm.resume(cut.turn, lm=lm, budget=fleet_rlm.Budget(calls=9))
    assert (whole.status, whole.answer, whole.session) == ("ok", "xx", cut.session)
    made = len(lm.engine.prompts)
    again = fleet_rlm.replay(whole.turn)
    assert (again.answer, len(lm.engine.prompts)) == ("xx", made)
    assert [asked.turn for asked in fleet_rlm.Session(cut.session).history] == [whole.turn], "one question, resumed"
    with pytest.raises(Conflict):
        fleet_rlm.resume(whole.turn, lm=lm)


FORKING = """
import atexit, os
import fleet_rlm

def ask():
    return fleet_rlm.run("where is the needle?", context="needle", mode="rlm", lm="demo/search").status

assert ask() == "ok"
pid = os.fork()
if not pid:
    try:
        ask()
    except fleet_rlm.FleetError as error:
        print(error, flush=True)
    atexit._run_exitfuncs()
    os._exit(7)  # what has threads of its own in C does not survive the end of a forked interpreter
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
assert ask() == "ok", "the child has ended nothing of its parent's"
"""


def test_a_forked_process_is_told_that_it_cannot_go_on_with_its_parents_workspace() -> None:
    done = subprocess.run([sys.executable, "-c", FORKING], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert "was forked from one that used fleet_rlm" in done.stdout and "spawn" in done.stdout
