"""The worker as it is shipped: one file of standard-library Python, and a table that tells what it offers."""

from __future__ import annotations

import ast
import hashlib
import subprocess
import sys
from collections import Counter

from fleet_rlm.integrations.daytona.interpreter import DaytonaInterpreter
from fleet_rlm.integrations.daytona.offer import GUEST_OFFERS, Offer, instructions, offer_of
from fleet_rlm.integrations.daytona.transport import boot_line, boot_marker
from fleet_rlm.integrations.daytona.worker import worker_sha256, worker_source


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


def test_the_boot_line_is_shell_and_python() -> None:
    program = boot_line("00112233").decode().split("-c '")[1].rstrip("'\n")
    ast.parse(program)
    assert subprocess.run(["sh", "-n", "-c", boot_line("00112233").decode()], check=False).returncode == 0


def test_every_offer_of_the_table_is_in_the_instructions_and_in_the_guest() -> None:
    text = DaytonaInterpreter.execution_instructions
    assert text == instructions()
    for offer in GUEST_OFFERS:
        assert f"`{offer.name}{offer.signature}`" in text and offer.help and offer.help in text
        assert f'"{offer.name}"'.encode() in worker_source()
    assert "- `grep(pattern, text=None, ignore_case=True, limit=200)` - Lines that match" in text


def test_hosts_add_their_own_offers() -> None:
    def ask(question: str, *, urgent: bool = False) -> str:
        """Ask a person.

        More that the model is not told.
        """
        return question

    assert offer_of(ask, "host") == Offer("ask", "(question, *, urgent=False)", "Ask a person.", "host")
