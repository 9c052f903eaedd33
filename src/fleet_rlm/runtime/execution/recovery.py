"""Closes what a dead process left open, honestly: as `interrupted`, children before parents, every start with its end.

Run at start-up, and before a question in a session that has such a turn. Only turns whose process no longer lives are
touched.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from fleet_rlm.errors import NotFound
from fleet_rlm.integrations.database import Sessions, TurnRow
from fleet_rlm.runtime.execution import events as ev
from fleet_rlm.runtime.execution.journal import Journal

PAGE = 1_000
RESUME = "go on with `fleet run --resume {turn}`, or Resume in the workspace: what was answered is not asked again"
INTERRUPTED = ev.ErrorInfo(
    code="interrupted",
    message="the process that ran this turn ended before the turn did",
    hint="resume the turn: what was answered is not asked again",
    retryable=True,
)


@dataclass(slots=True)
class _Open:
    """A started event without its end yet, with what its end must say."""

    event: ev.Event
    text: str = ""
    chars: int = 0


@dataclass(slots=True)
class _Turn:
    """What a turn's events say so far. `opened` keeps the order of starts; ends are written in reverse."""

    opened: dict[tuple[str, str], _Open] = field(default_factory=dict[tuple[str, str], _Open])
    usage: ev.Usage = field(default_factory=lambda: ev.Usage(cost_usd=0.0))
    before: ev.Usage | None = None
    """What of `usage` came from the journal of the turn that this one goes on from; None: from none."""
    spent: ev.Usage | None = None
    """All that was spent before a resumed turn: replayed calls are among it."""
    run_usage: dict[str, ev.Usage] = field(default_factory=dict[str, ev.Usage])
    parents: dict[str, str | None] = field(default_factory=dict[str, "str | None"])
    called_off: set[str] = field(default_factory=set[str])
    """Calls that ended without an answer: who waited for it sent its own."""
    runs: int = 0
    deepest: int = 0
    first_ts: int = 0
    last_ts: int = 0
    provider: str | None = None
    isolation: str | None = None
    finished: bool = False


def close_interrupted(journal: Journal, sessions: Sessions, home: Path) -> list[str]:
    """Finish the turns that dead processes left; returns their ids. Safe when several processes start at once."""
    with _alone(home):
        left = sessions.unfinished_turns()
        for turn in left:
            drafts = closing_drafts(_all_events(journal, turn), _spent_before(journal, sessions, turn))
            journal.append(turn.sid, drafts, durable=True)
        return [turn.tid for turn in left]


def closing_drafts(events: Iterable[ev.Event], spent: ev.Usage | None = None) -> list[ev.Draft]:
    """The ends that a turn's events lack, in the order in which they must be appended; empty for a finished turn.

    `spent`: what was spent before a turn that was resumed; None: what it took of that is all that is known.
    """
    turn = _Turn(spent=spent)
    if spent is not None:
        turn.usage = turn.before = msgspec.structs.replace(spent, wall_s=0.0)
    last: ev.Event | None = None
    for event in events:
        _take(turn, event)
        last = event
    if last is None or turn.finished:
        return []
    calls = [(entry, _end_data(turn, entry)) for entry in turn.opened.values() if entry.event.type == "call.started"]
    for entry, end in calls:  # spent, at a price that nobody knows
        if isinstance(end, ev.CallFinished):
            _count(turn, entry.event.run, end)
    drafts = [draft for entry in reversed(turn.opened.values()) if (draft := _end(turn, entry)) is not None]
    return [*drafts, _turn_end(turn, last)]


def _take(turn: _Turn, event: ev.Event) -> None:
    turn.first_ts = turn.first_ts or event.ts
    turn.last_ts = event.ts
    kind, _, verb = event.type.partition(".")
    key = (kind, event.run or "") if kind == "run" else (kind, getattr(event.data, "id", ""))
    if event.type in ("sandbox.requested", "sandbox.ready"):
        turn.opened.setdefault(key, _Open(event))
    elif event.type == "approval.requested" or (kind != "turn" and verb == "started"):
        turn.opened[key] = _Open(event)
    elif verb in ("finished", "released", "lost", "resolved"):
        turn.opened.pop(key, None)
    match event.data:
        case ev.RunStarted():
            turn.runs += 1
            turn.deepest = max(turn.deepest, event.depth)
            turn.parents[event.run or ""] = event.parent
        case ev.TurnAccepted(origin=ev.Origin()) if turn.spent is None:
            turn.before = ev.Usage(cost_usd=0.0)
        case ev.CallFinished() as data:
            _count(turn, event.run, data)
            turn.called_off |= {data.id} if data.status == "cancelled" else set()
        case ev.MessageDelta() | ev.ReasoningDelta() as data:
            _append(turn, key, data.text)
        case ev.CellOutput() as data:
            if entry := turn.opened.get(key):
                entry.chars += len(data.text)
        case ev.SandboxReady() as data:
            turn.provider, turn.isolation = data.provider, data.isolation
        case ev.TurnFinished():
            turn.finished = True
        case _:
            pass


def _append(turn: _Turn, key: tuple[str, str], text: str) -> None:
    if entry := turn.opened.get(key):
        entry.text += text


def _count(turn: _Turn, run: str | None, data: ev.CallFinished) -> None:
    """Add a finished call to the turn, to its run and to every run above."""
    if turn.spent is None or not data.replayed:
        turn.usage = _plus(turn.usage, data)
    if turn.spent is None and turn.before is not None and data.replayed:
        turn.before = _plus(turn.before, data)
    seen: set[str] = set()
    while run is not None and run not in seen:
        seen.add(run)
        turn.run_usage[run] = _plus(turn.run_usage.get(run, ev.Usage(cost_usd=0.0)), data)
        run = turn.parents.get(run)


def _plus(usage: ev.Usage, data: ev.CallFinished) -> ev.Usage:
    unknown = usage.cost_usd is None or data.cost_usd is None
    return ev.Usage(
        calls=usage.calls + data.calls,
        prompt_tokens=usage.prompt_tokens + data.prompt_tokens,
        completion_tokens=usage.completion_tokens + data.completion_tokens,
        cached_tokens=usage.cached_tokens + data.cached_tokens,
        cost_usd=None if unknown else (usage.cost_usd or 0.0) + (data.cost_usd or 0.0),
        wall_s=usage.wall_s,
    )


def _end(turn: _Turn, entry: _Open) -> ev.Draft | None:
    data = _end_data(turn, entry)
    event = entry.event
    return data and ev.Draft(data, turn=event.turn, run=event.run, parent=event.parent, depth=event.depth)


def _end_data(turn: _Turn, entry: _Open) -> ev.EventData | None:
    ms = float(turn.last_ts - entry.event.ts)
    digest = hashlib.sha256(entry.text.encode("utf-8", "replace")).hexdigest()
    match entry.event.data:
        case ev.RunStarted():
            return ev.RunFinished(status="interrupted", usage=_run_usage(turn, entry), error=INTERRUPTED)
        case ev.IterationStarted() as data:
            return ev.IterationFinished(id=data.id, n=data.n, model_ms=0.0, sandbox_ms=0.0)
        case ev.CellStarted() as data:
            return ev.CellFinished(id=data.id, status="lost", ms=ms, output_chars=entry.chars, shown=0)
        case ev.CallStarted() as data:
            # Whether the provider charged for it cannot be known: cost stays unknown. Not so of what was not sent.
            sent = data.shared is None or data.shared in turn.called_off
            return ev.CallFinished(
                id=data.id,
                status="cancelled",
                ms=ms,
                tries=1 if sent else 0,
                shared=None if sent else data.shared,
                cost_usd=None if sent else 0.0,
                error=INTERRUPTED,
            )
        case ev.ToolStarted() as data:
            return ev.ToolFinished(id=data.id, status="cancelled", ms=ms, error=INTERRUPTED)
        case ev.MessageStarted() as data:
            return ev.MessageFinished(id=data.id, length=len(entry.text), sha256=digest)
        case ev.ReasoningStarted() as data:
            return ev.ReasoningFinished(id=data.id, length=len(entry.text), sha256=digest)
        case ev.ApprovalRequested() as data:
            return ev.ApprovalResolved(id=data.id, status="cancelled", who="rule")
        case ev.SandboxRequested() | ev.SandboxReady() as data:
            return ev.SandboxLost(id=data.id, reason="the process that used it ended")
        case _:
            return None


def _run_usage(turn: _Turn, entry: _Open) -> ev.Usage:
    run = entry.event.run or ""
    usage = turn.run_usage.get(run, ev.Usage(cost_usd=0.0))
    return msgspec.structs.replace(usage, wall_s=(turn.last_ts - entry.event.ts) / 1000)


def _turn_end(turn: _Turn, last: ev.Event) -> ev.Draft:
    usage = msgspec.structs.replace(turn.usage, wall_s=(turn.last_ts - turn.first_ts) / 1000)
    data = ev.TurnFinished(
        status="interrupted",
        answer=None,
        usage=usage,
        runs=turn.runs,
        max_depth_reached=turn.deepest,
        error=msgspec.structs.replace(INTERRUPTED, hint=RESUME.format(turn=last.turn)),
        provider=turn.provider,
        isolation=turn.isolation,
        before=turn.before,
    )
    return ev.Draft(data, turn=last.turn)


def _spent_before(journal: Journal, sessions: Sessions, turn: TurnRow) -> ev.Usage | None:
    """What a resumed turn's predecessor says that was spent; None where there is none, or it is gone."""
    accepted = next(iter(journal.read(turn.sid, turn.accepted_seq - 1, 1, turn.tid)), None)
    origin = accepted.data.origin if accepted is not None and isinstance(accepted.data, ev.TurnAccepted) else None
    if origin is None or origin.kind != "resume":
        return None
    try:
        before = sessions.get_turn(origin.turn)
    except NotFound:
        return None
    ends = journal.read(before.sid, (before.finished_seq or 1) - 1, 1, before.tid)
    return next((event.data.usage for event in ends if isinstance(event.data, ev.TurnFinished)), None)


def _all_events(journal: Journal, turn: TurnRow) -> Iterator[ev.Event]:
    after = turn.accepted_seq - 1
    while page := journal.read(turn.sid, after, PAGE, turn.tid):
        yield from page
        after = page[-1].seq


@contextmanager
def _alone(home: Path) -> Generator[None]:
    fd = os.open(home / "recovery.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
