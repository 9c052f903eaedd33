"""PDF to text, page by page."""

from __future__ import annotations

from pypdf import PageObject, PdfReader
from pypdf.errors import DependencyError, PyPdfError

from fleet_rlm.runtime.content.extract.protocol import PAGES, Fault
from fleet_rlm.runtime.content.extract.sink import Sink

_BROKEN = (PyPdfError, LookupError, ValueError, TypeError, AttributeError, ArithmeticError, RecursionError)
"""What pypdf raises on a page or file that breaks the format."""


def read_pdf(path: str, sink: Sink) -> None:
    """Each page as a section. Errors: Fault for one that is damaged, encrypted, too long or without text."""
    try:
        reader = PdfReader(path)
        if reader.is_encrypted and not reader.decrypt(""):
            raise Fault("it is encrypted; save a copy without a password")
        count = len(reader.pages)
    except (DependencyError, NotImplementedError):  # ciphers that need another library: encrypted all the same
        raise Fault("it is encrypted; save a copy without a password") from None
    except _BROKEN as error:
        raise Fault(f"it is a damaged PDF ({_line(error)})") from None
    if not count:
        raise Fault("it is a PDF without pages")
    if count > PAGES:
        raise Fault(f"it has {count} pages, more than {PAGES}; attach a part of it", too_large=True)
    if not sum(_write_page(reader.pages[number], number + 1, sink) for number in range(count)):
        raise Fault(f"its {count} pages hold no text (a scan?); recognise the text first (OCR) and attach the result")


def _write_page(page: PageObject, number: int, sink: Sink) -> int:
    """Characters that are no space. A page that cannot be read says so in its place."""
    sink.section(f"page {number}")
    try:
        text = page.extract_text()
    except _BROKEN as error:
        sink.text(f"[page {number} could not be read: {_line(error)}]\n")
        return 0
    text = "\n".join(line.rstrip() for line in text.splitlines())
    sink.text(text)
    return len("".join(text.split()))


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__
