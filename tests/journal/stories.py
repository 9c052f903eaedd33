"""Recorded journals that both reducers must read alike; `python tests/journal/stories.py` writes them anew.

For each story tests/fixtures/journals has `<name>.jsonl` (one event a line, as on the socket) and `<name>.state.json`
(the Workbench after the last event in canonical form: without the members that are null, 0, false or empty).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
from test_recovery import as_events, story

from fleet_rlm.runtime.execution import events as ev
from fleet_rlm.runtime.execution.events import Draft, Event
from fleet_rlm.runtime.execution.recovery import closing_drafts
from fleet_rlm.runtime.execution.workbench import Workbench, reduce

FOLDER = Path(__file__).parent.parent / "fixtures" / "journals"


def canonical(value: Any) -> Any:
    """Without members that say nothing: the same on both sides, whoever left defaults out."""
    if isinstance(value, dict):
        kept = {name: canonical(item) for name, item in value.items()}
        return {name: item for name, item in kept.items() if item not in (None, 0, False, "", [], {})}
    if isinstance(value, list):
        return [canonical(item) for item in value]
    return value


def state_of(events: list[Event]) -> Any:
    return canonical(msgspec.to_builtins(reduce(Workbench(sid=events[0].sid), events)))


def a_turn_with_everything() -> list[Draft]:
    """One turn: root, child, cells that print and fail, budget warnings, a lost sandbox, citations."""

    def at(data: ev.EventData, run: str | None = None) -> Draft:
        return Draft(data, turn="trn_1", run=run)

    context = ev.ContextRef(name="repo", sha256="ab" * 32, kind="tree", bytes=10, chars=9, lines=2, files=2)
    usage = ev.Usage(calls=2, prompt_tokens=20, completion_tokens=2, cost_usd=0.75, wall_s=1.5)
    child = ("trn_1", "run_b", "run_a", 1)
    middle = [
        at(ev.ContextAdded(context=context)),
        at(ev.BudgetWarned(unit="calls", fraction=0.7)),
        at(ev.BudgetUpdated(spent=usage, reserved_calls=1, limits=ev.Limits(calls=3), children=1, live_sandboxes=1)),
        at(ev.BudgetWarned(unit="calls", fraction=0.9)),
        at(ev.Warning(code="slow", message="slow sandbox", where="run_b"), "run_b"),
        Draft(ev.CellStarted(id="cel_2", code=ev.Text(head="1/0", bytes=3), iteration=2), *child),
        Draft(ev.CellOutput(id="cel_2", stream="stdout", text="a"), *child),
        Draft(ev.CellOutput(id="cel_2", stream="stdout", text="b"), *child),
        Draft(ev.CellOutput(id="cel_2", stream="stderr", text="oh ‖ 𝄞"), *child),
        Draft(
            ev.CellFinished(
                id="cel_2",
                status="error",
                ms=2.5,
                output_chars=8,
                shown=8,
                error=ev.CellError(name="ZeroDivisionError", message="division by zero", line=1),
                changed=[ev.VariableChange(name="x", type="list", preview="[1]", size=1)],
                truncated=True,
                batched=2,
            ),
            *child,
        ),
        Draft(ev.ContextRead(sha256="ab" * 32, spans=[span(4, 6), span(0, 2)]), *child),
        Draft(ev.ContextRead(sha256="ab" * 32, spans=[span(1, 3), span(6, 9)]), *child),
        Draft(
            ev.ArtifactPublished(
                id="art_1", name="t.csv", version=1, sha256="cd" * 32, bytes=3, kind="text/csv", cell="cel_2"
            ),
            *child,
        ),
        Draft(
            ev.ApprovalRequested(
                id="apr_1",
                kind="question",
                question="Which year?",
                choices=["2025", "2026"],
                deadline=1_700_000_060_000,
                seconds=60.0,
                otherwise="2026",
            ),
            *child,
        ),
        Draft(ev.ApprovalResolved(id="apr_1", status="answered", answer="2025"), *child),
        Draft(ev.ApprovalRequested(id="apr_2", kind="limit", question="Go on?", unit="calls"), *child),
        Draft(ev.ApprovalResolved(id="apr_2", status="expired", answer=None, who="rule"), *child),
        Draft(ev.ReasoningStarted(id="rea_2"), *child),
        Draft(ev.ReasoningDelta(id="rea_2", text="hm"), *child),
        Draft(ev.ReasoningFinished(id="rea_2", length=2, sha256="00"), *child),
        at(ev.HistoryCompacted(dropped=3, before_chars=900, after_chars=400), "run_a"),
        at(ev.RunRefused(path="root/x", unit="children", message="the limit of 2 child runs is reached"), "run_a"),
        at(ev.ToolsOffered(tools=ev.Text(head="[]", bytes=2), warnings=["the server x is missing"]), "run_a"),
        at(ev.MemoryChanged(block="persona", before=None, after="terse", who="agent"), "run_a"),
        at(ev.MemoryChanged(block="notes", before=None, after="x", who="person")),
        at(ev.MemoryChanged(block="notes", before="x", after=None, who="undo")),
        Draft(asked("cal_3", shared="cal_2"), *child),
        Draft(ev.CallFinished(id="cal_3", status="ok", ms=1, tries=0, cost_usd=0.0, shared="cal_2"), *child),
        Draft(asked("cal_4"), *child),
        Draft(ev.CallFinished(id="cal_4", status="ok", ms=9, tries=3, prompt_tokens=5, cost_usd=0.25), *child),
        Draft(ev.SandboxRequested(id="sbx_2", provider="local"), *child),
        Draft(ev.SandboxLost(id="sbx_2", reason="gone"), *child),
    ]
    end = ev.TurnFinished(
        status="limit",
        answer="see a.py:1",
        usage=usage,
        runs=2,
        max_depth_reached=1,
        limit="calls",
        citations=[ev.Citation(context="repo", path="a.py", line=1, start=0, end=4, quote="code")],
        isolation="namespaces",
        provider="local",
    )
    drafts = story()[:-1]
    place = next(n for n, draft in enumerate(drafts) if draft.data.type == "sandbox.released")
    return [
        Draft(ev.SessionCreated(title="New session")),
        Draft(ev.SessionRenamed(title="A title — with signs")),
        *drafts[:place],
        *middle,
        *drafts[place:],
        at(ev.BudgetExhausted(unit="calls")),
        at(ev.Error(code="limit", message="calls are used up", retryable=False)),
        at(end),
    ]


def asked(id: str, shared: str | None = None) -> ev.CallStarted:
    prompt = ev.Text(head="p", bytes=1)
    return ev.CallStarted(id=id, role="sub", model="m", request="r", prompt=prompt, shared=shared)


def span(start: int, end: int) -> ev.ReadSpan:
    return ev.ReadSpan(start=start, end=end)


def two_turns() -> list[Draft]:
    """A second turn that fails without a run."""
    limits = ev.Limits()
    second = [
        ev.TurnAccepted(
            question="again",
            mode="rlm",
            model="m",
            sub_model="n",
            limits=limits,
            command="c2",
            origin=ev.Origin(kind="resume", session="ses_1", turn="trn_1"),
        ),
        ev.TurnStarted(),
        ev.TurnFinished(
            status="failed",
            answer=None,
            usage=ev.Usage(),
            runs=0,
            max_depth_reached=0,
            error=ev.ErrorInfo(code="model_auth", message="wrong key", hint="set a key"),
        ),
    ]
    fork = ev.SessionForked(session="ses_0", seq=12, turn="trn_0", edit="question")
    created = [Draft(ev.SessionCreated(title="s")), Draft(fork)]
    return [*created, *story(), *(Draft(data, turn="trn_2") for data in second)]


def interrupted() -> list[Draft]:
    """A crash in the middle of a cell with a call that was sent and one that waits for its answer, then closed."""
    child = ("trn_1", "run_b", "run_a", 1)
    calls = [Draft(asked("cal_3"), *child), Draft(asked("cal_4", shared="cal_3"), *child)]
    drafts = [Draft(ev.SessionCreated(title="s")), *story()[:17], *calls]
    return drafts + closing_drafts([event for event in as_events(drafts) if event.turn])


def still_running() -> list[Draft]:
    """A replay, cut in the middle of a message."""
    drafts = story()
    replayed = ev.SessionForked(session="ses_0", seq=12, turn="trn_0", edit="replay")
    return [Draft(ev.SessionCreated(title="s")), Draft(replayed), *drafts[: len(drafts) - 3]]


STORIES = (a_turn_with_everything, two_turns, interrupted, still_running)


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    for make in STORIES:
        events = as_events(make())
        (FOLDER / f"{make.__name__}.jsonl").write_bytes(b"".join(ev.encode_event(e) + b"\n" for e in events))
    for path in FOLDER.glob("*.jsonl"):
        events = [ev.decode_event(line) for line in path.read_bytes().splitlines()]
        text = json.dumps(state_of(events), indent=1, ensure_ascii=False, sort_keys=True)
        path.with_suffix(".state.json").write_text(text + "\n", "utf-8")


if __name__ == "__main__":
    main()
