"""The journal on its way to sockets and event streams.

One `Feed` per app hears every commit on the journal's thread and hands it to the loop. A `Following` is one reader of
one session: it takes what is new from the session's shared tail, or from the database when it is behind the tail. So
nothing piles up for a slow reader: it only falls behind, and the journal never waits for anyone.

What other processes write is not heard on our journal's thread. While somebody reads, the feed looks once a second at
the heads in the database, and the readers take what is new there (list_watch.py does it for the list of sessions).
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from fleet_rlm.api.routers.ws.list_watch import LISTED, LOOK_SECONDS, ListWatch
from fleet_rlm.errors import StorageError
from fleet_rlm.integrations.database import Head, Sessions, Stored
from fleet_rlm.runtime.execution.events import Event, encode_event
from fleet_rlm.runtime.execution.journal import Journal

log = logging.getLogger(__name__)

PAGE = 500
PIECE_CHARS = 32 * 1024
TAIL_EVENTS = 4_000
TAIL_CHARS = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Chunk:
    """Consecutive events, about 32 KiB of them; empty after a silence. `caught_up`: nothing newer was known."""

    events: Sequence[Stored]
    caught_up: bool


@dataclass(slots=True)
class _Tail:
    """The newest events of a session that somebody follows, and who does."""

    followers: set[Following] = field(default_factory=set["Following"])
    events: deque[Stored] = field(default_factory=deque[Stored])
    chars: int = 0
    head: int = 0

    def extend(self, events: Sequence[Stored]) -> None:
        for event in events:
            if event.seq <= self.head:
                continue
            if self.events and event.seq != self.head + 1:
                self.events.clear()
                self.chars = 0
            self.events.append(event)
            self.chars += len(event.raw)
            self.head = event.seq
        while self.events and (len(self.events) > TAIL_EVENTS or self.chars > TAIL_CHARS):
            self.chars -= len(self.events.popleft().raw)

    def after(self, seq: int) -> list[Stored] | None:
        """What follows `seq`, about one piece of it; None when the tail begins after it, or ends with it."""
        if not self.events or not self.events[0].seq <= seq + 1 <= self.head:
            return None
        first = seq + 1 - self.events[0].seq
        return _piece(self.events[i] for i in range(max(first, 0), len(self.events)))


class Following:
    """One reader of one session. `seq` is the last event it was given; `ended` says that nothing will come any more."""

    def __init__(self, feed: Feed, sid: str, turn: str | None) -> None:
        self.sid = sid
        self.epoch = ""
        self.head = 0
        self.seq = 0
        self.ended = False
        self.gone = False
        self._bell = asyncio.Event()
        self._feed = feed
        self._turn = turn

    def begin(self, head: Head, after: int) -> None:
        """Start after a seq; one beyond the head means the head."""
        self.epoch = head.epoch
        self.heard(head.seq)
        self.seq = min(after, self.head)

    async def next(self, timeout: float) -> Chunk:
        """The next events of the session, or none after `timeout` seconds of silence."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        while not self.ended:
            events = await self._take()
            if events:
                self.seq = events[-1].seq
                wanted = events if self._turn is None else [event for event in events if event.turn == self._turn]
                if wanted:
                    return Chunk(wanted, self.seq >= self.head)
                continue
            self._bell.clear()
            if self.seq < self.head:
                continue
            try:
                async with asyncio.timeout_at(deadline):
                    await self._bell.wait()
            except TimeoutError:
                break
        return Chunk((), True)

    async def _take(self) -> list[Stored]:
        if self.head <= self.seq:
            return []
        events = self._feed.tail(self.sid).after(self.seq)
        if events is None:
            events = _piece(await self._feed.journal.aread_raw(self.sid, self.seq, PAGE))
        if not events:
            # What was promised is not there: the session was deleted under us.
            self.end(gone=True)
        return events

    def heard(self, head: int) -> None:
        """Something newer is committed."""
        self.head = max(self.head, head)
        self._bell.set()

    def end(self, *, gone: bool = False) -> None:
        """Nothing will come any more; `gone` = the session was deleted."""
        self.ended = True
        self.gone = self.gone or gone
        self._bell.set()


class Feed:
    """All sessions' live events on one event loop. Made and used on that loop."""

    def __init__(self, journal: Journal, sessions: Sessions) -> None:
        self.journal = journal
        self._sessions = sessions
        self._loop = asyncio.get_running_loop()
        self._tails: dict[str, _Tail] = {}
        self._notices: set[Callable[[], None]] = set()
        self._closed = False
        self._looking: asyncio.Task[None] | None = None
        self._list = ListWatch(journal, sessions, self.announce)
        self._leave = journal.listen(None, self._hear)

    def _hear(self, events: Sequence[Event]) -> None:
        """On the journal's thread, after a commit."""
        sid = events[0].sid
        self._list.heard(sid, events[-1].seq)
        listed = bool(self._notices) and any(event.type in LISTED for event in events)
        stored: list[Stored] = []
        if sid in self._tails:
            stored = [Stored(event.seq, event.type, event.turn, encode_event(event).decode()) for event in events]
        if (stored or listed) and not self._closed:
            self._loop.call_soon_threadsafe(self._deliver, sid, stored, listed)

    def _deliver(self, sid: str, stored: list[Stored], listed: bool) -> None:
        tail = self._tails.get(sid)
        if tail is not None and stored:
            tail.extend(stored)
            for follower in tail.followers:
                follower.heard(tail.head)
        if listed:
            self.announce()

    async def _look_for_others(self) -> None:
        """Tell the readers what other processes wrote, as long as there are readers."""
        while self._tails:
            await asyncio.sleep(LOOK_SECONDS)
            followed = tuple(self._tails)
            try:
                heads = await self._sessions.aheads(followed)
            except StorageError as error:
                log.debug("the heads of sessions cannot be read, trying again: %s", error)
                continue
            for sid in followed:
                self._found(sid, heads.get(sid))

    def _found(self, sid: str, head: int | None) -> None:
        """The head of a session in the database; None when it was deleted."""
        if head is None:
            self.remove(sid)
            self.announce()
            return
        for follower in self.tail(sid).followers:
            if head > follower.head:
                follower.heard(head)

    @asynccontextmanager
    async def follow(self, sid: str, after: int, turn: str | None = None) -> AsyncGenerator[Following]:
        """Read a session from a seq on, history first, then live, without gap or double. Errors: NotFound."""
        tail = self._tails.setdefault(sid, _Tail())
        following = Following(self, sid, turn)
        tail.followers.add(following)
        if not self._closed and (self._looking is None or self._looking.done()):
            self._looking = self._loop.create_task(self._look_for_others())
        try:
            # Listening began above, so whatever is committed after this look at the head will be heard.
            following.begin(await self.journal.ahead(sid), after)
            yield following
        finally:
            tail.followers.discard(following)
            if not tail.followers and self._tails.get(sid) is tail:
                del self._tails[sid]

    def tail(self, sid: str) -> _Tail:
        """The shared tail of a followed session; an empty one when it was deleted."""
        return self._tails.get(sid) or _Tail()

    def remove(self, sid: str) -> None:
        """A session was deleted: its readers end."""
        self._list.removed(sid)
        tail = self._tails.pop(sid, None)
        for follower in tuple(tail.followers) if tail else ():
            follower.end(gone=True)

    def on_notice(self, notice: Callable[[], None]) -> Callable[[], None]:
        """Be called when the list of sessions changed, by whatever process. Returns the way out."""
        self._notices.add(notice)
        if not self._closed:
            self._list.start()

        def leave() -> None:
            self._notices.discard(notice)
            if not self._notices:
                self._list.stop()

        return leave

    def created(self, sid: str, head: int) -> None:
        """A session was made here."""
        self._list.heard(sid, head)
        self.announce()

    def announce(self) -> None:
        """The list of sessions changed."""
        for notice in tuple(self._notices):
            notice()

    def close(self) -> None:
        """End every reader; the app is going down."""
        self._closed = True
        self._leave()
        self._list.stop()
        if self._looking is not None:
            self._looking.cancel()
        for tail in self._tails.values():
            for follower in tuple(tail.followers):
                follower.end()


def _piece(events: Iterable[Stored]) -> list[Stored]:
    """The first about 32 KiB, at least one event."""
    piece: list[Stored] = []
    chars = 0
    for event in events:
        if piece and chars + len(event.raw) > PIECE_CHARS:
            break
        piece.append(event)
        chars += len(event.raw)
    return piece
