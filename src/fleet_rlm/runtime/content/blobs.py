"""Large values of events, stored once by content: `<home>/blobs/ab/<sha256>`, files 0600, folders 0700.

A text of an event is written when the event is: a file and its sync take a millisecond, for which no run waits. The
journal calls `settle` before each commit, so that no committed event names a blob that is not on the disk.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
import threading
import time
from pathlib import Path

from fleet_rlm.errors import InvalidInput, NotFound, StorageError
from fleet_rlm.runtime.execution.events import HEAD_CHARS, Text

PREFIX = "blob_"
MAX_WAITING_BYTES = 64 << 20
"""What may wait in memory for the next commit; beyond it, whoever brings a text writes it."""
_HALF = ".new-"
"""Files that are not yet whole begin with this."""
_STALE_SECONDS = 86_400.0
_REF = re.compile(r"blob_[0-9a-f]{64}")


class BlobStore:
    """Immutable bytes under the SHA-256 of their content. Any thread, several processes."""

    def __init__(self, home: Path) -> None:
        self._root = home / "blobs"
        own_folder(self._root)
        sweep(self._root, _HALF)
        self._lock = threading.Lock()
        self._waiting: dict[str, bytes] = {}  # by reference
        self._waiting_bytes = 0

    def put(self, data: bytes) -> str:
        """Store and return "blob_<sha256>"; the bytes are on the disk when it returns. Errors: StorageError."""
        ref = _ref(data)
        self._store(ref, data)
        return ref

    def settle(self) -> None:
        """Write the texts that wait. Errors: StorageError; what is not written goes on waiting."""
        with self._lock:
            waiting = list(self._waiting.items())
        for ref, data in waiting:
            self._store(ref, data)
            with self._lock:
                if self._waiting.pop(ref, None) is not None:
                    self._waiting_bytes -= len(data)

    def put_text(self, text: str, head_chars: int = HEAD_CHARS) -> Text:
        """The text as an event holds it; the whole is stored only when it is longer than the head, by `settle`.

        Lone surrogates, which UTF-8 cannot hold, become question marks.
        """
        data = text.encode("utf-8", "replace")
        head = text[:head_chars].encode("utf-8", "replace").decode()
        return Text(head=head, bytes=len(data), ref=self._put_later(data) if len(text) > head_chars else None)

    def text(self, text: Text) -> str:
        """The whole of a text value. Errors: NotFound when its blob is gone."""
        return text.head if text.ref is None else self.read(text.ref).decode("utf-8", "replace")

    def read(self, ref: str, offset: int = 0, limit: int | None = None) -> bytes:
        """Bytes from `offset`, at most `limit`. Errors: NotFound; InvalidInput for a negative range."""
        if offset < 0 or (limit is not None and limit < 0):
            raise InvalidInput("offset and limit of a blob must not be negative")
        waiting = self._waiting.get(ref)
        if waiting is not None:
            return waiting[offset:] if limit is None else waiting[offset : offset + limit]
        with self.path(ref).open("rb") as file:
            file.seek(min(offset, os.fstat(file.fileno()).st_size))  # no file system takes just any number
            return file.read(-1 if limit is None else limit)

    def size(self, ref: str) -> int:
        """Bytes. Errors: NotFound."""
        return self.path(ref).stat().st_size

    def path(self, ref: str) -> Path:
        """The file. Errors: NotFound for an unknown or malformed reference."""
        if _REF.fullmatch(ref):
            waiting = self._waiting.get(ref)
            if waiting is not None:
                self._store(ref, waiting)
            path = self._file(ref)
            if path.is_file():
                return path
        raise NotFound(f"no blob {ref[:80]!r}")

    def _put_later(self, data: bytes) -> str:
        ref = _ref(data)
        with self._lock:
            room = self._waiting_bytes + len(data) <= MAX_WAITING_BYTES
            if room and ref not in self._waiting:
                self._waiting[ref] = data
                self._waiting_bytes += len(data)
        if not room:
            self._store(ref, data)
        return ref

    def _store(self, ref: str, data: bytes) -> None:
        try:
            _write(self._root, self._file(ref), data)
        except OSError as error:
            raise StorageError(f"cannot write a blob of {len(data)} bytes: {error.strerror or error}") from error

    def _file(self, ref: str) -> Path:
        name = ref.removeprefix(PREFIX)
        return self._root / name[:2] / name


def own_folder(path: Path) -> None:
    """Make a folder of the data folder where there is none. Errors: StorageError."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise StorageError(f"cannot use the folder {path}: {error.strerror or error}") from error


def _ref(data: bytes) -> str:
    return PREFIX + hashlib.sha256(data).hexdigest()


def sweep(folder: Path, prefix: str) -> None:
    """Remove what a killed process left half written, a day later."""
    for path in folder.glob(f"{prefix}*"):
        try:
            age = time.time() - path.stat().st_mtime
        except FileNotFoundError:  # whoever writes it is done, or another process swept it
            continue
        if age <= _STALE_SECONDS:
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _write(root: Path, target: Path, data: bytes) -> None:
    """Temporary name, sync, rename: a reader sees the whole or nothing. Nothing to do where it stands already."""
    if os.access(target, os.F_OK):
        return
    temporary = f"{root}/{_HALF}{secrets.token_hex(8)}"
    fd = _created(temporary, root)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(fd)
        _place(temporary, target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _place(path: str, target: Path) -> None:
    try:
        Path(path).rename(target)
    except FileNotFoundError:
        target.parent.mkdir(mode=0o700, exist_ok=True)
        Path(path).rename(target)


def _created(path: str, folder: Path) -> int:
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
    try:
        return os.open(path, flags, 0o600)
    except FileNotFoundError:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return os.open(path, flags, 0o600)
