"""What a file is, by its first bytes and its name: text goes in as it is, documents through a reader.

Kinds are strings because they cross to the reader's process: "text", "pdf", "html", "notebook", "tar", "zip" (Office
documents and archives; the reader looks inside), "ole" (old or encrypted Office).
"""

from __future__ import annotations

import re
from typing import Final

TEXT: Final = "text"
HEAD_BYTES: Final = 1_024
"""What `detect` looks at."""

_MAGIC = (
    (b"%PDF-", "pdf"),
    (b"PK\x03\x04", "zip"),
    (b"PK\x05\x06", "zip"),
    (b"\x1f\x8b\x08", "tar"),
    (b"\xfd7zXZ\0", "tar"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "ole"),
)
_BZ2 = re.compile(rb"BZh[1-9]1AY&SY")
_SUFFIXES = {
    ".pdf": "pdf",
    ".docx": "zip",
    ".xlsx": "zip",
    ".ods": "zip",
    ".zip": "zip",
    ".tar": "tar",
    ".tgz": "tar",
    ".gz": "tar",
    ".bz2": "tar",
    ".xz": "tar",
    ".ipynb": "notebook",
    ".html": "html",
    ".htm": "html",
    ".xhtml": "html",
}
_PAGE = re.compile(rb"\s*(?:<!--.*?-->\s*|<\?xml[^>]*>\s*)*<(?:!doctype\s+html|html)[\s>]", re.IGNORECASE | re.DOTALL)
_BY_TYPE = {
    "text/html": "html",
    "application/xhtml+xml": "html",
    "application/pdf": "pdf",
    "application/x-ipynb+json": "notebook",
    "application/zip": "zip",
    "application/gzip": "tar",
    "application/x-tar": "tar",
    "application/x-gzip": "tar",
}
ARCHIVES: Final = frozenset({"zip", "tar"})


def detect(name: str, head: bytes) -> str:
    """The kind of a file. Its bytes decide first; its name decides where text may be several things."""
    head = head.removeprefix(b"\xef\xbb\xbf")
    if not head:
        return TEXT
    for magic, kind in _MAGIC:
        if head.startswith(magic):
            return kind
    if _BZ2.match(head) or head[257:262] == b"ustar":
        return "tar"
    stem, dot, ending = name.rpartition("/")[2].rpartition(".")
    suffix = f".{ending.lower()}" if stem and dot else ""
    if suffix:
        return _SUFFIXES.get(suffix, TEXT)
    return "html" if _PAGE.match(head) else TEXT


def of_content_type(value: str) -> tuple[str | None, str | None]:
    """(kind, charset) of a Content-Type header; a kind of None leaves the decision to name and bytes."""
    media, _, rest = value.partition(";")
    media = media.strip().lower()
    found = re.search(r"charset\s*=\s*\"?([\w.:-]{1,40})", rest, re.IGNORECASE)
    charset = found[1] if found else None
    if media in _BY_TYPE:
        return _BY_TYPE[media], charset
    if media.startswith("text/") or media in ("application/json", "application/xml"):
        return TEXT, charset
    return None, charset
