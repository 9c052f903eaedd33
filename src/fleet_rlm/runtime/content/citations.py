"""Places of a turn's contexts that an answer names as `path:line`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from fleet_rlm.errors import NotFound
from fleet_rlm.runtime.content.contexts import ContextStore
from fleet_rlm.runtime.execution.events import Citation, ContextRef

MAX_CITATIONS: Final = 50
MAX_QUOTE: Final = 300
"""Characters of the cited line that a citation quotes."""

_MAX_PATH = 400
_PLACE = re.compile(r":(\d{1,9})(?!\d)")
_PATH_CHARACTER = re.compile(r"[\w./\\-]")


class _Names:
    """Which context and file a written path means: its whole path, or its last part where that is unique."""

    def __init__(self, contexts: Sequence[ContextRef], store: ContextStore) -> None:
        self.exact: dict[str, tuple[ContextRef, str]] = {}
        short: dict[str, list[tuple[ContextRef, str]]] = {}
        stored: dict[str, list[tuple[ContextRef, str]]] = {}
        for context in contexts:
            index = store.index(context.sha256)
            if context.kind == "text":
                self.exact.setdefault(context.name, (context, context.name))
                stored.setdefault(index.name, []).append((context, context.name))
                continue
            for entry in index.files:
                self.exact.setdefault(entry.path, (context, entry.path))
                self.exact.setdefault(f"{context.name}/{entry.path}", (context, entry.path))
                short.setdefault(entry.path.rpartition("/")[2], []).append((context, entry.path))
        for name, found in (*stored.items(), *short.items()):
            if len(found) == 1:
                self.exact.setdefault(name, found[0])

    def ending_at(self, line: str, end: int) -> tuple[ContextRef, str] | None:
        """The longest known path that ends at `end` and begins at the border of a word."""
        for start in range(max(0, end - _MAX_PATH), end):
            if start and _PATH_CHARACTER.match(line[start - 1]) and _PATH_CHARACTER.match(line[start]):
                continue
            if (found := self.exact.get(line[start:end])) is not None:
                return found
        return None


def find_citations(answer: str, contexts: Sequence[ContextRef], store: ContextStore) -> list[Citation]:
    """Every `path:line` of the answer that names a line of the contexts, once each, in order, at most 50.

    A text is named by its name, a file of a tree by its path (or its last part where only one file has it).
    """
    citations: dict[tuple[str, str, int], Citation] = {}
    names: _Names | None = None
    for row in answer.splitlines():
        for place in _PLACE.finditer(row):
            names = names or _Names(contexts, store)
            found = names.ending_at(row, place.start())
            if found is None:
                continue
            context, path = found
            number = int(place[1])
            key = (context.sha256, path, number)
            if key not in citations and (citation := _cite(context, path, number, store)) is not None:
                citations[key] = citation
                if len(citations) == MAX_CITATIONS:
                    return list(citations.values())
    return list(citations.values())


def _cite(context: ContextRef, path: str, line: int, store: ContextStore) -> Citation | None:
    try:
        start, end = store.line_span(context.sha256, path, line)
    except NotFound:
        return None
    origin = store.file(context.sha256, path).origin
    quote = store.read(context.sha256, start, min(end, start + MAX_QUOTE)).strip()
    return Citation(
        context=context.name,
        path=path,
        line=line,
        start=start,
        end=end,
        quote=quote,
        place=None if origin is None else origin.place(line),
    )
