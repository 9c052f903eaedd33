"""What waits in the journal's queue: events with the places that they were given, until they are committed or taken
back.

Places are given when events are appended, so that the appender knows them; they are true once the events are
committed. When what stands before is taken back, what waits behind it moves up.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, cast

import msgspec

from fleet_rlm.errors import FleetError
from fleet_rlm.integrations.database import Batch
from fleet_rlm.runtime.execution.events import Event, encode_event


@dataclass(slots=True)
class Position:
    """Where the next event goes. Dropped as a whole when it turns out wrong; entries placed on it then fail with it."""

    epoch: str
    seq: int


@dataclass(slots=True)
class Log:
    """One session as the journal knows it. `lock` orders the giving of places; the writer takes it only to take back
    what the disk refuses."""

    sid: str
    lock: threading.Lock = field(default_factory=threading.Lock)
    position: Position | None = None
    running: set[str] = field(default_factory=set[str])
    """Turns of this process whose acceptance is committed and whose end is not."""


@dataclass(slots=True, eq=False)
class Entry:
    """Events appended together; they are committed together. Without events: a mark in the queue."""

    log: Log
    position: Position | None
    events: list[Event]
    raws: list[str]
    done: Future[None] | None
    up: int = 0
    """By so many places its events move up, because what stood before them was taken back."""

    @property
    def awaited(self) -> bool:
        """Somebody waits to hear that these events are durable."""
        return self.done is not None and bool(self.events) and not self.done.done()

    def settle(self, error: FleetError | None) -> None:
        """Tell who waits for it."""
        if self.done is None or self.done.done():
            return
        if error is None:
            self.done.set_result(None)
        else:
            self.done.set_exception(error)


def batch(group: list[Entry]) -> Batch:
    """What is to be committed of one session, in its places."""
    for entry in group:
        if entry.up:
            moved = [msgspec.structs.replace(event, seq=event.seq - entry.up) for event in entry.events]
            pairs = [encoded(event) for event in moved]
            entry.events, entry.raws, entry.up = [pair[0] for pair in pairs], [pair[1] for pair in pairs], 0
    events = [event for entry in group for event in entry.events]
    raws = [raw for entry in group for raw in entry.raws]
    return Batch(group[0].log.sid, events[0].seq - 1, events, raws, owns_turn=bool(group[0].log.running))


def take_back(log: Log, lines: Iterable[list[Entry] | deque[Entry]], refused: Callable[[Entry], bool]) -> list[Entry]:
    """Take entries of a session out of the lines in which they wait, first to last; those behind them move up.

    The caller holds the session's lock and that of the lines.
    """
    taken: list[Entry] = []
    gone = 0
    for line in lines:
        left: list[Entry] = []
        for entry in line:
            here = entry.log is log and entry.position is log.position
            if entry.log is log and refused(entry):
                taken.append(entry)
                gone += len(entry.events) if here else 0
                continue
            entry.up += gone if here else 0
            left.append(entry)
        line.clear()
        line.extend(left)
    if log.position is not None:
        log.position.seq -= gone
    return taken


def encoded(event: Event) -> tuple[Event, str]:
    """The event and its JSON. Lone surrogates in it, which no UTF-8 has, become question marks."""
    try:
        return event, encode_event(event).decode()
    except UnicodeEncodeError:
        data = msgspec.convert(_without_surrogates(msgspec.to_builtins(event.data)), type(event.data))
        event = msgspec.structs.replace(event, data=data)
        return event, encode_event(event).decode()


def _without_surrogates(value: Any) -> Any:
    match value:
        case str():
            return value.encode("utf-8", "replace").decode()
        case list():
            return [_without_surrogates(item) for item in cast("list[Any]", value)]
        case dict():
            items = cast("dict[str, Any]", value).items()
            return {_without_surrogates(key): _without_surrogates(item) for key, item in items}
        case _:
            return value
