"""The journal: the append-only sequence of a session's events, and the only truth about it.

`append` gives each event its place under the session's lock and hands it to the one thread that writes, which commits
in groups. Listeners hear of events after their commit, in order. So whoever sees an event can read it
back, and a live view is never ahead of what a crash leaves.

When the disk refuses a commit, the writer keeps the order and tries again until it works; whoever waits for durability
gets a StorageError after a second, and appends fail once too much is waiting.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, cast

import msgspec

from fleet_rlm.errors import Conflict, FleetError, InternalError, NotFound, StorageError
from fleet_rlm.integrations.database import Batch, Head, JournalStore, Outcome, Stored
from fleet_rlm.integrations.database.store import now_ms
from fleet_rlm.runtime.execution.events import ArtifactPublished, Draft, Event, decode_event, encode_event, place

Listener = Callable[[Sequence[Event]], None]

_ARTIFACT = re.compile(r"art_[0-9a-z]{26}")
GROUP_EVENTS = 50
GROUP_SECONDS = 0.020
PROMISE_SECONDS, PROMISE_MOST = 0.005, 0.010
COMMIT_SHARE = 10
"""Promises are committed at once, but in a storm of calls one commit for each would take a core: not sooner after the
last one began than so many times what that took, which is taken to be at least the first of these times and at most the
second."""
MAX_GROUP = 1_000
MAX_WAITING = 200_000
DURABLE_SECONDS = 30.0
GIVE_UP_SECONDS = 1.0
RETRY_SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0)

PROMISES = frozenset(
    {"turn.accepted", "turn.started", "turn.finished", "call.started", "call.finished", "sandbox.ready"}
    | {"run.started", "run.finished"}
)
"""Events that start a commit at once: money, a sandbox or an answer hangs on them."""

SYNCED = frozenset({"turn.accepted", "turn.finished"})
"""Events whose commit also survives a power cut."""

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Position:
    """Where the next event goes. Dropped as a whole when it turns out wrong; entries placed on it then fail with it."""

    epoch: str
    seq: int


@dataclass(slots=True)
class _Log:
    """One session as the journal knows it. `lock` orders the giving of places; the writer never takes it."""

    sid: str
    lock: threading.Lock = field(default_factory=threading.Lock)
    position: _Position | None = None
    running: set[str] = field(default_factory=set[str])
    """Turns of this process whose acceptance is committed and whose end is not."""


@dataclass(slots=True)
class _Entry:
    """Events appended together; they are committed together. Without events: a mark in the queue."""

    log: _Log
    position: _Position | None
    events: list[Event]
    raws: list[str]
    done: Future[None] | None


class Journal:
    """The one door to the events of all sessions in a data folder."""

    def __init__(self, store: JournalStore, *, settle: Callable[[], None] | None = None) -> None:
        """Start the writer. `close` stops it. `settle` brings to the disk what the events to be committed name; a
        StorageError of it is one of the commit."""
        self._store = store
        self._settle = settle
        self._database = store.database
        self._logs: dict[str, _Log] = {}
        self._logs_lock = threading.Lock()
        self._queue: deque[_Entry] = deque()
        self._changed = threading.Condition(threading.Lock())  # over the queue and what is said of it
        self._waiting = 0
        self._urgent = False
        self._awaited = False
        self._not_before = 0.0
        self._closing = False
        self._refused: StorageError | None = None
        self._listeners: dict[str | None, tuple[Listener, ...]] = {}
        self._listeners_lock = threading.Lock()
        self._writer = threading.Thread(target=self._write_forever, name="fleet-commit", daemon=True)
        self._database.bar_thread(self._writer)
        self._writer.start()

    # ------------------------------------------------------------------ appending

    def append(self, sid: str, drafts: Sequence[Draft], *, durable: bool = False) -> list[Event]:
        """Give the drafts their places; with `durable`, return only after they are committed and synced.

        Any thread but the writer's. Errors: NotFound (no such session), Conflict (another process has a turn running
        in it), StorageError (the disk refuses).
        """
        if not drafts:
            return []
        if durable:
            self._database.check_thread()
        log_ = self._log(sid)
        events, done = self._enqueue(log_, drafts, durable)
        if done is None:
            return events
        try:
            done.result(DURABLE_SECONDS)
        except _Moved:
            # Another process wrote between two turns; the head was read anew, so once more settles it.
            return self._retry(log_, drafts)
        except TimeoutError as error:
            raise self._late() from error
        return events

    def begin(self, sid: str, head: Head) -> None:
        """A session that was made at this moment stands here: its head need not be read."""
        log_ = self._log(sid)
        with log_.lock:
            log_.position = log_.position or _Position(head.epoch, head.seq)

    def _retry(self, log_: _Log, drafts: Sequence[Draft]) -> list[Event]:
        events, done = self._enqueue(log_, drafts, durable=True)
        assert done is not None
        try:
            done.result(DURABLE_SECONDS)
        except _Moved as error:
            raise Conflict(f"another process keeps writing to session {log_.sid}") from error
        return events

    def _enqueue(self, log_: _Log, drafts: Sequence[Draft], durable: bool) -> tuple[list[Event], Future[None] | None]:
        done: Future[None] | None = Future() if durable else None
        with log_.lock:
            position = log_.position or self._load(log_)
            ts = now_ms()
            events: list[Event] = []
            raws: list[str] = []
            for seq, draft in enumerate(drafts, position.seq + 1):
                event, raw = _encoded(place(draft, epoch=position.epoch, sid=log_.sid, seq=seq, ts=ts))
                events.append(event)
                raws.append(raw)
            urgent = durable or any(event.type in PROMISES for event in events)
            self._push(_Entry(log_, position, events, raws, done), urgent, awaited=durable)
            position.seq += len(events)
        return events, done

    def _push(self, entry: _Entry, urgent: bool, *, awaited: bool) -> None:
        """Queue it, and wake the writer where that changes what it waits for."""
        with self._changed:
            if self._closing:
                raise StorageError("the journal is closed")
            if self._waiting >= MAX_WAITING:
                raise StorageError(
                    f"{self._waiting} events wait for the disk and no more are taken",
                    hint="look at the disk of the data folder",
                )
            self._queue.append(entry)
            before = self._waiting
            self._waiting = before + len(entry.events)
            wake = before == 0 or (urgent and not self._urgent) or (awaited and not self._awaited)
            wake = wake or before < GROUP_EVENTS <= self._waiting
            self._urgent = self._urgent or urgent
            self._awaited = self._awaited or awaited
            if wake:
                self._changed.notify()

    def _log(self, sid: str) -> _Log:
        known = self._logs.get(sid)
        if known is not None:
            return known
        with self._logs_lock:
            return self._logs.setdefault(sid, _Log(sid))

    def _load(self, log_: _Log) -> _Position:
        """Read the session's head; the caller holds its lock."""
        try:
            head = self._database.run(self._store.head(log_.sid))
        except NotFound:
            self.forget(log_.sid)
            raise
        log_.position = _Position(head.epoch, head.seq)
        return log_.position

    # ------------------------------------------------------------------ the writer

    def _write_forever(self) -> None:
        while (entries := self._next()) is not None:
            began = time.monotonic()
            self._commit(entries)
            took = time.monotonic() - began
            self._not_before = began + min(max(PROMISE_SECONDS, COMMIT_SHARE * took), PROMISE_MOST)

    def _next(self) -> list[_Entry] | None:
        """The next group, when it is time for it; None at the end of the journal."""
        with self._changed:
            while not self._queue:
                if self._closing:
                    return None
                self._changed.wait()
            self._gather()
            return self._take()

    def _gather(self) -> None:
        """Wait for a group to fill: not at all when somebody waits for it, and only a moment for a promise."""
        patience = time.monotonic() + GROUP_SECONDS
        while not (self._awaited or self._closing or self._waiting >= GROUP_EVENTS):
            until = min(patience, self._not_before) if self._urgent else patience
            left = until - time.monotonic()
            if left <= 0:
                return
            self._changed.wait(left)

    def _take(self) -> list[_Entry]:
        taken: list[_Entry] = []
        count = 0
        while self._queue and count < MAX_GROUP:
            entry = self._queue.popleft()
            taken.append(entry)
            count += len(entry.events)
        self._waiting -= count
        if not self._queue:
            self._urgent = self._awaited = False
        return taken

    def _commit(self, entries: list[_Entry]) -> None:
        groups: dict[str, list[_Entry]] = {}
        for entry in entries:
            if entry.events and entry.position is entry.log.position:
                groups.setdefault(entry.log.sid, []).append(entry)
            elif entry.events:
                _settle(entry, _Moved())
        if groups:
            outcomes = self._insist([_batch(group) for group in groups.values()], entries)
            for group, outcome in zip(groups.values(), outcomes, strict=True):
                self._conclude(group, outcome)
        for entry in entries:
            if not entry.events:
                _settle(entry, None)

    def _insist(self, batches: list[Batch], entries: list[_Entry]) -> list[Outcome]:
        """Try until the disk takes it; tell who waits after a second. At the end of the journal, try a little only."""
        synced = any(event.type in SYNCED for batch in batches for event in batch.events)
        synced = synced or any(entry.done for entry in entries)
        attempt, since = 0, time.monotonic()
        while True:
            try:
                outcomes = self._store.commit(batches, synced=synced, before=self._settle)
            except StorageError as refused:
                if self._refused is None:
                    log.error("journal: %s; trying again", refused)
                self._refused = refused
                if self._closing or time.monotonic() - since > GIVE_UP_SECONDS:
                    self._give_up(entries, refused)
                if self._closing and attempt >= len(RETRY_SECONDS):
                    return [Outcome.REFUSED for _ in batches]
                time.sleep(RETRY_SECONDS[min(attempt, len(RETRY_SECONDS) - 1)])
                attempt += 1
            except Exception:  # supervisor: one impossible batch must not stop the others
                log.exception("journal: a commit is impossible; its batches are tried one by one")
                return [self._alone(batch, synced) for batch in batches]
            else:
                self._refused = None
                return outcomes

    def _give_up(self, entries: list[_Entry], refused: StorageError) -> None:
        """Tell who waits for these events, and who waits behind them: the disk refuses those too."""
        with self._changed:
            behind = [entry for entry in self._queue if entry.events]
        for entry in (*entries, *behind):
            _settle(entry, refused)

    def _late(self) -> StorageError:
        why, hint = (f": {self._refused.message}", self._refused.hint) if self._refused else ("", None)
        return StorageError(f"the database did not commit within 30 s{why}", hint=hint)

    def _alone(self, batch: Batch, synced: bool) -> Outcome:
        try:
            return self._store.commit([batch], synced=synced, before=self._settle)[0]
        except Exception:  # supervisor, see _insist
            log.exception("journal: events of session %s cannot be written", batch.sid)
            return Outcome.REFUSED

    def _conclude(self, group: list[_Entry], outcome: Outcome) -> None:
        log_ = group[0].log
        if outcome is Outcome.OK:
            events = [event for entry in group for event in entry.events]
            for event in events:
                if event.turn and event.type == "turn.accepted":
                    log_.running.add(event.turn)
                elif event.turn and event.type == "turn.finished":
                    log_.running.discard(event.turn)
            self._tell(log_.sid, events)
            for entry in group:
                _settle(entry, None)
            return
        # What follows in the queue was placed on the same wrong position and fails with it.
        log_.position = None
        error: FleetError = {
            Outcome.GONE: NotFound(f"no session {log_.sid!r}: it was deleted"),
            Outcome.BUSY: Conflict("a turn of another fleet process is running in this session"),
            Outcome.STALE: _Moved(),
            Outcome.REFUSED: InternalError("these events could not be written; the log says why"),
        }[outcome]
        if not all(entry.done for entry in group):
            log.warning("journal: events of session %s dropped: %s", log_.sid, outcome.value)
        for entry in group:
            _settle(entry, error)

    # ------------------------------------------------------------------ listening and reading

    def listen(self, sid: str | None, listener: Listener) -> Callable[[], None]:
        """Hear of committed events, in order, on the writer's thread; None = of all sessions. Returns the way out.

        A listener must be quick and must not call the journal back.
        """
        with self._listeners_lock:
            self._listeners[sid] = (*self._listeners.get(sid, ()), listener)

        def leave() -> None:
            with self._listeners_lock:
                left = list(self._listeners.get(sid, ()))
                if listener in left:
                    left.remove(listener)
                if left:
                    self._listeners[sid] = tuple(left)
                else:
                    self._listeners.pop(sid, None)

        return leave

    def _tell(self, sid: str, events: Sequence[Event]) -> None:
        for listener in (*self._listeners.get(sid, ()), *self._listeners.get(None, ())):
            try:
                listener(events)
            except Exception:  # supervisor: a broken view must not stop the journal
                log.exception("journal: a listener failed")

    def read(self, sid: str, after: int = 0, limit: int = 500, turn: str | None = None) -> list[Event]:
        """Committed events with seq > `after`, in order; those of one turn when given. Empty for an unknown session."""
        return [decode_event(row.raw) for row in self._database.run(self._store.read(sid, after, limit, turn))]

    async def aread(self, sid: str, after: int = 0, limit: int = 500, turn: str | None = None) -> list[Event]:
        """See read."""
        return [decode_event(row.raw) for row in await self.aread_raw(sid, after, limit, turn)]

    async def aread_raw(self, sid: str, after: int = 0, limit: int = 500, turn: str | None = None) -> list[Stored]:
        """See read; the events' JSON as committed, for edges that only pass it on."""
        return await self._database.arun(self._store.read(sid, after, limit, turn))

    def of_type(self, sid: str, type_: str) -> list[Event]:
        """A session's committed events of one type, in order; for rare types such as "memory.changed"."""
        return [decode_event(raw) for raw in self._database.run(self._store.of_type(sid, type_))]

    async def alatest(self, turn: str, type_: str) -> Event | None:
        """A turn's newest event of a type, such as "budget.updated"; None when there is none."""
        raw = await self._database.arun(self._store.latest(turn, type_))
        return None if raw is None else decode_event(raw)

    def artifacts(self, sid: str) -> list[ArtifactPublished]:
        """The committed artifacts of a session, in order."""
        return [cast("ArtifactPublished", event.data) for event in self.of_type(sid, ArtifactPublished.type)]

    async def aartifact(self, id: str) -> ArtifactPublished:
        """An artifact by its id. Errors: NotFound."""
        raw = await self._database.arun(self._store.artifact(id)) if _ARTIFACT.fullmatch(id) else None
        if raw is None:
            raise NotFound(f"no artifact {id[:80]!r}")
        return cast("ArtifactPublished", decode_event(raw).data)

    async def aof_type(self, sid: str, type_: str) -> list[Event]:
        """The committed events of one type of a session, in order."""
        return [decode_event(raw) for raw in await self._database.arun(self._store.of_type(sid, type_))]

    def head(self, sid: str) -> Head:
        """Epoch and newest committed seq. Errors: NotFound."""
        return self._database.run(self._store.head(sid))

    async def ahead(self, sid: str) -> Head:
        """See head."""
        return await self._database.arun(self._store.head(sid))

    @property
    def failing(self) -> bool:
        """The last commit was refused and is being tried again."""
        return self._refused is not None

    # ------------------------------------------------------------------ deleting and ending

    def delete(self, sid: str) -> None:
        """Delete a session with its events and turns. Errors: NotFound; Conflict while a turn of this process runs."""
        log_ = self._log(sid)
        with log_.lock:
            if log_.running:
                raise Conflict(f"a turn is running in session {sid}", hint="cancel it first")
            removed = self._database.run(self._store.remove(sid))
            log_.position = None
        self.forget(sid)
        if not removed:
            raise NotFound(f"no session {sid[:80]!r}")

    def forget(self, sid: str) -> None:
        """Drop what is remembered of a session that is not there any more."""
        with self._logs_lock:
            self._logs.pop(sid, None)

    def flush(self) -> None:
        """Wait until everything appended so far is committed. Errors: StorageError after 30 s."""
        self._database.check_thread()
        marker: Future[None] = Future()  # an empty entry at the end of the queue is done when all before it are
        with self._changed:
            if not self._writer.is_alive():
                return
            self._queue.append(_Entry(_Log(""), None, [], [], marker))
            self._urgent = self._awaited = True
            self._changed.notify()
        try:
            marker.exception(DURABLE_SECONDS)
        except TimeoutError as error:
            raise self._late() from error

    def close(self) -> None:
        """Commit what waits, stop the writer and close the database. Idempotent."""
        with self._changed:
            if self._closing:
                return
            self._closing = True
            self._changed.notify()
        try:
            self._writer.join(DURABLE_SECONDS)
            if self._writer.is_alive():
                raise InternalError("the journal's writer did not end within 30 s")
        finally:
            self._database.close()


class _Moved(Conflict):
    """The session's head moved under us: another process wrote to it."""

    def __init__(self) -> None:
        super().__init__("another process wrote to this session at the same time", hint="try again")


def _batch(group: list[_Entry]) -> Batch:
    events = [event for entry in group for event in entry.events]
    raws = [raw for entry in group for raw in entry.raws]
    return Batch(group[0].log.sid, events[0].seq - 1, events, raws, owns_turn=bool(group[0].log.running))


def _encoded(event: Event) -> tuple[Event, str]:
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


def _settle(entry: _Entry, error: FleetError | None) -> None:
    if entry.done is None or entry.done.done():
        return
    if error is None:
        entry.done.set_result(None)
    else:
        entry.done.set_exception(error)
