"""Sessions and turns as rows, for lists and look-ups.

Rows are projections: a turn's row appears when the journal commits its `turn.accepted` and ends with its
`turn.finished`; a session's title follows `session.renamed`. So there is nothing here to record a turn with.
Each method exists twice: plain for threads, with a leading `a` for event loops.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, func, insert, select

from fleet_rlm.errors import NotFound
from fleet_rlm.integrations.database.engine import Database
from fleet_rlm.integrations.database.schema import events, sessions, turns
from fleet_rlm.integrations.database.store import RUNNING, JournalStore, now_ms
from fleet_rlm.runtime.execution.events import Draft, Event, SessionCreated, encode_event, place

MAX_LISTED = 1_000


@dataclass(frozen=True, slots=True)
class SessionRow:
    """A session in a list. Units: milliseconds since 1970 UTC; `cost_usd` is None when no finished turn has a price."""

    sid: str
    epoch: str
    title: str
    created_ms: int
    updated_ms: int
    head: int
    turns: int
    cost_usd: float | None
    active_turn: str | None


@dataclass(frozen=True, slots=True)
class TurnRow:
    """A turn. `status` is "running" until its `turn.finished` is committed."""

    tid: str
    sid: str
    owner: str
    command: str | None
    status: str
    accepted_seq: int
    finished_seq: int | None
    accepted_ms: int
    finished_ms: int | None
    cost_usd: float | None


class Sessions:
    """The repository of sessions and turns."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(self, title: str) -> SessionRow:
        """A new session, its `session.created` (seq 1) committed."""
        return self._database.run(self._create(title))

    async def acreate(self, title: str) -> SessionRow:
        """See create."""
        return await self._database.arun(self._create(title))

    def found(self, title: str, events_: Sequence[Event]) -> None:
        """A new session whose first events are these (from seq 1 on), whole or not at all."""
        self._database.run(JournalStore(self._database).found(title, events_))

    def get(self, sid: str) -> SessionRow:
        """Errors: NotFound."""
        return self._database.run(self._get(sid))

    async def aget(self, sid: str) -> SessionRow:
        """See get."""
        return await self._database.arun(self._get(sid))

    def list(self, limit: int = MAX_LISTED) -> list[SessionRow]:
        """Newest change first."""
        return self._database.run(self._list(limit))

    async def alist(self, limit: int = MAX_LISTED) -> list[SessionRow]:
        """See list."""
        return await self._database.arun(self._list(limit))

    async def aheads(self, sids: Collection[str] | None = None) -> dict[str, int]:
        """The newest committed seq of each of these sessions (None: of all) that is there, whoever wrote it."""
        return await self._database.arun(self._heads(sids))

    def get_turn(self, tid: str) -> TurnRow:
        """Errors: NotFound."""
        return self._database.run(self._one_turn(tid))

    async def aget_turn(self, tid: str) -> TurnRow:
        """See get_turn."""
        return await self._database.arun(self._one_turn(tid))

    def find_turn_by_command(self, sid: str, command: str) -> TurnRow | None:
        """The turn that this idempotency key already made in the session."""
        return self._database.run(self._by_command(sid, command))

    def turns_of(self, sid: str) -> list[TurnRow]:
        """The session's turns, oldest first."""
        return self._database.run(self._turns(turns.c.sid == sid))

    def unfinished_turns(self) -> list[TurnRow]:
        """Turns left open by processes that no longer live."""
        return self._database.run(self._unfinished())

    async def _create(self, title: str) -> SessionRow:
        sid, epoch, now = f"ses_{secrets.token_hex(10)}", secrets.token_hex(6), now_ms()
        event = place(Draft(SessionCreated(title=title)), epoch=epoch, sid=sid, seq=1, ts=now)
        async with self._database.write() as connection:
            await connection.execute(
                insert(sessions).values(sid=sid, epoch=epoch, title=title, created_ms=now, updated_ms=now, head=1)
            )
            await connection.execute(
                insert(events).values(sid=sid, seq=1, type=event.type, raw=encode_event(event).decode())
            )
        return SessionRow(sid, epoch, title, now, now, 1, 0, None, None)

    async def _get(self, sid: str) -> SessionRow:
        async with self._database.read() as connection:
            row = (await connection.execute(_session_query().where(sessions.c.sid == sid))).first()
        if row is None:
            raise NotFound(f"no session {sid[:80]!r}")
        return SessionRow(*row)

    async def _list(self, limit: int) -> list[SessionRow]:
        query = _session_query().order_by(sessions.c.updated_ms.desc(), sessions.c.sid).limit(limit)
        async with self._database.read() as connection:
            return [SessionRow(*row) for row in await connection.execute(query)]

    async def _heads(self, sids: Collection[str] | None) -> dict[str, int]:
        query = select(sessions.c.sid, sessions.c.head)
        if sids is not None:
            query = query.where(sessions.c.sid.in_(sids))
        async with self._database.read() as connection:
            return {sid: head for sid, head in await connection.execute(query)}

    async def _one_turn(self, tid: str) -> TurnRow:
        found = await self._turns(turns.c.tid == tid)
        if not found:
            raise NotFound(f"no turn {tid[:80]!r}")
        return found[0]

    async def _by_command(self, sid: str, command: str) -> TurnRow | None:
        found = await self._turns((turns.c.sid == sid) & (turns.c.command == command))
        return found[0] if found else None

    async def _unfinished(self) -> list[TurnRow]:
        alive = self._database.owner.alive
        return [turn for turn in await self._turns(turns.c.status == RUNNING) if not alive(turn.owner)]

    async def _turns(self, where: ColumnElement[bool]) -> list[TurnRow]:
        columns = [turns.c[name] for name in TurnRow.__slots__]
        # Not by time: the clock of the machine may have been set back between two turns.
        query = select(*columns).where(where).order_by(turns.c.sid, turns.c.accepted_seq)
        async with self._database.read() as connection:
            return [_turn(row) for row in await connection.execute(query)]


def _turn(row: Row[tuple[object, ...]]) -> TurnRow:
    return TurnRow(**row._mapping)  # pyright: ignore[reportArgumentType, reportPrivateUsage]


def _session_query() -> Select[Any, Any, Any, Any, Any, Any, int, Any, Any]:
    """Columns in the order of SessionRow."""
    mine = turns.c.sid == sessions.c.sid
    count = select(func.count()).select_from(turns).where(mine).scalar_subquery()
    cost = select(func.sum(turns.c.cost_usd)).where(mine).scalar_subquery()
    active = select(func.max(turns.c.tid)).where(mine, turns.c.status == RUNNING).scalar_subquery()
    s = sessions.c
    return select(s.sid, s.epoch, s.title, s.created_ms, s.updated_ms, s.head, count, cost, active)
