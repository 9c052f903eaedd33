"""Commits batches of events and keeps the projections beside them in the same transaction."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple

from sqlalchemy import Connection, Select, bindparam, delete, func, insert, select, update
from sqlalchemy.dialects.postgresql import insert as postgres_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as SQLAlchemyTimeout

from fleet_rlm.errors import NotFound
from fleet_rlm.integrations.database.engine import Database, storage_error
from fleet_rlm.integrations.database.prepared import Prepared
from fleet_rlm.integrations.database.schema import IS_SOUGHT, SOUGHT, events, session_contexts, sessions, turns
from fleet_rlm.runtime.execution.events import (
    ContextAdded,
    ContextRef,
    Event,
    EventData,
    SessionCreated,
    SessionRenamed,
    TurnAccepted,
    TurnFinished,
    decode_event,
    encode_event,
)

RUNNING = "running"

_HEAD = Prepared(select(sessions.c.head).where(sessions.c.sid == bindparam("session")))
_ADD = Prepared(insert(events))
_MOVE = Prepared(
    update(sessions)
    .where(sessions.c.sid == bindparam("session"))
    .values(head=bindparam("to"), updated_ms=bindparam("at"))
)


@dataclass(frozen=True, slots=True)
class Head:
    """Where a session's journal stands. A cursor (`seq`) is valid only within its `epoch`."""

    epoch: str
    seq: int


@dataclass(frozen=True, slots=True)
class Batch:
    """Consecutive events of one session. `base` is the seq that they follow."""

    sid: str
    base: int
    events: Sequence[Event]
    raws: Sequence[str]
    """Their JSON, one each."""
    owns_turn: bool
    """This process has a turn running in the session, so nobody else can have moved its head."""


class Stored(NamedTuple):
    """An event as it lies in the table; `raw` is its JSON."""

    seq: int
    type: str
    turn: str | None
    raw: str


class Outcome(Enum):
    """What became of a batch inside a transaction that did commit."""

    OK = "ok"
    GONE = "gone"
    """The session was deleted."""
    STALE = "stale"
    """Another process wrote to the session since its head was read."""
    BUSY = "busy"
    """A turn of another live process is running in the session."""
    RESUMED = "resumed"
    """Another turn goes on already from the one that is to be resumed."""
    REFUSED = "refused"
    """The database can never take it: a defect of ours."""


class JournalStore:
    """The events table and its projections."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def commit(
        self, batches: Sequence[Batch], *, synced: bool, before: Callable[[], None] | None = None
    ) -> list[Outcome]:
        """Write the batches in one transaction, in this thread; see Database.commit.

        Errors: StorageError for what may work later (full, locked, busy); any other exception for what never will.
        """
        try:
            return self.database.commit(
                lambda connection: [self._write(connection, batch) for batch in batches], synced=synced, before=before
            )
        except (OperationalError, SQLAlchemyTimeout, sqlite3.OperationalError, OSError) as error:
            raise storage_error(error) from error

    def _write(self, connection: Connection, batch: Batch) -> Outcome:
        row = _HEAD.run(connection, {"session": batch.sid}).fetchone()
        head = row[0] if row is not None else self._begun(connection, batch)
        if head is None:
            return Outcome.GONE
        if head != batch.base:
            return Outcome.STALE
        if not batch.owns_turn and self._busy(connection, batch.sid):
            return Outcome.BUSY
        if self._resumed(connection, batch):
            return Outcome.RESUMED
        _ADD.run(connection, [_row(*pair) for pair in zip(batch.events, batch.raws, strict=True)])
        for event in batch.events:
            self._project(connection, event)
        last = batch.events[-1]
        _MOVE.run(connection, {"session": batch.sid, "to": last.seq, "at": last.ts})
        return Outcome.OK

    def _begun(self, connection: Connection, batch: Batch) -> int | None:
        """The head of a session that begins with this batch; None where the batch is no beginning."""
        first = batch.events[0]
        if batch.base != 0 or not isinstance(first.data, SessionCreated):
            return None
        row = {"sid": batch.sid, "epoch": first.epoch, "title": first.data.title, "head": batch.base}
        connection.execute(insert(sessions).values(**row, created_ms=first.ts, updated_ms=first.ts))
        return batch.base

    def _busy(self, connection: Connection, sid: str) -> bool:
        query = select(turns.c.owner).where(turns.c.sid == sid, turns.c.status == RUNNING)
        owners = (connection.execute(query)).scalars().all()
        mine = self.database.owner
        return any(owner != mine.id and mine.alive(owner) for owner in owners)

    def _resumed(self, connection: Connection, batch: Batch) -> bool:
        accepted = [event.data for event in batch.events if isinstance(event.data, TurnAccepted)]
        resumed = {turn for data in accepted if (turn := _resumes(data)) is not None}
        if not resumed:
            return False
        query = _of_type(TurnAccepted.type).where(events.c.sid == batch.sid)
        return any(_resumes(decode_event(raw).data) in resumed for raw in connection.execute(query).scalars())

    def _project(self, connection: Connection, event: Event) -> None:
        match event.data:
            case SessionRenamed(title=title):
                connection.execute(update(sessions).where(sessions.c.sid == event.sid).values(title=title))
            case TurnAccepted() as data:
                self._accept(connection, event, data)
            case TurnFinished() as data:
                connection.execute(
                    update(turns)
                    .where(turns.c.tid == event.turn)
                    .values(
                        status=data.status,
                        finished_seq=event.seq,
                        finished_ms=event.ts,
                        cost_usd=_own_cost(data),
                    )
                )
            case ContextAdded(context=context):
                self._link(connection, event, [context])
            case _:
                pass

    def _accept(self, connection: Connection, event: Event, data: TurnAccepted) -> None:
        connection.execute(
            insert(turns).values(
                tid=event.turn,
                sid=event.sid,
                owner=self.database.owner.id,
                command=data.command,
                status=RUNNING,
                accepted_seq=event.seq,
                accepted_ms=event.ts,
            )
        )
        self._link(connection, event, data.contexts)

    def _link(self, connection: Connection, event: Event, contexts: Sequence[ContextRef]) -> None:
        rows = [{"sid": event.sid, "sha256": c.sha256, "name": c.name, "added_seq": event.seq} for c in contexts]
        if rows:
            # The only statement on which the two dialects differ.
            table = sqlite_insert if connection.dialect.name == "sqlite" else postgres_insert
            connection.execute(table(session_contexts).on_conflict_do_nothing(), rows)

    async def found(self, title: str, events_: Sequence[Event]) -> None:
        """A new session with its first events (from seq 1 on) and all that follows from them, in one transaction."""
        first, last = events_[0], events_[-1]
        row = {"sid": first.sid, "epoch": first.epoch, "title": title, "created_ms": first.ts, "updated_ms": last.ts}
        batch = Batch(first.sid, 0, events_, [encode_event(event).decode() for event in events_], owns_turn=True)

        def write(connection: Connection) -> Outcome:
            connection.execute(insert(sessions).values(**row, head=0))
            return self._write(connection, batch)

        await asyncio.to_thread(self.database.commit, write, synced=True)

    async def head(self, sid: str) -> Head:
        """Errors: NotFound."""
        async with self.database.read() as connection:
            query = select(sessions.c.epoch, sessions.c.head).where(sessions.c.sid == sid)
            row = (await connection.execute(query)).first()
        if row is None:
            raise NotFound(f"no session {sid[:80]!r}")
        return Head(row.epoch, row.head)

    async def read(self, sid: str, after: int, limit: int, turn: str | None = None) -> list[Stored]:
        """The events with seq > `after`, in order, at most `limit`; of one turn when given."""
        query = select(events.c.seq, events.c.type, events.c.turn, events.c.raw).where(
            events.c.sid == sid, events.c.seq > after
        )
        if turn is not None:
            query = query.where(events.c.turn == turn)
        query = query.order_by(events.c.seq).limit(limit)
        async with self.database.read() as connection:
            return [Stored(*row) for row in await connection.execute(query)]

    async def of_type(self, sid: str, type_: str) -> list[str]:
        """The JSON of a session's events of one type, in order."""
        query = _of_type(type_).where(events.c.sid == sid).order_by(events.c.seq)
        async with self.database.read() as connection:
            return list((await connection.execute(query)).scalars())

    async def has(self, sid: str, after: int, types: Collection[str]) -> bool:
        """Whether the session has an event of one of these types with seq > `after`."""
        query = select(events.c.seq).where(events.c.sid == sid, events.c.seq > after, events.c.type.in_(types)).limit(1)
        async with self.database.read() as connection:
            return (await connection.execute(query)).first() is not None

    async def artifact(self, id: str) -> str | None:
        """The JSON of the event that published an artifact; a fork's copy is as good as the first."""
        query = _of_type("artifact.published").where(events.c.raw.contains(f'"id":"{id}"', autoescape=True))
        async with self.database.read() as connection:
            return (await connection.execute(query.limit(1))).scalar_one_or_none()

    async def latest(self, turn: str, type_: str) -> str | None:
        """The JSON of a turn's newest event of a type."""
        query = select(events.c.raw).where(events.c.turn == turn, events.c.type == type_)
        async with self.database.read() as connection:
            return (await connection.execute(query.order_by(events.c.seq.desc()).limit(1))).scalar_one_or_none()

    async def count(self, sid: str) -> int:
        """How many events the session has; equal to its head, since there are no gaps."""
        async with self.database.read() as connection:
            query = select(func.count()).select_from(events).where(events.c.sid == sid)
            return int((await connection.execute(query)).scalar_one())

    async def remove(self, sid: str) -> Outcome:
        """Delete a session with everything below it. GONE when there was none, BUSY while another process is at it."""
        async with self.database.write() as connection:
            if await connection.run_sync(self._busy, sid):
                return Outcome.BUSY
            result = await connection.execute(delete(sessions).where(sessions.c.sid == sid))
            return Outcome.OK if result.rowcount == 1 else Outcome.GONE


def _own_cost(data: TurnFinished) -> float | None:
    """What this turn itself cost: not again what was paid by the turns that it goes on from."""
    whole, before = data.usage.cost_usd, data.before
    if whole is None or before is None:
        return whole
    return None if before.cost_usd is None else max(0.0, whole - before.cost_usd)


def _resumes(data: EventData) -> str | None:
    """The turn that this one goes on from."""
    origin = data.origin if isinstance(data, TurnAccepted) else None
    return origin.turn if origin is not None and origin.kind == "resume" else None


def _of_type(type_: str) -> Select[str]:
    query = select(events.c.raw).where(events.c.type == type_)
    return query.where(IS_SOUGHT) if type_ in SOUGHT else query


def _row(event: Event, raw: str) -> dict[str, Any]:
    return {"sid": event.sid, "seq": event.seq, "type": event.type, "turn": event.turn, "raw": raw}


def now_ms() -> int:
    """Milliseconds since 1970 UTC."""
    return time.time_ns() // 1_000_000
