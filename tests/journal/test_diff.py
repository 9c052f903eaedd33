"""The difference of two turns, from events alone."""

from __future__ import annotations

from fleet_rlm.cli.difference import lines_of
from fleet_rlm.runtime.execution import events as ev
from fleet_rlm.runtime.execution.diff import MAX_TEXT_CHARS, TurnDiff, turn_diff


def text(value: str) -> ev.Text:
    return ev.Text(head=value, bytes=len(value))


def turn(
    name: str, runs: list[tuple[str, str, list[str], str | None]], *, answer: str | None, **more
) -> list[ev.Event]:
    """A turn of runs (path, task, cells, output); answer None: it still runs. `whole`: paths taken from a journal."""
    datas: list[tuple[str | None, ev.EventData]] = [
        (None, ev.TurnAccepted(question="why?", mode="rlm", model="m/1", sub_model="m/1", limits=ev.Limits()))
    ]
    for number, (path, task, cells, output) in enumerate(runs):
        run = f"run_{name}{number}"
        model = more.get("model", "m/1")
        datas.append((run, ev.RunStarted(kind="rlm", task=task, signature="", model=model, path=path)))
        datas += [(run, ev.CellStarted(id=f"cel_{number}{at}", code=text(code))) for at, code in enumerate(cells)]
        if output is not None:
            whole = path in more.get("whole", ())
            end = ev.RunFinished(status="ok", usage=ev.Usage(calls=2), output=text(output), replayed=whole)
            datas.append((run, end))
    if answer is not None:
        usage = ev.Usage(calls=more.get("calls", 3), cost_usd=0.5)
        datas.append((None, ev.TurnFinished(status="ok", answer=answer, usage=usage, runs=1, max_depth_reached=0)))
    drafts = [ev.Draft(data, turn=f"trn_{name}", run=run) for run, data in datas]
    return [ev.place(draft, epoch="e", sid=f"ses_{name}", seq=seq, ts=seq) for seq, draft in enumerate(drafts, 1)]


def compared(a: list[ev.Event], b: list[ev.Event]) -> TurnDiff:
    return turn_diff(a, b, lambda value: value.head)


def changes(diff: TurnDiff) -> dict[str, str]:
    return {pair.path: pair.change for pair in diff.runs}


CHILD = "root/c1.rlm_query_batched:0123abcd[{}]"


def test_equal_turns_have_no_difference() -> None:
    runs = [("root", "why?", ["x = 1"], "2"), (CHILD.format(0), "a", ["y"], "1")]
    diff = compared(turn("a", runs, answer="2"), turn("b", runs, answer="2"))
    assert changes(diff) == {"root": "same", "root/c1.rlm_query_batched[0]": "same"}
    assert (diff.a.turn, diff.b.session, diff.b.status, diff.a.usage.cost_usd) == ("trn_a", "ses_b", "ok", 0.5)
    assert "runs: 0 different, 2 the same" in list(lines_of(diff))


def test_runs_stand_for_each_other_by_their_place_without_the_hash() -> None:
    """Other words at the same place, below a parent with other words; one more there, one gone elsewhere."""
    one = [
        ("root", "why?", ["x = 1", "y"], "2"),
        ("root/c1.rlm_query:aaaaaaaa", "old words", ["z"], "3"),
        ("root/c1.rlm_query:aaaaaaaa/c1.rlm_query:cccccccc", "deep", [], "4"),
        ("root/c2.rlm_query:dddddddd", "gone", [], "5"),
    ]
    two = [
        ("root", "why?", ["x = 1", "y"], "2"),
        ("root/c1.rlm_query:bbbbbbbb", "new words", ["z"], "3"),
        ("root/c1.rlm_query:bbbbbbbb/c1.rlm_query:cccccccc", "deep", [], "4"),
        ("root/c1.rlm_query:eeeeeeee", "another", [], "6"),
        ("root/c1.rlm_query:eeeeeeee#1", "another", [], "6"),
    ]
    diff = compared(turn("a", one, answer="2"), turn("b", two, answer="3", calls=9))
    assert changes(diff) == {
        "root": "same",
        "root/c1.rlm_query": "changed",
        "root/c1.rlm_query/c1.rlm_query": "same",
        "root/c2.rlm_query": "removed",
        "root/c1.rlm_query~2": "added",
        "root/c1.rlm_query#1": "added",
    }
    lines = list(lines_of(diff))
    assert "  calls      3 -> 9" in lines and "  cost       $0.5000" in lines
    assert lines.index("answer:") < lines.index("  -2") < lines.index("  +3")
    assert "      -old words" in lines and "- root/c2.rlm_query  gone" in lines


def test_the_same_words_stand_for_each_other_first() -> None:
    a = [("root", "q", [], "1"), ("root/c1.f:aaaaaaaa", "one", [], "1"), ("root/c1.f:bbbbbbbb", "two", [], "2")]
    b = [("root", "q", [], "1"), ("root/c1.f:bbbbbbbb", "two", [], "2"), ("root/c1.f:cccccccc", "three", [], "3")]
    diff = compared(turn("a", a, answer="1"), turn("b", b, answer="1"))
    found = [(pair.change, pair.a and pair.a.task, pair.b and pair.b.task) for pair in diff.runs]
    assert found == [("same", "q", "q"), ("changed", "one", "three"), ("same", "two", "two")]


def test_code_status_and_model_make_a_change() -> None:
    base = [("root", "q", ["x = 1"], "1")]
    for other in (
        turn("b", [("root", "q", ["x = 2"], "1")], answer="1"),
        turn("b", [("root", "q", ["x = 1", "more"], "1")], answer="1"),
        turn("b", base, answer="1", model="m/2"),
        turn("b", [("root", "q", ["x = 1"], None)], answer=None),
    ):
        assert changes(compared(turn("a", base, answer="1"), other)) == {"root": "changed"}
    assert compared(turn("a", base, answer="1"), other).b.status == "running"


def test_a_run_taken_whole_from_a_journal_is_the_same_without_its_cells() -> None:
    below = "root/c1.f:aaaaaaaa/c1.g:bbbbbbbb"
    a = [("root", "q", ["x"], "1"), ("root/c1.f:aaaaaaaa", "t", ["y"], "2"), (below, "deep", ["z"], "3")]
    b = [("root", "q", ["x"], "1"), ("root/c1.f:aaaaaaaa", "t", [], "2")]
    diff = compared(turn("a", a, answer="1"), turn("b", b, answer="1", whole=["root/c1.f:aaaaaaaa"]))
    assert changes(diff) == {"root": "same", "root/c1.f": "same"}


def test_long_texts_are_cut_and_say_so() -> None:
    a, b = (turn(name, [("root", "q", ["x" * 50_000], "1")], answer="1") for name in "ab")
    [code] = compared(a, b).runs[0].a.cells
    assert len(code) < MAX_TEXT_CHARS + 50 and code.endswith("30,000 more characters")
