"""The terminal's tree: what is shown of many runs, and that it never grows beyond the screen."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from cli.scripted_turns import TURN, run_finished, run_started
from fleet_rlm.cli.live import _Picture, totals_line
from fleet_rlm.cli.tree import SIBLINGS_SHOWN, RunTree
from fleet_rlm.runtime.execution import events as ev


def grown(*drafts: ev.Draft) -> RunTree:
    tree = RunTree()
    accepted = ev.TurnAccepted(question="?", mode="auto", model="m/x", sub_model="m/x", limits=ev.Limits())
    every = [ev.Draft(accepted, turn=TURN), *drafts]
    tree.apply([ev.place(draft, epoch="e", sid="s", seq=n, ts=1000 * n) for n, draft in enumerate(every, 1)])
    return tree


def drawn(tree: RunTree, limit: int = 100) -> list[str]:
    return [row.rails + (f"{row.run.status} {row.run.task}" if row.run else row.folded) for row in tree.rows(limit)]


def family(children: int) -> list[ev.Draft]:
    runs = [run_started("root", "question", kind="agent")]
    return runs + [run_started(f"c{n}", f"part {n}", parent="root", depth=1) for n in range(children)]


def test_rows_have_rails_and_states() -> None:
    tree = grown(
        *family(2),
        run_started("g0", "deeper", parent="c0", depth=2),
        run_finished("c1", "failed", parent="root"),
    )
    assert drawn(tree) == ["running question", "├─ running part 0", "│  └─ running deeper", "└─ failed part 1"]


def test_many_siblings_fold_and_keep_what_runs_or_failed() -> None:
    done = [run_finished(f"c{n}", parent="root") for n in range(60)]
    tree = grown(*family(64), *done[:30], run_finished("c30", "failed", parent="root"), *done[31:])
    rows = drawn(tree)
    assert len(rows) == 1 + SIBLINGS_SHOWN
    shown = [row.split("part ")[1] for row in rows if "part" in row]
    assert {"30", "60", "61", "62", "63"} <= set(shown)
    assert shown == sorted(shown, key=int), "the order of the tree stays"
    assert rows[-1] == f"└─ … {64 - SIBLINGS_SHOWN + 1} more: {64 - SIBLINGS_SHOWN + 1} ok"


def test_twelve_siblings_are_all_shown() -> None:
    assert len(drawn(grown(*family(SIBLINGS_SHOWN)))) == 1 + SIBLINGS_SHOWN


def test_children_of_finished_runs_give_way_first() -> None:
    tree = grown(
        *family(2),
        *(run_started(f"g{n}", f"old {n}", parent="c0", depth=2) for n in range(5)),
        *(run_finished(f"g{n}", parent="c0") for n in range(5)),
        run_finished("c0", parent="root"),
    )
    assert len(drawn(tree, limit=8)) == 8
    assert drawn(tree, limit=7) == ["running question", "├─ ok part 0", "└─ running part 1"]


@given(parents=st.lists(st.integers(0, 30), max_size=60), limit=st.integers(2, 40))
def test_the_tree_never_outgrows_its_rows(parents: list[int], limit: int) -> None:
    drafts = [run_started("r0", "question")]
    for n, parent in enumerate(parents, 1):
        drafts.append(run_started(f"r{n}", f"task {n}", parent=f"r{min(parent, n - 1)}"))
    assert len(grown(*drafts).rows(limit)) <= limit


def test_totals_take_the_larger_of_seen_and_reported_and_keep_unknown_cost_unknown() -> None:
    grown_up = [
        *family(2),
        call("k1", "c0"),
        ev.Draft(ev.CallFinished(id="k1", status="ok", ms=1.0, prompt_tokens=90, completion_tokens=10), TURN, "c0"),
        *(ev.Draft(ev.SandboxRequested(id=box, provider="local"), TURN, "c0") for box in ("b1", "b2")),
        *(
            ev.Draft(ev.SandboxReady(id=box, sandbox="x", provider="local", isolation="namespaces", ms=1.0), TURN, "c0")
            for box in ("b1", "b2")
        ),
        ev.Draft(ev.SandboxReleased(id="b1"), TURN, "c0"),
    ]
    assert totals_line(grown(*grown_up).totals()) == "3 runs (3 running) · 1 call · 100 tokens · 1 sandbox"
    spent = ev.BudgetUpdated(spent=ev.Usage(calls=1200, cost_usd=0.5), reserved_calls=0, limits=ev.Limits())
    later = grown(*grown_up, ev.Draft(spent, TURN))
    assert totals_line(later.totals()) == "3 runs (3 running) · 1,200 calls · 100 tokens · $0.5000 · 1 sandbox"


def call(id: str, run: str) -> ev.Draft:
    prompt = ev.Text(head="", bytes=0)
    return ev.Draft(ev.CallStarted(id=id, role="root", model="m/x", request="h", prompt=prompt), TURN, run)


def test_an_empty_tree_is_no_rows() -> None:
    assert RunTree().rows(10) == [] and RunTree().totals().runs == 0


@pytest.mark.parametrize("width", [20, 60, 200])
def test_a_hostile_task_stays_on_its_line(width: int) -> None:
    hostile = "first\nsecond \x1b]0;title\x07 [bold red]markup[/] \u202eflip " + "long " * 200
    tree = grown(run_started("root", hostile))
    out = io.StringIO()
    console = Console(file=out, width=width, height=20, force_terminal=True, color_system=None)
    console.print(_Picture(tree, console, moving=True))
    lines = out.getvalue().splitlines()
    assert len(lines) == 2 or width == 20
    assert all(len(line) <= width for line in lines)
    assert "\x1b]" not in out.getvalue() and "\x07" not in out.getvalue() and "\u202e" not in out.getvalue()
    if width == 200:
        assert "[bold red]markup[/]" in out.getvalue()
