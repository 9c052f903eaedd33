"""The agent's tools for looking into contexts without a sandbox."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from fleet_rlm.errors import InvalidInput, NotFound
from fleet_rlm.runtime.content.contexts import ContextStore
from fleet_rlm.runtime.execution.events import ContextRef

MAX_LINES = 400
MAX_CHARS = 20_000
MAX_HITS = 50
SEARCH_CHARS = 8_000_000
"""A search by the agent itself covers this much; more is a task to delegate."""


def describe(refs: Sequence[ContextRef]) -> str:
    """The contexts as the agent sees them: name, kind, size; one line each."""
    if not refs:
        return "(none attached)"
    return "\n".join(f"- {ref.name}: {_kind(ref)}, {ref.chars:,} characters, {ref.lines:,} lines" for ref in refs)


def _kind(ref: ContextRef) -> str:
    return f"{ref.files} files" if ref.kind == "tree" else "text"


class DocumentTools:
    """Reading and searching the contexts of one turn."""

    def __init__(self, store: ContextStore, refs: Sequence[ContextRef]) -> None:
        self._store = store
        self._refs: Mapping[str, ContextRef] = {ref.name: ref for ref in refs}

    def all(self) -> list[Callable[..., Any]]:
        """The tools, or none when there is nothing to read."""
        return [self.read_context, self.search_context] if self._refs else []

    def read_context(self, name: str, first_line: int = 1, last_line: int = 100, path: str | None = None) -> str:
        """Read lines of an attached document; for a folder give the path of a file in it."""
        ref = self._ref(name)
        file = path or (ref.name if ref.kind == "text" else None)
        if file is None:
            raise InvalidInput(f"{name} is a folder", hint="give the path of a file in it")
        last = min(last_line, first_line + MAX_LINES - 1)
        lines = self._store.lines(ref.sha256, file, first_line, last)
        text = "\n".join(f"{file}:{number}: {line}" for number, line in enumerate(lines, first_line))
        return text[:MAX_CHARS]

    def search_context(self, name: str, pattern: str) -> str:
        """Find lines of an attached document by a regular expression (letter case ignored)."""
        ref = self._ref(name)
        if ref.chars > SEARCH_CHARS:
            raise InvalidInput(f"{name} is too large to search here", hint="use delegate")
        try:
            wanted = re.compile(pattern, re.IGNORECASE)
        except re.error as error:
            raise InvalidInput(f"not a regular expression: {error}") from error
        hits = list(self._hits(ref, wanted))
        more = f"\n... more than {MAX_HITS} lines match" if len(hits) > MAX_HITS else ""
        return "\n".join(hits[:MAX_HITS]) + more if hits else "no line matches"

    def _hits(self, ref: ContextRef, wanted: re.Pattern[str]) -> Iterator[str]:
        found = 0
        for entry in self._store.index(ref.sha256).files:
            text = self._store.read(ref.sha256, entry.char, entry.char + entry.chars)
            path = ref.name if ref.kind == "text" else entry.path
            for number, line in enumerate(text.split("\n"), 1):
                if wanted.search(line):
                    yield f"{path}:{number}: {line.strip()[:300]}"
                    found += 1
                    if found > MAX_HITS:
                        return

    def _ref(self, name: str) -> ContextRef:
        ref = self._refs.get(name)
        if ref is None:
            raise NotFound(f"there is no document {name!r}", hint="there are " + ", ".join(self._refs))
        return ref
