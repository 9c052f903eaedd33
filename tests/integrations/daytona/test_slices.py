"""Contexts in the guest: plain strings that know their place."""

from __future__ import annotations

import copy
import json
import pickle
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fleet_rlm.integrations.daytona.worker.slices import Contexts, Helpers, Slice, with_handles
from integrations.daytona.contexts import MIXED, folder_of, store_files, store_text

FILES = {"a.py": "import os\nx = 1\n", "lib/b.py": "def f():\n    return 'x'\n", "ü.txt": "äöü\nzeile zwei"}


@pytest.fixture
def mixed(tmp_path: Path) -> tuple[Contexts, str]:
    sha = store_text(tmp_path, "mixed.txt", MIXED)
    return Contexts(str(folder_of(tmp_path, sha))), sha


@pytest.fixture
def tree(tmp_path: Path) -> tuple[Contexts, str]:
    sha = store_files(tmp_path, "project", FILES)
    return Contexts(str(folder_of(tmp_path, sha))), sha


@pytest.mark.parametrize("start", [0, 1, 65_535, 65_536, 65_537, 131_072, 200_000, len(MIXED) - 1])
@pytest.mark.parametrize("length", [0, 1, 70_000, len(MIXED)])
def test_any_piece_is_read_where_it_lies(mixed: tuple[Contexts, str], start: int, length: int) -> None:
    contexts, sha = mixed
    piece = contexts.value({"$slice": [sha, start, start + length]})
    assert piece == MIXED[start : start + length]
    assert piece.line == MIXED.count("\n", 0, start) + 1


def test_a_whole_text_and_its_slices(mixed: tuple[Contexts, str]) -> None:
    contexts, sha = mixed
    whole = contexts.value({"$context": sha})
    assert whole == MIXED and isinstance(whole, Slice)
    piece = whole[70_000:70_100][10:20]
    assert piece == MIXED[70_010:70_020]
    assert (piece.start, piece.end, piece.path) == (70_010, 70_020, "mixed.txt")
    assert piece.line == MIXED.count("\n", 0, 70_010) + 1
    assert whole[-5:].end == len(MIXED)


def test_a_folder_is_a_dictionary_of_slices(tree: tuple[Contexts, str]) -> None:
    contexts, sha = tree
    whole = contexts.value({"$context": sha})
    assert type(whole) is dict and whole == FILES
    assert whole["lib/b.py"].path == "lib/b.py" and whole["lib/b.py"].line == 1
    second = whole["ü.txt"][whole["ü.txt"].index("zeile") :]
    assert (second.path, second.line) == ("ü.txt", 2)


def test_a_slice_is_a_string_to_everyone(tree: tuple[Contexts, str]) -> None:
    contexts, sha = tree
    piece: Any = contexts.value({"$context": sha})["a.py"]
    plain = FILES["a.py"]
    assert json.dumps(piece) == json.dumps(plain)
    assert hash(piece) == hash(plain) and {plain: 1}[piece] == 1
    assert re.findall(r"\w+", piece) == ["import", "os", "x", "1"]
    assert "".join([piece]) == plain and f"{piece}" == plain and piece + "" == plain
    assert pickle.loads(pickle.dumps(piece)) == plain and copy.deepcopy([piece]) == [plain]
    assert type(piece.upper()) is str and type(piece[0]) is str and type(piece[::2]) is str
    assert type(piece[:3]) is Slice


class Meets:
    """Knows itself how to be added to a text, or how often a text is repeated."""

    def __radd__(self, other: Any) -> str:
        return f"{other}|met"

    __rmul__ = __rmod__ = __radd__

    def __add__(self, other: Any) -> str:
        return f"met|{other}"

    __mul__ = __add__


def test_operators_leave_to_others_what_is_theirs(tree: tuple[Contexts, str]) -> None:
    contexts, sha = tree
    piece: Any = contexts.value({"$context": sha})["a.py"]
    plain: Any = FILES["a.py"]
    assert piece + Meets() == plain + Meets() == f"{plain}|met"
    assert Meets() + piece == Meets() + plain == f"met|{plain}"
    assert piece * Meets() == plain * Meets() and Meets() * piece == Meets() * plain
    assert "<" + piece + ">" == f"<{plain}>" and piece + piece == plain * 2 == piece * 2 == 2 * piece
    for wrong in (lambda text: text + 1, lambda text: 1 + text, lambda text: text * "a", lambda text: [] + text):
        with pytest.raises(TypeError):
            wrong(piece)


@pytest.mark.parametrize(
    ("code", "named"),
    [
        ("context_info()", False),
        ("info = context_info()\nprint('context:', info)  # the context", False),
        ("my_context = 1", False),
        ("print(f'{len(context):,}')", True),
        ("def f():\n    return context[:9]", True),
        ("from __main__ import context", True),
        ("import __main__\nprint(len(__main__.context))", True),
        ("print(len(globals()['context']))", True),
        ("exec('print(len(context))')", True),
        ("import sys\nprint(vars(sys.modules['__main__'])['context'])", True),
        ("print(context", True),
        ("print(context_info()", False),
    ],
)
def test_a_variable_is_built_for_code_that_uses_it_and_for_no_other(
    mixed: tuple[Contexts, str], code: str, named: bool
) -> None:
    contexts, sha = mixed
    contexts.bind("context", {"$context": sha})
    namespace: dict[str, Any] = {}
    contexts.build_named_in(code, namespace)
    assert ("context" in namespace) == named


def test_code_that_once_looked_names_up_by_their_text_may_do_so_later(mixed: tuple[Contexts, str]) -> None:
    contexts, sha = mixed
    contexts.bind("context", {"$context": sha})
    namespace: dict[str, Any] = {}
    contexts.build_named_in("def look(text):\n    return eval(text)", namespace)
    assert "context" not in namespace
    contexts.build_named_in("look('len(context)')", namespace)
    assert namespace["context"] == MIXED


def test_variables_are_built_when_first_named(mixed: tuple[Contexts, str]) -> None:
    contexts, sha = mixed
    namespace: dict[str, Any] = {}
    contexts.bind("context", [{"$slice": [sha, 0, 4]}, "plain", {"k": {"$slice": [sha, 4, 8]}}])
    contexts.build_named_in("print(1)", namespace)
    assert namespace == {}
    contexts.build_named_in("print(context)", namespace)
    assert namespace["context"] == [MIXED[:4], "plain", {"k": MIXED[4:8]}]
    namespace["context"] = "changed by the guest"
    contexts.build_named_in("print(context)", namespace)
    assert namespace["context"] == "changed by the guest"


def test_a_context_beyond_the_memory_says_where_its_text_can_be_read_in_pieces(tmp_path: Path) -> None:
    sha = store_text(tmp_path, "large.txt", "hay and needle\n" * 2_000_000)
    root = folder_of(tmp_path, sha)
    code = (
        "import resource, sys\n"
        "from fleet_rlm.integrations.daytona.worker.slices import Contexts\n"
        "contexts, namespace = Contexts(sys.argv[1]), {}\n"
        "contexts.bind('context', {'a': {'$context': sys.argv[2]}})\n"
        "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + (16 << 20),) * 2)\n"
        "try:\n    contexts.build_named_in('len(context)', namespace)\n"
        "except MemoryError as error:\n    print(error)\n"
        "contexts.build_named_in('context_info()', namespace)\n"
        "file = open(sys.argv[1] + '/' + sys.argv[2] + '/data', encoding='utf-8')\n"
        "print(namespace, contexts.describe('context')['chars'], file.readline())\n"
    )
    done = subprocess.run([sys.executable, "-c", code, root, sha], capture_output=True, text=True, check=True)
    told, rest = done.stdout.splitlines()[:2]
    assert told == (
        "context has 30,000,000 characters, too many for the memory of this sandbox: loading it needs 2 to 8 times its "
        f"size. Read its text in pieces instead: {root / sha / 'data'} (UTF-8)"
    )
    assert rest == "{} 30000000 hay and needle"


def test_an_unknown_context_is_one_clear_error(tmp_path: Path) -> None:
    contexts = Contexts(str(tmp_path))
    with pytest.raises(LookupError, match="not mounted"):
        contexts.value({"$context": "0" * 64})
    with pytest.raises(ValueError, match="not a context id"):
        contexts.value({"$context": "../../etc/passwd"})


def test_grep_finds_lines_with_their_places(tree: tuple[Contexts, str]) -> None:
    contexts, sha = tree
    namespace: dict[str, Any] = {}
    contexts.bind("context", {"$context": sha})
    helpers = Helpers(contexts, namespace)
    assert [(m.path, m.line, m.text) for m in helpers.grep("RETURN|zwei")] == [
        ("lib/b.py", 2, "    return 'x'"),
        ("ü.txt", 2, "zeile zwei"),
    ]
    assert helpers.grep("RETURN", ignore_case=False) == []
    assert len(helpers.grep("x", limit=1)) == 1
    match = helpers.grep("x = 1")[0]
    assert contexts.value({"$slice": [sha, match.start, match.start + 5]}) == "x = 1"


@pytest.mark.parametrize("pattern", ["fjörd €11999", "FJÖRD €11999", "fj.rd €11999"])
def test_grep_counts_lines_across_a_long_text(mixed: tuple[Contexts, str], pattern: str) -> None:
    contexts, sha = mixed
    text = contexts.value({"$context": sha})
    found = Helpers(contexts, {}).grep(pattern, text[1000:])
    assert [(m.line, m.text) for m in found] == [(12_000, "11999: fjörd €11999 🙂 plain")]


def test_grep_in_plain_text_and_lists() -> None:
    helpers = Helpers(Contexts("/nowhere"), {})
    assert [(m.line, m.text) for m in helpers.grep("b", "a\nB\nab")] == [(2, "B"), (3, "ab")]
    assert [(m.path, m.text) for m in helpers.grep("b", {"one": ["x", "b"]})] == [("one[1]", "b")]
    with pytest.raises(TypeError, match="expected text"):
        helpers.grep("b", 7)


@pytest.mark.parametrize(("size", "overlap"), [(10, 0), (7, 3), (5000, 0), (1, 0)])
def test_chunks_cover_the_text(tree: tuple[Contexts, str], size: int, overlap: int) -> None:
    contexts, sha = tree
    text = contexts.value({"$context": sha})["lib/b.py"]
    pieces: Any = Helpers(contexts, {}).chunks(text, size, overlap)
    assert all(len(piece) <= size for piece in pieces)
    assert pieces[0] + "".join(piece[overlap:] for piece in pieces[1:]) == text
    assert all(piece == contexts.value({"$slice": [sha, piece.start, piece.end]}) for piece in pieces)


def test_chunks_refuses_what_would_not_end() -> None:
    with pytest.raises(ValueError, match="overlap"):
        Helpers(Contexts("/nowhere"), {}).chunks("abc", 3, 3)


def test_context_info_reads_no_text(mixed: tuple[Contexts, str]) -> None:
    contexts, sha = mixed
    contexts.bind("context", {"$context": sha})
    info = Helpers(contexts, {}).context_info()["context"]
    assert (info["chars"], info["lines"], info["kind"]) == (len(MIXED), 12_000, "text")
    assert info["files"] == [{"path": "mixed.txt", "chars": len(MIXED)}]


def test_handles_go_through_any_nesting(mixed: tuple[Contexts, str]) -> None:
    contexts, sha = mixed
    piece = contexts.value({"$slice": [sha, 5, 9]})
    handle = {"$slice": [sha, 5, 9]}
    assert with_handles({"a": [piece, (piece, 1)], "b": "plain"}) == {"a": [handle, [handle, 1]], "b": "plain"}
