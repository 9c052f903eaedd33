"""Contexts: large inputs by content, stored once, in the format that sandboxes mount.

    <home>/contexts/<sha256>/data          UTF-8, the files of a set one after the other
    <home>/contexts/<sha256>/index.json    see index.py

A text's name is the SHA-256 of its bytes; a tree's covers its file table too. Folders appear whole or not at all
(written beside, synced, renamed), so many writers of the same content never disturb each other.
"""

from __future__ import annotations

import io
import re
import stat
import threading
from collections import OrderedDict
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal

import msgspec

from fleet_rlm.errors import InvalidInput, NotFound
from fleet_rlm.runtime.content import tree
from fleet_rlm.runtime.content.blobs import own_folder, sweep
from fleet_rlm.runtime.content.extract.reader import DocumentReader
from fleet_rlm.runtime.content.index import ContextIndex, FileEntry
from fleet_rlm.runtime.content.intake import Files, Intake
from fleet_rlm.runtime.content.kinds import TEXT
from fleet_rlm.runtime.content.writer import PREFIX, ContextWriter, too_large
from fleet_rlm.runtime.execution.events import ContextRef

MAX_BYTES: Final = 2_000_000_000
MAX_LINES_CHARS: Final = 1_000_000
"""Characters that one call of `lines` gives at most."""

_SHA256 = re.compile(r"[0-9a-f]{64}")
_KEPT_INDEXES = 32


class ContextStore:
    """All contexts of one home. Thread-safe, and safe beside other processes. Sizes: bytes of UTF-8."""

    def __init__(self, home: Path, *, max_bytes: int = MAX_BYTES) -> None:
        self._root = home / "contexts"
        self._max_bytes = max_bytes
        self._indexes: OrderedDict[str, tuple[ContextIndex, dict[str, FileEntry]]] = OrderedDict()
        self._lock = threading.Lock()
        own_folder(self._root)
        sweep(self._root, PREFIX)

    def add_text(self, name: str, text: str) -> ContextRef:
        """Store a text as it is. Errors: InvalidInput (empty, NUL, not encodable), TooLarge."""
        try:
            data = text.encode()
        except UnicodeEncodeError as error:
            message = f"{name}: character {error.start} is half of a surrogate pair, not text"
            raise InvalidInput(message) from None
        stream = io.BytesIO(data)
        return self.add_stream(name, iter(lambda: stream.read(tree.CHUNK), b""), kind=TEXT)

    def add_stream(
        self,
        name: str,
        chunks: Iterable[bytes],
        *,
        filename: str | None = None,
        kind: str | None = None,
        charset: str | None = None,
        source: str | None = None,
    ) -> ContextRef:
        """Store a file whose bytes come in pieces, never whole in memory; an archive becomes a set of files.

        What it is says `kind` (see kinds.py), or else its bytes and `filename` (by default `name`). Errors:
        InvalidInput (empty, not UTF-8, a damaged or encrypted document), TooLarge, NotConfigured (a reader is missing).
        """
        name = _clean_name(name)
        with self._intake() as (writer, intake):
            unpacked = intake.single(name, filename or name, chunks, kind, charset)
            return self._keep(writer, name, "tree" if unpacked else "text", source)

    def add_path(self, path: Path) -> ContextRef:
        """Store a file, a folder (see tree.py for what is left out) or what a pipe gives. Errors: as `add_stream`."""
        found = tree.look(path)
        if found is None:
            raise InvalidInput(f"{path} does not exist")
        if stat.S_ISDIR(found.st_mode):
            files = ((shown, None if file is None else tree.read_chunks(file)) for shown, file in tree.walk(path))
            return self.add_tree(path.resolve().name, files)
        if stat.S_ISFIFO(found.st_mode):  # as a shell's <(command) gives it: /dev/fd/63
            return self.add_stream("pipe", tree.read_chunks(path))
        if not stat.S_ISREG(found.st_mode):
            raise InvalidInput(f"{path} is neither a file nor a folder")
        if found.st_size > self._max_bytes:
            raise too_large(str(path), self._max_bytes)
        return self.add_stream(path.name, tree.read_chunks(path))

    def add_files(self, name: str, files: Iterable[tuple[str, Iterable[bytes]]]) -> ContextRef:
        """Store uploaded files: (relative path, pieces of its bytes). Errors: as `add_stream`."""
        cleaned = [(tree.clean_path(path), chunks) for path, chunks in files]
        # Files of no folder are single pages that came together; in a folder, HTML may be source.
        flat = not any("/" in path for path, _ in cleaned)
        taken = ((path, None if tree.is_skipped(path) else chunks) for path, chunks in cleaned)
        return self.add_tree(name, taken, pages=flat)

    def add_tree(self, name: str, files: Files, *, pages: bool = False, source: str | None = None) -> ContextRef:
        """Store a set of files with clean paths; documents among them become text. Errors: InvalidInput, TooLarge."""
        name = _clean_name(name)
        with self._intake() as (writer, intake):
            intake.several(name, files, pages=pages)
            return self._keep(writer, name, "tree", source)

    @contextmanager
    def _intake(self) -> Generator[tuple[ContextWriter, Intake]]:
        with (
            ContextWriter(self._root, self._max_bytes) as writer,
            DocumentReader(self._root, self._max_bytes) as reader,
        ):
            yield writer, Intake(writer, reader)

    def get(self, sha256: str) -> ContextRef:
        """The handle of a stored context. Errors: NotFound."""
        index = self.index(sha256)
        return _reference(index, index.name)

    def index(self, sha256: str) -> ContextIndex:
        """The whole index. Errors: NotFound for an unknown or malformed name."""
        return self._load(sha256)[0]

    def _load(self, sha256: str) -> tuple[ContextIndex, dict[str, FileEntry]]:
        """The index with its files by path; the newest few are kept."""
        with self._lock:
            if (known := self._indexes.get(sha256)) is not None:
                self._indexes.move_to_end(sha256)
                return known
        try:
            index = msgspec.json.decode(self.index_path(sha256).read_bytes(), type=ContextIndex)
        except (FileNotFoundError, msgspec.DecodeError):
            raise NotFound(f"no context {sha256[:64]!r}") from None
        loaded = index, {entry.path: entry for entry in index.files}
        with self._lock:
            self._indexes[sha256] = loaded
            while len(self._indexes) > _KEPT_INDEXES:
                self._indexes.popitem(last=False)
        return loaded

    def data_path(self, sha256: str) -> Path:
        """Where the text lies. Errors: NotFound for a malformed name."""
        return self._folder(sha256) / "data"

    def index_path(self, sha256: str) -> Path:
        """Where the index lies. Errors: NotFound for a malformed name."""
        return self._folder(sha256) / "index.json"

    def read(self, sha256: str, start_char: int, end_char: int) -> str:
        """Characters [start, end) of the data, cut to what there is. Errors: NotFound."""
        index = self.index(sha256)
        start, end = max(start_char, 0), min(end_char, index.chars)
        if start >= end:
            return ""
        char, byte, _ = index.checkpoint_before(start)
        stop = min((end // index.stride + 1) * index.stride, index.chars)
        last = index.bytes if stop == index.chars else index.checkpoints[stop // index.stride][0]
        with self.data_path(sha256).open("rb") as file:
            file.seek(byte)
            text = file.read(last - byte).decode()
        return text[start - char : end - char]

    def file(self, sha256: str, path: str) -> FileEntry:
        """One file of a context; a text's only file goes under any name. Errors: NotFound."""
        index, files = self._load(sha256)
        if index.kind == "text":
            return index.files[0]  # the same text may have been attached under two names
        if (entry := files.get(path)) is None:
            raise NotFound(f"{index.name} has no file {path[:200]!r}")
        return entry

    def line_span(self, sha256: str, path: str, line: int) -> tuple[int, int]:
        """Characters [start, end) of a 1-based line of a file, without its newline. Errors: NotFound."""
        index, entry = self.index(sha256), self.file(sha256, path)
        if not 1 <= line <= entry.lines:
            raise NotFound(f"{path} has {entry.lines} lines, no line {line}")
        before = self._newlines_before(index, entry.char) + line - 1
        start = entry.char if line == 1 else self._after_newline(index, before)
        if line == entry.lines:
            end = entry.char + entry.chars
            return start, end - (self.read(sha256, end - 1, end) == "\n")
        return start, self._after_newline(index, before + 1) - 1

    def place(self, sha256: str, char: int) -> tuple[str, int]:
        """The file that holds a character of the context, and its 1-based line there: what a span begins with.

        Errors: NotFound for an unknown context or a character behind its end.
        """
        index = self.index(sha256)
        if not 0 <= char < index.chars:
            raise NotFound(f"{index.name} has {index.chars} characters, no character {char}")
        entry = index.file_at(char)
        return entry.path, self._newlines_before(index, char) - self._newlines_before(index, entry.char) + 1

    def lines(self, sha256: str, path: str, first: int, last: int) -> list[str]:
        """Lines first..last (1-based, both included) of a file, without line ends, cut to what there is.

        At most `MAX_LINES_CHARS` characters. Errors: NotFound for an unknown context or file.
        """
        entry = self.file(sha256, path)
        first, last = max(first, 1), min(last, entry.lines)
        if first > last:
            return []
        start, _ = self.line_span(sha256, path, first)
        _, end = self.line_span(sha256, path, last)
        text = self.read(sha256, start, min(end, start + MAX_LINES_CHARS))
        return [line.removesuffix("\r") for line in text.split("\n")]

    def _newlines_before(self, index: ContextIndex, char: int) -> int:
        begin, _, newlines = index.checkpoint_before(char)
        return newlines + self.read(index.sha256, begin, char).count("\n")

    def _after_newline(self, index: ContextIndex, number: int) -> int:
        """The character after newline `number` (1-based) of the data."""
        char, _, newlines = index.checkpoint_before_newline(number)
        text = self.read(index.sha256, char, char + index.stride)
        place = -1
        for _ in range(number - newlines):
            place = text.index("\n", place + 1)
        return char + place + 1

    def _keep(self, writer: ContextWriter, name: str, kind: Literal["text", "tree"], source: str | None) -> ContextRef:
        if writer.indexer.chars == 0:
            raise InvalidInput(f"{name} is empty: it holds no characters")
        index = writer.index(name, kind, source)
        writer.publish(index, self._folder(index.sha256))
        return _reference(index, name)

    def _folder(self, sha256: str) -> Path:
        if not _SHA256.fullmatch(sha256):
            raise NotFound(f"no context {sha256[:64]!r}")
        return self._root / sha256


def _clean_name(name: str) -> str:
    """One printable line of at most 200 characters, so that a `name:line` can be written and found."""
    cleaned = "".join(char if char.isprintable() else " " for char in name).strip()[:200]
    return cleaned or "text"


def _reference(index: ContextIndex, name: str) -> ContextRef:
    return ContextRef(
        name=name,
        sha256=index.sha256,
        kind=index.kind,
        bytes=index.bytes,
        chars=index.chars,
        lines=index.lines,
        files=len(index.files),
    )
