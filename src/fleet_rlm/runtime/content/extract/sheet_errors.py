"""Errors in cells of an .xlsx (`#DIV/0!`): calamine reads such cells as empty, so they are made texts before."""

from __future__ import annotations

import re
import shutil
import zipfile
from collections.abc import Iterator
from io import BytesIO
from typing import IO, BinaryIO, Final

_PIECE: Final = 1 << 20
_SHEETS: Final = "xl/worksheets/"
_UNREAD: Final = ("xl/media/", "xl/embeddings/", "xl/drawings/", "xl/charts/")
_ERROR = re.compile(rb"""(<(?:[\w.-]+:)?c\s[^<>]*?\bt\s*=\s*)(["'])e\2""")
_TEXT = rb"\1\2str\2"


def errors_as_texts(file: BinaryIO) -> BinaryIO:
    """The workbook with these cells as texts; the file itself where there are none, or where it is another kind."""
    try:
        with zipfile.ZipFile(file) as book:
            if any(_has_errors(book, name) for name in book.namelist() if name.startswith(_SHEETS)):
                return _rewritten(book)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, RuntimeError, EOFError):
        pass  # calamine says what is wrong with it
    file.seek(0)
    return file


def _has_errors(book: zipfile.ZipFile, name: str) -> bool:
    with book.open(name) as sheet:
        return any(_ERROR.search(piece) for piece in _pieces(sheet))


def _rewritten(book: zipfile.ZipFile) -> BinaryIO:
    made = BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as copy:
        for name in book.namelist():
            if name.startswith(_UNREAD) or name.endswith("/"):
                continue
            with book.open(name) as old, copy.open(name, "w", force_zip64=True) as new:
                if name.startswith(_SHEETS):
                    new.writelines(_ERROR.sub(_TEXT, piece) for piece in _pieces(old))
                else:
                    shutil.copyfileobj(old, new)
    made.seek(0)
    return made


def _pieces(sheet: IO[bytes]) -> Iterator[bytes]:
    """A sheet in pieces that cut no tag, as long as a tag is no longer than a piece."""
    left = b""
    while piece := sheet.read(_PIECE):
        text = left + piece
        end = text.rfind(b"<")
        left = text[end:] if end > 0 else b""
        yield text[: len(text) - len(left)]
    yield left
