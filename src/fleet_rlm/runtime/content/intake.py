"""Files on their way into a context: text as it is, documents through the reader, archives file by file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

from fleet_rlm.errors import InvalidInput, NotConfigured, TooLarge
from fleet_rlm.runtime.content import kinds, tree
from fleet_rlm.runtime.content.extract.reader import DocumentReader, Extracted, Unreadable
from fleet_rlm.runtime.content.writer import ContextWriter

Files = Iterable[tuple[str, Iterable[bytes] | None]]
"""Paths and pieces of their bytes; None for a file that is left out."""

_LISTED = 20
"""Unread documents that an index names."""


class Intake:
    """One context's worth of files, from any kind of source, into one writer."""

    def __init__(self, writer: ContextWriter, reader: DocumentReader) -> None:
        self._writer = writer
        self._reader = reader

    def single(self, name: str, filename: str, chunks: Iterable[bytes], kind: str | None, charset: str | None) -> bool:
        """One file; True when it was an archive and became a tree. Errors: InvalidInput, TooLarge, NotConfigured."""
        head, chunks = _peek(chunks)
        kind = kind or kinds.detect(filename, head)
        if kind == kinds.TEXT:
            fault = self._writer.write_file(name, chunks)
            if fault is not None:
                raise InvalidInput(f"{name}: {fault}", hint="attach text files in UTF-8")
            return False
        found = self._reader.read(name, kind, chunks, charset=charset)
        if found.parts is None:
            self._writer.write_file(name, tree.read_chunks(found.text), found.origin)
            return False
        with DocumentReader(self._writer.root, self._writer.max_bytes) as inner:
            self._writer.skipped += found.skipped
            Intake(self._writer, inner).several(name, _unpacked(found))
        return True

    def several(self, name: str, files: Files, *, pages: bool = False) -> None:
        """A set of files; what cannot be read is left out and counted; documents and files that fail are named.

        HTML in a set stays as it is, for it may be source; `pages` makes it readable. Errors: InvalidInput (a path
        comes twice, nothing to read), TooLarge.
        """
        seen: set[str] = set()
        for path, chunks in files:
            if path in seen:
                raise InvalidInput(f"{name}: {path} comes twice")
            seen.add(path)
            if chunks is None or not self._member(path, chunks, pages):
                self._writer.skipped += 1
        if not self._writer.indexer.files:
            skipped = f"{self._writer.skipped} skipped: binary, hidden, links or unreadable"
            unread = f"; {self._writer.unread[0]}" if self._writer.unread else ""
            raise InvalidInput(f"{name} holds no text file ({skipped}){unread}")

    def _member(self, path: str, chunks: Iterable[bytes], pages: bool) -> bool:
        try:
            return self._taken(path, chunks, pages)
        except tree.CannotRead as error:
            return self._left_out(f"{path}: {error.why}")

    def _left_out(self, why: str) -> bool:
        if len(self._writer.unread) < _LISTED:
            self._writer.unread.append(why)
        return False

    def _taken(self, path: str, chunks: Iterable[bytes], pages: bool) -> bool:
        head, chunks = _peek(chunks)
        kind = kinds.detect(path, head)
        if kind == kinds.TEXT or (kind == "html" and not pages):
            return self._writer.write_file(path, chunks) is None
        if kind == "tar":
            return False  # an archive in a set; of a zip only the reader can tell, for documents are zips too
        try:
            found = self._reader.read(path, kind, chunks, nested=True)
        except (Unreadable, TooLarge, NotConfigured) as error:
            return self._left_out(str(error))
        return self._writer.write_file(path, tree.read_chunks(found.text), found.origin) is None


def _unpacked(found: Extracted) -> Iterator[tuple[str, Iterable[bytes]]]:
    for path, start, size in sorted(found.parts or []):
        yield path, _range(found.text, start, size)


def _range(path: Path, start: int, size: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        file.seek(start)
        while size > 0 and (piece := file.read(min(tree.CHUNK, size))):
            size -= len(piece)
            yield piece


def _peek(chunks: Iterable[bytes]) -> tuple[bytes, Iterable[bytes]]:
    """The first bytes, enough to see the kind, and all of them again."""
    source = iter(chunks)
    head = b""
    for piece in source:
        head += piece
        if len(head) >= kinds.HEAD_BYTES:
            break
    return head[: kinds.HEAD_BYTES], chain([head] if head else [], source)
