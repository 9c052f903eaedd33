"""Contexts as values: the JSON with handles that crosses borders, and the input of an RLM made from it.

`{"$context": sha256}` is a whole context, `{"$slice": [sha256, start, end]}` characters of its data; either may stand
anywhere in a JSON value. Text never crosses: the sandbox reads it from its mount.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, cast

from fleet_rlm.errors import InvalidInput
from fleet_rlm.integrations.daytona.binding import ContextValue
from fleet_rlm.runtime.content.contexts import ContextStore
from fleet_rlm.runtime.execution.events import ContextRef

LISTED = 20
PREFIX_CHARS = 300
PLAIN_CHARS = 60
PREVIEW_CHARS = 8_000
MAX_DEPTH = 50


class ContextInput(ContextValue):
    """A context value with what the model is told about it: its type in the REPL and its true size."""

    def __init__(
        self, spec: Any, preview: str, *, guest_type: str, chars: int, names: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        super().__init__(spec, preview, names)
        self.guest_type = guest_type
        self.chars = chars


def context_spec(refs: Sequence[ContextRef]) -> Any:
    """The variable `context` of a turn: one context itself, several by name, None for none."""
    if not refs:
        return None
    if len(refs) == 1:
        return {"$context": refs[0].sha256}
    return {ref.name: {"$context": ref.sha256} for ref in refs}


def handles_in(value: Any) -> Iterator[str]:
    """The SHA-256 of every context that a value refers to.

    Errors: InvalidInput for a malformed handle (it may come from hostile code) or a value nested too deep.
    """
    stack: list[tuple[Any, int]] = [(value, 0)]
    while stack:
        item, depth = stack.pop()
        if depth > MAX_DEPTH:
            raise InvalidInput("the context is nested too deep")
        handle = _handle(item)
        if handle is not None:
            yield handle[0]
        elif isinstance(item, Mapping):
            stack.extend((inner, depth + 1) for inner in cast("Mapping[str, Any]", item).values())
        elif isinstance(item, list | tuple):
            stack.extend((inner, depth + 1) for inner in cast("Sequence[Any]", item))


def input_chars(task: str, value: Any) -> int:
    """How much a run is given, in characters: its task and its context."""
    if value is None:
        return len(task)
    if isinstance(value, ContextInput):
        return len(task) + value.chars
    return len(task) + len(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str))


def context_value(spec: Any, refs: Mapping[str, ContextRef], store: ContextStore) -> Any:
    """What an RLM gets as its `context`: plain data as it is, a ContextInput when there are handles in it."""
    first = next(handles_in(spec), None)
    if first is None:
        return spec
    shown = _preview(spec, refs)
    if len(shown) > PREVIEW_CHARS:  # nested lists multiply
        shown = f"{shown[:PREVIEW_CHARS]}\n... and more"
    preview = f"{shown}\n{_beginning(spec, refs, store)}"
    names = _other_names(spec, refs, store)
    return ContextInput(spec, preview, guest_type=_guest_type(spec, refs), chars=_chars(spec, refs), names=names)


def kept_handles(value: Any, handles: Any, allowed: Collection[str], store: ContextStore) -> Any:
    """The value with `$slice` in place of each text of it that `handles` (of the same form) says is a piece.

    `handles` comes from a sandbox: a handle is believed only of a context in `allowed` whose characters are the text.
    """
    if isinstance(value, str):
        try:
            handle = _handle(handles)
        except InvalidInput:
            return value
        if handle is None or handle[0] not in allowed or handle[1] is None or handle[2] is None:
            return value
        same = handle[2] - handle[1] == len(value) and store.read(handle[0], handle[1], handle[2]) == value
        return {"$slice": list(handle)} if same else value
    if isinstance(value, Mapping) and isinstance(handles, Mapping):
        mine, theirs = cast("Mapping[str, Any]", value), cast("Mapping[str, Any]", handles)
        return {key: kept_handles(item, theirs.get(key), allowed, store) for key, item in mine.items()}
    if isinstance(value, list) and isinstance(handles, list):
        items, places = cast("list[Any]", value), cast("list[Any]", handles)
        if len(items) == len(places):
            return [kept_handles(item, place, allowed, store) for item, place in zip(items, places, strict=True)]
    return value


def _other_names(spec: Any, refs: Mapping[str, ContextRef], store: ContextStore) -> dict[str, str]:
    """Names of texts in the value by SHA-256, where the name that they are stored under means another context here."""
    there = {ref.name: sha for sha, ref in refs.items()}
    others: dict[str, str] = {}
    for sha in sorted(set(handles_in(spec))):
        ref = refs[sha]
        if ref.kind == "text" and there.get(stored := store.index(sha).name, sha) != sha and stored != ref.name:
            others[sha] = ref.name
    return others


def _handle(item: Any) -> tuple[str, int | None, int | None] | None:
    """(sha256, start, end) of a handle; start and end are None for a whole context."""
    if not isinstance(item, Mapping) or len(cast("Mapping[str, Any]", item)) != 1:
        return None
    mapping = cast("Mapping[str, Any]", item)
    if "$context" in mapping:
        sha = mapping["$context"]
        if isinstance(sha, str):
            return sha, None, None
        raise InvalidInput("malformed context handle")
    if "$slice" in mapping:
        parts = mapping["$slice"]
        if (
            isinstance(parts, list | tuple)
            and len(cast("Sequence[Any]", parts)) == 3
            and isinstance(parts[0], str)
            and all(isinstance(n, int) and n >= 0 for n in cast("Sequence[Any]", parts[1:]))
        ):
            return parts[0], int(cast("int", parts[1])), int(cast("int", parts[2]))
        raise InvalidInput("malformed context handle")
    return None


def _chars(item: Any, refs: Mapping[str, ContextRef]) -> int:
    handle = _handle(item)
    if handle is not None:
        sha, start, end = handle
        return refs[sha].chars if start is None or end is None else max(0, end - start)
    if isinstance(item, Mapping):
        return sum(_chars(inner, refs) for inner in cast("Mapping[str, Any]", item).values())
    if isinstance(item, list | tuple):
        return sum(_chars(inner, refs) for inner in cast("Sequence[Any]", item))
    return len(str(item))


def _guest_type(item: Any, refs: Mapping[str, ContextRef]) -> str:
    handle = _handle(item)
    if handle is not None:
        whole_tree = handle[1] is None and refs[handle[0]].kind == "tree"
        return "dict[str, str] (path -> text)" if whole_tree else "str"
    if isinstance(item, Mapping):
        return "dict (name -> document)"
    return type(item).__name__


def _preview(item: Any, refs: Mapping[str, ContextRef], where: str = "context") -> str:
    """A few lines: what it is, how large, how to reach into it."""
    handle = _handle(item)
    if handle is not None:
        return _describe(handle, refs)
    if isinstance(item, Mapping):
        inside = list(cast("Mapping[Any, Any]", item).items())
    elif isinstance(item, list | tuple):
        inside = list(enumerate(cast("Sequence[Any]", item)))
    else:
        return _plain(item)
    named = [(f"{where}[{key!r:.80}]", inner) for key, inner in inside[:LISTED]]
    lines = [f"{name}: {_preview(inner, refs, name)}" for name, inner in named]
    more = len(inside) - LISTED
    return "\n".join([*lines, f"... and {more} more"] if more > 0 else lines) or f"an empty {type(item).__name__}"


def _plain(item: Any) -> str:
    """A value without contexts in it, by its beginning."""
    text = item if isinstance(item, str) else repr(item)
    size = f", {len(text):,} characters" if isinstance(item, str) else ""
    begin = json.dumps(text[:PLAIN_CHARS], ensure_ascii=False) if isinstance(item, str) else text[:PLAIN_CHARS]
    return f"{type(item).__name__}{size}: {begin}{' ...' if len(text) > PLAIN_CHARS else ''}"


def _beginning(item: Any, refs: Mapping[str, ContextRef], store: ContextStore) -> str:
    """How to reach in, and the first characters or the first file names: all of the text that a prompt ever holds."""
    handle = _handle(item)
    if handle is None:
        return "Reach in with context[key], then slice: context[key][a:b]"
    sha, start, end = handle
    if start is None and refs[sha].kind == "tree":
        entries = store.index(sha).files
        names = "\n".join(f"  {entry.path} ({entry.chars:,} characters)" for entry in entries[:LISTED])
        more = f"\n  ... and {len(entries) - LISTED} more" if len(entries) > LISTED else ""
        return f"Reach in with context[path], then slice: context[path][a:b]. Files:\n{names}{more}"
    begin = start or 0
    text = store.read(sha, begin, min(begin + PREFIX_CHARS, end if end is not None else begin + PREFIX_CHARS))
    return f"Slice it: context[a:b]. It begins with:\n{text}"


def _describe(handle: tuple[str, int | None, int | None], refs: Mapping[str, ContextRef]) -> str:
    sha, start, end = handle
    ref = refs[sha]
    if start is not None and end is not None:
        return f"str, {end - start:,} characters of {ref.name} (characters {start:,} to {end:,} of {ref.chars:,})"
    if ref.kind == "tree":
        size = f"{ref.files} files, {ref.chars:,} characters, {ref.lines:,} lines"
        return f"dict path -> text, the folder {ref.name}: {size}"
    return f"str, the text {ref.name}: {ref.chars:,} characters, {ref.lines:,} lines"
