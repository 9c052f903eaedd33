"""HTML to readable text: Markdown with headings, links, lists and tables; no scripts, styles or pictures."""

from __future__ import annotations

import re

from bs4 import BeautifulSoup
from bs4.element import ProcessingInstruction
from markdownify import MarkdownConverter

from fleet_rlm.runtime.content.extract.protocol import Fault
from fleet_rlm.runtime.content.extract.sink import Sink

_UNREAD = ["script", "style", "noscript", "template", "svg", "iframe", "object", "canvas", "nav"]
_MANY_NEWLINES = re.compile(r"\n(?:[ \t]*\n){2,}")


def read_html(path: str, charset: str | None, sink: Sink) -> None:
    """The page's title and body. Errors: Fault when it says nothing."""
    with open(path, "rb") as file:  # noqa: PTH123 - a path of the task
        text = html_text(file.read(), charset)
    if not text:
        raise Fault("the page holds no text (it may build itself with scripts)")
    sink.text(text)


def html_text(html: bytes | str, charset: str | None = None) -> str:
    """Readable text of a page, "" when there is none. The charset is that of the header, if any."""
    soup = BeautifulSoup(html, "html.parser", from_encoding=charset if isinstance(html, bytes) else None)
    title = soup.title.get_text(" ", strip=True) if soup.title is not None else ""
    for tag in soup.find_all([*_UNREAD, "title"]):
        tag.decompose()
    for instruction in soup.find_all(string=lambda text: isinstance(text, ProcessingInstruction)):
        instruction.extract()
    for image in soup.find_all("img"):
        image.replace_with(str(image.get("alt") or ""))
    for link in soup.find_all("a"):
        if not str(link.get("href") or "").startswith(("http://", "https://", "/", "mailto:")):
            link.unwrap()
    heading = "" if soup.h1 is not None or not title else f"# {title}\n\n"
    text = _MANY_NEWLINES.sub("\n\n", _markdown(soup)).strip()
    return f"{heading}{text}\n" if heading or text else ""


def _markdown(soup: BeautifulSoup) -> str:
    try:
        return MarkdownConverter(
            heading_style="ATX",
            bullets="-",
            escape_asterisks=False,
            escape_underscores=False,
            escape_misc=False,
        ).convert_soup(soup)
    except RecursionError:  # nested deeper than any page that a person wrote
        return soup.get_text("\n", strip=True)
