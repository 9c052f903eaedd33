"""What host and child say to each other: one JSON line per document each way, and the bounds that hold.

The text goes to the file `out`, in UTF-8; an archive's files lie there one after the other, cut by `parts`.
"""

from __future__ import annotations

from typing import Final

import msgspec

DOCUMENT_BYTES: Final = 200_000_000
"""A document before extraction; an archive has the bound of the whole store."""

PAGES: Final = 10_000
SECONDS: Final = 180
"""Wall seconds for one document or archive."""

MEMORY_BYTES: Final = 3_000_000_000
"""Address space of the child."""

MAX_RATIO: Final = 200
"""Bytes that one byte of an archive may become, above the first 10 MB."""

RATIO_FREE: Final = 10_000_000


class Task(msgspec.Struct, frozen=True):
    """One document: its kind (see kinds.py), where it lies, where its text goes, and the bounds in bytes and files."""

    kind: str
    file: str
    out: str
    max_bytes: int
    max_files: int
    nested: bool = False
    charset: str | None = None


class Report(msgspec.Struct, frozen=True):
    """What came of it: either `fault` (one line, after "NAME: ") or the text's true kind and sections.

    `starts` are the 1-based first lines of pages, sheets or cells; `names` are the sheets' names. `parts` are an
    archive's files: (path, bytes). `missing` is a library that is not installed.
    """

    kind: str = ""
    fault: str | None = None
    too_large: bool = False
    missing: str | None = None
    starts: list[int] = []
    names: list[str] = []
    parts: list[tuple[str, int]] | None = None
    skipped: int = 0


class Fault(Exception):
    """The document cannot be read: one line that says why and what to do."""

    def __init__(self, message: str, *, too_large: bool = False) -> None:
        super().__init__(message)
        self.too_large = too_large
