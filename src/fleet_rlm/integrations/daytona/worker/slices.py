"""Contexts as the guest sees them: strings that know where they come from, read from the read-only mount.

A context is `<root>/<sha256>/data` (UTF-8) with `index.json`: its files, and every `stride` characters a
checkpoint `[byte offset, newlines before]`, so that a piece of 100 MB is read by one seek.
"""

# pathlib would add milliseconds to the start of every sandbox
# ruff: noqa: PTH118, PTH123

from __future__ import annotations

import ast
import bisect
import dataclasses
import errno
import hashlib
import json
import mmap
import os
import re
from collections.abc import Callable, Iterator
from typing import Any

from .reads import Reads
from .values import MAX_DEPTH


class Context:
    """One mounted context; opens its files on first use."""

    def __init__(self, root: str, sha256: str, marks: list[str] | None = None, reads: Reads | None = None) -> None:
        """`marks`: the SHA-256 of index.json and data, where the mount can be written to and has to be checked."""
        if not re.fullmatch("[0-9a-f]{64}", sha256):
            raise ValueError(f"not a context id: {sha256!r}")
        self.sha256 = sha256
        folder = os.path.join(root, sha256)
        try:
            with open(os.path.join(folder, "index.json"), "rb") as file:
                head = file.read()
            self._data = os.open(os.path.join(folder, "data"), os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise LookupError(f"context {sha256[:12]} is not mounted in this sandbox: {error}") from None
        if marks and [hashlib.sha256(head).hexdigest(), digest_of(self._data)] != marks:
            os.close(self._data)
            raise LookupError(f"context {sha256[:12]} was changed on its volume: it is not what was given")
        index: dict[str, Any] = json.loads(head)
        self.kind: str = index["kind"]
        self.name: str = index["name"]
        self.chars: int = index["chars"]
        self.bytes: int = index["bytes"]
        self.lines: int = index["lines"]
        self.files: list[dict[str, Any]] = index["files"]
        self._stride: int = index["stride"]
        self._checkpoints: list[list[int]] = index["checkpoints"]
        self._starts = [file["char"] for file in self.files]
        self._first_lines: dict[int, int] = {}
        self._reads = reads or Reads()

    def rename(self, name: str) -> None:
        """A text has another name in this turn than the one that it is stored under."""
        self.name, self.files = name, [{**file, "path": name} for file in self.files]

    def saw(self, start: int, end: int) -> None:
        """The guest has looked at characters start..end."""
        self._reads.note(self.sha256, start, end)

    def text(self, start: int, end: int) -> str:
        """Characters start..end of the data."""
        start = max(0, min(start, self.chars))
        end = max(start, min(end, self.chars))
        if start == end:
            return ""
        if self.bytes == self.chars:  # one byte per character: no checkpoint needed
            return self._read(start, end)
        first, last = start // self._stride, end // self._stride + 1
        upto = self._checkpoints[last][0] if last < len(self._checkpoints) else self.bytes
        text = self._read(self._checkpoints[first][0], upto)
        offset = first * self._stride
        return text[start - offset : end - offset]

    def _read(self, start: int, end: int) -> str:
        if end - start < 1 << 20:
            return os.pread(self._data, end - start, start).decode("utf-8")
        base = start - start % mmap.ALLOCATIONGRANULARITY
        view = mmap.mmap(self._data, end - base, access=mmap.ACCESS_READ, offset=base)
        with view, memoryview(view) as raw, raw[start - base :] as wanted:
            return str(wanted, "utf-8")

    def slice(self, start: int, end: int) -> Slice:
        start = max(0, min(start, self.chars))
        return Slice(self.text(start, end), self, start)

    def whole(self) -> Slice | dict[str, Slice]:
        """All of it: one string, or for a tree a dictionary path -> string."""
        if self.kind != "tree":
            return self.slice(0, self.chars)
        text = self.text(0, self.chars)
        return {f["path"]: Slice(text[f["char"] : f["char"] + f["chars"]], self, f["char"]) for f in self.files}

    def path_at(self, char: int) -> str:
        return self.files[self._file_at(char)]["path"] if self.files else self.name

    def line_at(self, char: int) -> int:
        """1-based line, within its file, of the character at `char`."""
        number = self._file_at(char) if self.files else 0
        if number not in self._first_lines:
            self._first_lines[number] = self._newlines(self._starts[number] if self.files else 0)
        return self._newlines(char) - self._first_lines[number] + 1

    def _file_at(self, char: int) -> int:
        return max(0, bisect.bisect_right(self._starts, char) - 1)

    def _newlines(self, char: int) -> int:
        number = min(char // self._stride, len(self._checkpoints) - 1)
        return self._checkpoints[number][1] + self.text(number * self._stride, char).count("\n")


def digest_of(fd: int) -> str:
    """The SHA-256 of a file's bytes: a third of a second for 100 MB."""
    size = os.fstat(fd).st_size
    if not size:
        return hashlib.sha256().hexdigest()
    with mmap.mmap(fd, size, access=mmap.ACCESS_READ) as view:
        return hashlib.sha256(view).hexdigest()


class Slice(str):
    """A piece of a context. Works as a plain `str` everywhere; knows `.path`, `.line`, `.start`, `.end`.

    `piece[a:b]` is a Slice again; every other operation gives a plain str.
    """

    __slots__ = ("_context", "start")
    _context: Context
    start: int

    def __new__(cls, text: str, context: Context, start: int) -> Slice:
        self = str.__new__(cls, text)
        self._context = context
        self.start = start
        return self

    @property
    def end(self) -> int:
        return self.start + len(self)

    @property
    def path(self) -> str:
        return self._context.path_at(self.start)

    @property
    def line(self) -> int:
        return self._context.line_at(self.start)

    @property
    def context_id(self) -> str:
        return self._context.sha256

    def saw(self, start: int = 0, end: int | None = None) -> None:
        """These characters of the piece (default: all) were looked at."""
        size = len(self)
        self._context.saw(self.start + max(0, start), self.start + (size if end is None else min(end, size)))

    def __getitem__(self, key: Any) -> str:
        text = str.__getitem__(self, key)
        if isinstance(key, slice):
            start, stop, step = key.indices(len(self))
            if step == 1:
                return Slice(text, self._context, self.start + start)
            self.saw(min(start, stop + 1), max(start + 1, stop))
        else:
            at = key.__index__()
            self.saw(at if at >= 0 else len(self) + at, (at if at >= 0 else len(self) + at) + 1)
        return text

    def __contains__(self, text: str) -> bool:  # type: ignore[override]
        return self.find(text) >= 0

    def find(self, text: str, *bounds: Any) -> int:  # type: ignore[override]
        found = str.find(self, text, *bounds)
        start, end, _ = slice(*bounds, *[None] * (2 - len(bounds))).indices(len(self))
        self.saw(start, end if found < 0 else found + len(text))
        return found

    def index(self, text: str, *bounds: Any) -> int:  # type: ignore[override]
        found = self.find(text, *bounds)
        if found < 0:
            raise ValueError("substring not found")
        return found

    def startswith(self, prefix: Any, *bounds: Any) -> bool:  # type: ignore[override]
        if not bounds:
            self.saw(0, max(map(len, prefix), default=0) if isinstance(prefix, tuple) else len(prefix))
        return str.startswith(self, prefix, *bounds)

    def endswith(self, suffix: Any, *bounds: Any) -> bool:  # type: ignore[override]
        if not bounds:
            most = max(map(len, suffix), default=0) if isinstance(suffix, tuple) else len(suffix)
            self.saw(len(self) - most)
        return str.endswith(self, suffix, *bounds)

    def __copy__(self) -> Slice:
        return self

    def __deepcopy__(self, memo: Any) -> Slice:
        return self

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return str, (str(self),)


def _looking(name: str) -> Any:
    plain = getattr(str, name, None)
    theirs = _LEFT_TO_OTHERS.get(name)

    def method(self: Slice, *args: Any, **kwargs: Any) -> Any:
        if theirs is not None and not theirs(args[0]):
            return NotImplemented
        self.saw()
        return plain(self, *args, **kwargs) if plain is not None else args[0] + str.__str__(self)

    method.__name__ = name
    return method


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_number(value: Any) -> bool:
    return hasattr(type(value), "__index__")


# operands with which `str` itself would have nothing to do: the other side's operator is asked then
_LEFT_TO_OTHERS = {"__add__": _is_text, "__radd__": _is_text, "__mul__": _is_number, "__rmul__": _is_number}
_LOOKING = (
    "__add__", "__format__", "__iter__", "__mod__", "__mul__", "__radd__", "__repr__", "__rmul__", "__str__",
    "capitalize", "casefold", "center", "count", "encode", "expandtabs", "format", "isalnum", "isalpha", "isascii",
    "isdecimal", "isdigit", "islower", "isnumeric", "isprintable", "isspace", "isupper", "join", "ljust", "lower",
    "lstrip", "partition", "removeprefix", "removesuffix", "replace", "rfind", "rindex", "rjust", "rpartition",
    "rsplit", "rstrip", "split", "splitlines", "strip", "swapcase", "title", "translate", "upper", "zfill",
)  # fmt: skip
for _name in _LOOKING:
    if _name == "__radd__" or hasattr(str, _name):  # some are younger than the oldest Python
        setattr(Slice, _name, _looking(_name))


def note_reads(value: Any, depth: int = 0) -> Any:
    """The value itself; the pieces of contexts in it (through lists, tuples and dictionaries) count as looked at."""
    if isinstance(value, Slice):
        value.saw()
    elif isinstance(value, (list, tuple)) and depth < 3:
        for item in value:
            note_reads(item, depth + 1)
    elif isinstance(value, dict) and depth < 3:
        for item in value.values():
            note_reads(item, depth + 1)
    return value


@dataclasses.dataclass(frozen=True)
class Match:
    """One line that matched: where it is and the line itself."""

    path: str
    line: int
    text: str
    start: int


_LOOK_UP = frozenset(("eval", "exec", "globals", "locals", "vars", "modules", "__main__", "import_module"))


class Contexts:
    """The contexts of this interpreter and the variables bound to them; a value is built when first named."""

    def __init__(self, root: str, marks: dict[str, list[str]] | None = None) -> None:
        self._root = root
        self._marks = marks or {}
        self.reads = Reads()
        self._open: dict[str, Context] = {}
        self._specs: dict[str, Any] = {}  # every binding
        self._unbuilt: set[str] = set()
        self._called: dict[str, str] = {}
        self._by_text = False  # whether code has looked names up by their text

    def context(self, sha256: str) -> Context:
        if sha256 not in self._open:
            self._open[sha256] = Context(self._root, sha256, self._marks.get(sha256), self.reads)
            if sha256 in self._called:
                self._open[sha256].rename(self._called[sha256])
        return self._open[sha256]

    def bind(self, name: str, spec: Any) -> None:
        """Remember what the variable `name` stands for; nothing is read yet."""
        if isinstance(spec, dict) and spec.keys() == {"$names", "$value"}:  # see ContextValue of the host
            self._called.update(spec["$names"])
            spec = spec["$value"]
        self._specs[name] = spec
        self._unbuilt.add(name)

    def forget(self, name: str) -> None:
        """The host gave the variable an ordinary value."""
        self._specs.pop(name, None)
        self._unbuilt.discard(name)

    def build_named_in(self, source: str | None, namespace: dict[str, Any]) -> None:
        """Build each unbuilt variable that the code `source` names (None: all of them)."""
        wanted = self._unbuilt if source is None else self._unbuilt & self._names_in(source)
        for name in sorted(wanted):
            namespace[name] = self._built(name)
            self._unbuilt.discard(name)

    def _built(self, name: str) -> Any:
        try:
            return self.value(self._specs[name])
        except (MemoryError, OSError) as error:
            if isinstance(error, OSError) and error.errno != errno.ENOMEM:
                raise
        chars = self.describe(name)["chars"]
        ids = list(dict.fromkeys(sha256 for sha256, _, _ in self._pieces(self._specs[name])))
        paths = ", ".join(os.path.join(self._root, sha256, "data") for sha256 in ids[:5])
        raise MemoryError(
            f"{name} has {chars:,} characters, too many for the memory of this sandbox: loading it needs 2 to 8 times "
            f"its size. Read its text in pieces instead: {paths}{', ...' if len(ids) > 5 else ''} (UTF-8)"
        )

    def _names_in(self, source: str) -> set[str]:
        """The names of the code: not those in comments, and those in strings only once code looks names up by text."""
        if not any(word in source for word in (*self._unbuilt, *_LOOK_UP)):  # to parse is not for nothing
            return set()
        try:
            nodes = list(ast.walk(ast.parse(source)))
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return set(re.findall(r"\w+", source))
        names: set[str] = set()
        for node in nodes:
            if isinstance(node, ast.Name):
                names.add(node.id)
            elif isinstance(node, ast.Attribute):
                names.add(node.attr)
            elif isinstance(node, ast.alias):
                names.add(node.name)
        self._by_text = self._by_text or not names.isdisjoint(_LOOK_UP)
        return names.union(re.findall(r"\w+", source)) if self._by_text else names

    def value(self, spec: Any) -> Any:
        """JSON with `$slice` and `$context` in it -> the value."""
        if isinstance(spec, dict):
            if len(spec) == 1 and "$slice" in spec:
                sha256, start, end = spec["$slice"]
                return self.context(sha256).slice(int(start), int(end))
            if len(spec) == 1 and "$context" in spec:
                return self.context(spec["$context"]).whole()
            return {key: self.value(item) for key, item in spec.items()}
        if isinstance(spec, list):
            return [self.value(item) for item in spec]
        return spec

    @property
    def names(self) -> list[str]:
        return list(self._specs)

    def describe(self, name: str) -> dict[str, Any]:
        """Kind, size and files of one bound variable, without reading its text."""
        found: dict[str, Any] = {"variable": name, "chars": 0, "lines": 0, "pieces": 0, "files": []}
        for sha256, start, end in self._pieces(self._specs[name]):
            context = self.context(sha256)
            whole = end is None
            found["pieces"] += 1
            found["chars"] += context.chars if end is None else end - start
            found["lines"] += context.lines if whole else context.text(start, end or 0).count("\n")
            found["kind"] = context.kind if whole else "pieces"
            files = context.files if whole else [{"path": context.path_at(start), "chars": (end or 0) - start}]
            found["files"] += [{"path": f["path"], "chars": f["chars"]} for f in files[: 50 - len(found["files"])]]
        return found

    def _pieces(self, spec: Any) -> Iterator[tuple[str, int, int | None]]:
        if isinstance(spec, dict) and len(spec) == 1 and "$slice" in spec:
            yield spec["$slice"][0], int(spec["$slice"][1]), int(spec["$slice"][2])
        elif isinstance(spec, dict) and len(spec) == 1 and "$context" in spec:
            yield spec["$context"], 0, None
        elif isinstance(spec, (dict, list)):
            for item in spec.values() if isinstance(spec, dict) else spec:
                yield from self._pieces(item)


def with_handles(value: Any, above: tuple[int, ...] = ()) -> Any:
    """The value with every Slice as `{"$slice": [...]}`, through lists, tuples and dictionaries.

    A circle, or what lies very deep, is left as it is. `above`: the ids of what it lies in.
    """
    if isinstance(value, Slice):
        return {"$slice": [value.context_id, value.start, value.end]}
    if not isinstance(value, (dict, list, tuple)) or id(value) in above or len(above) > MAX_DEPTH:
        return value
    above = (*above, id(value))
    if isinstance(value, dict):
        return {key: with_handles(item, above) for key, item in value.items()}
    return [with_handles(item, above) for item in value]


Text = Any  # str, or lists and dictionaries of str


class Helpers:
    """The functions that model-written code finds as globals. Signature and first line are the model's manual."""

    def __init__(self, contexts: Contexts, namespace: dict[str, Any]) -> None:
        self._contexts = contexts
        self._namespace = namespace

    def chunks(self, text: Text, size: int, overlap: int = 0) -> list[str]:
        """Cut a text (or each text of a list or dict) into pieces of `size` characters that know their place."""
        if size < 1 or not 0 <= overlap < size:
            raise ValueError(f"chunks needs size >= 1 and 0 <= overlap < size, got size={size}, overlap={overlap}")
        pieces: list[str] = []
        for _, source in texts_in(text):
            for start in range(0, max(len(source), 1), size - overlap):
                pieces.append(source[start : start + size])
                if start + size >= len(source):
                    break
        return pieces

    def grep(self, pattern: str, text: Text | None = None, ignore_case: bool = True, limit: int = 200) -> list[Match]:
        """Lines that match a regular expression in a text (default: all context variables), with .path .line .text."""
        if text is None:
            self._contexts.build_named_in(None, self._namespace)
            text = {name: self._namespace[name] for name in self._contexts.names if name in self._namespace}
        find = _finder(pattern, ignore_case)
        matches: list[Match] = []
        for path, source in texts_in(text):
            for match in _matching_lines(path, source, find):
                matches.append(match)
                if len(matches) >= limit:
                    return matches
        return matches

    def context_info(self) -> dict[str, Any]:
        """Name -> kind, characters, lines and files of every context variable, without loading it."""
        return {name: self._contexts.describe(name) for name in self._contexts.names}


def texts_in(text: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Every string in a nest of lists and dictionaries, with the keys that lead to it."""
    if isinstance(text, str):
        yield path, text
    elif isinstance(text, dict):
        for key, item in text.items():
            yield from texts_in(item, f"{path}/{key}" if path else str(key))
    elif isinstance(text, (list, tuple)):
        for number, item in enumerate(text):
            yield from texts_in(item, f"{path}[{number}]")
    else:
        raise TypeError(f"expected text, or a list or dict of texts, not {type(text).__name__}")


def _finder(pattern: str, ignore_case: bool) -> Callable[[str], Iterator[int]]:
    """Where a pattern matches. Plain words in ASCII text are searched as such: ten times as fast as by `re`."""
    compiled = re.compile(pattern, re.IGNORECASE if ignore_case else 0)
    word = pattern.lower() if ignore_case else pattern
    plain = bool(word) and not set(word) & set(".^$*+?{}[]\\|()")

    def find(text: str) -> Iterator[int]:
        if not plain or (ignore_case and not (str.isascii(text) and word.isascii())):
            yield from (match.start() for match in compiled.finditer(text))
            return
        text = str.lower(text) if ignore_case else text
        at = str.find(text, word)
        while at >= 0:
            yield at
            at = str.find(text, word, at + len(word))

    return find


def _matching_lines(path: str, source: str, find: Callable[[str], Iterator[int]]) -> Iterator[Match]:
    first_line = source.line if isinstance(source, Slice) else 1
    place = source.path if isinstance(source, Slice) else path
    base = source.start if isinstance(source, Slice) else 0
    counted_to, newlines, last_start = 0, 0, -1
    for found in find(source):  # by the methods of `str` itself: those of a Slice tell that all of it was looked at
        start = str.rfind(source, "\n", 0, found) + 1
        if start == last_start:
            continue
        last_start = start
        newlines += str.count(source, "\n", counted_to, start)
        counted_to = start
        end = str.find(source, "\n", found)
        end = end if end >= 0 else len(source)
        if isinstance(source, Slice):
            source.saw(0, end)
        yield Match(place, first_line + newlines, source[start:end], base + start)
    if isinstance(source, Slice):
        source.saw()
