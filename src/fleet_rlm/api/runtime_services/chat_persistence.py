"""Sessions and their history: list, rename, delete, events, snapshots."""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field

import msgspec

from fleet_rlm.api.runtime_services.leftovers import require_idle
from fleet_rlm.api.runtime_services.ports import Workspace
from fleet_rlm.integrations.database import SessionRow
from fleet_rlm.runtime.execution.events import Draft, SessionRenamed
from fleet_rlm.runtime.execution.views import ApprovalView, Workbench
from fleet_rlm.runtime.execution.workbench import reduce

PAGE = 1_000
KEPT_SNAPSHOTS = 4
UNTITLED = "New session"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A Workbench as JSON, at its seq."""

    sid: str
    epoch: str
    seq: int
    state: bytes


@dataclass(slots=True)
class _Kept:
    """A session's view and the lock under which it is read and brought to the head."""

    bench: Workbench
    lock: threading.Lock = field(default_factory=threading.Lock)


class ChatPersistence:
    """Sessions of one workspace."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._views: OrderedDict[str, _Kept] = OrderedDict()
        self._lock = threading.Lock()

    async def create(self, title: str | None) -> SessionRow:
        """A new, empty session."""
        return await self._workspace.sessions.acreate(title.strip() if title else UNTITLED)

    async def rename(self, sid: str, title: str) -> SessionRow:
        """Errors: NotFound; Conflict while a turn of another process runs in it."""
        await asyncio.to_thread(self._rename, sid, title.strip())
        return await self._workspace.sessions.aget(sid)

    def _rename(self, sid: str, title: str) -> None:
        self._workspace.journal.append(sid, [Draft(SessionRenamed(title=title))], durable=True)

    async def delete(self, sid: str) -> None:
        """Delete a session with its journal. Errors: NotFound; Conflict while a turn is active."""
        await asyncio.to_thread(self._delete, sid)

    def _delete(self, sid: str) -> None:
        require_idle(self._workspace, sid)
        self._workspace.delete_session(sid)
        with self._lock:
            self._views.pop(sid, None)

    async def snapshot(self, sid: str) -> Snapshot:
        """The session's view at its head, so that a far-behind page need not replay everything. Errors: NotFound."""
        return await asyncio.to_thread(self._snapshot, sid)

    async def approvals(self, sid: str, *, only_open: bool) -> list[ApprovalView]:
        """The questions of the session's runs, oldest first. Errors: NotFound."""
        return await asyncio.to_thread(self._approvals, sid, only_open)

    def _approvals(self, sid: str, only_open: bool) -> list[ApprovalView]:
        with self._at_head(sid) as bench:
            found = bench.approvals.values()
            return [msgspec.structs.replace(each) for each in found if not only_open or each.status == "open"]

    def _snapshot(self, sid: str) -> Snapshot:
        with self._at_head(sid) as bench:
            return Snapshot(sid, bench.epoch, bench.seq, msgspec.json.encode(bench))

    @contextmanager
    def _at_head(self, sid: str) -> Generator[Workbench]:
        """The session's view at its head, which stands still meanwhile. Views of other sessions wait for none of it."""
        epoch = self._workspace.journal.head(sid).epoch
        kept = self._kept(sid)
        with kept.lock:
            if kept.bench.epoch != epoch:
                kept.bench = Workbench(sid=sid, epoch=epoch)
            while page := self._workspace.journal.read(sid, kept.bench.seq, PAGE):
                reduce(kept.bench, page)
            yield kept.bench

    def _kept(self, sid: str) -> _Kept:
        with self._lock:
            kept = self._views.setdefault(sid, _Kept(Workbench(sid=sid)))
            self._views.move_to_end(sid)
            while len(self._views) > KEPT_SNAPSHOTS:
                self._views.popitem(last=False)
            return kept
