"""After a crash every start has its end, children before parents, and the turn says `interrupted`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from opened import Store

from fleet_rlm.runtime.execution import events as ev
from fleet_rlm.runtime.execution.events import Draft, Event, EventData, place
from fleet_rlm.runtime.execution.recovery import close_interrupted, closing_drafts

TEXT = ev.Text(head="x", bytes=1)


def story() -> list[Draft]:
    """A turn with a root, a child, a cell, calls, a message and sandboxes, complete."""

    def at(data: EventData, run: str | None = None, parent: str | None = None, depth: int = 0) -> Draft:
        return Draft(data, turn="trn_1", run=run, parent=parent, depth=depth)

    def call(id: str, cost: float | None) -> ev.CallFinished:
        return ev.CallFinished(
            id=id, status="ok", ms=1, prompt_tokens=10, cached_tokens=4, completion_tokens=1, cost_usd=cost
        )

    def begin(id: str) -> ev.CallStarted:
        return ev.CallStarted(id=id, role="root", model="m", request="h", prompt=TEXT)

    root, child = ("run_a",), ("run_b", "run_a", 1)
    limits = ev.Limits()
    return [
        at(ev.TurnAccepted(question="q", mode="auto", model="m", sub_model="m", limits=limits)),
        at(ev.TurnStarted()),
        at(ev.RunStarted(kind="agent", task="q", signature="s", model="m"), *root),
        at(ev.ReasoningStarted(id="rea_1"), *root),
        at(ev.ReasoningDelta(id="rea_1", text="hm"), *root),
        at(begin("cal_1"), *root),
        at(call("cal_1", 0.25), *root),
        at(ev.ReasoningFinished(id="rea_1", length=2, sha256=""), *root),
        at(ev.ToolStarted(id="too_1", name="delegate", arguments=TEXT), *root),
        at(ev.RunStarted(kind="rlm", task="t", signature="s", model="m"), *child),
        at(ev.SandboxRequested(id="sbx_1", provider="local"), *child),
        at(ev.SandboxReady(id="sbx_1", sandbox="b", provider="local", isolation="namespaces", ms=1), *child),
        at(ev.IterationStarted(id="itr_1", n=1, limit=20), *child),
        at(begin("cal_2"), *child),
        at(call("cal_2", 0.5), *child),
        at(ev.CellStarted(id="cel_1", code=TEXT), *child),
        at(ev.CellOutput(id="cel_1", stream="stdout", text="12345"), *child),
        at(ev.CellFinished(id="cel_1", status="ok", ms=1, output_chars=5, shown=5), *child),
        at(ev.IterationFinished(id="itr_1", n=1, model_ms=1, sandbox_ms=1), *child),
        at(ev.SandboxReleased(id="sbx_1"), *child),
        at(ev.RunFinished(status="ok", usage=ev.Usage(calls=1, cost_usd=0.5)), *child),
        at(ev.ToolFinished(id="too_1", status="ok", ms=1), *root),
        at(ev.MessageStarted(id="msg_1"), *root),
        at(ev.MessageDelta(id="msg_1", text="answer"), *root),
        at(ev.MessageFinished(id="msg_1", length=6, sha256=""), *root),
        at(ev.RunFinished(status="ok", usage=ev.Usage(calls=2, cost_usd=0.75)), *root),
        at(ev.TurnFinished(status="ok", answer="answer", usage=ev.Usage(), runs=2, max_depth_reached=1)),
    ]


def as_events(drafts: list[Draft]) -> list[Event]:
    return [place(draft, epoch="e", sid="ses_1", seq=n, ts=1_000 * n) for n, draft in enumerate(drafts, 1)]


def key(event: Draft | Event) -> tuple[str, str | None]:
    kind = event.data.type.partition(".")[0]
    return kind, event.run if kind == "run" else getattr(event.data, "id", None)


def open_things(drafts: list[Draft]) -> list[tuple[str, str | None]]:
    """What is started and not ended, in order; fails on an end without a start or a parent that ends too early."""
    opened: list[tuple[str, str | None]] = []
    parents: dict[str | None, str | None] = {}
    for draft in drafts:
        verb = draft.data.type.partition(".")[2]
        kind = key(draft)[0]
        if kind in ("turn", "sandbox", "budget", "context", "session"):
            continue
        if verb == "started":
            parents[draft.run] = draft.parent
            opened.append(key(draft))
        elif verb == "finished":
            opened.remove(key(draft))
            if kind == "run":
                below = [k for k in opened if k[0] == "run" and parents.get(k[1]) == draft.run]
                assert not below, f"{draft.run} ended before {below}"
    return opened


@pytest.mark.parametrize("cut", range(1, len(story()) + 1))
def test_any_cut_is_closed(cut: int) -> None:
    before = story()[:cut]
    ends = closing_drafts(as_events(before))
    whole = before + ends
    assert open_things(whole) == []
    assert [draft.data.type for draft in whole].count("turn.finished") == 1
    assert whole[-1].data.type == "turn.finished"
    if cut == len(story()):
        assert ends == []
        return
    end = whole[-1].data
    assert isinstance(end, ev.TurnFinished) and end.status == "interrupted" and end.error is not None
    for draft in ends:
        run = next((d for d in before if d.data.type == "run.started" and d.run == draft.run), None)
        if run is not None:
            assert (draft.parent, draft.depth) == (run.parent, run.depth)


def test_what_was_spent_is_kept_and_a_call_in_flight_makes_the_cost_unknown() -> None:
    drafts = story()
    upto = next(n for n, draft in enumerate(drafts) if draft.data.type == "cell.output") + 1
    ends = closing_drafts(as_events(drafts[:upto]))
    runs = {draft.run: draft.data for draft in ends if isinstance(draft.data, ev.RunFinished)}
    assert list(runs) == ["run_b", "run_a"]
    assert (runs["run_a"].usage.calls, runs["run_a"].usage.cost_usd) == (2, 0.75)
    assert (runs["run_b"].usage.calls, runs["run_b"].usage.cost_usd) == (1, 0.5)
    cell = next(draft.data for draft in ends if isinstance(draft.data, ev.CellFinished))
    assert cell.status == "lost" and cell.output_chars == 5
    assert [d.data.type for d in ends].count("sandbox.lost") == 1
    end = ends[-1].data
    assert isinstance(end, ev.TurnFinished)
    assert (end.usage.calls, end.usage.cost_usd, end.runs, end.max_depth_reached) == (2, 0.75, 2, 1)
    assert end.isolation == "namespaces"
    in_flight = next(n for n, draft in enumerate(drafts) if getattr(draft.data, "id", "") == "cal_2") + 1
    ends = closing_drafts(as_events(drafts[:in_flight]))
    assert all(d.data.usage.cost_usd is None for d in ends if isinstance(d.data, ev.RunFinished | ev.TurnFinished))


def test_a_call_that_waited_for_another_was_not_sent_unless_that_one_ended_without() -> None:
    drafts = story()
    upto = next(n for n, draft in enumerate(drafts) if draft.data.type == "cell.output") + 1

    def asked(id: str, shared: str | None = None) -> Draft:
        data = ev.CallStarted(id=id, role="sub", model="m", request="r", prompt=TEXT, shared=shared)
        return Draft(data, turn="trn_1", run="run_b", parent="run_a", depth=1)

    waiting = [asked("cal_8"), asked("cal_9", "cal_8")]
    ends = closing_drafts(as_events([*drafts[:upto], *waiting]))
    assert isinstance(ends[-1].data, ev.TurnFinished) and ends[-1].data.usage.calls == 2 + 1
    calls = {d.data.id: d.data for d in ends if isinstance(d.data, ev.CallFinished)}
    assert (calls["cal_9"].calls, calls["cal_9"].cost_usd, calls["cal_9"].shared) == (0, 0.0, "cal_8")
    assert (calls["cal_8"].calls, calls["cal_8"].cost_usd) == (1, None)
    off = msgspec.structs.replace(waiting[0], data=ev.CallFinished(id="cal_8", status="cancelled", ms=1))
    ends = closing_drafts(as_events([*drafts[:upto], *waiting, off]))
    (call,) = [d.data for d in ends if isinstance(d.data, ev.CallFinished)]
    assert (call.id, call.calls, call.shared, call.cost_usd) == ("cal_9", 1, None, None)
    whole = [*drafts[:upto], *waiting, off, *ends]
    assert sum(d.data.calls for d in whole if isinstance(d.data, ev.CallFinished)) == ends[-1].data.usage.calls == 4


def resumed_story() -> list[Draft]:
    """A turn that goes on from another: its first call (0.25) comes from the journal, the second (0.5) was sent."""
    drafts = story()
    for n, draft in enumerate(drafts):
        if isinstance(draft.data, ev.TurnAccepted):
            origin = ev.Origin(kind="resume", session="ses_1", turn="trn_0")
            drafts[n] = msgspec.structs.replace(draft, data=msgspec.structs.replace(draft.data, origin=origin))
        elif isinstance(draft.data, ev.CallFinished) and draft.data.id == "cal_1":
            drafts[n] = msgspec.structs.replace(draft, data=msgspec.structs.replace(draft.data, replayed=True))
    return drafts


def test_a_crashed_turn_that_was_resumed_costs_its_session_only_what_it_sent(tmp_path: Path) -> None:
    store = Store(tmp_path / "home")
    sid = store.sessions.create("s").sid
    cut = next(n for n, draft in enumerate(resumed_story()) if draft.data.type == "cell.output")
    drafts = resumed_story()[:cut]
    ends = closing_drafts(as_events(drafts))
    end = ends[-1].data
    assert isinstance(end, ev.TurnFinished) and end.before is not None
    assert (end.usage.calls, end.usage.cost_usd) == (2, 0.75)
    assert (end.before.calls, end.before.cost_usd) == (1, 0.25)
    store.journal.append(sid, [*drafts, *ends], durable=True)
    assert store.sessions.get(sid).cost_usd == 0.5
    store.close()
    assert end.error is not None and end.error.hint is not None and "--resume trn_1" in end.error.hint
    plain = closing_drafts(as_events(story()[:cut]))[-1].data
    assert isinstance(plain, ev.TurnFinished) and plain.before is None


WRITER = """
import sys, time
sys.path.insert(0, sys.argv[2])
from pathlib import Path
import test_recovery
from opened import Store
store = Store(Path(sys.argv[1]))
sid = store.sessions.create("s").sid
store.journal.append(sid, getattr(test_recovery, sys.argv[3])(), durable=True)
print(sid, flush=True)
time.sleep(60)
"""


def cut_story() -> list[Draft]:
    return story()[:16]


def resumed_and_cut() -> list[Draft]:
    """A turn that spent five calls, and one that went on from it: one of its two calls is of those five."""
    accepted = ev.TurnAccepted(question="q", mode="auto", model="m", sub_model="m", limits=ev.Limits())
    usage = ev.Usage(calls=5, prompt_tokens=100, completion_tokens=20, cost_usd=2.0)
    end = ev.TurnFinished(status="interrupted", answer=None, usage=usage, runs=1, max_depth_reached=0)
    return [Draft(accepted, turn="trn_0"), Draft(end, turn="trn_0"), *resumed_story()[:16]]


def writing(home: Path, story: str) -> subprocess.Popen[str]:
    """A process that writes a story and lives on; its word is the session."""
    words = [sys.executable, "-c", WRITER, str(home), str(Path(__file__).parent), story]
    return subprocess.Popen(words, stdout=subprocess.PIPE, text=True)


def test_a_crashed_turn_that_was_resumed_has_spent_what_was_spent_before_it(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with writing(home, "resumed_and_cut") as process:
        assert process.stdout is not None
        sid = process.stdout.readline().strip()
        process.kill()
    store = Store(home)
    assert close_interrupted(store.journal, store.sessions, home) == ["trn_1"]
    end = store.journal.read(sid)[-1].data
    assert isinstance(end, ev.TurnFinished) and end.before is not None
    assert (end.usage.calls, end.usage.prompt_tokens, end.usage.cost_usd) == (6, 110, 2.5)
    assert (end.before.calls, end.before.prompt_tokens, end.before.cost_usd) == (5, 100, 2.0)
    assert store.sessions.get(sid).cost_usd == 2.5
    store.close()


def test_start_up_closes_the_turns_of_a_killed_process_only(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with writing(home, "cut_story") as process:
        assert process.stdout is not None
        sid = process.stdout.readline().strip()
        store = Store(home)
        assert close_interrupted(store.journal, store.sessions, home) == []  # it lives
        process.kill()
    other = Store(home)
    closed = [close_interrupted(s.journal, s.sessions, home) for s in (store, other)]
    assert closed == [["trn_1"], []]
    drafts = [Draft(e.data, e.turn, e.run, e.parent, e.depth) for e in store.journal.read(sid)]
    assert open_things(drafts) == [] and drafts[-1].data.type == "turn.finished"
    assert store.sessions.get_turn("trn_1").status == "interrupted"
    assert store.sessions.get(sid).active_turn is None
    for opened in (store, other):
        opened.close()
