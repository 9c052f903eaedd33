"""Word (.docx) to text: its headings, paragraphs, lists, tables and notes, as Markdown."""

from __future__ import annotations

from zipfile import BadZipFile

import mammoth

from fleet_rlm.runtime.content.extract.protocol import Fault
from fleet_rlm.runtime.content.extract.sink import Sink
from fleet_rlm.runtime.content.extract.web import html_text


def read_word(path: str, sink: Sink) -> None:
    """Errors: Fault when it is damaged or says nothing."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - a path of the task
            html = mammoth.convert_to_html(file, convert_image=mammoth.images.img_element(_no_image)).value
    except (BadZipFile, LookupError, ValueError, TypeError, AttributeError, OSError, RecursionError) as error:
        raise Fault(f"it is a damaged Word document ({' '.join(str(error).split())[:120]})") from None
    text = html_text(html)
    if not text:
        raise Fault("it is a Word document without text")
    sink.text(text)


def _no_image(_image: object) -> dict[str, str]:
    return {}
