"""The data folder: one folder per sandbox and per volume, records as JSON, a lock against a second server."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from fleet_rlm.sandboxd.disk import PRIVATE, SHARED, remove_tree, write_atomic
from fleet_rlm.sandboxd.errors import ServerError
from fleet_rlm.sandboxd.models import RECORD_VERSION, SandboxRecord, VolumeRecord

_log = logging.getLogger("sandboxd")
_RECORD: Final = "record.json"
_Record = TypeVar("_Record", SandboxRecord, VolumeRecord)


class Store:
    """Everything that outlives the server: `sandboxes/<id>/{record.json,workspace}`, `volumes/<id>/{record.json,data}`.

    An ephemeral sandbox has no record: a folder without one is swept at the next start.
    """

    def __init__(self, data: Path) -> None:
        self._sandboxes = data / "sandboxes"
        self._volumes = data / "volumes"
        self._trash = data / "sandboxes" / ".trash"
        self._lock_file = data / "sandboxd.lock"
        self._lock_fd = -1

    def open(self) -> None:
        """Make the folders, take the lock, sweep what an earlier server left. ServerError when that cannot be."""
        try:
            for folder in (self._sandboxes, self._volumes, self._trash):
                folder.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
                folder.chmod(PRIVATE)
            self._lock_fd = os.open(self._lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ServerError(
                f"the data folder {self._sandboxes.parent} cannot be used: {error.strerror}; choose another by --data",
                code="DATA_NOT_WRITABLE",
            ) from error
        try:
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ServerError(
                f"another sandbox server uses the data folder {self._sandboxes.parent}; stop it or choose another",
                code="DATA_IN_USE",
            ) from error

    def workspace(self, sandbox_id: str) -> Path:
        """The host folder that is /workspace of a sandbox."""
        return self._sandboxes / sandbox_id / "workspace"

    def volume_data(self, volume_id: str) -> Path:
        """The host folder of a volume's files."""
        return self._volumes / volume_id / "data"

    def add_sandbox(self, record: SandboxRecord) -> None:
        """Make a sandbox's folders and, unless it is ephemeral, its record."""
        self.workspace(record.id).mkdir(mode=PRIVATE, parents=True)
        (self._sandboxes / record.id).chmod(PRIVATE)
        self.save_sandbox(record)

    def save_sandbox(self, record: SandboxRecord) -> None:
        """Keep the record; one that has become ephemeral loses it."""
        path = self._sandboxes / record.id / _RECORD
        if record.ephemeral:
            path.unlink(missing_ok=True)
        else:
            write_atomic(path, msgspec.json.encode(record))

    def add_volume(self, record: VolumeRecord) -> None:
        """Make a volume's folder and record."""
        data = self.volume_data(record.id)
        data.mkdir(mode=PRIVATE, parents=True)
        data.parent.chmod(PRIVATE)
        data.chmod(SHARED)
        write_atomic(data.parent / _RECORD, msgspec.json.encode(record))

    def discard_sandbox(self, sandbox_id: str) -> Path | None:
        """Take a sandbox out of the store at once; `empty` the returned folder later, off the event loop."""
        return self._discard(self._sandboxes / sandbox_id)

    def discard_volume(self, volume_id: str) -> Path | None:
        """Take a volume out of the store at once; `empty` the returned folder later, off the event loop."""
        return self._discard(self._volumes / volume_id)

    def _discard(self, folder: Path) -> Path | None:
        target = self._trash / folder.name
        try:
            folder.rename(target)
        except FileNotFoundError:
            return None
        return target

    @staticmethod
    def empty(folder: Path) -> None:
        """Remove a discarded folder from the disk."""
        remove_tree(folder)

    def discard_leftovers(self) -> list[Path]:
        """Take ephemeral sandboxes of an earlier server out of the store; all folders that are to be emptied."""
        for folder in _folders(self._sandboxes):
            if not (folder / _RECORD).exists():
                self._discard(folder)
        return _folders(self._trash, hidden=True)

    def sandboxes(self) -> Iterator[SandboxRecord]:
        """The records of all sandboxes; one that cannot be read is reported and left on the disk."""
        for folder in _folders(self._sandboxes):
            if (record := _read(folder, SandboxRecord)) is not None:
                yield record

    def volumes(self) -> Iterator[VolumeRecord]:
        """The records of all volumes; one that cannot be read is reported and left on the disk."""
        for folder in _folders(self._volumes):
            if (record := _read(folder, VolumeRecord)) is not None:
                yield record


def _folders(root: Path, *, hidden: bool = False) -> list[Path]:
    with contextlib.suppress(FileNotFoundError):
        return sorted(p for p in root.iterdir() if p.is_dir() and (hidden or not p.name.startswith(".")))
    return []


def _read(folder: Path, kind: type[_Record]) -> _Record | None:
    try:
        record = msgspec.json.decode((folder / _RECORD).read_bytes(), type=kind)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError) as error:
        _log.warning("the record in %s cannot be read (%s); it is left as it is", folder, error)
        return None
    if record.id != folder.name or record.version > RECORD_VERSION:
        _log.warning("the record in %s is of another version or folder; it is left as it is", folder)
        return None
    return record
