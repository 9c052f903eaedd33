"""Snapshots: named additions to the base, Python packages and environment variables, or the files of a sandbox."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import shutil
import time
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

import msgspec

from fleet_rlm.sandboxd import dockerfile
from fleet_rlm.sandboxd.admission import BASES, check_name
from fleet_rlm.sandboxd.disk import PRIVATE, remove_tree, tree_size, write_atomic
from fleet_rlm.sandboxd.errors import ApiError, bad_request, conflict, not_found, not_implemented
from fleet_rlm.sandboxd.jail.spec import Mount
from fleet_rlm.sandboxd.models import ORGANIZATION, RECORD_VERSION, timestamp
from fleet_rlm.sandboxd.pip_install import InstallFailed, install
from fleet_rlm.sandboxd.settings import GIB
from fleet_rlm.sandboxd.snapshot_models import CreateSnapshot, SnapshotDto, SnapshotRecord, SnapshotState
from fleet_rlm.sandboxd.tree_copy import TooMuch, copy_tree

_log = logging.getLogger("sandboxd")
PLACE: Final = "/opt/snapshot"  # where its packages are in a sandbox
_LIMIT: Final = 100
_LOG_LIMIT: Final = 1024 * 1024
_BUILDS_AT_ONCE: Final = 2
_LOST: Final = "the server ended while this was built; delete it and create it again"


class Snapshots:
    """The snapshots below a folder: `<id>/{record.json,packages,files}`. Those named in `BASES` are the base."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._by_id: dict[str, SnapshotRecord] = {}
        self._last_used: dict[str, float] = {}
        self._logs: dict[str, list[str]] = {}
        self._builds: dict[str, asyncio.Task[None]] = {}
        self._slots = asyncio.Semaphore(_BUILDS_AT_ONCE)

    def load(self) -> None:
        """Read the records; what was being built is lost."""
        self._root.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
        for folder in sorted(self._root.iterdir()):
            try:
                record = msgspec.json.decode((folder / "record.json").read_bytes(), type=SnapshotRecord)
            except (OSError, msgspec.MsgspecError) as error:
                _log.warning("the snapshot in %s cannot be read (%s); it is left as it is", folder, error)
                continue
            if record.id != folder.name or record.version > RECORD_VERSION:
                continue
            if record.state is SnapshotState.BUILDING:
                record.state, record.error_reason = SnapshotState.BUILD_FAILED, _LOST
            self._by_id[record.id] = record

    async def close(self) -> None:
        """End builds that go on."""
        for task in self._builds.values():
            task.cancel()
        await asyncio.gather(*self._builds.values(), return_exceptions=True)

    def all(self) -> list[SnapshotRecord]:
        """Every snapshot, newest first."""
        return sorted(self._by_id.values(), key=lambda record: record.created_at, reverse=True)

    def find(self, key: str) -> SnapshotRecord:
        """The snapshot with this id or name. 404 when there is none."""
        for record in self._by_id.values():
            if key in (record.id, record.name):
                return record
        raise not_found(f"there is no snapshot {key[:128]!r}; leave it out to get this server's base")

    async def create(self, wanted: CreateSnapshot) -> SnapshotRecord:
        """Begin to build a snapshot; its state and log tell how it goes. 400, 409 or 501 for what cannot be."""
        if wanted.gpu:
            raise not_implemented("gpu")
        if wanted.entrypoint:
            raise not_implemented("an entrypoint")
        if wanted.build_info is not None:
            if wanted.build_info.context_hashes:
                raise not_implemented("local files in an image")
            text = wanted.build_info.dockerfile_content
        elif wanted.image_name:
            text = f"FROM {wanted.image_name}\n"
        else:
            raise bad_request("a snapshot needs an imageName or a buildInfo")
        record = self._new(wanted.name)
        for size in ("cpu", "memory", "disk"):
            if (value := getattr(wanted, size)) is not None:
                if not 1 <= value <= 64:
                    raise bad_request(f"{size} is {value}; it must be between 1 and 64")
                setattr(record, size, value)
        return await self._begin(record, text)

    async def built(self, text: str) -> SnapshotRecord:
        """The snapshot of a Dockerfile, built now unless one has been; for sandboxes made from an image.
        ApiError 400 when it cannot be built."""
        name = f"image-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
        found = next((record for record in self._by_id.values() if record.name == name), None)
        if found is not None and found.state is SnapshotState.BUILD_FAILED:
            await self.delete(found.id, ())
            found = None
        record = found or await self._begin(self._new(name), text)
        if (build := self._builds.get(record.id)) is not None:
            await asyncio.wait((build,))
        self.check_usable(record)
        return record

    async def from_files(self, name: str, workspace: Path, sandbox_id: str, limit: int) -> SnapshotRecord:
        """The files of a stopped sandbox as a snapshot. 413 above `limit` bytes."""
        record = self._new(name)
        record.source_sandbox_id = sandbox_id
        self._by_id[record.id] = record
        folder = self._root / record.id
        try:
            folder.mkdir(mode=PRIVATE)
            record.size = await asyncio.to_thread(copy_tree, workspace, folder / "files", limit)
            record.state = SnapshotState.ACTIVE
            await self._save(record)
        except BaseException as error:
            del self._by_id[record.id]
            await asyncio.to_thread(remove_tree, folder)
            if isinstance(error, TooMuch):
                raise ApiError(413, f"the sandbox has {error}", code="TOO_LARGE") from error
            raise
        return record

    def _new(self, name: str) -> SnapshotRecord:
        check_name(name)
        if name in BASES or any(name in (record.id, record.name) for record in self._by_id.values()):
            raise conflict(f"a snapshot named {name!r} exists already")
        if len(self._by_id) >= _LIMIT:
            raise conflict(f"there are {_LIMIT} snapshots already; delete some first", "LIMIT_REACHED")
        now = time.time()
        return SnapshotRecord(id=str(uuid.uuid4()), name=name, created_at=now, updated_at=now)

    async def _begin(self, record: SnapshotRecord, text: str) -> SnapshotRecord:
        recipe = dockerfile.read(text)
        record.dockerfile, record.packages, record.env = text, recipe.packages, recipe.env
        self._by_id[record.id] = record
        self._logs[record.id] = list(recipe.notes)
        (self._root / record.id).mkdir(mode=PRIVATE)
        await self._save(record)
        task = asyncio.create_task(self._build(record))
        self._builds[record.id] = task
        task.add_done_callback(lambda _: self._builds.pop(record.id, None))
        return record

    async def _build(self, record: SnapshotRecord) -> None:
        packages = self._root / record.id / "packages"
        state, reason = SnapshotState.BUILD_FAILED, "the build was ended"
        try:
            if record.packages:
                async with self._slots:
                    await install(record.packages, packages, lambda line: self._say(record.id, line))
                record.size = await asyncio.to_thread(tree_size, packages)
            state, reason = SnapshotState.ACTIVE, None
            self._say(record.id, "done")
        except InstallFailed as error:
            reason = str(error)
            self._say(record.id, reason)
        except OSError as error:
            reason = f"the build failed: {error.strerror or error}"
        finally:
            record.state, record.error_reason, record.updated_at = state, reason, time.time()
            if state is SnapshotState.BUILD_FAILED:
                await asyncio.to_thread(shutil.rmtree, packages, ignore_errors=True)
            if record.id in self._by_id:
                await self._save(record)

    def _say(self, snapshot_id: str, line: str) -> None:
        log = self._logs.setdefault(snapshot_id, [])
        if sum(map(len, log)) < _LOG_LIMIT:
            log.append(line)

    async def _save(self, record: SnapshotRecord) -> None:
        data = msgspec.json.encode(record)
        await asyncio.to_thread(write_atomic, self._root / record.id / "record.json", data)

    def log(self, record: SnapshotRecord) -> list[str]:
        """The lines of the build's log so far; those of builds before the server's start are gone."""
        return self._logs.get(record.id, [])

    def building(self, record: SnapshotRecord) -> bool:
        """Whether the log may still grow."""
        return record.id in self._builds

    async def set_active(self, key: str, active: bool) -> SnapshotRecord:
        """Let new sandboxes be made from a snapshot, or no longer."""
        record = self.find(key)
        if record.state not in (SnapshotState.ACTIVE, SnapshotState.INACTIVE):
            raise bad_request(f"snapshot {record.name} is {record.state.value}")
        record.state = SnapshotState.ACTIVE if active else SnapshotState.INACTIVE
        record.updated_at = time.time()
        await self._save(record)
        return record

    async def delete(self, key: str, in_use: Iterable[str | None]) -> None:
        """Remove a snapshot. 409 while a sandbox uses it (`in_use` are the names that sandboxes have)."""
        record = self.find(key)
        if record.name in set(in_use):
            raise conflict(f"snapshot {record.name!r} is used by a sandbox; delete that first", "SNAPSHOT_IN_USE")
        del self._by_id[record.id]
        self._logs.pop(record.id, None)
        if (build := self._builds.get(record.id)) is not None:
            build.cancel()
            await asyncio.wait((build,))
        await asyncio.to_thread(remove_tree, self._root / record.id)

    def check_usable(self, record: SnapshotRecord) -> None:
        """400 unless sandboxes can be made from it."""
        if record.state is not SnapshotState.ACTIVE:
            reason = f": {record.error_reason}" if record.error_reason else ""
            raise bad_request(f"snapshot {record.name} is {record.state.value}{reason}")

    def mounts(self, name: str | None) -> tuple[Mount, ...]:
        """What a sandbox of this snapshot sees of it. 404 when it has been deleted."""
        if name is None or name in BASES:
            return ()
        record = self.find(name)
        self._last_used[record.id] = time.time()
        packages = self._root / record.id / "packages"
        return (Mount(packages, PLACE, read_only=True),) if packages.is_dir() else ()

    def environment(self, name: str | None, own: Mapping[str, str]) -> dict[str, str]:
        """The environment of a sandbox of this snapshot: the snapshot's, and over it the sandbox's own."""
        if name is None or name in BASES:
            return dict(own)
        record = self.find(name)
        merged = {**record.env, **own}
        if record.packages:
            merged["PYTHONPATH"] = ":".join(filter(None, (merged.get("PYTHONPATH"), PLACE)))
        return merged

    def copy_files(self, record: SnapshotRecord, workspace: Path) -> None:
        """Put the files of a snapshot into a new workspace, which is empty."""
        files = self._root / record.id / "files"
        if files.is_dir():
            workspace.rmdir()
            copy_tree(files, workspace, GIB * 100)

    def dto(self, record: SnapshotRecord) -> SnapshotDto:
        """The snapshot as the API shows it."""
        used = self._last_used.get(record.id)
        created, updated = timestamp(record.created_at), timestamp(record.updated_at)
        about = {"dockerfileContent": record.dockerfile, "createdAt": created, "updatedAt": updated, "snapshotRef": ""}
        return SnapshotDto(
            id=record.id,
            name=record.name,
            organization_id=ORGANIZATION,
            general=False,
            state=record.state.value,
            size=round(record.size / GIB, 6),
            entrypoint=None,
            cpu=record.cpu,
            gpu=0,
            mem=record.memory,
            disk=record.disk,
            error_reason=record.error_reason,
            created_at=created,
            updated_at=updated,
            last_used_at=None if used is None else timestamp(used),
            source_sandbox_id=record.source_sandbox_id,
            build_info=about if record.dockerfile else None,
        )
