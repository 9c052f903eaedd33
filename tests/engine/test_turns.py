"""Whole turns on real sandboxes, with scripted models behind the LM's own interface."""

import itertools
import re
import threading
import time
from collections import Counter

import pytest
from tests.engine.conftest import events_of
from tests.scripted import action, field, scripted

from fleet_rlm.errors import Conflict, InvalidInput, NotConfigured, NotFound
from fleet_rlm.runtime.execution import events as ev
from fleet_rlm.runtime.execution.events import Limits
from fleet_rlm.runtime.execution.requests import TurnRequest, TurnResult
from fleet_rlm.runtime.factory import Workspace

FREE = Limits()


def ask(workspace: Workspace, question: str = "what?", **options: object) -> TurnResult:
    options.setdefault("limits", FREE)
    submitted = workspace.submit(TurnRequest(question=question, **options))
    return workspace.wait(submitted.turn, timeout=100)


def check_journal(events: list[ev.Event]) -> None:
    """The rules of the journal: no gaps, every start has one end, children end before their parents."""
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    ends: Counter[tuple[str, str]] = Counter()
    open_runs: set[str] = set()
    for event in events:
        kind, _, step = event.type.rpartition(".")
        if kind in ("run", "turn"):
            key = (kind, event.run if kind == "run" else event.turn)
        elif hasattr(event.data, "id"):
            key = (kind, event.data.id)
        else:
            continue
        if step == "started":
            ends[key] += 1
        if step == "finished":
            ends[key] -= 1
        if event.type == "run.started":
            open_runs.add(event.run)
            assert event.parent is None or event.parent in open_runs
        if event.type == "run.finished":
            open_runs.discard(event.run)
            assert not any(e.parent == event.run and e.run in open_runs for e in events if e.type == "run.started")
    assert not +ends and not -ends


def task_of(prompt: str) -> str:
    return re.search(r"Preview:\s*```\s*(.*?)\s*```", prompt, re.DOTALL)[1]


def test_an_rlm_answers_from_a_context(workspace: Workspace) -> None:
    def reply(prompt: str) -> str:
        if "You have not interacted" in prompt:
            return action("hits = grep('needle')\nprint(hits)")
        return action("SUBMIT(answer=f'found at {hits[0].path}:{hits[0].line}')")

    text = "hay\n" * 5000 + "the needle is blue\n" + "hay\n" * 5000
    ref = workspace.contexts.add_text("stack.txt", text)
    lm = scripted(reply)
    result = ask(workspace, "where is it?", contexts=(ref,), mode="rlm", model=lm)
    assert (result.status, result.answer) == ("ok", "found at stack.txt:5001")
    assert result.citations[0].quote == "the needle is blue"
    assert (result.runs, result.usage.calls, result.max_depth_reached) == (1, 2, 0)
    assert result.sandbox.provider == "local" and result.sandbox.isolation == "namespaces"
    assert max(prompt.count("hay") for prompt in lm.engine.prompts) < 100, "only a prefix may enter a prompt"
    check_journal(events_of(workspace, result.session))


def test_two_contexts_of_one_name_are_both_there_and_cited_by_names_of_their_own(workspace: Workspace) -> None:
    def reply(prompt: str) -> str:
        if "count one" in task_of(prompt):
            return action("SUBMIT(answer=context.path)")
        return action(
            "places = [f'{hit.path}:{hit.line}' for hit in grep('host', context)]\n"
            "below = rlm_query('count one', context=context['log.txt (2)'][0:4])\n"
            "listed = [f['path'] for f in context_info()['context']['files']]\n"
            "SUBMIT(answer=' and '.join(places) + f' {list(context)} {below} {listed}')"
        )

    first = workspace.contexts.add_text("log.txt", "alpha host failed")
    second = workspace.contexts.add_text("log.txt", "beta host broke")
    names = "['log.txt', 'log.txt (2)']"
    given = (first, second, first)
    result = ask(workspace, contexts=given, mode="rlm", model=scripted(reply))
    assert result.answer == f"log.txt:1 and log.txt (2):1 {names} log.txt (2) {names}"
    cited = [(place.context, place.path, place.quote) for place in result.citations]
    assert cited == [
        ("log.txt", "log.txt", "alpha host failed"),
        ("log.txt (2)", "log.txt (2)", "beta host broke"),
    ]
    assert sorted(each.name for each in result.coverage) == ["log.txt", "log.txt (2)"]
    replayed = workspace.wait(workspace.replay(result.turn).turn, timeout=100)
    assert (replayed.status, replayed.answer, replayed.citations) == ("ok", result.answer, result.citations)


def test_a_turn_that_goes_on_from_another_keeps_the_names_that_its_journal_has(workspace: Workspace) -> None:
    """Journals of before turns gave their contexts names of their own hold two of one name."""
    twice = tuple(workspace.contexts.add_text("log.txt", text) for text in ("one", "two"))
    lm = scripted(lambda prompt: field("answer", "x"))
    first = ask(workspace, contexts=twice, mode="direct", model=lm)
    origin = ev.Origin(kind="fork", session=first.session, turn=first.turn)
    later = ask(workspace, contexts=twice, mode="direct", model=lm, origin=origin)
    names = [
        [ref.name for ref in event.data.contexts]
        for result in (first, later)
        for event in events_of(workspace, result.session)
        if event.type == "turn.accepted"
    ]
    assert names == [["log.txt", "log.txt (2)"], ["log.txt", "log.txt"]]


def test_children_work_side_by_side_in_their_own_sandboxes(workspace: Workspace) -> None:
    def reply(prompt: str) -> str:
        if "count one" in task_of(prompt):
            return action("SUBMIT(answer=str(context.count('x')) + ' ' + context.path + ':' + str(context.line))")
        return action(
            "print(1)\nparts = chunks(context, len(context) // 8)\n"
            "SUBMIT(answer=' | '.join(rlm_query_batched('count one', contexts=parts)))"
        )

    text = "".join(f"{'x' * n}\n" for n in range(400))
    ref = workspace.contexts.add_text("many.txt", text)
    result = ask(workspace, "count all", contexts=(ref,), mode="rlm", model=scripted(reply))
    assert result.status == "ok", result
    parts = result.answer.split(" | ")
    assert sum(int(part.split()[0]) for part in parts) == text.count("x")
    assert parts[0].endswith("many.txt:1") and result.runs == 1 + len(parts) and len(parts) >= 8
    events = events_of(workspace, result.session)
    check_journal(events)
    ready = [event for event in events if event.type == "sandbox.ready"]
    assert len({event.data.sandbox for event in ready}) == len(parts) + 1
    sites = [e.data.site for e in events if e.type == "run.started" and e.data.site]
    assert sorted(site.index for site in sites) == list(range(len(parts))) and sites[0].of == len(parts)


def test_64_children_at_depth_2(workspace: Workspace) -> None:
    def reply(prompt: str) -> str:
        if "one of many" in task_of(prompt):
            if "You have not interacted" in prompt:
                return action("half = 21")
            return action("SUBMIT(answer=str(half * 2))")
        return action(
            "got = rlm_query_batched([f'one of many {i}' for i in range(64)])\nSUBMIT(answer=str(len(got)) + got[63])"
        )

    result = ask(workspace, "fan out", mode="rlm", model=scripted(reply))
    assert (result.status, result.answer, result.runs) == ("ok", "6442", 65)
    assert result.usage.calls == 129
    check_journal(events_of(workspace, result.session))


def test_the_call_limit_holds_for_64_hungry_children(workspace: Workspace) -> None:
    def reply(prompt: str) -> str:
        if "hungry" in task_of(prompt):
            if "extract the final outputs" in prompt:
                return field("answer", "a guess")
            return action("print('thinking')")
        if "extract the final outputs" in prompt:
            return field("answer", "some children were cut short")
        return action(
            "got = rlm_query_batched(['hungry'] * 64)\nprint([str(g) for g in got if g], sum(not g for g in got))"
        )

    lm = scripted(reply, delay_s=0.01)
    result = ask(workspace, "feed them", mode="rlm", model=lm, limits=Limits(calls=20))
    assert len(lm.engine.prompts) <= 20 and result.usage.calls == len(lm.engine.prompts)
    assert (result.status, result.limit) == ("limit", "calls")
    assert "limit was reached" in result.answer and "some children were cut short" in result.answer
    check_journal(events_of(workspace, result.session))


def test_a_turn_of_one_call_makes_it(workspace: Workspace) -> None:
    found, limits = scripted(lambda _: action("SUBMIT(answer='at once')")), Limits(calls=1)
    result = ask(workspace, "q", mode="rlm", model=found, limits=limits)
    assert (result.status, result.answer, result.usage.calls) == ("ok", "at once", 1)
    begun = scripted(lambda _: action("answer = 'half way'"))
    result = ask(workspace, "q", mode="rlm", model=begun, limits=limits)
    assert (result.status, result.limit, result.usage.calls) == ("limit", "calls", 1)
    assert result.answer is not None and "half way" in result.answer
    check_journal(events_of(workspace, result.session))


def test_the_time_limit_cuts_a_cell(workspace: Workspace) -> None:
    def reply(prompt: str) -> str:
        if "extract the final outputs" in prompt:
            return field("answer", "late")
        return action(
            "answer = 'half way'\nprint(answer)"
            if "You have not interacted" in prompt
            else "import time; time.sleep(60)"
        )

    began = time.monotonic()
    result = ask(workspace, "slow", mode="rlm", model=scripted(reply), limits=Limits(wall_s=3))
    assert time.monotonic() - began < 15
    assert (result.status, result.limit) == ("limit", "wall")
    check_journal(events_of(workspace, result.session))


def test_cancel_ends_every_sandbox(workspace: Workspace) -> None:
    started = threading.Event()

    def reply(prompt: str) -> str:
        if "sleep" in task_of(prompt):
            started.set()
            return action("import time; time.sleep(100)")
        return action("rlm_query_batched(['sleep'] * 8)")

    submitted = workspace.submit(TurnRequest(question="go", mode="rlm", model=scripted(reply), limits=FREE))
    assert started.wait(60)
    time.sleep(0.5)
    assert workspace.cancel(submitted.turn)
    result = workspace.wait(submitted.turn, timeout=20)
    assert result.status == "cancelled"
    check_journal(events_of(workspace, result.session))
    deadline = time.monotonic() + 10
    while workspace.sandboxes.list({"fleet.turn": submitted.turn}) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not workspace.sandboxes.list({"fleet.turn": submitted.turn})


@pytest.mark.parametrize("after_s", [0.0, 0.05, 0.15, 0.3, 0.6])
def test_a_cancel_at_any_moment_leaves_an_orderly_journal(workspace: Workspace, after_s: float) -> None:
    step = itertools.count()  # a run that repeats itself is ended, and this one must not end by itself

    def reply(prompt: str) -> str:
        if "work" in task_of(prompt):
            return action(f"print(llm_query('a'), {next(step)})\nx = llm_query_batched(['b', 'c'])")
        return action(f"rlm_query_batched(['work'] * 12)\nprint({next(step)})")

    root, sub = scripted(reply), scripted(lambda _: "fine", delay_s=0.05)
    submitted = workspace.submit(TurnRequest(question="go", mode="rlm", model=root, sub_model=sub, limits=FREE))
    time.sleep(after_s)
    workspace.cancel(submitted.turn)
    assert workspace.wait(submitted.turn, timeout=30).status == "cancelled"
    events = events_of(workspace, submitted.session)
    check_journal(events)
    assert events[-1].type == "turn.finished"


def test_a_failed_item_is_false_and_says_why(workspace: Workspace) -> None:
    def reply(prompt: str) -> str:
        if "bad" in task_of(prompt):
            raise RuntimeError("the provider broke")
        if "good" in task_of(prompt):
            return action("SUBMIT(answer='fine')")
        return action(
            "good, bad = rlm_query_batched(['good', 'bad'])\nSUBMIT(answer=f'{good} {bool(bad)} {bad.error}')"
        )

    result = ask(workspace, "mixed", mode="rlm", model=scripted(reply))
    assert result.status == "ok", result
    assert result.answer.startswith("fine False model")


def test_typed_child_results(workspace: Workspace) -> None:
    def reply(prompt: str) -> str:
        if "numbers" in task_of(prompt):
            return action("SUBMIT(answer=[1, 2, 3])")
        return action("SUBMIT(answer=str(sum(rlm_query('numbers', schema='list[int]'))))")

    assert ask(workspace, "sum", mode="rlm", model=scripted(reply)).answer == "6"


def test_sub_calls_go_to_the_sub_model(workspace: Workspace) -> None:
    root = scripted(lambda _: action("SUBMIT(answer=llm_query('ping') + ''.join(llm_query_batched(['a', 'b'])))"))
    sub = scripted(lambda prompt: prompt.strip()[-4:].upper())
    result = ask(workspace, "q", mode="rlm", model=root, sub_model=sub)
    assert result.answer == "PINGAB" and len(sub.engine.prompts) == 3
    roles = [e.data.role for e in events_of(workspace, result.session) if e.type == "call.started"]
    assert roles.count("sub") == 3 and roles.count("root") == 1


def test_depth_1_offers_plain_calls_only(workspace: Workspace) -> None:
    lm = scripted(
        lambda _: action(
            "SUBMIT(answer=f\"{'rlm_query' in globals()} {'llm_query' in globals()} {budget()['depth_left']}\")"
        )
    )
    assert ask(workspace, "q", mode="rlm", model=lm, limits=Limits(depth=1)).answer == "False True 1"
    assert ask(workspace, "q", mode="rlm", model=lm, limits=Limits(depth=0)).answer == "False False 0"


def test_a_child_cannot_reach_a_context_that_was_not_given(workspace: Workspace) -> None:
    secret = workspace.contexts.add_text("secret.txt", "the password is swordfish")
    code = f"import os\ngot = rlm_query('steal', context={{'$context': '{secret.sha256}'}})\n"

    def reply(prompt: str) -> str:
        if "You have not interacted" in prompt:
            return action(code)
        return action("SUBMIT(answer=prompt_tail)" if False else "SUBMIT(answer='refused')")

    result = ask(workspace, "q", mode="rlm", model=scripted(reply))
    text = " ".join(str(e.data) for e in events_of(workspace, result.session))
    assert result.answer == "refused" and "swordfish" not in text and "not yours" in text


def test_the_agent_answers_in_plain_text(workspace: Workspace) -> None:
    result = ask(workspace, "hello", mode="auto", model=scripted(lambda _: "Hello there."))
    assert (result.status, result.answer, result.usage.calls) == ("ok", "Hello there.", 1)
    assert result.sandbox.provider is None


def test_direct_mode_reads_the_documents(workspace: Workspace) -> None:
    ref = workspace.contexts.add_text("note.txt", "the colour is teal")
    lm = scripted(lambda prompt: field("answer", "teal" if "the colour is teal" in prompt else "no idea"))
    assert ask(workspace, "colour?", contexts=(ref,), mode="direct", model=lm).answer == "teal"


def test_a_session_remembers_earlier_turns(workspace: Workspace) -> None:
    lm = scripted(lambda prompt: "You said: my name is Ada" if "my name is Ada" in prompt else "Noted.")
    first = ask(workspace, "my name is Ada", model=lm)
    second = ask(workspace, "what is my name?", model=lm, session=first.session)
    assert second.session == first.session and "Ada" in second.answer
    other = ask(workspace, "what is my name?", model=lm)
    assert "Ada" not in other.answer


def test_one_turn_at_a_time_and_idempotent_commands(workspace: Workspace) -> None:
    lm = scripted(lambda _: "slow answer", delay_s=1.5)
    session = workspace.sessions.create("busy").sid
    first = workspace.submit(TurnRequest(question="a", session=session, model=lm, command="c1", limits=FREE))
    again = workspace.submit(TurnRequest(question="a", session=session, model=lm, command="c1", limits=FREE))
    assert again == first
    with pytest.raises(Conflict):
        workspace.submit(TurnRequest(question="b", session=session, model=lm, command="c2", limits=FREE))
    workspace.wait(first.turn, 30)
    assert workspace.submit(TurnRequest(question="a", session=session, model=lm, command="c1", limits=FREE)) == first


@pytest.mark.parametrize(
    ("given", "kept"), [("half \ud83d", "half \ufffd"), ("two halves \ud83d\ude00", "two halves \N{GRINNING FACE}")]
)
def test_an_answer_with_half_a_surrogate_pair_is_text(given: str, kept: str, workspace: Workspace) -> None:
    """As of a server that splits an emoji over two pieces. What the journal says of it, the result says too."""
    result = ask(workspace, mode="direct", model=scripted(lambda _: given))
    assert (result.status, result.answer) == ("ok", kept)
    assert events_of(workspace, result.session)[-1].data.answer == kept


def test_what_is_asked_must_be_text(workspace: Workspace) -> None:
    model, before = scripted(lambda _: "yes"), len(workspace.sessions.list())
    for fields in ({"question": "\udcff needle"}, {"question": "q", "title": "\ud800"}):
        with pytest.raises(InvalidInput, match=r"the (question|title) holds half of a surrogate pair"):
            ask(workspace, mode="direct", model=model, **fields)
    with pytest.raises(InvalidInput, match="surrogate pair"):
        workspace.sessions.get("ses_\udcff")
    assert len(workspace.sessions.list()) == before


def test_bad_requests_are_refused_before_anything_happens(workspace: Workspace) -> None:
    before = len(workspace.sessions.list())
    with pytest.raises(InvalidInput, match="question is empty"):
        workspace.submit(TurnRequest(question="  "))
    with pytest.raises(NotConfigured):
        workspace.submit(TurnRequest(question="q"))
    with pytest.raises(InvalidInput, match="unknown model"):
        workspace.submit(TurnRequest(question="q", model="nonsense/x"))
    with pytest.raises(NotFound):
        workspace.submit(TurnRequest(question="q", session="ses_nope", model=scripted(str)))
    for wrong, said in (
        ({"limits": Limits(tokens=True)}, "the limit tokens must be a whole number, not True"),
        ({"mode": "x"}, "the mode must be one of auto, rlm, direct, not 'x'"),
        ({"contexts": ("a.log",)}, "a turn's contexts are handles, not 'a.log'"),
        ({"command": 5}, "this turn could not be read back: .* `\\$.command"),
    ):
        with pytest.raises(InvalidInput, match=said):
            workspace.submit(TurnRequest(question="q", model=scripted(str), **{"limits": FREE, **wrong}))
    assert len(workspace.sessions.list()) == before


def test_a_broken_model_is_a_failed_turn_with_one_line(workspace: Workspace) -> None:
    def reply(_: str) -> str:
        raise ConnectionError("refused")

    result = ask(workspace, "q", mode="auto", model=scripted(reply))
    assert result.status == "failed" and result.error is not None
    assert "\n" not in result.error.message and result.answer is None
    check_journal(events_of(workspace, result.session))


@pytest.mark.parametrize(
    ("code", "tokens"),
    [
        ("[llm_query(f'item {i}') for i in range(64)]", 40_000),
        ("llm_query_batched([f'item {i}' for i in range(64)])", 40_000),
        ("rlm_query_batched([f'child {i}' for i in range(20)])", 100_000),
    ],
)
def test_tokens_that_are_only_promised_are_no_limit(workspace: Workspace, code: str, tokens: int) -> None:
    """Each call is promised the longest answer that it may give; all of them together use a tenth of the limit."""

    def reply(prompt: str) -> str:
        if "[[ ## variables_info ## ]]" not in prompt:
            return "fine"
        child = task_of(prompt).startswith("child")
        return action("SUBMIT(answer='c')" if child else f"SUBMIT(answer=str(sum(bool(each) for each in {code})))")

    result = ask(workspace, mode="rlm", model=scripted(reply, delay_s=0.2), limits=Limits(tokens=tokens))
    assert (result.status, result.answer) == ("ok", "64" if tokens == 40_000 else "20"), result.usage
