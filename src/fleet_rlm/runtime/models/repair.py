"""Code that does not compile, mended before it runs: by rule where the slip is a common one, else by a small model.

Nothing of such a cell has run, so it may be sent again; the model that wrote it need not spend a turn on it. A mend is
taken only when it compiles here, and a model's only when it is nearly the same text: it may mend the syntax and no
more. The sandbox has the last word, for its Python may be another version.
"""

from __future__ import annotations

import ast
import difflib
import html
import re
import textwrap
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass

MAX_CODE_CHARS = 60_000
"""Longer code is left alone: nobody wants to pay for sending it again."""
LEAST_ALIKE = 0.8
"""How much of a model's mend must be the code as it was, from 0 to 1."""
MAX_PROSE_LINES = 12

_QUOTES = str.maketrans({"\u201c": '"', "\u201d": '"', "\u201e": '"', "\u2018": "'", "\u2019": "'"})
_ODD_SPACES = str.maketrans(dict.fromkeys("\u00a0\u2007\u202f\u3000", " ") | dict.fromkeys("\u200b\u200c\u200d\ufeff"))
_INDENT = re.compile(r"^[ \t]+", re.MULTILINE)
_FENCE = re.compile(r"^\s*(```|~~~)\s*(python|py|python3)?\s*$", re.IGNORECASE)
_BLOCK = re.compile(r"^\s*```[^\n]*\n(.*?)^\s*```", re.DOTALL | re.MULTILINE)
_PROMPT = re.compile(r"^(>>> ?|\.\.\. ?|In \[\d+\]: ?|Out\[\d+\]: ?)")
_OLD_PRINT = re.compile(r"^(\s*)print[ \t]+(?![=(])(\S.*?)\s*$", re.MULTILINE)
_PROSE = re.compile(r"^\s*(?:[-*#>]\s+)?[A-Za-z][^=(){}\[\]]*(?:[ ,][^=(){}\[\]]*)+[.:!?,]?\s*$")


@dataclass(frozen=True, slots=True)
class Repair:
    """Code that compiles, and in a few words what was done."""

    code: str
    done: str


def by_rule(code: str) -> Repair | None:
    """The first rule, or the first two together, after which the code compiles; None when none helps."""
    if len(code) > MAX_CODE_CHARS:
        return None
    half: list[Repair] = []
    for done, changed in _changes(code):
        if compiles(changed):
            return Repair(changed, done)
        half.append(Repair(changed, done))
    for first in half:
        for done, changed in _changes(first.code):
            if done != first.done and compiles(changed):
                return Repair(changed, f"{first.done}; {done}")
    return None


def from_model(code: str, reply: str) -> Repair | None:
    """A model's mend out of its reply, when it compiles and is the same code but for little."""
    found = _BLOCK.search(reply)
    mended = (found.group(1) if found else reply).strip("\n")
    if not mended.strip() or not compiles(mended):
        return None
    before, after = code.split(), mended.split()
    if difflib.SequenceMatcher(None, before, after, autojunk=False).ratio() < LEAST_ALIKE:
        return None
    return Repair(mended, "a model mended the syntax")


def compiles(code: str) -> bool:
    """Whether this Python can read it. Nothing of it is run."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return bool(ast.parse(code).body)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False


def request(code: str, fault: str) -> str:
    """What a model is asked when no rule helps."""
    return (
        "This Python code does not compile. Mend its syntax and change nothing else: same names, same texts, same "
        "order. Reply with the whole mended code in one ```python block and nothing besides.\n\n"
        f"Error: {fault}\n\n```python\n{code}\n```"
    )


def _changes(code: str) -> Iterator[tuple[str, str]]:
    for done, change in _RULES:
        changed = change(code)
        if changed != code:
            yield done, changed
    yield from _without_prose(code)


def _without_fences(code: str) -> str:
    return "\n".join(line for line in code.split("\n") if not _FENCE.match(line))


def _first_block(code: str) -> str:
    found = _BLOCK.search(code)
    return found.group(1) if found else code


def _without_prompts(code: str) -> str:
    lines = code.split("\n")
    if not any(_PROMPT.match(line) for line in lines):
        return code
    return "\n".join(_PROMPT.sub("", line) for line in lines if _PROMPT.match(line))


def _without_language(code: str) -> str:
    first, _, rest = code.lstrip().partition("\n")
    return rest if first.strip().lower() in ("python", "py", "python3", "code", "code:") else code


def _evened(code: str, width: int) -> str:
    """Tabs at the beginning of lines as spaces, and no indentation that all lines share."""
    return textwrap.dedent(_INDENT.sub(lambda found: found.group().expandtabs(width), code)).strip("\n")


def _unescaped(code: str) -> str:
    """A program on one line whose line ends were written as backslash and n."""
    if "\n" in code.strip() or "\\n" not in code:
        return code
    return code.replace("\\n", "\n").replace("\\t", "\t").replace('\\"', '"')


def _with_plain_quotes(code: str) -> str:
    return code.translate(_QUOTES)


def _without_prose(code: str) -> Iterator[tuple[str, str]]:
    """Without lines of prose before or after the code: only lines that look like sentences go."""
    lines = code.split("\n")
    first, last = 0, len(lines)
    while first < min(last, MAX_PROSE_LINES) and (not lines[first].strip() or _is_prose(lines[first])):
        first += 1
    while last > max(first, len(lines) - MAX_PROSE_LINES) and (
        not lines[last - 1].strip() or _is_prose(lines[last - 1])
    ):
        last -= 1
    for start, end in ((first, len(lines)), (0, last), (first, last)):
        left = "\n".join(lines[start:end])
        if left.strip() and left != code:
            yield "left out prose around the code", left


def _is_prose(line: str) -> bool:
    return bool(_PROSE.match(line)) and not compiles(line.strip()) and not compiles(line.strip() + "\n    pass")


_RULES: tuple[tuple[str, Callable[[str], str]], ...] = (
    ("removed odd spaces", lambda code: code.translate(_ODD_SPACES)),
    ("removed code fences", _without_fences),
    ("took the first code block", _first_block),
    ("removed the language's name", _without_language),
    ("removed prompt signs", _without_prompts),
    ("evened the indentation", lambda code: _evened(code, 4)),
    ("evened the indentation", lambda code: _evened(code, 8)),
    ("made line ends of \\n", _unescaped),
    ("replaced typographic quotes", _with_plain_quotes),
    ("unescaped HTML", html.unescape),
    ("made print a function", lambda code: _OLD_PRINT.sub(r"\1print(\2)", code)),
)
