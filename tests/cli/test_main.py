"""The program from outside: help, version, and one clear line for each wrong use."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fleet_rlm.cli.plain import clock, count, one_line, printable

FLEET = Path(sys.executable).parent / "fleet"


def fleet(*words: str, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run([FLEET, *words], capture_output=True, text=True, timeout=60, **options)


def test_version_and_help() -> None:
    assert fleet("--version").stdout.startswith("fleet-rlm 0.")
    for words in ([], ["--help"]):
        shown = fleet(*words)
        assert shown.returncode == 0
        assert all(command in shown.stdout for command in ("run", "replay", "web", "doctor", "sessions", "sandboxd"))


def test_no_command_is_offered_that_does_not_exist() -> None:
    for command in ("chat", "eval", "optimize", "bench"):
        assert f"  {command} " not in fleet("--help").stdout
        assert fleet(command).returncode == 2


WRONG = [
    (["blub"], "No such command 'blub'"),
    (["runn", "x"], "Did you mean 'run'"),
    (["run"], "there is no question"),
    (["run", "q", "--max-calls", "many"], "--max-calls"),
    (["run", "q", "--max-calls", "0"], "--max-calls"),
    (["run", "q", "--max-depth", "9"], "--max-depth"),
    (["run", "q", "--max-cost", "-1"], "--max-cost"),
    (["run", "q", "--max-cost", "nan"], "--max-cost"),
    (["run", "q", "--timeout", "0"], "limits.wall_s"),
    (["run", "q", "--mode", "fast"], "--mode"),
    (["run", "q", "--model", "gpt"], "unknown model"),
    (["run", "q", "--no-such"], "--no-such"),
    (["run", "  "], "the question is empty"),
    (["run", "q", "--context", "/no/such/file"], "/no/such/file does not exist"),
    (["run", "q", "--context", ""], "--context is empty"),
    (["run", "q", "--context", "https:///a.txt"], "is no web address"),
    (["run", "q", "--model", "demo/search", "--context", "http://127.0.0.1/a.txt"], "is no public address"),
    (["run", "q", "--context", "/no/such/folder@main"], "/no/such/folder@main does not exist"),
    (["run", "q", "--model", "demo/search", "--context", "/proc@main"], "is no git repository"),
    (["run", "q", "--context", "-", "--context", "-"], "standard input can be read once"),
    (["run", "\udcff needle", "--model", "demo/search"], "the question holds half of a surrogate pair"),
    (["sessions", "show", "\udcff"], "half of a surrogate pair"),
    (["run", "q", "--model", "demo/search", "--events", "~no-such/x"], "~no-such/x: there is no such home folder"),
    (["run", "q", "--model", "demo/search", "--artifacts", "~no-such/x"], "~no-such/x: there is no such home folder"),
    (["replay", "~no-such/x"], "~no-such/x: there is no such home folder"),
    (["replay", "x" * 300], "File name too long"),
    (["web", "--port", "70000"], "--port"),
    (["sessions"], "Missing command"),
]


@pytest.mark.parametrize(("words", "fault"), WRONG, ids=[" ".join(words) for words, _ in WRONG])
def test_wrong_use_is_one_line_and_status_2(words: list[str], fault: str) -> None:
    done = fleet(*words, stdin=subprocess.DEVNULL)
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("error: ") and fault in done.stderr


def test_a_data_folder_that_cannot_be_had_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = fleet("sessions", "list", env={**os.environ, "FLEET_HOME": str(tmp_path / "file" / "home")})
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert str(tmp_path) in done.stderr


def test_a_data_folder_in_the_home_of_nobody_is_bad_input() -> None:
    done = fleet("sessions", "list", env={**os.environ, "FLEET_HOME": "~no-such/x"})
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "~no-such/x: there is no such home folder" in done.stderr


@pytest.mark.parametrize("address", ["http://127.0.0.1:99999/v1", "http://127.0.0.1:port/v1", "http://[::1/v1"])
def test_an_address_that_is_none_is_a_bad_setting(address: str) -> None:
    done = fleet("run", "q", "--model", "openai/x", env={**os.environ, "FLEET_API_BASE": address})
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert done.stderr.startswith("error: bad value of FLEET_API_BASE in the environment: expected an http"), (
        done.stderr
    )


def test_broken_settings_are_named(fleet_home: Path) -> None:
    (fleet_home / "settings.toml").write_text("modle = 'x'\n")
    done = fleet("run", "q")
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
    assert "modle" in done.stderr and "settings.toml" in done.stderr


def test_a_reader_that_leaves_is_no_traceback() -> None:
    process = subprocess.Popen([FLEET, "run", "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    with process.stderr:
        assert "Traceback" not in process.stderr.read()
    process.wait(timeout=30)


@pytest.mark.parametrize(("number", "shown"), [(0, True), (1, False), (2, True)])
def test_a_standard_stream_may_be_closed(number: int, shown: bool, fleet_home: Path) -> None:
    """As under cron or in a daemon. What is said on a closed stderr does not come out on stdout in its place."""
    for words, said in ((["--version"], "fleet-rlm 0."), (["sessions", "list"], ""), (["run", "q"], "")):
        done = fleet(*words, preexec_fn=lambda: os.close(number))
        assert done.returncode == (4 if words[0] == "run" else 0), done.stderr
        assert (done.stdout.startswith(said) and bool(done.stdout) == bool(said)) if shown else done.stdout == ""
        assert "defect" not in done.stderr


@pytest.mark.parametrize("words", [["--version"], ["run", "--help"], ["sessions", "list", "--json"], ["doctor"]])
def test_a_stdout_that_takes_nothing_is_one_line(words: list[str], fleet_home: Path) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run([FLEET, *words], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1), done.stderr
    assert done.stderr.startswith("error: standard output cannot be written: No space left on device (")


def test_a_log_that_cannot_be_written_is_not_told_on_the_terminal(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "fleet.log").symlink_to("/dev/full")
    code = (
        "import logging, pathlib, sys\nfrom fleet_rlm.cli.logs import log_to_file\n"
        "log_to_file(pathlib.Path(sys.argv[1]))\nlogging.getLogger('fleet_rlm.x').info('said')"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_text_of_models_cannot_drive_the_terminal() -> None:
    assert printable("a\x1b[2J\x9b2J\u202eb\r\n\tc") == "a\ufffd[2J\ufffd2J\ufffdb\n\tc"
    assert one_line(" a\n b\x00 ", 10) == "a b\ufffd"
    assert one_line("x" * 100, 10) == "x" * 9 + "…"


def test_numbers_for_people() -> None:
    assert (count(1, "call"), count(1204, "call")) == ("1 call", "1,204 calls")
    assert [clock(s) for s in (4.25, 65, 3661)] == ["4.2 s", "1:05", "1:01:01"]


def test_a_defect_is_one_line_and_a_private_file(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom fleet_rlm.cli.main import app, main\n"
        "@app.command()\ndef boom():\n    raise RuntimeError('two\\nlines')\n"
        "sys.exit(main(['boom']))"
    )
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    [file] = tmp_path.iterdir()
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f"error: unexpected RuntimeError: two lines (a defect of ours; please report it with {file})"
    ]
    assert "RuntimeError: two" in file.read_text()
    assert file.stat().st_mode & 0o077 == 0


def test_sessions_memory_is_edited_and_shown(tmp_path: Path) -> None:
    from fleet_rlm.runtime.config import load_settings
    from fleet_rlm.runtime.factory import open_workspace

    with open_workspace(load_settings(home=tmp_path, environ={})) as workspace:
        sid = workspace.sessions.create("s").sid
    env = {**os.environ, "FLEET_HOME": str(tmp_path)}
    done = fleet("sessions", "memory", sid, "--set", "person=Ada", "--set", "notes=a=b", "--json", env=env)
    assert json.loads(done.stdout) == {
        "memory": {"person": "Ada", "notes": "a=b"},
        "last_edit": {"person": 2, "notes": 3},
    }
    done = fleet("sessions", "memory", sid, "--undo", "3", env=env)
    assert "person (3 of 2000 characters, edit 2)\n  Ada\n" in done.stdout and "a=b" not in done.stdout
    wrong = fleet("sessions", "memory", sid, "--set", "person", env=env)
    assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1) and "BLOCK=TEXT" in wrong.stderr
