"""What came before a turn that is run again: its own events, those of the turns that it went on from, and its session.

A replay and a fork keep the events of what they go on from in blobs (`Origin.kept`): its session may be deleted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import takewhile
from typing import Protocol

from fleet_rlm.errors import InvalidInput, NotFound
from fleet_rlm.integrations.database import Sessions, TurnRow
from fleet_rlm.runtime.content.blobs import BlobStore
from fleet_rlm.runtime.execution import events as ev
from fleet_rlm.runtime.execution.journal import Journal
from fleet_rlm.runtime.execution.lineage import is_copied
from fleet_rlm.runtime.execution.record import Past

PAGE = 1_000
MAX_CHAIN = 100


class Kept(Protocol):
    """What this needs of a workspace."""

    journal: Journal
    sessions: Sessions
    blobs: BlobStore


@dataclass(frozen=True, slots=True)
class Chain:
    """The turns that one went on from, newest first. `lost`: where the rest of them was, which is not there."""

    turns: list[Past]
    lost: ev.Origin | None = None


def chain_of(kept: Kept, turn: ev.TurnAccepted, *, counts: bool) -> Chain:
    """What a turn went on from. `counts`: what was spent in its own session counts for what goes on from it."""
    turns: list[Past] = []
    origin = turn.origin
    while origin is not None and len(turns) < MAX_CHAIN:
        counts = counts and origin.kind == "resume"
        if origin.kept:
            with suppress(NotFound):  # the journal came without its blobs, but what it went on from may be here
                return Chain([*turns, *(Past(_read(kept.blobs, ref), counts=False) for ref in origin.kept)])
        try:
            events = turn_events(kept.journal, kept.sessions.get_turn(origin.turn))
        except NotFound:
            return Chain(turns, lost=origin)
        if origin.kind == "fork" and origin.seq is not None:
            events = [event for event in events if event.seq <= origin.seq]
        turns.append(Past(events, counts))
        origin = accepted_of(events).origin
    return Chain(turns)


def keep(blobs: BlobStore, events: Iterable[ev.Event], chain: Chain) -> list[str]:
    """Keep a turn and what it went on from, for what goes on from it now. Errors: StorageError."""
    turns = (events, *(past.events for past in chain.turns))
    return [blobs.put(b"\n".join(map(ev.encode_event, each))) for each in turns]


def _read(blobs: BlobStore, ref: str) -> list[ev.Event]:
    return [ev.decode_event(line) for line in blobs.read(ref).split(b"\n")]


def check_whole(events: list[ev.Event], chain: Chain) -> None:
    """Errors: NotFound where a replay needs more than there is: the inside of runs that were taken whole from a turn
    that is lost."""
    if chain.lost is None:
        return
    paths: dict[str | None, str] = {}
    taken, ran = set[str](), set[str]()
    for event in (*events, *(event for past in chain.turns for event in past.events)):
        if isinstance(event.data, ev.RunStarted):
            paths[event.run] = event.data.path or ""
        elif isinstance(event.data, ev.RunFinished):
            (taken if event.data.replayed else ran).add(paths.get(event.run, ""))
    if taken - ran:
        raise NotFound(
            f"this turn took finished runs from a turn of session {chain.lost.session}, which is not there any more",
            hint="a replay needs their inside; it was deleted with that session, or is in another data folder",
        )


def began(events: list[ev.Event], chain: Chain) -> int:
    """Before which event a turn knows its session: where the oldest turn of its chain began there."""
    sid = events[0].sid
    oldest = [events, *(past.events for past in chain.turns)]
    first = next(event for each in reversed(oldest) for event in each if event.sid == sid)
    origin = first.data.origin if isinstance(first.data, ev.TurnAccepted) else None
    return first.seq if origin is None or origin.knew is None else origin.knew


def session_before(
    before: Iterable[ev.Event], events: list[ev.Event], chain: Chain
) -> tuple[list[ev.Event], list[ev.Event]]:
    """What a turn knew of its session, and what has come in it since that is none of the turn's chain, which is done
    once more with it."""
    begin, mine = began(events, chain), {next(iter(past.events)).turn for past in chain.turns}
    known = [event for event in takewhile(lambda event: event.seq < events[0].seq, before) if is_copied(event)]
    since = [event for event in known if event.seq >= begin and (event.turn is None or event.turn not in mine)]
    return [event for event in known if event.seq < begin], since


def turn_events(journal: Journal, row: TurnRow) -> list[ev.Event]:
    """All events of a turn, in order."""
    journal.flush()
    return list(_pages(lambda after: journal.read(row.sid, after, PAGE, row.tid), row.accepted_seq - 1))


def session_events(journal: Journal, row: TurnRow) -> Iterator[ev.Event]:
    """All events of a turn's session, in order."""
    return _pages(lambda after: journal.read(row.sid, after, PAGE), 0)


def _pages(read: Callable[[int], list[ev.Event]], after: int) -> Iterator[ev.Event]:
    while page := read(after):
        yield from page
        after = page[-1].seq


def accepted_of(events: Iterable[ev.Event]) -> ev.TurnAccepted:
    """How a turn began. Errors: InvalidInput."""
    for event in events:
        if isinstance(event.data, ev.TurnAccepted):
            return event.data
    raise InvalidInput("these events are not a turn from its beginning")


def end_of(events: list[ev.Event]) -> ev.TurnFinished | None:
    """How a turn ended; None while it runs."""
    return next((event.data for event in reversed(events) if isinstance(event.data, ev.TurnFinished)), None)
