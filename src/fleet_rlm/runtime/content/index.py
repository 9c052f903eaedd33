"""What is known about a context's text: its files, and where characters and lines lie in its bytes.

The index is the file `index.json` beside `data`, and the sandbox worker reads it too, so its shape is a contract:

    {"v": 1, "kind": "text"|"tree", "name", "sha256", "chars", "bytes", "lines", "stride", "skipped",
     "files": [{"path", "char", "byte", "chars", "bytes", "lines", "origin"?: {...}}],
     "source"?: "...", "unread"?: ["..."],
     "checkpoints": [[byte_offset, newlines_before], ...]}        at character 0, stride, 2 * stride, ... of data

`origin` is there where the text was taken from a document: see Origin.
A line ends with "\\n"; a text that does not end with one has a last line without it.
"""

from __future__ import annotations

import codecs
from bisect import bisect_left, bisect_right
from typing import Literal

import msgspec

STRIDE = 65536
"""Characters between two checkpoints: what a reader decodes at most before the place it wants."""


class Origin(msgspec.Struct, frozen=True):
    """The document that a file's text was taken from: its kind, size in bytes and SHA-256.

    `starts` are the 1-based first lines of its pages (pdf), sheets (with `names`) or cells (notebook), each a line
    that names the section.
    """

    kind: str
    bytes: int
    sha256: str
    starts: list[int] = []
    names: list[str] = []

    def place(self, line: int) -> str | None:
        """What a person finds a 1-based line by: "page 4", "sheet Prices, row 12", "cell 7"; None without sections."""
        number = bisect_right(self.starts, line)
        if not number:
            return None
        if self.kind == "sheets" and number <= len(self.names):
            row = line - self.starts[number - 1]
            return f"sheet {self.names[number - 1]}" + (f", row {row}" if row else "")
        return f"{'page' if self.kind == 'pdf' else 'cell'} {number}"


class FileEntry(msgspec.Struct, frozen=True, omit_defaults=True):
    """One file of a context: where it begins in `data` (`char`, `byte`), how long it is, and its document if any."""

    path: str
    char: int
    byte: int
    chars: int
    bytes: int
    lines: int
    origin: Origin | None = None


class ContextIndex(msgspec.Struct, frozen=True, kw_only=True):
    """The whole index. `skipped` counts files of a tree that were left out (binary, hidden, links).

    `source` says where the content was first taken from, when that is no file: an address, a commit. `unread` names
    the first documents and closed files of a tree that could not be read, and why: "b.pdf: it is encrypted; ...".
    """

    v: int = 1
    kind: Literal["text", "tree"]
    name: str
    sha256: str
    chars: int
    bytes: int
    lines: int
    stride: int = STRIDE
    skipped: int = 0
    files: list[FileEntry]
    checkpoints: list[tuple[int, int]]
    source: str | msgspec.UnsetType = msgspec.UNSET
    unread: list[str] | msgspec.UnsetType = msgspec.UNSET

    def checkpoint_before(self, char: int) -> tuple[int, int, int]:
        """(character, byte, newlines before it) of the last checkpoint at or before character `char`."""
        place = min(max(char, 0) // self.stride, len(self.checkpoints) - 1)
        return (place * self.stride, *self.checkpoints[place])

    def checkpoint_before_newline(self, number: int) -> tuple[int, int, int]:
        """The last checkpoint with fewer than `number` newlines before it: newline `number` is within one stride."""
        place = max(bisect_left(self.checkpoints, number, key=lambda point: point[1]) - 1, 0)
        return (place * self.stride, *self.checkpoints[place])

    def file_at(self, char: int) -> FileEntry:
        """The file that holds character `char` (an empty file never does, unless the text ends there)."""
        return self.files[max(bisect_right(self.files, char, key=lambda entry: entry.char) - 1, 0)]


class Indexer:
    """Counts characters, newlines and checkpoints of UTF-8 that comes in pieces of any size.

    Errors of `feed` and `end_file`: UnicodeDecodeError where the bytes are not UTF-8.
    """

    def __init__(self) -> None:
        self.chars = 0
        self.bytes = 0
        self.newlines = 0
        self.files: list[FileEntry] = []
        self.checkpoints: list[tuple[int, int]] = [(0, 0)]
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._mark = (0, 0, 0, 1)
        self._last = "\n"

    def begin_file(self) -> None:
        """Start a file: what follows belongs to it until `end_file` or `drop_file`."""
        self._mark = (self.chars, self.bytes, self.newlines, len(self.checkpoints))
        self._decoder.reset()
        self._last = "\n"

    def feed(self, data: bytes) -> None:
        """Count the next bytes of the file."""
        if not data:
            return
        if data.isascii() and not self._decoder.getstate()[0]:
            self._count_ascii(data)
        elif text := self._decoder.decode(data):
            self._count_text(text)

    def end_file(self, path: str, origin: Origin | None = None) -> FileEntry:
        """Close the file under `path`."""
        self._decoder.decode(b"", final=True)
        char, byte, newlines, _ = self._mark
        lines = self.newlines - newlines + (self._last != "\n")
        entry = FileEntry(path, char, byte, self.chars - char, self.bytes - byte, lines, origin)
        self.files.append(entry)
        return entry

    def drop_file(self) -> int:
        """Forget the file that was begun. Returns the byte of `data` where it had begun."""
        self.chars, self.bytes, self.newlines, count = self._mark
        del self.checkpoints[count:]
        return self.bytes

    def _count_ascii(self, data: bytes) -> None:
        position, size = 0, len(data)
        while (take := len(self.checkpoints) * STRIDE - self.chars) <= size - position:
            self._advance(take, take, data.count(b"\n", position, position + take))
            position += take
            self.checkpoints.append((self.bytes, self.newlines))
        self._advance(size - position, size - position, data.count(b"\n", position))
        self._last = chr(data[-1])

    def _count_text(self, text: str) -> None:
        position, size = 0, len(text)
        while (take := len(self.checkpoints) * STRIDE - self.chars) <= size - position:
            piece = text[position : position + take]
            self._advance(take, len(piece.encode()), piece.count("\n"))
            position += take
            self.checkpoints.append((self.bytes, self.newlines))
        piece = text[position:]
        self._advance(len(piece), len(piece.encode()), piece.count("\n"))
        self._last = text[-1]

    def _advance(self, chars: int, size: int, newlines: int) -> None:
        self.chars += chars
        self.bytes += size
        self.newlines += newlines
