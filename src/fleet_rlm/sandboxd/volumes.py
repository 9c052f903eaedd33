"""Volumes: shared folders that sandboxes mount, whole or by a subpath."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath
from typing import Final

from fleet_rlm.sandboxd.disk import make_beneath
from fleet_rlm.sandboxd.errors import ApiError, bad_request, conflict, not_found
from fleet_rlm.sandboxd.jail.spec import Mount, SpecError
from fleet_rlm.sandboxd.models import ORGANIZATION, VolumeDto, VolumeMount, VolumeRecord, timestamp
from fleet_rlm.sandboxd.settings import Bounds
from fleet_rlm.sandboxd.store import Store

READ_ONLY_LABEL: Final = "sandboxd.read-only-mounts"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class Volumes:
    """The volumes of this server, by id and by name."""

    def __init__(self, store: Store, bounds: Bounds) -> None:
        self._store = store
        self._bounds = bounds
        self._by_id: dict[str, VolumeRecord] = {}
        self._last_used: dict[str, float] = {}

    def load(self) -> None:
        """Read the records from the store."""
        self._by_id = {record.id: record for record in self._store.volumes()}

    def all(self) -> list[VolumeRecord]:
        """Every volume, oldest first."""
        return sorted(self._by_id.values(), key=lambda record: record.created_at)

    def create(self, name: str) -> VolumeRecord:
        """A new empty volume, ready at once. 400 for a bad name, 409 for a taken one or too many."""
        if not _NAME.fullmatch(name):
            raise bad_request("a volume's name has 1 to 128 letters, digits, '.', '_' or '-'")
        if any(record.name == name for record in self._by_id.values()):
            raise conflict(f"a volume named {name!r} exists already")
        if len(self._by_id) >= self._bounds.volumes:
            raise conflict(f"there are {self._bounds.volumes} volumes already; delete one first", "LIMIT_REACHED")
        record = VolumeRecord(id=str(uuid.uuid4()), name=name, created_at=time.time())
        self._store.add_volume(record)
        self._by_id[record.id] = record
        return record

    def get(self, volume_id: str) -> VolumeRecord:
        """The volume with this id. 404 when there is none."""
        if (record := self._by_id.get(volume_id)) is None:
            raise not_found(f"there is no volume with id {volume_id!r}")
        return record

    def by_name(self, name: str) -> VolumeRecord:
        """The volume with this name. 404 when there is none."""
        for record in self._by_id.values():
            if record.name == name:
                return record
        raise not_found(f"there is no volume named {name!r}")

    def delete(self, volume_id: str, in_use: Iterable[VolumeMount]) -> Callable[[], None]:
        """Take a volume away; the returned work frees its disk space. 404, or 409 while a sandbox mounts it."""
        record = self.get(volume_id)
        if any(mount.volume_id == volume_id for mount in in_use):
            raise conflict(f"volume {record.name!r} is mounted by a sandbox; delete that first", "VOLUME_IN_USE")
        folder = self._store.discard_volume(volume_id)
        del self._by_id[volume_id]
        return lambda: None if folder is None else self._store.empty(folder)

    def folder(self, record: VolumeRecord) -> Path:
        """The host folder of its files."""
        return self._store.volume_data(record.id)

    def dto(self, record: VolumeRecord) -> VolumeDto:
        """The volume as the API shows it."""
        used = self._last_used.get(record.id)
        return VolumeDto(
            id=record.id,
            name=record.name,
            organization_id=ORGANIZATION,
            state="ready",
            created_at=timestamp(record.created_at),
            updated_at=timestamp(record.created_at),
            last_used_at=None if used is None else timestamp(used),
        )

    def resolve(self, wanted: Iterable[VolumeMount]) -> tuple[VolumeMount, ...]:
        """Mounts with volume ids for names and tidy paths. 400 for a bad path, 404 for an unknown volume."""
        mounts = tuple(self._resolve_one(mount) for mount in wanted)
        if len(mounts) > self._bounds.mounts:
            raise bad_request(f"at most {self._bounds.mounts} volumes can be mounted")
        targets = [PurePosixPath(mount.mount_path) for mount in mounts]
        for number, target in enumerate(targets):
            if any(target == other or target in other.parents for other in targets[:number] + targets[number + 1 :]):
                raise bad_request(f"mount path {str(target)!r} is used twice or lies over another mount")
        return mounts

    def _resolve_one(self, mount: VolumeMount) -> VolumeMount:
        record = self._by_id.get(mount.volume_id) or self.by_name(mount.volume_id)
        target = "/" + "/".join(part for part in mount.mount_path.split("/") if part not in ("", "."))
        if not mount.mount_path.startswith("/") or len(target) > 1024:
            raise bad_request(f"mount path {mount.mount_path!r} is not an absolute path")
        try:
            Mount(source=self._store.volume_data(record.id), target=target)
        except SpecError as error:
            raise bad_request(str(error)) from error
        subpath = "/".join(subpath_parts(mount.subpath or ""))
        return VolumeMount(volume_id=record.id, mount_path=target, subpath=subpath or None)

    def attach(self, mounts: Iterable[VolumeMount], labels: dict[str, str]) -> tuple[Mount, ...]:
        """The jail's mounts, folders made. 404 for a volume that is gone, 400 for a subpath that is no folder."""
        read_only = read_only_paths(labels)
        return tuple(self._attach_one(mount, mount.mount_path in read_only) for mount in mounts)

    def _attach_one(self, mount: VolumeMount, read_only: bool) -> Mount:
        record = self.get(mount.volume_id)
        root = self._store.volume_data(record.id)
        try:
            source = make_beneath(root, subpath_parts(mount.subpath or ""))
        except OSError as error:
            raise ApiError(400, f"subpath {mount.subpath!r} of volume {record.name!r} is not a folder") from error
        self._last_used[record.id] = time.time()
        return Mount(source=source, target=mount.mount_path, read_only=read_only)


def read_only_paths(labels: dict[str, str]) -> frozenset[str]:
    """The mount paths that a sandbox's labels make read-only."""
    listed = (path.strip() for path in labels.get(READ_ONLY_LABEL, "").split(","))
    return frozenset(path.rstrip("/") for path in listed if path)


def subpath_parts(subpath: str) -> tuple[str, ...]:
    """The components of a relative path. 400 for one that leads outside."""
    parts = tuple(part for part in subpath.split("/") if part not in ("", "."))
    if ".." in parts or "\0" in subpath or subpath.startswith("/") or len(subpath) > 1024:
        raise bad_request(f"subpath {subpath!r} must be a relative path inside the volume, without '..'")
    return parts
