"""A module is a room with one purpose, a function fits on a screen, and broad excepts are counted on one hand."""

from __future__ import annotations

import ast
import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src"
MODULES = sorted((SOURCE / "fleet_rlm").rglob("*.py"))

LINES_OF_A_MODULE = 500
LINES_OF_A_FUNCTION = 60

LONG_MODULES = {
    "fleet_rlm/runtime/execution/events.py": "the closed union of events: one list, read as one",
}
"""Reasons for modules above the limit. This list may only shrink."""

VAGUE_NAMES = {"helpers", "utils", "util", "manager", "common", "misc", "helper"}

BROAD = {"Exception", "BaseException"}


def name_of(path: Path) -> str:
    return path.relative_to(SOURCE).as_posix()


def test_modules_are_small() -> None:
    lengths = {name_of(path): len(path.read_text().splitlines()) for path in MODULES}
    too_long = {name: n for name, n in lengths.items() if n > LINES_OF_A_MODULE and name not in LONG_MODULES}
    assert not too_long
    needless = [name for name in LONG_MODULES if lengths.get(name, 0) <= LINES_OF_A_MODULE]
    assert not needless, "these are short enough now: take them off the list"


def test_functions_are_small() -> None:
    too_long = [
        f"{name_of(path)}:{node.lineno} {node.name}: {length} lines"
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (length := (node.end_lineno or node.lineno) - node.lineno + 1) > LINES_OF_A_FUNCTION
    ]
    assert not too_long


def test_module_names_say_something() -> None:
    assert [name_of(path) for path in MODULES if path.stem in VAGUE_NAMES or path.parent.name in VAGUE_NAMES] == []


def test_broad_excepts_say_why() -> None:
    """`except Exception` stands only in a named supervisor, with its reason on the same line."""
    unexplained = []
    for path in MODULES:
        lines = path.read_text().splitlines()
        for node in ast.walk(ast.parse("\n".join(lines))):
            if isinstance(node, ast.ExceptHandler) and is_broad(node) and not reraises(node):
                line = lines[node.lineno - 1]
                if not re.search(r"# \w+\W+\w+", line.replace("noqa: BLE001 - ", "")):
                    unexplained.append(f"{name_of(path)}:{node.lineno} {line.strip()}")
    assert not unexplained


def is_broad(handler: ast.ExceptHandler) -> bool:
    if handler.type is None:
        return True
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(isinstance(kind, ast.Name) and kind.id in BROAD for kind in kinds)


def reraises(handler: ast.ExceptHandler) -> bool:
    """A handler that tidies up and passes the same exception on swallows nothing."""
    return isinstance(handler.body[-1], ast.Raise) and handler.body[-1].exc is None


@pytest.mark.parametrize(
    "pattern", [r"(?<![\w./])/(?:work|root)/", r"(?<!\w)\.library\b", r"\bpypi\.org\b", r"\bregistry\.npmjs\b"]
)
def test_committed_files_name_no_machine(pattern: str) -> None:
    """No path of the machine that it was written on and no address of a registry, in code, docs or locks."""
    wanted = {".py", ".md", ".toml", ".lock", ".json", ".sh", ".ts", ".tsx", ".yaml", ".in", ""}
    folders = ["src", "tests", "docs", "scripts", "bench", ".ci"]
    files = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file()]
    files += [path for path in ROOT.iterdir() if path.is_file() and path.name != ".git"]  # a work tree's
    skipped = {"node_modules", "dist", "__pycache__"}
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in files
        if path.suffix in wanted and not skipped & set(path.parts) and path != Path(__file__)
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1)
        if re.search(pattern, line)
    ]
    assert not found


def test_file_names_of_tests_are_unique() -> None:
    """pytest imports test files by their bare name: two of one name cannot be collected together."""
    names = Counter(path.name for path in (ROOT / "tests").rglob("test_*.py"))
    assert [name for name, number in names.items() if number > 1] == []
