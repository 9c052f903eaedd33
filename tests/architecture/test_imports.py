"""Which way imports point, and what the first second of a command must not pay for."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "fleet_rlm"
MODULES = sorted(PACKAGE.rglob("*.py"))

LAZY_FOLDERS = (PACKAGE / "cli",)
"""Where a first-party import may stand inside a function: commands, because `fleet --help` must stay quick."""

LAZY_MODULES = {PACKAGE / "__init__.py"}
"""`import fleet_rlm` is light: its public names are looked up when they are asked for."""

HEAVY = ("dspy", "litellm", "openai", "daytona", "fastapi", "sqlalchemy", "pydantic", "numpy")

GROUND = (
    "errors.py",
    "runtime/execution/events.py",
    "runtime/execution/budget.py",
    "runtime/execution/leases.py",
    "runtime/execution/marks.py",
    "runtime/execution/spending.py",
)


def test_import_contracts_hold() -> None:
    linter = Path(sys.executable).parent / "lint-imports"
    done = subprocess.run([linter, "--no-logo", "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_planted_import_breaks_the_contracts(tmp_path: Path) -> None:
    """The contracts can fail: sandboxd importing the errors of the rest is refused."""
    copy = tmp_path / "src" / "fleet_rlm"
    copy.parent.mkdir()
    subprocess.run(["cp", "-r", PACKAGE, copy], check=True)
    (copy / "sandboxd" / "planted.py").write_text("import fleet_rlm.errors\n")
    linter = Path(sys.executable).parent / "lint-imports"
    done = subprocess.run(
        [linter, "--no-logo", "--no-cache", "--config", ROOT / "pyproject.toml"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path / "src"), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    assert "fleet_rlm.sandboxd.planted -> fleet_rlm.errors" in done.stdout


@pytest.mark.parametrize("name", GROUND)
def test_the_ground_stands_on_the_standard_library_and_msgspec(name: str) -> None:
    allowed = {*sys.stdlib_module_names, "msgspec"}
    ground = {"fleet_rlm." + other.removesuffix(".py").replace("/", ".") for other in GROUND}
    for module in imported_modules(PACKAGE / name):
        assert module.split(".")[0] in allowed or module in ground, f"{name} imports {module}"


def test_no_first_party_import_inside_a_function() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in MODULES
        if path not in LAZY_MODULES and not path.is_relative_to(LAZY_FOLDERS[0])
        for function in functions(path)
        for node in ast.walk(function)
        if isinstance(node, ast.Import | ast.ImportFrom) and is_first_party(node)
    ]
    assert not found


@pytest.mark.parametrize(
    "statement", ["import fleet_rlm", "import fleet_rlm.cli.main", "import fleet_rlm.runtime.config"]
)
def test_a_light_import_stays_light(statement: str) -> None:
    code = f"{statement}\nimport sys\nprint(*[m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom fleet_rlm.cli.main import main\n"
        f"status = main(['--help'])\nprint('HEAVY', *[m for m in {HEAVY!r} if m in sys.modules])\nsys.exit(status)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip().endswith("HEAVY")


def test_each_dependency_has_its_reason() -> None:
    """A dependency without a line in docs/dependencies.md is not there on purpose."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    listed = [*project["project"]["dependencies"]]
    for group in [*project["dependency-groups"].values(), *project["project"]["optional-dependencies"].values()]:
        listed += [line for line in group if isinstance(line, str)]
    page = json.loads((ROOT / "src" / "frontend" / "package.json").read_text())
    reasons = (ROOT / "docs" / "dependencies.md").read_text()
    names = [re.split(r"[\[<>=;~! ]", line, maxsplit=1)[0] for line in listed]
    names += [*page["dependencies"], *page["devDependencies"]]
    explained = re.findall(r"^\| `([^`]+)` \|", reasons, re.MULTILINE)
    assert sorted(explained) == sorted({*names, "uv"})


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def is_first_party(node: ast.Import | ast.ImportFrom) -> bool:
    if isinstance(node, ast.Import):
        return any(alias.name.split(".")[0] == "fleet_rlm" for alias in node.names)
    return bool(node.level) or (node.module or "").split(".")[0] == "fleet_rlm"


def imported_modules(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path} has a relative import"
            yield node.module or ""
