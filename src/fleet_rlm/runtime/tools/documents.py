"""The documents of a turn by name, and the agent's tools for looking into them without a sandbox."""

from __future__ import annotations

import fnmatch
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec
import regex

from fleet_rlm.errors import InvalidInput, NotFound
from fleet_rlm.runtime.content.contexts import ContextStore
from fleet_rlm.runtime.content.names import free_name
from fleet_rlm.runtime.execution import events as ev
from fleet_rlm.runtime.execution.events import ContextRef
from fleet_rlm.runtime.execution.observer import SCOPE
from fleet_rlm.runtime.execution.tree import TurnTree

MAX_LINES: Final = 400
MAX_CHARS: Final = 20_000
MAX_HITS: Final = 50
LISTED: Final = 200
SEARCH_S: Final = 20.0
"""A search by the agent itself takes at most so long; what it did not reach is a task to delegate."""
PIECE: Final = 1_000_000
_MATCH_S: Final = 5.0


class Documents:
    """The contexts that the agent may speak of, each under a name of its own. More may be attached during the turn."""

    def __init__(self, tree: TurnTree, refs: Sequence[ContextRef]) -> None:
        self._tree = tree
        self._refs: dict[str, ContextRef] = {}
        self._lock = threading.Lock()
        for ref in refs:  # in a journal of before turns gave them names of their own, names may come twice
            self._refs = {**self._refs, free_name(ref.name, self._refs): ref}

    @property
    def refs(self) -> Mapping[str, ContextRef]:
        """All of them by name, as of now: what is attached later is in the next mapping."""
        return self._refs

    def attach(self, ref: ContextRef) -> str:
        """One more for the run that works here and those below it; its name. The same again keeps its name."""
        scope = SCOPE.get()
        with self._lock:  # tools of one step work side by side
            for name, known in self._refs.items():
                if known.sha256 == ref.sha256:
                    return name
            name = free_name(ref.name, self._refs)
            ref = msgspec.structs.replace(ref, name=name)
            self._tree.refs[ref.sha256] = ref
            scope.contexts |= {ref.sha256}
            self._tree.observer.emit(ev.ContextAdded(context=ref), scope)
            self._refs = {**self._refs, name: ref}
        return name

    def named(self, name: str) -> ContextRef:
        """Errors: NotFound, with the names that there are."""
        ref = self._refs.get(name)
        if ref is None:
            there = ", ".join(list(self._refs)[:20]) or "none"
            raise NotFound(f"there is no document {name[:200]!r}", hint=f"there are: {there}")
        return ref


def describe(refs: Mapping[str, ContextRef]) -> str:
    """The contexts as the agent sees them: name, kind, size; one line each."""
    if not refs:
        return "(none attached)"
    return "\n".join(
        f"- {name}: {_kind(ref)}, {ref.chars:,} characters, {ref.lines:,} lines" for name, ref in refs.items()
    )


def _kind(ref: ContextRef) -> str:
    return f"{ref.files} files" if ref.kind == "tree" else "text"


class DocumentTools:
    """Reading and searching the documents of one turn."""

    def __init__(self, tree: TurnTree, documents: Documents) -> None:
        self._tree = tree
        self._store: ContextStore = tree.contexts
        self._documents = documents

    def all(self, *, growing: bool = False) -> list[Callable[..., Any]]:
        """The tools, or none when there is nothing to read and nothing will come (`growing`)."""
        refs = self._documents.refs.values()
        listing = [self.list_context] if any(ref.kind == "tree" for ref in refs) else []
        return [self.read_context, self.search_context, *listing] if refs or growing else []

    def read_context(self, name: str, first_line: int = 1, last_line: int = 100, path: str | None = None) -> str:
        """Read lines of an attached document; for a folder give the path of a file in it."""
        ref = self._documents.named(name)
        file = path or (ref.name if ref.kind == "text" else None)
        if file is None:
            raise InvalidInput(f"{name} is a folder", hint="give the path of a file in it")
        first = max(1, first_line)
        last = min(last_line, first + MAX_LINES - 1)
        lines = self._store.lines(ref.sha256, file, first, last)
        if not lines:
            raise InvalidInput(f"{file} has {self._store.file(ref.sha256, file).lines:,} lines")
        self._tell_read(ref, file, first, first + len(lines) - 1)
        text = "\n".join(f"{file}:{number}: {line}" for number, line in enumerate(lines, first))
        return text if len(text) <= MAX_CHARS else f"{text[:MAX_CHARS]}\n[... cut at {MAX_CHARS:,} characters]"

    def search_context(self, name: str, pattern: str, path: str = "*") -> str:
        """Find lines of an attached document by a regular expression (letter case ignored); in a folder only in the files whose path fits `path`, such as *.py."""  # noqa: E501 - one line for the model
        ref = self._documents.named(name)
        try:
            wanted = regex.compile(pattern, regex.IGNORECASE | regex.MULTILINE)
        except regex.error as error:
            raise InvalidInput(f"not a regular expression: {error}") from error
        hits: list[str] = []
        notes: list[str] = []
        try:
            for hit in self._hits(ref, wanted, path, time.monotonic() + SEARCH_S, notes):
                hits.append(hit)
                if len(hits) == MAX_HITS:
                    notes.append(f"... stopped at {MAX_HITS} lines")
                    break
        except TimeoutError:
            raise InvalidInput("the expression takes too long on this text", hint="make it simpler") from None
        return "\n".join([*(hits or ["no line matches"]), *notes])

    def list_context(self, name: str, path: str = "*", after: int = 0) -> str:
        """List the files of an attached folder whose path fits `path` (such as src/*.py), from number `after` on."""
        ref = self._documents.named(name)
        found = [entry for entry in self._store.index(ref.sha256).files if fnmatch.fnmatch(entry.path, path)]
        shown = found[after : after + LISTED]
        lines = [f"{entry.path}: {entry.chars:,} characters, {entry.lines:,} lines" for entry in shown]
        rest = len(found) - after - len(shown)
        return "\n".join(lines + ([f"... {rest:,} more: after={after + LISTED}"] if rest > 0 else [])) or "no such file"

    def _hits(
        self, ref: ContextRef, wanted: regex.Pattern[str], glob: str, deadline: float, notes: list[str]
    ) -> Iterator[str]:
        """Lines that match, file by file and in each piece by piece, so that nothing large is ever in memory."""
        done = 0
        for entry in self._store.index(ref.sha256).files:
            path = ref.name if ref.kind == "text" else entry.path
            if ref.kind == "tree" and not fnmatch.fnmatch(entry.path, glob):
                continue
            line, at = 1, entry.char
            for piece in self._pieces(ref.sha256, entry.char, entry.char + entry.chars):
                if time.monotonic() > deadline:
                    notes.append(
                        f"... stopped in {path} after {SEARCH_S:g} s and {done:,} characters: delegate the rest"
                    )
                    return
                self._tree.coverage.note(SCOPE.get(), ref.sha256, [(at, at + len(piece))])
                for number, text in _matches(wanted, piece):
                    yield f"{path}:{line + number}: {text.strip()[:300]}"
                line += piece.count("\n")
                done += len(piece)
                at += len(piece)

    def _pieces(self, sha256: str, start: int, end: int) -> Iterator[str]:
        """The text in pieces that end with a line, where lines are no longer than a piece."""
        rest = ""
        while start < end:
            upto = min(end, start + PIECE)
            text = rest + self._store.read(sha256, start, upto)
            start = upto
            cut = text.rfind("\n") + 1 if start < end else len(text)
            cut = cut or len(text)
            yield text[:cut]
            rest = text[cut:]
        if rest:
            yield rest

    def _tell_read(self, ref: ContextRef, file: str, first: int, last: int) -> None:
        start, _ = self._store.line_span(ref.sha256, file, first)
        _, end = self._store.line_span(ref.sha256, file, last)
        self._tree.coverage.note(SCOPE.get(), ref.sha256, [(start, end)])


def _matches(wanted: regex.Pattern[str], text: str) -> Iterator[tuple[int, str]]:
    """(newlines before it, the line) for each line of `text` that matches.

    Errors: TimeoutError for an expression that takes too long; the interpreter is free for others meanwhile.
    """
    place, counted, lines = 0, 0, 0
    while place <= len(text) and (found := wanted.search(text, place, timeout=_MATCH_S, concurrent=True)):
        start = text.rfind("\n", 0, found.start()) + 1
        end = text.find("\n", found.start())
        end = len(text) if end < 0 else end
        lines += text.count("\n", counted, start)
        counted = start
        if start == len(text):  # after the last line
            return
        yield lines, text[start:end]
        place = end + 1
