"""A context in the making: bytes go to a folder of its own, which appears in its place whole or not at all."""

from __future__ import annotations

import codecs
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Literal

import msgspec

from fleet_rlm.errors import StorageError, TooLarge
from fleet_rlm.runtime.content.index import ContextIndex, Indexer, Origin
from fleet_rlm.runtime.content.tree import CannotRead

PREFIX = ".new-"
"""Folders of unfinished contexts begin with this."""

_MARKS = (  # those of UTF-32 first: that of UTF-16 is their beginning
    (codecs.BOM_UTF8, None),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_MARK_BYTES = 4


class ContextWriter:
    """A context in the making, in a folder of its own that vanishes unless it is published."""

    def __init__(self, root: Path, max_bytes: int) -> None:
        self.root = root
        self.max_bytes = max_bytes
        self._folder = root / f"{PREFIX}{secrets.token_hex(8)}"
        self._hash = hashlib.sha256()
        self._before = self._hash
        self.indexer = Indexer()
        self.skipped = 0
        self.unread: list[str] = []

    def __enter__(self) -> ContextWriter:
        self._folder.mkdir(mode=0o700)
        self._data = os.fdopen(os.open(self._folder / "data", os.O_CREAT | os.O_WRONLY, 0o600), "wb", buffering=0)
        return self

    def __exit__(self, *_: object) -> None:
        self._data.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def write_file(self, path: str, chunks: Iterable[bytes], origin: Origin | None = None) -> str | None:
        """Append a file. Returns why it is no text, and then nothing of it stays; None when it is in.

        Errors: TooLarge, StorageError; CannotRead of `chunks`, and nothing of it stays then either.
        """
        self._before = self._hash.copy()
        self.indexer.begin_file()
        try:
            for piece in _as_utf8(chunks):
                if b"\0" in piece:
                    raise ValueError("it is binary (it has NUL bytes)")
                self.indexer.feed(piece)
                self._write(path, piece)
            self.indexer.end_file(path, origin)
        except UnicodeDecodeError as error:
            fault = f"it is not {error.encoding.upper()} (byte 0x{error.object[error.start]:02x})"
        except ValueError as error:
            fault = str(error)
        except CannotRead:
            self._drop()
            raise
        else:
            return None
        self._drop()
        return fault

    def _drop(self) -> None:
        """Forget the file that was begun."""
        self._data.seek(self.indexer.drop_file())
        self._data.truncate()
        self._hash = self._before

    def index(self, name: str, kind: Literal["text", "tree"], source: str | None = None) -> ContextIndex:
        """The index of what was written. Its name covers the table of files and the documents they came from."""
        files = self.indexer.files
        digest = self._hash
        origins = [[number, entry.origin] for number, entry in enumerate(files) if entry.origin is not None]
        if origins:  # the same words from another document are another context: its places differ
            digest = hashlib.sha256(b"origins 1\n" + msgspec.json.encode(origins) + b"\n" + digest.digest())
        if kind == "tree":
            table = msgspec.json.encode([[entry.path, entry.bytes] for entry in files])
            digest = hashlib.sha256(b"tree 1\n" + table + b"\n" + digest.digest())
        return ContextIndex(
            kind=kind,
            name=name,
            sha256=digest.hexdigest(),
            chars=self.indexer.chars,
            bytes=self.indexer.bytes,
            lines=sum(entry.lines for entry in files),
            skipped=self.skipped,
            files=files,
            checkpoints=self.indexer.checkpoints,
            source=msgspec.UNSET if source is None else source,
            unread=self.unread or msgspec.UNSET,
        )

    def publish(self, index: ContextIndex, folder: Path) -> None:
        """Put the folder in its place, unless the same content is there already; what is damaged there makes way."""
        if _stands(folder, index):
            return
        os.fsync(self._data.fileno())
        handle = os.open(self._folder / "index.json", os.O_CREAT | os.O_WRONLY, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(msgspec.json.encode(index))
            file.flush()
            os.fsync(file.fileno())
        try:
            self._folder.rename(folder)
        except OSError:
            if _stands(folder, index):  # another writer was first, with the same content
                return
            self._make_way(folder)
            self._folder.rename(folder)
        parent = os.open(folder.parent, os.O_RDONLY)
        try:
            os.fsync(parent)
        finally:
            os.close(parent)

    def _make_way(self, folder: Path) -> None:
        """Take away what is damaged there."""
        aside = self._folder.with_name(f"{self._folder.name}-damaged")
        with suppress(FileNotFoundError):  # another writer did
            folder.rename(aside)
        shutil.rmtree(aside, ignore_errors=True)

    def _write(self, path: str, piece: bytes) -> None:
        if self._data.tell() + len(piece) > self.max_bytes:
            raise too_large(path, self.max_bytes)
        view = memoryview(piece)
        try:
            while view:
                view = view[self._data.write(view) :]
        except OSError as error:
            raise disk_refused(error) from error
        self._hash.update(piece)


def _stands(folder: Path, index: ContextIndex) -> bool:
    """Whether the content of this index is there, whole as far as its index and its size tell."""
    try:
        there = msgspec.json.decode((folder / "index.json").read_bytes(), type=ContextIndex)
        return there.sha256 == index.sha256 and (folder / "data").stat().st_size == index.bytes
    except (FileNotFoundError, msgspec.DecodeError):
        return False


def _as_utf8(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The text without its byte order mark, and in UTF-8 where the mark says that it is in UTF-16 or UTF-32."""
    head = b""
    source = iter(chunks)
    for piece in source:
        head += piece
        if len(head) >= _MARK_BYTES:
            break
    mark, charset = next((each for each in _MARKS if head.startswith(each[0])), (b"", None))
    rest = chain([head.removeprefix(mark)], source)
    yield from filter(None, rest if charset is None else recoded(rest, charset, "strict"))


def recoded(chunks: Iterable[bytes], charset: str, errors: str) -> Iterator[bytes]:
    """Text of another encoding in UTF-8; `errors` as in Python's codecs."""
    decoder = codecs.getincrementaldecoder(charset)(errors)
    for piece in chunks:
        yield decoder.decode(piece).encode()
    yield decoder.decode(b"", final=True).encode()


def too_large(name: str, limit: int) -> TooLarge:
    """The error for an input above the limit, in bytes."""
    return TooLarge(f"{name} is larger than {_size(limit)}", hint="attach a part of it")


def disk_refused(error: OSError) -> StorageError:
    """The error for a write that failed."""
    return StorageError(f"the context cannot be kept: {error.strerror or error}", hint="is the disk full?")


def _size(limit: int) -> str:
    return f"{limit / 1e9:g} GB" if limit >= 1e9 else f"{limit / 1e6:g} MB"
