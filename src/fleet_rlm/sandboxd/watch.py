"""The watch over time and disk: intervals that have passed, workspaces and volumes that have grown too large."""

from __future__ import annotations

import asyncio
import logging
import time
from enum import Enum, auto
from pathlib import Path
from typing import Final

from fleet_rlm.sandboxd.disk import tree_use
from fleet_rlm.sandboxd.errors import ApiError
from fleet_rlm.sandboxd.jail.inside.plan import TEMPORARY
from fleet_rlm.sandboxd.models import State
from fleet_rlm.sandboxd.sandboxes import Sandbox, Sandboxes
from fleet_rlm.sandboxd.settings import GIB, Bounds
from fleet_rlm.sandboxd.volumes import Volumes, read_only_paths

_log = logging.getLogger("sandboxd")
_DISK_SHARE: Final = 10  # counting sizes takes at most a tenth of the time
_MINUTE: Final = 60.0
_FAILED_EPHEMERAL_S: Final = 60.0  # how long an ephemeral sandbox that failed can still be asked for its reason


class Due(Enum):
    """What has to happen to a sandbox now."""

    NOTHING = auto()
    STOP = auto()
    DELETE = auto()


def due(sandbox: Sandbox, now: float) -> Due:
    """What the intervals of a sandbox ask for at `now` (seconds since 1970)."""
    record = sandbox.record
    if record.ttl_minutes and now >= record.created_at + record.ttl_minutes * _MINUTE:
        return Due.DELETE
    if sandbox.state is State.STARTED:
        idle = 0.0 if sandbox.requests else now - sandbox.last_activity
        if record.auto_stop_interval and idle >= record.auto_stop_interval * _MINUTE:
            return Due.STOP
    elif sandbox.state in (State.STOPPED, State.ERROR) and record.auto_delete_interval >= 0:
        wait = record.auto_delete_interval * _MINUTE or _FAILED_EPHEMERAL_S
        if now >= (record.stopped_at or now) + wait:
            return Due.DELETE
    return Due.NOTHING


class Watch:
    """Looks at every sandbox again and again. `time_every` and `disk_every` are in seconds."""

    def __init__(
        self,
        sandboxes: Sandboxes,
        volumes: Volumes,
        bounds: Bounds,
        *,
        time_every: float = 5.0,
        disk_every: float = 10.0,
    ) -> None:
        self._sandboxes = sandboxes
        self._volumes = volumes
        self._bounds = bounds
        self._time_every = time_every
        self._disk_every = disk_every
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to watch."""
        self._tasks = [asyncio.create_task(self._watch_time()), asyncio.create_task(self._watch_disk())]

    async def close(self) -> None:
        """Stop watching."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _watch_time(self) -> None:
        while True:
            await asyncio.sleep(self._time_every)
            await self.check_time()

    async def _watch_disk(self) -> None:
        while True:
            started = time.monotonic()
            await self.check_disk()
            took = time.monotonic() - started
            await asyncio.sleep(max(self._disk_every, _DISK_SHARE * took))

    async def check_time(self) -> None:
        """Stop and delete what is due."""
        for sandbox in self._sandboxes.all():
            what = due(sandbox, self._sandboxes.now())
            if what is Due.NOTHING:
                continue
            _log.info("sandbox %s: %s, its interval has passed", sandbox.record.id, what.name.lower())
            act = self._sandboxes.stop if what is Due.STOP else self._sandboxes.delete
            try:
                await act(sandbox.record.id)
            except (ApiError, OSError) as error:
                _log.warning("sandbox %s: %s", sandbox.record.id, error)

    async def check_disk(self) -> None:
        """End sandboxes whose workspace, or whose writable volume, is larger than its quota or has too many
        entries. The quota is soft: a sandbox can exceed it until the next look."""
        full: dict[str, str] = {}
        for record in self._volumes.all():
            excess = await self._excess([self._volumes.folder(record)], self._bounds.volume_size)
            if excess:
                full[record.id] = excess
        for sandbox in self._sandboxes.all():
            if sandbox.state is not State.STARTED:
                continue
            workspace = self._sandboxes.workspace(sandbox)
            folders = [workspace, workspace.with_name(workspace.name + TEMPORARY)]
            if excess := await self._excess(folders, sandbox.record.disk * GIB):
                await self._sandboxes.fail(sandbox, f"the workspace {excess}")
            elif over := writable_volumes(sandbox) & full.keys():
                await self._sandboxes.fail(sandbox, f"a volume that it can write {full[min(over)]}")

    async def _excess(self, folders: list[Path], quota: int) -> str:
        """How far these folders together are over their bounds, in words; empty when they are not."""
        size = entries = 0
        for folder in folders:
            used = await asyncio.to_thread(tree_use, folder)
            size, entries = size + used[0], entries + used[1]
        if size > quota:
            return f"is larger than its {quota // GIB} GiB"
        if entries > self._bounds.tree_entries:
            return f"has more than {self._bounds.tree_entries} files and folders"
        return ""


def writable_volumes(sandbox: Sandbox) -> set[str]:
    """The ids of the volumes that a sandbox can write."""
    read_only = read_only_paths(sandbox.record.labels)
    return {mount.volume_id for mount in sandbox.record.volumes if mount.mount_path not in read_only}
