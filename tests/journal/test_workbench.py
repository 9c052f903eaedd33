"""The reducer: recorded journals, duplicates, gaps, and any cut that is resumed."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stories import FOLDER, STORIES, state_of
from test_recovery import as_events

from fleet_rlm.runtime.execution import events as ev
from fleet_rlm.runtime.execution.events import EVENT_TYPES, Event
from fleet_rlm.runtime.execution.workbench import Workbench, reduce

JOURNALS = sorted(FOLDER.glob("*.jsonl"))


def read(path: Path) -> list[Event]:
    return [ev.decode_event(line) for line in path.read_bytes().splitlines()]


@pytest.mark.parametrize("path", JOURNALS, ids=lambda path: path.stem)
def test_recorded_journals(path: Path) -> None:
    assert state_of(read(path)) == json.loads(path.with_suffix(".state.json").read_text("utf-8"))


def test_the_stories_are_those_recorded_and_cover_every_event() -> None:
    seen: set[str] = set()
    for make in STORIES:
        assert read(FOLDER / f"{make.__name__}.jsonl") == as_events(make())
        seen |= {draft.data.type for draft in make()}
    assert seen == set(EVENT_TYPES)


def test_the_view_in_words() -> None:
    bench = reduce(Workbench(sid="ses_1"), as_events(STORIES[0]()))
    turn = bench.turns["trn_1"]
    assert (turn.status, turn.limit, turn.runs, bench.title) == (
        "limit",
        "calls",
        ["run_a", "run_b"],
        "A title — with signs",
    )
    assert bench.runs["run_a"].children == ["run_b"] and bench.runs["run_b"].depth == 1
    child = bench.runs["run_b"]
    kinds = ["iteration", "call", "cell", "cell", "artifact", "approval", "approval", "call", "call"]
    assert [step.kind for step in child.steps] == kinds
    assert [(s.start, s.end) for s in child.reads["ab" * 32]] == [(0, 3), (4, 9)]
    assert (child.waiting, bench.approvals["apr_1"].answer, bench.approvals["apr_2"].status) == (
        None,
        "2025",
        "expired",
    )
    assert child.reasoning == ["rea_2"] and "rea_2" not in turn.reasoning
    assert bench.memory == {"persona": "terse"} and [edit.block for edit in bench.memory_edits][1:] == [
        "notes",
        "notes",
    ]
    assert [(p.stream, p.text) for p in bench.cells["cel_2"].output] == [("stdout", "ab"), ("stderr", "oh ‖ 𝄞")]
    assert turn.budget is not None and turn.budget.warned == ["calls"] and turn.budget.exhausted == "calls"
    assert bench.runs["run_a"].usage.cost_usd == 0.75 and bench.messages["msg_1"].text == "answer"
    assert bench.sandboxes["sbx_2"].state == "lost" and [n.level for n in turn.notices] == ["warning", "info", "error"]


@pytest.mark.parametrize(
    "make",
    [
        lambda text: ev.MessageDelta(id="m", text=text),
        lambda text: ev.ReasoningDelta(id="r", text=text),
        lambda text: ev.CellOutput(id="c", stream="stdout", text=text),
    ],
)
def test_a_text_that_grows_is_not_copied_for_each_piece(make: Callable[[str], ev.EventData]) -> None:
    started = ev.MessageStarted(id="m"), ev.ReasoningStarted(id="r"), ev.CellStarted(id="c", code=ev.Text("", 0))
    bench = reduce(Workbench(sid="ses_1"), as_events([ev.Draft(data) for data in started]))
    piece, pieces = "ä" * 2_000, 500
    events = as_events([ev.Draft(data) for data in (*started, *[make(piece)] * pieces)])
    tracemalloc.start()
    try:
        reduce(bench, events)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    grown = {bench.messages["m"].text, bench.messages["r"].text, "".join(p.text for p in bench.cells["c"].output)}
    assert grown == {"", piece * pieces}
    assert peak < 1.5 * len(piece) * pieces, "never the text and a longer copy of it"


def test_a_running_run_counts_its_own_calls_and_an_unknown_price_stays_unknown() -> None:
    drafts = STORIES[3]()
    until = next(n for n, draft in enumerate(drafts) if getattr(draft.data, "id", "") == "cal_2") + 2
    bench = reduce(Workbench(sid="ses_1"), as_events(drafts[:until]))
    assert bench.runs["run_b"].usage == ev.Usage(
        calls=1, prompt_tokens=10, completion_tokens=1, cached_tokens=4, cost_usd=0.5
    )
    unknown = ev.Draft(ev.CallFinished(id="cal_2", status="ok", ms=1), turn="trn_1", run="run_b")
    bench = reduce(Workbench(sid="ses_1"), as_events([*drafts[:until], unknown, drafts[until - 1]]))
    assert bench.runs["run_b"].usage.calls == 3 and bench.runs["run_b"].usage.cost_usd is None


def test_a_gap_ends_the_batch() -> None:
    events = as_events(STORIES[1]())
    bench = reduce(Workbench(sid="ses_1"), [*events[:5], *events[6:]])
    assert bench.seq == 5
    assert msgspec.to_builtins(reduce(bench, events)) == msgspec.to_builtins(reduce(Workbench(sid="ses_1"), events))


@settings(max_examples=150, deadline=None)
@given(story=st.integers(0, len(STORIES) - 1), cuts=st.lists(st.tuples(st.integers(0, 60), st.integers(1, 30), st.booleans()), max_size=25))  # fmt: skip
def test_any_delivery_ends_in_the_same_state(story: int, cuts: list[tuple[int, int, bool]]) -> None:
    """Pieces that overlap, repeat, run ahead or come again after a snapshot; at last the whole."""
    events = as_events(STORIES[story]())
    bench = Workbench(sid="ses_1")
    for start, length, through_snapshot in cuts:
        before = bench.seq
        reduce(bench, events[start : start + length])
        assert bench.seq >= before
        assert msgspec.to_builtins(bench) == msgspec.to_builtins(reduce(Workbench(sid="ses_1"), events[: bench.seq]))
        if through_snapshot:
            bench = msgspec.json.decode(msgspec.json.encode(bench), type=Workbench)
    reduce(bench, events)
    assert msgspec.to_builtins(bench) == msgspec.to_builtins(reduce(Workbench(sid="ses_1"), events))
