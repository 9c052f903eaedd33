"""What `--context` may name: a file, a folder, REPOSITORY@REF, a web address, or `-` for standard input."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, BinaryIO

from fleet_rlm.cli.plain import one_line
from fleet_rlm.errors import InvalidInput
from fleet_rlm.runtime.content.sources import add_named, understand

if TYPE_CHECKING:
    from fleet_rlm.runtime.content.contexts import ContextStore
    from fleet_rlm.runtime.execution.events import ContextRef

_PIECE_BYTES = 1 << 20


def check_question(question: str | None) -> str:
    """Errors: InvalidInput when there is nothing to answer."""
    if question is None:
        raise InvalidInput("there is no question", hint="write fleet run 'QUESTION', or fleet run --resume TURN")
    if not question.strip():
        raise InvalidInput("the question is empty", hint="say what you want to know: fleet run 'QUESTION'")
    return question


def check_names(names: Iterable[str]) -> None:
    """Refuse what cannot be read before anything heavy starts. Errors: InvalidInput."""
    names = list(names)
    if names.count("-") > 1:
        raise InvalidInput("standard input can be read once", hint="give `--context -` one time")
    for name in names:
        if not name.strip():
            raise InvalidInput("--context is empty", hint="name a file, a folder or - for standard input")
        if name != "-":
            understand(name)


def add_contexts(store: ContextStore, names: Iterable[str]) -> tuple[ContextRef, ...]:
    """Store what the names stand for, in their order. Errors: InvalidInput, TooLarge, FetchFailed, NotConfigured."""
    return tuple(_added(store, name) for name in names)


def _added(store: ContextStore, name: str) -> ContextRef:
    reference = store.add_stream("stdin", _stdin(sys.stdin.buffer)) if name == "-" else add_named(store, name)
    for line in store.index(reference.sha256).unread or []:
        print(f"left out: {one_line(line)}", file=sys.stderr)
    return reference


def _stdin(stream: BinaryIO) -> Iterator[bytes]:
    if sys.stdin.isatty():
        print("reading the context from the terminal; Ctrl-D ends it", file=sys.stderr)
    while piece := stream.read(_PIECE_BYTES):
        yield piece
