"""The worker as it is shipped: one file of standard-library Python, and a table that tells what it offers."""

from __future__ import annotations

import ast
import hashlib
import inspect
import os
import select
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from fleet_rlm.integrations.daytona.interpreter import DaytonaInterpreter
from fleet_rlm.integrations.daytona.offer import BY_NAME, OFFERS, instructions, line_of, offered, table
from fleet_rlm.integrations.daytona.transport import boot_line, boot_marker
from fleet_rlm.integrations.daytona.worker import worker_sha256, worker_source
from fleet_rlm.integrations.daytona.worker.main import end_of
from fleet_rlm.integrations.daytona.worker.slices import Helpers


def test_the_parts_do_not_overwrite_each_other() -> None:
    names: Counter[str] = Counter()
    for node in ast.parse(worker_source()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names[node.name] += 1
        elif isinstance(node, ast.Assign):
            names.update(t.id for target in node.targets for t in ast.walk(target) if isinstance(t, ast.Name))
    assert [name for name, count in names.items() if count > 1] == []


def test_only_the_standard_library_is_imported() -> None:
    imported: set[str] = set()
    for node in ast.walk(ast.parse(worker_source())):
        if isinstance(node, ast.Import):
            imported.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "an import between the parts was left in"
            imported.add((node.module or "").split(".")[0])
    assert imported <= set(sys.stdlib_module_names)


def test_it_is_named_by_its_bytes() -> None:
    assert worker_sha256() == hashlib.sha256(worker_source()).hexdigest()


def test_older_pythons_can_read_it() -> None:
    ast.parse(worker_source(), feature_version=(3, 9))


def test_the_boot_line_fits_a_terminal_and_hides_its_marker() -> None:
    nonce = "0123456789abcdef"
    line = boot_line(nonce)
    assert len(line) < 1024 and line.count(b"\n") == 1
    assert boot_marker(nonce) not in line


def test_every_interpreter_goes_through_a_set_in_the_same_order(tmp_path: Path) -> None:
    """So that a cell that is run again asks the same in the same order. Nothing comes from the working folder."""
    (tmp_path / "tty.py").write_text("print('not this one')")
    source = b"print(list({f'name {i}' for i in range(50)}))"
    shell, sent = ["sh", "-c", boot_line("00112233").decode()], f"{len(source):08d}".encode() + source
    said = [subprocess.run(shell, input=sent, capture_output=True, cwd=tmp_path, check=False) for _ in range(2)]
    assert said[0].stdout == said[1].stdout and b"name 7" in said[0].stdout and b"not this" not in said[0].stdout


def test_the_boot_line_is_shell_and_python() -> None:
    program = boot_line("00112233").decode().split("-c '")[1].rstrip("'\n")
    ast.parse(program)
    assert subprocess.run(["sh", "-n", "-c", boot_line("00112233").decode()], check=False).returncode == 0


def test_the_table_is_what_the_guest_has_and_what_the_model_is_told() -> None:
    text = DaytonaInterpreter.execution_instructions
    assert text == instructions()
    for offer in OFFERS:
        assert offer.help and "\n" not in offer.help
        assert (line_of(offer) in text) == (offer.side == "guest")
        assert offer.side == "host" or f'"{offer.name}"'.encode() in worker_source()
    for helper in (Helpers.chunks, Helpers.grep, Helpers.context_info):
        parameters = [
            p.replace(annotation=p.empty) for p in inspect.signature(helper).parameters.values() if p.name != "self"
        ]
        assert BY_NAME[helper.__name__].signature == str(inspect.Signature(parameters))


def test_the_documentation_shows_the_same_table() -> None:
    assert table() in (Path(__file__).parents[3] / "docs" / "repl.md").read_text("utf-8")


def test_a_host_function_takes_its_help_from_the_table() -> None:
    def budget() -> None:
        """Something else."""

    assert offered(budget).__doc__ == BY_NAME["budget"].help
    with pytest.raises(KeyError):
        offered(test_it_is_named_by_its_bytes)


@pytest.mark.parametrize("kernel", ["new", "old"])
def test_the_end_of_a_process_can_be_polled(monkeypatch: pytest.MonkeyPatch, kernel: str) -> None:
    if kernel == "old":
        monkeypatch.delattr(os, "pidfd_open")
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        end = end_of(process.pid)
        assert not select.select([end], [], [], 0.1)[0]
        assert process.stdin is not None
        process.stdin.close()
        assert select.select([end], [], [], 20)[0]
        assert process.wait(20) == 0
    os.close(end)
