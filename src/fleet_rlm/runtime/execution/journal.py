"""The journal: the append-only sequence of a session's events, and the only truth about it.

`append` gives each event its place under the session's lock and hands it to the one thread that writes, which commits
in groups. Listeners hear of events after their commit, in order. So whoever sees an event can read it
back, and a live view is never ahead of what a crash leaves.

When the disk refuses a commit, the writer keeps the order and tries again until it works; appends fail once too much is
waiting. Whoever waits for durability gets a StorageError after a second, and then what they appended is taken back: it
is durable or never.
"""

from __future__ import annotations

import logging
import re
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import Future
from typing import cast

from fleet_rlm.errors import Conflict, FleetError, InternalError, NotFound, StorageError
from fleet_rlm.integrations.database import Batch, Head, JournalStore, Outcome, Stored
from fleet_rlm.integrations.database.store import now_ms
from fleet_rlm.runtime.execution.entries import Entry, Log, Position, batch, encoded, take_back
from fleet_rlm.runtime.execution.events import ArtifactPublished, Draft, Event, decode_event, place

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
MOST_MOVES = 30
"""So often the head may move under who waits for durability; two processes that write at once take turns."""
RETRY_SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0)

PROMISES = frozenset(
    {"turn.accepted", "turn.started", "turn.finished", "call.started", "call.finished", "sandbox.ready"}
    | {"run.started", "run.finished"}
)
"""Events that start a commit at once: money, a sandbox or an answer hangs on them."""

SYNCED = frozenset({"turn.accepted", "turn.finished"})
"""Events whose commit also survives a power cut."""

log = logging.getLogger(__name__)


class Journal:
    """The one door to the events of all sessions in a data folder."""

    def __init__(self, store: JournalStore, *, settle: Callable[[], None] | None = None) -> None:
        """Start the writer. `close` stops it. `settle` brings to the disk what the events to be committed name; a
        StorageError of it is one of the commit."""
        self._store = store
        self._settle = settle
        self._database = store.database
        self._logs: dict[str, Log] = {}
        self._logs_lock = threading.Lock()
        self._queue: deque[Entry] = deque()
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
        in it), StorageError (the disk refuses). With `durable`, what an error was raised for is not written later
        either; events that were appended behind it then move up, so only of durable ones is the place certain here.
        """
        if not drafts:
            return []
        if durable:
            self._database.check_thread()
        log_ = self._log(sid)
        for _ in range(MOST_MOVES):
            entry = self._enqueue(log_, drafts, durable)
            if not durable:
                return entry.events
            try:
                self._await(entry)
            except _Moved:
                continue  # another process wrote between two turns: the head is read anew
            return entry.events
        raise Conflict(f"another process keeps writing to session {log_.sid}", hint="try again")

    def _await(self, entry: Entry) -> None:
        """Wait until it is durable. Errors: why it is not, and never will be."""
        assert entry.done is not None
        try:
            entry.done.result(DURABLE_SECONDS)
        except TimeoutError as error:
            if self._take_back(entry.log, lambda each: each is entry):
                raise self._late() from error
            entry.done.result()  # a commit of it is under way, and nobody but the disk knows what becomes of it

    def begin(self, sid: str, drafts: Sequence[Draft]) -> list[Event]:
        """A new session whose first events these are, `session.created` before all; durable, whole or not at all.

        Errors: StorageError.
        """
        log_ = self._log(sid)
        with log_.lock:
            log_.position = Position(secrets.token_hex(6), 0)
        try:
            return self.append(sid, drafts, durable=True)
        except FleetError:
            self.forget(sid)
            raise

    def _enqueue(self, log_: Log, drafts: Sequence[Draft], durable: bool) -> Entry:
        done: Future[None] | None = Future() if durable else None
        with log_.lock:
            position = log_.position or self._load(log_)
            ts = now_ms()
            events: list[Event] = []
            raws: list[str] = []
            for seq, draft in enumerate(drafts, position.seq + 1):
                event, raw = encoded(place(draft, epoch=position.epoch, sid=log_.sid, seq=seq, ts=ts))
                events.append(event)
                raws.append(raw)
            urgent = durable or any(event.type in PROMISES for event in events)
            entry = Entry(log_, position, events, raws, done)
            self._push(entry, urgent, awaited=durable)
            position.seq += len(events)
        return entry

    def _push(self, entry: Entry, urgent: bool, *, awaited: bool) -> None:
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

    def _log(self, sid: str) -> Log:
        known = self._logs.get(sid)
        if known is not None:
            return known
        with self._logs_lock:
            return self._logs.setdefault(sid, Log(sid))

    def _load(self, log_: Log) -> Position:
        """Read the session's head; the caller holds its lock."""
        try:
            head = self._database.run(self._store.head(log_.sid))
        except NotFound:
            self.forget(log_.sid)
            raise
        log_.position = Position(head.epoch, head.seq)
        return log_.position

    # ------------------------------------------------------------------ the writer

    def _write_forever(self) -> None:
        while (entries := self._next()) is not None:
            began = time.monotonic()
            self._commit(entries)
            took = time.monotonic() - began
            self._not_before = began + min(max(PROMISE_SECONDS, COMMIT_SHARE * took), PROMISE_MOST)

    def _next(self) -> list[Entry] | None:
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

    def _take(self) -> list[Entry]:
        taken: list[Entry] = []
        count = 0
        while self._queue and count < MAX_GROUP:
            entry = self._queue.popleft()
            taken.append(entry)
            count += len(entry.events)
        self._waiting -= count
        if not self._queue:
            self._urgent = self._awaited = False
        return taken

    def _commit(self, entries: list[Entry]) -> None:
        groups: dict[str, list[Entry]] = {}
        for entry in entries:
            if entry.events and entry.position is entry.log.position:
                groups.setdefault(entry.log.sid, []).append(entry)
            elif entry.events:
                entry.settle(_Moved())
        if groups:
            synced = any(entry.done for entry in entries)
            lines, outcomes = self._insist(list(groups.values()), synced)
            for group, outcome in zip(lines, outcomes, strict=True):
                self._conclude(group, outcome)
        for entry in entries:
            if not entry.events:
                entry.settle(None)

    def _insist(self, groups: list[list[Entry]], synced: bool) -> tuple[list[list[Entry]], list[Outcome]]:
        """Try until the disk takes it; after a second, take back what somebody waits for. At the end of the journal,
        try a little only. Returns what became of each group that is left."""
        synced = synced or any(event.type in SYNCED for group in groups for entry in group for event in entry.events)
        attempt, since = 0, time.monotonic()
        while groups:
            batches = [batch(group) for group in groups]
            try:
                outcomes = self._store.commit(batches, synced=synced, before=self._settle)
            except StorageError as refused:
                if self._refused is None:
                    log.error("journal: %s; trying again", refused)
                self._refused = refused
                if self._closing or time.monotonic() - since > GIVE_UP_SECONDS:
                    groups = self._give_up(groups, refused)
                if self._closing and attempt >= len(RETRY_SECONDS):
                    return groups, [Outcome.REFUSED for _ in groups]
                time.sleep(RETRY_SECONDS[min(attempt, len(RETRY_SECONDS) - 1)])
                attempt += 1
            except Exception:  # supervisor: one impossible batch must not stop the others
                log.exception("journal: a commit is impossible; its batches are tried one by one")
                return groups, [self._alone(each, synced) for each in batches]
            else:
                self._refused = None
                return groups, outcomes
        return [], []

    def _give_up(self, groups: list[list[Entry]], refused: StorageError) -> list[list[Entry]]:
        """Take back what somebody waits for, also behind these events: the disk refuses that too. Returns what is left
        of the groups, for which nobody waits."""
        with self._changed:
            logs = {id(entry.log): entry.log for line in (*groups, self._queue) for entry in line if entry.awaited}
        for log_ in logs.values():
            for entry in self._take_back(log_, lambda each: each.awaited, groups):
                entry.settle(refused)
        return [group for group in groups if group]

    def _take_back(self, log_: Log, which: Callable[[Entry], bool], groups: Iterable[list[Entry]] = ()) -> list[Entry]:
        """Take entries of a session, none of which is being committed, out of the groups and the queue."""
        with log_.lock, self._changed:
            taken = take_back(log_, (*groups, self._queue), which)
            self._waiting = sum(len(entry.events) for entry in self._queue)
        return taken

    def _late(self) -> StorageError:
        why, hint = (f": {self._refused.message}", self._refused.hint) if self._refused else ("", None)
        return StorageError(f"the database did not commit within 30 s{why}", hint=hint)

    def _alone(self, batch_: Batch, synced: bool) -> Outcome:
        try:
            return self._store.commit([batch_], synced=synced, before=self._settle)[0]
        except Exception:  # supervisor, see _insist
            log.exception("journal: events of session %s cannot be written", batch_.sid)
            return Outcome.REFUSED

    def _conclude(self, group: list[Entry], outcome: Outcome) -> None:
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
                entry.settle(None)
            return
        # What follows in the queue was placed on the same wrong position and fails with it.
        log_.position = None
        error: FleetError = {
            Outcome.GONE: NotFound(f"no session {log_.sid!r}: it was deleted"),
            Outcome.BUSY: Conflict("a turn of another fleet process is running in this session"),
            Outcome.RESUMED: Conflict("another turn goes on from this one already", hint="resume that one"),
            Outcome.STALE: _Moved(),
            Outcome.REFUSED: InternalError("these events could not be written; the log says why"),
        }[outcome]
        if not all(entry.done for entry in group):
            log.warning("journal: events of session %s dropped: %s", log_.sid, outcome.value)
        for entry in group:
            entry.settle(error)

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

    async def ahas(self, sid: str, after: int, types: Collection[str]) -> bool:
        """Whether a session has a committed event of one of these types with seq > `after`, whoever wrote it."""
        return await self._database.arun(self._store.has(sid, after, types))

    def head(self, sid: str) -> Head:
        """Epoch and newest committed seq. Errors: NotFound."""
        return self._database.run(self._store.head(sid))

    async def ahead(self, sid: str) -> Head:
        """See head."""
        return await self._database.arun(self._store.head(sid))

    @property
    def failing(self) -> bool:
        """The disk refused the last commit."""
        return self._refused is not None

    # ------------------------------------------------------------------ deleting and ending

    def delete(self, sid: str) -> None:
        """Delete a session with its events and turns. Errors: NotFound; Conflict while a turn runs in it."""
        log_ = self._log(sid)
        with log_.lock:
            if log_.running:
                raise Conflict(f"a turn is running in session {sid}", hint="cancel it first")
            removed = self._database.run(self._store.remove(sid))
            if removed is Outcome.BUSY:
                raise Conflict(f"a turn of another fleet process is running in session {sid}", hint="stop it there")
            log_.position = None
        self.forget(sid)
        if removed is Outcome.GONE:
            raise NotFound(f"no session {sid[:80]!r}")

    def forget(self, sid: str) -> None:
        """Drop what is remembered of a session that is not there any more."""
        with self._logs_lock:
            self._logs.pop(sid, None)

    def flush(self) -> None:
        """Wait until everything appended so far is committed or refused. Errors: StorageError after 30 s."""
        self._database.check_thread()
        marker: Future[None] = Future()  # an empty entry at the end of the queue is done when all before it are
        with self._changed:
            if not self._writer.is_alive():
                return
            self._queue.append(Entry(Log(""), None, [], [], marker))
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
