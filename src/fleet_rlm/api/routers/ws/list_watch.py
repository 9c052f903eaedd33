"""What other processes on the data folder do to the list of sessions, which is not heard on our journal's thread.

While somebody wants to know, one look a second at the heads of all sessions: a session that came or went has changed
the list, and one that moved without us has if one of its new events does.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from fleet_rlm.errors import StorageError
from fleet_rlm.integrations.database import Sessions
from fleet_rlm.runtime.execution.journal import Journal

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
"""Between two looks at what other processes wrote."""
LISTED = frozenset({"session.created", "session.renamed", "turn.accepted", "turn.finished"})
"""Events that change what a list of sessions shows."""


class ListWatch:
    """Made and used on one event loop, but for `heard`."""

    def __init__(self, journal: Journal, sessions: Sessions, changed: Callable[[], None]) -> None:
        self._journal = journal
        self._sessions = sessions
        self._changed = changed
        self._heads: dict[str, int] | None = None
        """Of all sessions, as far as we know of them; None while nobody wants to know."""
        self._looking: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Somebody wants to know. Idempotent."""
        if self._looking is None:
            self._looking = asyncio.get_running_loop().create_task(self._look_again())

    def stop(self) -> None:
        """Nobody does any more. Idempotent."""
        if self._looking is not None:
            self._looking.cancel()
        self._looking = self._heads = None

    def heard(self, sid: str, head: int) -> None:
        """A session was brought to this head by us, who told of it ourselves. Any thread."""
        heads = self._heads
        if heads is not None:
            heads[sid] = max(head, heads.get(sid, 0))

    def removed(self, sid: str) -> None:
        """We deleted a session."""
        if self._heads is not None:
            self._heads.pop(sid, None)

    async def _look_again(self) -> None:
        while True:
            try:
                if await self._look():
                    self._changed()
            except StorageError as error:
                log.debug("the heads of sessions cannot be read, trying again: %s", error)
            await asyncio.sleep(LOOK_SECONDS)

    async def _look(self) -> bool:
        """Whether the list has changed since the last look; the first one only remembers."""
        first = self._heads is None
        known = self._heads = self._heads or {}  # stands before the look, so that what we write meanwhile is heard
        before = tuple(known)
        heads = await self._sessions.aheads()
        moved = {sid: known.get(sid, 0) for sid, head in heads.items() if head > known.get(sid, 0)}
        gone = [sid for sid in before if sid not in heads]
        for sid, head in heads.items():
            self.heard(sid, head)
        for sid in gone:
            known.pop(sid, None)
        if first:
            return False
        if gone or 0 in moved.values():
            return True
        for sid, after in moved.items():
            if await self._journal.ahas(sid, after, LISTED):
                return True
        return False
