"""A turn that is run again gets the answers of its journal whatever order its threads come in."""

import random
import threading
import time

from tests.engine.test_again import finished, of_kind, of_turn
from tests.engine.test_approvals import Ledger
from tests.engine.test_turns import ask
from tests.scripted import action, scripted

from fleet_rlm.runtime.execution import events as ev
from fleet_rlm.runtime.execution.budget import TreeBudget
from fleet_rlm.runtime.execution.normalised import first_difference
from fleet_rlm.runtime.execution.observer import RunScope, TurnObserver
from fleet_rlm.runtime.execution.paths import ROOT
from fleet_rlm.runtime.execution.record import Past, Record
from fleet_rlm.runtime.execution.replay import Kind, Plan, Replay
from fleet_rlm.runtime.factory import Workspace
from fleet_rlm.runtime.policy import ALWAYS, DENY, ONCE

CHILD = f"{ROOT}/c1.rlm_query:1"


def text(value: str) -> ev.Text:
    return ev.Text(head=value, bytes=len(value))


def called(id: str, place: str) -> list[ev.EventData]:
    asked = ev.CallStarted(id=id, role="sub", model="m", request="same", prompt=text("p"), place=place)
    return [asked, ev.CallFinished(id=id, status="ok", ms=1, response=text(id), record=text("{}"))]


def asked(id: str, answer: str, question: str = "May it?", kind: ev.ApprovalKind = "tool") -> list[ev.EventData]:
    return [
        ev.ApprovalRequested(id=id, kind=kind, question=question),
        ev.ApprovalResolved(id=id, status="answered", answer=answer),
    ]


def replay_of(*runs: tuple[str, list[ev.EventData]], kind: Kind = "resume") -> tuple[Replay, dict[str, RunScope]]:
    """The replay of a turn whose runs (by path) did this, one after another; and scopes for the same runs."""
    budget, ledger = TreeBudget(ev.Limits()), Ledger()
    drafts: list[tuple[str, ev.EventData]] = []
    for path, events in runs:
        begun = ev.RunStarted(kind="rlm", task="t", signature="s", model="m", path=path)
        drafts += [(path, data) for data in ([] if any(p == path for p, _ in drafts) else [begun]) + events]
    told = [
        ev.Event(type=data.type, epoch="e", seq=n, ts=n, sid="s", turn="t", run=path, parent=None, depth=0, data=data)
        for n, (path, data) in enumerate(drafts, 1)
    ]
    observer = TurnObserver(ledger, ledger, sid="s", turn="t", redact=str)
    replay = Replay(Plan(kind, Record.read([Past(told)])), budget, observer, lambda each: each.head)
    root = budget.root()
    return replay, {path: RunScope(id=path, lease=root, path=path) for path, _ in runs}


def test_each_item_gets_the_answer_of_its_own_place() -> None:
    calls = [data for place in ("1.2", "1.0", "2", "1.1") for data in called(f"cal_{place}", place)]
    for order in (["1.0", "1.1", "1.2", "2"], ["2", "1.2", "1.1", "1.0"]):
        replay, scopes = replay_of((ROOT, calls))
        got = [replay.call(scopes[ROOT], "same", place) for place in order]
        assert [call.started.id for call in got] == [f"cal_{place}" for place in order]


def test_what_is_asked_in_another_place_is_not_asked_again_either() -> None:
    replay, scopes = replay_of((ROOT, [*called("cal_a", "1"), *called("cal_b", "2")]))
    got = [replay.call(scopes[ROOT], "same", place) for place in ("2", "3", "4")]
    assert [call and call.started.id for call in got] == ["cal_b", "cal_a", None]


def test_a_journal_that_tells_no_places_is_read_in_its_order() -> None:
    replay, scopes = replay_of((ROOT, [*called("cal_a", ""), *called("cal_b", "")]))
    got = [replay.call(scopes[ROOT], "same", place) for place in ("1.0", "1.1", "1.2")]
    assert [call and call.started.id for call in got] == ["cal_a", "cal_b", None]


def test_a_policys_answer_counts_for_whichever_run_comes_first_and_once() -> None:
    replay, scopes = replay_of((ROOT, asked("apr_1", ONCE)), (CHILD, asked("apr_2", DENY)))
    first = replay.approval(scopes[CHILD], "tool", "May it?")
    second = replay.approval(scopes[CHILD], "tool", "May it?")
    third = replay.approval(scopes[ROOT], "tool", "May it?")
    assert (first and first.answer, second and second.answer, third) == (DENY, ONCE, None)


def test_a_question_of_a_run_is_answered_to_that_run_alone() -> None:
    runs = (ROOT, asked("apr_1", "2026", "Which year?", "question")), (CHILD, [])
    replay, scopes = replay_of(*runs)
    assert replay.approval(scopes[CHILD], "question", "Which year?") is None
    known = replay.approval(scopes[ROOT], "question", "Which year?")
    assert known is not None and known.answer == "2026"


def test_leave_that_was_used_in_a_run_that_is_not_run_again_is_used() -> None:
    below = f"{CHILD}/c1.rlm_query:2"
    end = ev.RunFinished(status="ok", usage=ev.Usage(), output=text("x"))
    replay, scopes = replay_of((ROOT, []), (CHILD, [end]), (below, asked("apr_1", ONCE)))
    run = replay.whole(CHILD, "m")
    assert run is not None
    replay.kept(run)
    assert replay.approval(scopes[ROOT], "tool", "May it?") is None


def test_what_was_said_about_money_is_known() -> None:
    said = [
        *asked("apr_1", ONCE, "This turn has cost $1.2000. May it go on?", "cost"),
        *asked("apr_2", ALWAYS, "This turn has cost an unknown amount. May it go on?", "cost"),
    ]
    replay, scopes = replay_of((ROOT, said))
    assert [answer for _, answer in replay.allowed_costs()] == [ONCE, ALWAYS]
    assert replay.approval(scopes[ROOT], "cost", "This turn has cost $1.2000. May it go on?") is None, "it is up"


def test_a_vote_of_many_is_counted_the_same_when_it_is_replayed(workspace: Workspace) -> None:
    """Ten equal prompts that ask for chance, in a batch and in a loop that goes side by side by itself."""
    code = (
        "batch = llm_query_batched(['vote'] * 10)\nloop = [llm_query('vote') for _ in range(10)]\n"
        "SUBMIT(answer=' '.join(batch + loop))"
    )
    count, lock = iter(range(1000)), threading.Lock()

    def reply(prompt: str) -> str:
        if "Your task:" in prompt:
            return action(code)
        time.sleep(random.random() / 20)
        with lock:
            return f"v{next(count)}"

    first = ask(workspace, "go", mode="rlm", model=scripted(reply), sub_model=scripted(reply, temperature=0.8))
    assert first.status == "ok" and len(set((first.answer or "").split())) == 20
    for _ in range(3):
        again = finished(workspace, workspace.replay(first.turn))
        assert (again.status, again.answer) == ("ok", first.answer)
        assert first_difference(of_turn(workspace, first), of_turn(workspace, again)) is None
    places = [call.place for call in of_kind(of_turn(workspace, first), ev.CallStarted) if call.role == "sub"]
    assert len(set(places)) == 20
