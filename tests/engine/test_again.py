"""Resume, replay and fork of whole turns on real sandboxes, with scripted models behind the LM's own interface."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.engine.conftest import events_of
from tests.engine.test_turns import FREE, ask, check_journal
from tests.scripted import action, scripted

from fleet_rlm.errors import Conflict, Denied, InvalidInput, NotFound, TooLarge
from fleet_rlm.runtime.execution import events as ev
from fleet_rlm.runtime.execution.normalised import first_difference
from fleet_rlm.runtime.execution.requests import Change, ForkEdit, Submitted, TurnRequest, TurnResult
from fleet_rlm.runtime.factory import Workspace
from fleet_rlm.runtime.tools.raised import as_info, from_info


def reply(prompt: str) -> str:
    """A parent with four children, each with one sub-call; the parent looks at its budget too."""
    if "Your task:" not in prompt:
        return "seen " + prompt.strip().split()[-1]
    if "child" in prompt.split("Your task:")[-1]:
        if "You have not interacted" in prompt:
            return action("part = llm_query('look at ' + task)\nprint(part)")
        return action("SUBMIT(answer=part.upper())")
    if "You have not interacted" in prompt:
        return action("got = rlm_query_batched([f'child {i}' for i in range(4)])\nprint(got)\nprint(budget())")
    return action("SUBMIT(answer=' '.join(map(str, got)))")


ANSWER = "SEEN 0 SEEN 1 SEEN 2 SEEN 3"


def of_turn(workspace: Workspace, result: TurnResult) -> list[ev.Event]:
    return [event for event in events_of(workspace, result.session) if event.turn == result.turn]


def finished(workspace: Workspace, submitted: Submitted) -> TurnResult:
    return workspace.wait(submitted.turn, timeout=100)


def of_kind(events: list[ev.Event], kind: type) -> list:
    return [event.data for event in events if isinstance(event.data, kind)]


def test_a_replay_makes_no_call_and_gives_the_same_events(workspace: Workspace) -> None:
    lm = scripted(reply)
    first = ask(workspace, "go", mode="rlm", model=lm)
    assert (first.status, first.answer) == ("ok", ANSWER)
    made = len(lm.engine.prompts)
    again = finished(workspace, workspace.replay(first.turn))
    assert (again.status, again.answer, again.usage.calls) == ("ok", first.answer, first.usage.calls)
    assert len(lm.engine.prompts) == made == 14
    assert first_difference(of_turn(workspace, first), of_turn(workspace, again)) is None
    assert all(call.replayed for call in of_kind(of_turn(workspace, again), ev.CallFinished))
    check_journal(events_of(workspace, again.session))
    assert again.session != first.session, "a replay must not stand among the turns of a conversation"
    assert workspace.sessions.get(again.session).title == "Replay: go", "a list of sessions tells them apart"
    assert not workspace.sessions.get(again.session).cost_usd, "it cost nothing"
    of_it = finished(workspace, workspace.replay(again.turn))
    assert first_difference(of_turn(workspace, first), of_turn(workspace, of_it)) is None


def test_a_replay_needs_every_answer(workspace: Workspace) -> None:
    first = ask(workspace, "go", mode="rlm", model=scripted(reply))
    cut = []
    for event in of_turn(workspace, first):
        if isinstance(event.data, ev.CallFinished) and "seen 2" in event.data.response.head:
            continue
        cut.append(event)
    missing = finished(workspace, workspace.replay_events(cut))
    assert (missing.status, missing.error.code) == ("failed", "replay.missing")
    assert "rlm_query_batched" in missing.error.message and "[2]" in missing.error.message
    check_journal(events_of(workspace, missing.session))
    with pytest.raises(InvalidInput, match="no end"):
        workspace.replay_events(cut[:-1])
    with pytest.raises(InvalidInput, match="no turn"):
        workspace.replay_events([])


def test_a_turn_that_met_its_limit_goes_on_with_a_higher_one(workspace: Workspace) -> None:
    lm = scripted(reply)
    cut = ask(workspace, "go", mode="rlm", model=lm, limits=ev.Limits(calls=9, sandboxes=2))
    assert (cut.status, cut.limit) == ("limit", "calls")
    made = len(lm.engine.prompts)
    with pytest.raises(InvalidInput, match="Python object"):
        workspace.resume(cut.turn, ev.Limits(calls=50, sandboxes=2))
    with pytest.raises(InvalidInput, match="would end there again"):
        workspace.resume(cut.turn, lm=lm)
    with pytest.raises(InvalidInput, match="the limit calls must be a whole number, not '50'"):
        workspace.resume(cut.turn, ev.Limits(calls="50"), lm=lm)
    sessions = len(workspace.sessions.list())
    with pytest.raises(InvalidInput, match="the limit children must be a whole number, not 2.5"):
        workspace.fork(cut.turn, ForkEdit(limits=ev.Limits(children=2.5)), lm=lm)
    assert len(workspace.sessions.list()) == sessions
    done = finished(workspace, workspace.resume(cut.turn, ev.Limits(calls=50, sandboxes=2), lm=lm, command="more"))
    assert (done.session, done.status, done.answer) == (cut.session, "ok", ANSWER)
    assert workspace.resume(cut.turn, ev.Limits(calls=50, sandboxes=2), lm=lm, command="more").turn == done.turn
    known = {call.request for call in of_kind(of_turn(workspace, cut), ev.CallStarted)}
    live = [call for call in of_kind(of_turn(workspace, done), ev.CallFinished) if not call.replayed]
    assert len(live) == len(lm.engine.prompts) - made
    asked = {call.id: call.request for call in of_kind(of_turn(workspace, done), ev.CallStarted)}
    assert not known & {asked[call.id] for call in live}, "nothing that was answered is asked again"
    assert len(live) <= 14 - made + 2, "what was missing, a step after a last word, and the parent's, which sees more"
    assert not of_kind(of_turn(workspace, done), ev.Warning)
    assert done.usage.calls == len(lm.engine.prompts), "the whole, the part before included, once"
    check_journal(events_of(workspace, cut.session))
    replayed = finished(workspace, workspace.replay(done.turn))
    assert replayed.answer == ANSWER, replayed.error
    with pytest.raises(Conflict, match="goes on from this one"):
        workspace.resume(cut.turn, ev.Limits(calls=90), lm=lm)
    with pytest.raises(Conflict, match="came to its end"):
        workspace.resume(done.turn, lm=lm)


def test_a_copied_turn_goes_on_from_the_copy_of_what_it_went_on_from(workspace: Workspace) -> None:
    lm = scripted(reply)
    cut = ask(workspace, "go", mode="rlm", model=lm, limits=ev.Limits(calls=9, sandboxes=2))
    done = finished(workspace, workspace.resume(cut.turn, ev.Limits(calls=50, sandboxes=2), lm=lm))
    last = ask(workspace, "once more", session=cut.session, mode="rlm", model=lm)
    forked = finished(workspace, workspace.fork(last.turn, ForkEdit(question="and now?", model=lm)))
    first, second, _ = (event for event in events_of(workspace, forked.session) if event.type == "turn.accepted")
    assert first.turn != cut.turn and second.turn != done.turn
    assert (second.data.origin.session, second.data.origin.turn) == (forked.session, first.turn)
    with pytest.raises(Conflict, match="goes on from this one"):
        workspace.resume(first.turn, ev.Limits(calls=50, sandboxes=2), lm=lm)
    workspace.journal.delete(cut.session)
    assert finished(workspace, workspace.replay(second.turn)).answer == ANSWER


def test_a_fork_with_another_question(workspace: Workspace) -> None:
    lm = scripted(reply)
    ref = workspace.contexts.add_text("notes.txt", "a\nb\n")
    before = ask(workspace, "warm up", mode="rlm", model=lm)
    first = ask(workspace, "go", session=before.session, mode="rlm", model=lm, contexts=(ref,))
    with pytest.raises(InvalidInput, match="Python object"):
        workspace.fork(first.turn, ForkEdit(question="and now?"))
    edit = ForkEdit(question="and now?", model=lm)
    forked = finished(workspace, workspace.fork(first.turn, edit, command="f1"))
    assert workspace.fork(first.turn, edit, command="f1").turn == forked.turn
    assert forked.session != first.session and forked.answer == ANSWER
    events = events_of(workspace, forked.session)
    check_journal(events)
    assert [e.type for e in events[:2]] == ["session.created", "session.forked"]
    turns = of_kind(events, ev.TurnAccepted)
    assert [turn.question for turn in turns] == ["warm up", "and now?"] and turns[1].contexts == [ref]
    assert events[1].data.edit == "question, model" and turns[1].origin.kind == "fork"
    workspace.journal.delete(first.session)
    again = finished(workspace, workspace.replay(forked.turn))
    assert again.answer == forked.answer, "a fork stands without its origin"


def test_a_fork_with_an_edited_cell_goes_on_live_from_there(workspace: Workspace) -> None:
    lm = scripted(reply)
    first = ask(workspace, "go", mode="rlm", model=lm)
    events = of_turn(workspace, first)
    root = next(event.run for event in events if event.type == "run.started")
    cell = next(event.data for event in events if event.type == "cell.started" and event.run == root)
    made = len(lm.engine.prompts)
    code = cell.code.head.replace("range(4)", "range(1, 4)")
    workspace.configure(workspace.settings)
    fork = fork_with(workspace, first, ForkEdit(cell=Change(cell.id, code)), lm)
    assert fork.answer == "SEEN 1 SEEN 2 SEEN 3"
    started = of_kind(of_turn(workspace, fork), ev.CellStarted)
    assert any("range(1, 4)" in each.code.head for each in started)
    live = [call for call in of_kind(of_turn(workspace, fork), ev.CallFinished) if not call.replayed]
    assert 0 < len(live) == len(lm.engine.prompts) - made
    assert not [w for w in of_kind(of_turn(workspace, fork), ev.Warning)], "the difference is meant"
    again = finished(workspace, workspace.replay(fork.turn))
    assert again.answer == fork.answer
    assert first_difference(of_turn(workspace, fork), of_turn(workspace, again)) is None
    with pytest.raises(NotFound, match="no cell"):
        fork_with(workspace, first, ForkEdit(cell=Change("cel_x", "1")), lm)


def fork_with(workspace: Workspace, first: TurnResult, edit: ForkEdit, lm: object) -> TurnResult:
    """The same models again, which here are Python objects."""
    return finished(workspace, workspace.fork(first.turn, edit, lm=lm))


def test_a_fork_with_an_edited_prompt_and_with_an_edited_answer(workspace: Workspace) -> None:
    lm = scripted(reply)
    first = ask(workspace, "go", mode="rlm", model=lm)
    events = of_turn(workspace, first)
    call = next(c for c in of_kind(events, ev.CallStarted) if c.prompt.head.endswith("look at child 2"))
    made = len(lm.engine.prompts)
    fork = fork_with(workspace, first, ForkEdit(prompt=Change(call.id, "look at child 77")), lm)
    assert fork.answer == "SEEN 0 SEEN 1 SEEN 77 SEEN 3"
    assert len(lm.engine.prompts) - made == 3, "the call itself, the child's next step, the parent's next step"
    assert not of_kind(of_turn(workspace, fork), ev.Warning)
    again = finished(workspace, workspace.replay(fork.turn))
    assert (again.status, again.answer) == ("ok", fork.answer)
    made = len(lm.engine.prompts)
    told = fork_with(workspace, first, ForkEdit(answer=Change(call.id, "nothing there")), lm)
    assert told.answer == "SEEN 0 SEEN 1 NOTHING THERE SEEN 3"
    assert len(lm.engine.prompts) - made == 2


def test_a_fork_with_higher_limits_goes_on_where_the_limit_was_met(workspace: Workspace) -> None:
    lm = scripted(reply)
    cut = ask(workspace, "go", mode="rlm", model=lm, limits=ev.Limits(calls=9))
    made = len(lm.engine.prompts)
    fork = fork_with(workspace, cut, ForkEdit(limits=FREE), lm)
    assert fork.answer == ANSWER
    assert len(lm.engine.prompts) < made + 14


def test_cells_that_ask_otherwise_are_told_and_run_live(workspace: Workspace) -> None:
    """A cell whose output is another each time: the answers to what came before it still come from the journal."""

    def chance(prompt: str) -> str:
        if "You have not interacted" in prompt:
            return action("import uuid\nprint(uuid.uuid4())")
        return action("SUBMIT(answer='done')")

    lm = scripted(chance)
    first = ask(workspace, "go", mode="rlm", model=lm)
    fork = fork_with(workspace, first, ForkEdit(), lm)
    assert (fork.status, len(lm.engine.prompts)) == ("ok", 3)
    [warning] = of_kind(of_turn(workspace, fork), ev.Warning)
    assert (warning.code, warning.where) == ("replay.diverged", "root")
    failed = finished(workspace, workspace.replay(first.turn))
    assert (failed.status, failed.error.code) == ("failed", "replay.missing")
    assert len(lm.engine.prompts) == 3


def test_what_a_host_function_raised_is_raised_again(workspace: Workspace) -> None:
    code = (
        "said = []\n"
        "for name in ('../up.txt', 'y.txt'):\n"
        "    try:\n        said.append(save_artifact('x', name)['name'])\n"
        "    except Exception as error:\n        said.append(f'{type(error).__name__}: {error}')\n"
        "SUBMIT(answer=' | '.join(said))"
    )
    first = ask(workspace, "go", mode="rlm", model=scripted(lambda _: action(code)))
    assert first.status == "ok" and first.answer is not None
    assert first.answer.startswith("InvalidInput: ") and "'../up.txt' is no name" in first.answer
    tools = of_kind(of_turn(workspace, first), ev.ToolFinished)
    assert [(tool.status, tool.error and tool.error.code) for tool in tools] == [
        ("failed", "invalid_input"),
        ("ok", None),
    ]
    again = finished(workspace, workspace.replay(first.turn))
    assert (again.status, again.answer) == ("ok", first.answer)
    assert first_difference(of_turn(workspace, first), of_turn(workspace, again)) is None


class Odd(Exception):
    """A library's own."""


@pytest.mark.parametrize(
    "error",
    [InvalidInput("no", hint="do"), TooLarge("much"), Denied("not you"), TypeError("two arguments"), Odd("odd"), KeyError("k")],
)  # fmt: skip
def test_an_exception_keeps_its_class_and_its_words_in_the_journal(error: Exception) -> None:
    again = from_info(as_info(error, str))
    assert type(again).__name__ == type(error).__name__ and str(again).strip("'\"") == str(error).strip("'\"")
    assert isinstance(from_info(None), RuntimeError), "a journal from before says nothing"


def test_children_below_a_run_that_is_not_run_again_still_count(workspace: Workspace) -> None:
    broken = [True]

    def family(prompt: str) -> str:
        task = prompt.split("Your task:")[-1]
        if "leaf" in task:
            return action("SUBMIT(answer='1')")
        if "branch" in task:
            return action("SUBMIT(answer=str(len(rlm_query_batched(['leaf a', 'leaf b']))))")
        if "You have not interacted" in prompt:
            return action("got = rlm_query_batched(['branch a', 'branch b'])\nprint(got)")
        if broken:
            raise ValueError("no answer")
        return action("SUBMIT(answer=str(budget()['children_left']))")

    first = ask(workspace, "go", mode="rlm", model=scripted(family), limits=ev.Limits(children=20, depth=3))
    assert (first.status, first.runs) == ("failed", 7), first
    broken.clear()
    again = finished(workspace, workspace.resume(first.turn, lm=scripted(family)))
    assert (again.status, again.answer) == ("ok", "14"), "six children of twenty, four of them below the two"
    told = [event for event in of_turn(workspace, again) if event.type == "run.started"]
    assert len(told) == 3, "the two and the root"


@pytest.mark.parametrize("kind", ["fork", "replay"])
def test_the_same_command_many_times_at_once_makes_one_session(workspace: Workspace, kind: str) -> None:
    """As a client does that tries again before it has an answer."""
    lm = scripted(lambda _: "hello")
    first = workspace.submit(TurnRequest(question="q", mode="direct", model=lm))
    workspace.wait(first.turn, 60)
    together = threading.Barrier(6)

    def make(_: int) -> Submitted:
        together.wait(30)
        if kind == "replay":
            return workspace.replay(first.turn, command="once")
        return workspace.fork(first.turn, ForkEdit(question="other"), lm=lm, command="once")

    before = len(workspace.sessions.list())
    with ThreadPoolExecutor(6) as pool:
        made = list(pool.map(make, range(6)))
    assert len({(each.session, each.turn, each.seq) for each in made}) == 1
    assert len(workspace.sessions.list()) == before + 1
    assert workspace.wait(made[0].turn, 60).status == "ok"
