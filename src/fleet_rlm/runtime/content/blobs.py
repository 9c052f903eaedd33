"""Large values of events, stored once by content: `<home>/blobs/ab/<sha256>`, files 0600, folders 0700."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from pathlib import Path

from fleet_rlm.errors import InvalidInput, NotFound, StorageError
from fleet_rlm.runtime.execution.events import HEAD_CHARS, Text

PREFIX = "blob_"
_REF = re.compile(r"blob_[0-9a-f]{64}")


class BlobStore:
    """Immutable bytes under the SHA-256 of their content. Any thread, several processes."""

    def __init__(self, home: Path) -> None:
        self._root = home / "blobs"
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)

    def put(self, data: bytes) -> str:
        """Store and return "blob_<sha256>"; the bytes are on the disk when it returns. Errors: StorageError."""
        digest = hashlib.sha256(data).hexdigest()
        target = self._root / digest[:2] / digest
        try:
            if not target.exists():
                _write(target, data)
        except OSError as error:
            raise StorageError(f"cannot write a blob of {len(data)} bytes: {error.strerror or error}") from error
        return PREFIX + digest

    def put_text(self, text: str, head_chars: int = HEAD_CHARS) -> Text:
        """The text as an event holds it; the whole is stored only when it is longer than the head.

        Lone surrogates, which UTF-8 cannot hold, become question marks.
        """
        data = text.encode("utf-8", "replace")
        if len(text) <= head_chars:
            return Text(head=data.decode(), bytes=len(data))
        return Text(head=data.decode()[:head_chars], bytes=len(data), ref=self.put(data))

    def text(self, text: Text) -> str:
        """The whole of a text value. Errors: NotFound when its blob is gone."""
        return text.head if text.ref is None else self.read(text.ref).decode("utf-8", "replace")

    def read(self, ref: str, offset: int = 0, limit: int | None = None) -> bytes:
        """Bytes from `offset`, at most `limit`. Errors: NotFound; InvalidInput for a negative range."""
        if offset < 0 or (limit is not None and limit < 0):
            raise InvalidInput("offset and limit of a blob must not be negative")
        with self.path(ref).open("rb") as file:
            file.seek(offset)
            return file.read(-1 if limit is None else limit)

    def size(self, ref: str) -> int:
        """Bytes. Errors: NotFound."""
        return self.path(ref).stat().st_size

    def path(self, ref: str) -> Path:
        """The file. Errors: NotFound for an unknown or malformed reference."""
        if _REF.fullmatch(ref):
            digest = ref.removeprefix(PREFIX)
            path = self._root / digest[:2] / digest
            if path.is_file():
                return path
        raise NotFound(f"no blob {ref[:80]!r}")


def _write(target: Path, data: bytes) -> None:
    """Temporary name, sync, rename: a reader sees the whole or nothing."""
    target.parent.mkdir(mode=0o700, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    fd = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
