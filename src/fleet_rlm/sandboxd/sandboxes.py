"""The sandboxes of this server: created, started, stopped, deleted, found; each with its jail while it runs."""

from __future__ import annotations

import asyncio
import copy
import logging
import time
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Final

from fleet_rlm.sandboxd.admission import BASES, admit, check_labels, policy_of, set_network
from fleet_rlm.sandboxd.contexts import Context
from fleet_rlm.sandboxd.disk import free_bytes
from fleet_rlm.sandboxd.errors import ApiError, bad_request, conflict, not_found, not_implemented
from fleet_rlm.sandboxd.feed import Change, Feed
from fleet_rlm.sandboxd.jail.spec import JailClosed, JailSpec, Limits, SpecError
from fleet_rlm.sandboxd.jail.warm import Jail, WarmServer
from fleet_rlm.sandboxd.models import CreateSandbox, NetworkSettings, SandboxRecord, State, VolumeMount
from fleet_rlm.sandboxd.proxy import Egress
from fleet_rlm.sandboxd.sessions import Session
from fleet_rlm.sandboxd.settings import GIB, MIB, Settings
from fleet_rlm.sandboxd.snapshot_models import SnapshotRecord
from fleet_rlm.sandboxd.snapshots import Snapshots
from fleet_rlm.sandboxd.store import Store
from fleet_rlm.sandboxd.sweep import Sweeper
from fleet_rlm.sandboxd.terminal import Terminal
from fleet_rlm.sandboxd.volumes import Volumes

_log = logging.getLogger("sandboxd")
_CLOSING_S: Final = 0.7  # seconds that a closing server spends on freeing disk space; the next start does the rest
_LOST: Final = "every process of the sandbox ended by itself (out of memory or killed); its files are kept"


class Sandbox:
    """One sandbox: its record, its state and, while started, its jail and terminals."""

    def __init__(self, record: SandboxRecord, state: State, now: float, feed: Feed | None = None) -> None:
        self.record = record
        self._state = state
        self._feed = feed
        self.jail: Jail | None = None
        self.lock = asyncio.Lock()
        self.terminals: dict[str, Terminal] = {}
        self.sessions: dict[str, Session] = {}
        self.contexts: dict[str, Context] = {}
        self.requests = 0  # toolbox requests and sockets that are open now
        self.last_activity = now

    @property
    def state(self) -> State:
        """Where in its life it is; every change of it is told to the feed."""
        return self._state

    @state.setter
    def state(self, state: State) -> None:
        before, self._state = self._state, state
        if before is not state and self._feed is not None:
            self._feed.publish(Change(self, before))

    def running(self) -> Jail:
        """The jail. 400 when the sandbox is not started."""
        if self.jail is None or self.state is not State.STARTED:
            raise bad_request(f"sandbox {self.record.id} is {self.state}, not started", "SANDBOX_NOT_STARTED")
        return self.jail

    def clear(self) -> None:
        """Forget what ended with the jail; each of these notices by itself that its processes are gone."""
        self.terminals.clear()
        self.sessions.clear()
        self.contexts.clear()


class Sandboxes:
    """All sandboxes, by id and by name. `now` gives seconds since 1970."""

    def __init__(
        self,
        store: Store,
        volumes: Volumes,
        warm: WarmServer,
        settings: Settings,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.now = now
        self.feed = Feed()
        self._store = store
        self._volumes = volumes
        self._warm = warm
        self._settings = settings
        self._by_id: dict[str, Sandbox] = {}
        self._ids: dict[str, str] = {}  # name -> id
        self._watchers: set[asyncio.Task[None]] = set()
        self._sweeper = Sweeper()
        self._egress = Egress()
        self.snapshots = Snapshots(settings.data / "snapshots")

    def load(self) -> None:
        """Find the sandboxes of an earlier server: they are stopped, their files there."""
        self.snapshots.load()
        for folder in self._store.discard_leftovers():
            self.in_background(partial(self._store.empty, folder))
        for record in self._store.sandboxes():
            record.stopped_at = record.stopped_at or self.now()
            state = State.ERROR if record.error_reason else State.STOPPED
            self._by_id[record.id] = Sandbox(record, state, self.now(), self.feed)
            self._ids[record.name] = record.id

    def all(self) -> list[Sandbox]:
        """Every sandbox, in no order that means anything."""
        return list(self._by_id.values())

    def mounts(self) -> Iterator[VolumeMount]:
        """Every mount of every sandbox, stopped ones included."""
        for sandbox in self._by_id.values():
            yield from sandbox.record.volumes

    def find(self, key: str) -> Sandbox:
        """The sandbox with this id or name. 404 when there is none."""
        found = self._by_id.get(key) or self._by_id.get(self._ids.get(key, ""))
        if found is None:
            raise not_found(f"there is no sandbox with id or name {key[:128]!r}")
        return found

    def has_script(self, sha256: str) -> bool:
        """Whether a warm script with this hash (hex) was loaded at the start."""
        return self._warm.has_script(sha256)

    def workspace(self, sandbox: Sandbox) -> Path:
        """The host folder that is the sandbox's /workspace."""
        return self._store.workspace(sandbox.record.id)

    async def create(self, request: CreateSandbox) -> Sandbox:
        """Make and start a sandbox. 400, 404, 409, 501 for what cannot be; 507 when the disk is full."""
        self._check_room()
        snapshot = await self._snapshot_of(request)
        mounts = self._volumes.resolve(request.volumes or ())
        bounds = self._settings.bounds
        record = admit(request, str(uuid.uuid4()), mounts, snapshot, now=self.now(), bounds=bounds)
        if record.name in self._ids or record.name in self._by_id:
            raise conflict(f"a sandbox named {record.name!r} exists already")
        sandbox = Sandbox(record, State.CREATING, self.now(), self.feed)
        self._by_id[record.id] = sandbox
        self._ids[record.name] = record.id
        self.feed.publish(Change(sandbox, None))
        async with sandbox.lock:
            try:
                if record.ephemeral:
                    self._store.add_sandbox(record)
                else:
                    await asyncio.to_thread(self._store.add_sandbox, record)
                if snapshot is not None:
                    await asyncio.to_thread(self.snapshots.copy_files, snapshot, self._store.workspace(record.id))
                await self._launch(sandbox)
            except BaseException:
                self._forget(sandbox)
                raise
        return sandbox

    async def _snapshot_of(self, request: CreateSandbox) -> SnapshotRecord | None:
        """What a new sandbox is made from: a snapshot, an image that becomes one, or (None) the base."""
        if request.build_info is not None:
            if request.build_info.context_hashes:
                raise not_implemented("local files in an image")
            return await self.snapshots.built(request.build_info.dockerfile_content)
        if request.snapshot is None or request.snapshot in BASES:
            return None
        record = self.snapshots.find(request.snapshot)
        self.snapshots.check_usable(record)
        return record

    async def snapshot(self, key: str, name: str) -> None:
        """Keep the files of a stopped sandbox as a snapshot. 400 while it runs."""
        sandbox = self.find(key)
        async with sandbox.lock:
            self._check_alive(sandbox)
            if sandbox.state is not State.STOPPED:
                raise bad_request(f"sandbox {sandbox.record.id} is {sandbox.state}; stop it first")
            room = free_bytes(self._settings.data) - self._settings.bounds.free_disk
            limit = max(0, min(room, sandbox.record.disk * GIB))
            await self.snapshots.from_files(name, self.workspace(sandbox), sandbox.record.id, limit)

    def _check_room(self) -> None:
        bounds = self._settings.bounds
        if len(self._by_id) >= bounds.sandboxes:
            raise conflict(f"there are {bounds.sandboxes} sandboxes already; delete some first", "LIMIT_REACHED")
        if free_bytes(self._settings.data) < bounds.free_disk:
            raise ApiError(507, f"less than {bounds.free_disk // MIB} MiB of disk are free", code="NO_SPACE")

    async def _launch(self, sandbox: Sandbox) -> None:
        record = sandbox.record
        live = sum(1 for other in self._by_id.values() if other.jail is not None)
        if live >= self._settings.bounds.running:
            raise conflict(f"{live} sandboxes are running already; stop some first", "LIMIT_REACHED")
        packages = self.snapshots.mounts(record.snapshot)
        if packages and not self._warm.has_mounts:
            raise not_implemented("packages of a snapshot where sandboxes have no namespaces")
        try:
            spec = JailSpec(
                id=record.id,
                workspace=self._store.workspace(record.id).absolute(),
                mounts=self._volumes.attach(record.volumes, record.labels) + packages,
                env=self.snapshots.environment(record.snapshot, record.env),
                limits=Limits(memory_mb=record.memory * 1024, file_size_mb=self._settings.bounds.file_size // MIB),
            )
            jail = await self._warm.spawn(spec)
            await self._open_network(jail, record)
        except SpecError as error:
            raise bad_request(str(error)) from error
        except (JailClosed, OSError) as error:
            raise ApiError(500, f"the sandbox could not be started: {error}", code="START_FAILED") from error
        sandbox.jail = jail
        sandbox.state = State.STARTED
        sandbox.last_activity = self.now()
        record.stopped_at = None
        record.error_reason = None
        watcher = asyncio.create_task(self._watch(sandbox, jail))
        self._watchers.add(watcher)
        watcher.add_done_callback(self._watchers.discard)

    async def _open_network(self, jail: Jail, record: SandboxRecord) -> None:
        try:
            await self._egress.apply(jail, policy_of(record))
        except BaseException:
            await jail.kill()
            raise

    async def _watch(self, sandbox: Sandbox, jail: Jail) -> None:
        """Notice a jail that ended by itself."""
        await jail.closed.wait()
        if sandbox.jail is jail and sandbox.state is State.STARTED:
            await self.fail(sandbox, _LOST)

    async def fail(self, sandbox: Sandbox, reason: str) -> None:
        """End a running sandbox in state `error` with the reason; its files are kept."""
        async with sandbox.lock:
            if sandbox.state is not State.STARTED:
                return
            _log.warning("sandbox %s: %s", sandbox.record.id, reason)
            sandbox.state = State.ERROR
            sandbox.record.error_reason = reason
            await self._end(sandbox)

    async def start(self, key: str) -> Sandbox:
        """Start a stopped sandbox on its kept files; one that runs is left as it is."""
        sandbox = self.find(key)
        async with sandbox.lock:
            self._check_alive(sandbox)
            if sandbox.state is not State.STARTED:
                self._check_room()
                await self._launch(sandbox)
                await self._save(sandbox)
        return sandbox

    async def stop(self, key: str) -> Sandbox:
        """End every process of a sandbox; an ephemeral one is deleted with it."""
        sandbox = self.find(key)
        async with sandbox.lock:
            self._check_alive(sandbox)
            if sandbox.record.ephemeral:
                await self._destroy(sandbox)
            elif sandbox.state is not State.STOPPED:
                sandbox.state = State.STOPPING
                sandbox.record.error_reason = None
                await self._end(sandbox)
                sandbox.state = State.STOPPED
        return sandbox

    async def delete(self, key: str) -> Sandbox:
        """End a sandbox and remove its files."""
        sandbox = self.find(key)
        async with sandbox.lock:
            self._check_alive(sandbox)
            await self._destroy(sandbox)
        return sandbox

    async def set_labels(self, key: str, labels: dict[str, str]) -> Sandbox:
        """Replace the labels of a sandbox."""
        checked = check_labels(labels, self._settings.bounds)

        def apply(record: SandboxRecord) -> None:
            record.labels = checked

        return await self.change(key, apply)

    async def set_network(self, key: str, wanted: NetworkSettings) -> Sandbox:
        """Change the network settings of a sandbox; for one that runs they are in force at once."""
        sandbox = self.find(key)
        async with sandbox.lock:
            self._check_alive(sandbox)
            changed = copy.copy(sandbox.record)
            set_network(changed, wanted)
            if sandbox.jail is not None:
                await self._egress.apply(sandbox.jail, policy_of(changed))
            set_network(sandbox.record, wanted)  # only now: what cannot be put in force is not kept either
            await self._save(sandbox)
        return sandbox

    async def change(self, key: str, apply: Callable[[SandboxRecord], None]) -> Sandbox:
        """Change the record of a sandbox and keep it."""
        sandbox = self.find(key)
        async with sandbox.lock:
            self._check_alive(sandbox)
            apply(sandbox.record)
            await self._save(sandbox)
        return sandbox

    def quiesce(self) -> None:
        """From now on a jail that ends was ended by the closing server."""
        for watcher in self._watchers:
            watcher.cancel()

    async def close(self) -> None:
        """Forget ephemeral sandboxes and keep the others as stopped; the jails are ended by the warm server."""
        for sandbox in self.all():
            if sandbox.record.ephemeral:
                self._forget(sandbox)
            elif sandbox.state is State.STARTED:
                sandbox.state = State.STOPPED
                sandbox.record.stopped_at = self.now()
                self._store.save_sandbox(sandbox.record)
        await self.snapshots.close()
        await asyncio.to_thread(self._sweeper.close, _CLOSING_S)

    def in_background(self, work: Callable[[], None]) -> None:
        """Run slow disk work one after the other, off the event loop."""
        self._sweeper.submit(work)

    async def _end(self, sandbox: Sandbox) -> None:
        jail, sandbox.jail = sandbox.jail, None
        if jail is not None:
            await jail.kill()
        sandbox.clear()
        sandbox.record.stopped_at = self.now()
        await self._save(sandbox)

    async def _destroy(self, sandbox: Sandbox) -> None:
        sandbox.state = State.DESTROYING
        jail, sandbox.jail = sandbox.jail, None
        if jail is not None:
            await jail.kill()
        sandbox.clear()
        self._forget(sandbox)

    def _forget(self, sandbox: Sandbox) -> None:
        sandbox.state = State.DESTROYED
        self._by_id.pop(sandbox.record.id, None)
        self._ids.pop(sandbox.record.name, None)
        folder = self._store.discard_sandbox(sandbox.record.id)
        if folder is not None:
            self.in_background(partial(self._store.empty, folder))

    async def _save(self, sandbox: Sandbox) -> None:
        sandbox.record.updated_at = self.now()
        if sandbox.record.ephemeral:
            self._store.save_sandbox(sandbox.record)
        else:
            await asyncio.to_thread(self._store.save_sandbox, sandbox.record)

    @staticmethod
    def _check_alive(sandbox: Sandbox) -> None:
        if sandbox.state is State.DESTROYED:
            raise not_found(f"sandbox {sandbox.record.id} was deleted")
