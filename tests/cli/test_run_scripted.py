"""`fleet run` over a scripted turn: what goes to stdout and stderr, and the exit status, in every ending."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from cli.scripted_turns import SESSION, TURN, ScriptedWorkspace, run_finished, run_started
from fleet_rlm.cli.failures import exit_status
from fleet_rlm.cli.run import Ask, Output, answer
from fleet_rlm.errors import InvalidInput
from fleet_rlm.runtime.content.blobs import BlobStore
from fleet_rlm.runtime.execution import events as ev
from fleet_rlm.runtime.execution.artifacts import Artifact
from fleet_rlm.runtime.execution.coverage import Covered

TESTS = Path(__file__).resolve().parents[1]


def play(script, home: Path, **output) -> int:
    return answer(ScriptedWorkspace(script, home), Ask(question="why?"), Output(**output))


ENDINGS = [
    ({}, 0, "", "forty-two\n"),
    ({"status": "limit", "limit": "calls"}, 3, "the limit on calls was reached; the answer is partial", "forty-two\n"),
    ({"status": "limit", "limit": "wall", "answer": None}, 3, "the time limit was reached", ""),
    ({"status": "cancelled"}, 130, "cancelled; what was reached is above", "forty-two\n"),
    ({"status": "cancelled", "answer": None}, 130, "cancelled", ""),
    ({"status": "interrupted", "answer": None}, 1, "error: the turn ended as interrupted", ""),
    (
        {
            "status": "failed",
            "answer": None,
            "error": ev.ErrorInfo(code="model_auth", message="wrong key", hint="set it"),
        },
        1,
        "error: wrong key (set it)",
        "",
    ),
    (
        {"status": "failed", "answer": None, "error": ev.ErrorInfo(code="not_configured", message="no model")},
        4,
        "error: no model",
        "",
    ),
]


@pytest.mark.parametrize(("ending", "status", "line", "stdout"), ENDINGS)
def test_each_ending_has_its_status_its_line_and_its_answer(ending, status, line, stdout, fleet_home, capfd) -> None:
    assert play(lambda _: ending, fleet_home) == status
    out, err = capfd.readouterr()
    assert out == stdout
    assert line in err.splitlines()[-1]


def test_quiet_says_nothing_but_errors(fleet_home, capfd) -> None:
    warned = ev.Draft(ev.Warning(code="w", message="careful"), TURN)
    assert play(lambda w: w.journal.append(warned) or {}, fleet_home, quiet=True) == 0
    assert capfd.readouterr() == ("forty-two\n", "")


def test_warnings_and_the_closing_line_go_to_stderr(fleet_home, capfd) -> None:
    warned = ev.Draft(ev.Warning(code="w", message="care\x1b[2Jful"), TURN)
    assert play(lambda w: w.journal.append(warned, warned) or {}, fleet_home) == 0
    assert capfd.readouterr().err.splitlines() == [
        "warning: care\ufffd[2Jful",
        f"3 runs, depth 1 · 7 calls · 120 tokens · 1.5 s · m/x · session {SESSION}",
    ]


def test_what_was_published_is_saved_and_what_was_read_is_told(fleet_home, tmp_path, capfd) -> None:
    """Of each name the newest version; the closing line counts both."""
    blobs = BlobStore(tmp_path)

    def script(workspace: ScriptedWorkspace) -> dict:
        workspace.blobs = blobs
        made = [("a.csv", 1, b"old"), ("b.txt", 1, b"text"), ("a.csv", 2, b"new")]
        artifacts = tuple(
            Artifact(f"art_{n}", name, version, blobs.put(data).removeprefix("blob_"), len(data), "text/csv")
            for n, (name, version, data) in enumerate(made)
        )
        return {"artifacts": artifacts, "coverage": (Covered("big.log", "0" * 64, 40, 100),)}

    folder = tmp_path / "out" / "here"
    assert play(script, fleet_home, as_object=True, artifacts=folder) == 0
    shown = capfd.readouterr()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {"a.csv": b"new", "b.txt": b"text"}
    assert "40 % of the context read · 3 artifacts" in shown.err and f"saved {folder / 'a.csv'}" in shown.err
    listed = json.loads(shown.out)
    assert [(a["name"], a["version"], a["bytes"], a["kind"]) for a in listed["artifacts"]][0] == (
        "a.csv",
        1,
        3,
        "text/csv",
    )
    assert listed["coverage"] == [{"context": "big.log", "sha256": "0" * 64, "read": 40, "chars": 100}]
    assert "sha256" in listed["artifacts"][0]


def test_a_folder_that_cannot_be_written_is_told_before_the_turn(fleet_home, tmp_path, capfd) -> None:
    asked: list[object] = []

    def script(workspace: ScriptedWorkspace) -> dict:
        asked.append(workspace)
        return {}

    (tmp_path / "file").write_text("x")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(InvalidInput, match="cannot write artifacts to .*file") as raised:
            play(script, fleet_home, artifacts=folder)
        assert "--artifacts" in (raised.value.hint or "")
    assert asked == [], "nothing was paid for"


@pytest.mark.parametrize(("ending", "status"), [({}, 1), ({"status": "limit", "limit": "calls"}, 3)])
def test_an_artifact_that_cannot_be_saved_is_one_line(ending, status, fleet_home, tmp_path, capfd) -> None:
    """The answer is there, what else was published is saved, and the status says that something is missing."""
    blobs, folder = BlobStore(tmp_path), tmp_path / "out"

    def script(workspace: ScriptedWorkspace) -> dict:
        workspace.blobs = blobs
        (folder / "a.txt").mkdir()
        kept = blobs.put(b"text").removeprefix("blob_")
        made = [("a.txt", kept), ("lost.txt", "0" * 64), ("b.txt", kept)]
        return {"artifacts": [Artifact(f"art_{n}", n, 1, sha, 4, "text/plain") for n, sha in made], **ending}

    assert play(script, fleet_home, artifacts=folder) == status
    shown = capfd.readouterr()
    assert shown.out == "forty-two\n" and (folder / "b.txt").read_bytes() == b"text"
    assert [line for line in shown.err.splitlines() if line.startswith("error:")] == [
        f"error: cannot save the artifact a.txt in {folder}: Is a directory"
    ]


def test_json_is_one_object_of_the_contract(fleet_home, capfd) -> None:
    assert play(lambda _: {"status": "limit", "limit": "calls"}, fleet_home, as_object=True) == 3
    shown = json.loads(capfd.readouterr().out)
    assert shown["status"] == "limit" and shown["limit"] == "calls" and shown["answer"] == "forty-two"
    assert shown["usage"] == {
        "calls": 7,
        "prompt_tokens": 100,
        "completion_tokens": 20,
        "cost_usd": None,
        "wall_s": 1.5,
    }
    assert shown["sandbox"] == {"provider": "local", "isolation": "namespaces"}
    assert {"session", "turn", "artifacts", "runs", "max_depth_reached", "model"} <= shown.keys()


@pytest.mark.parametrize("to_file", [True, False])
def test_events_are_the_whole_journal_once_and_in_order(to_file, fleet_home, tmp_path, capfd) -> None:
    def script(workspace: ScriptedWorkspace):
        workspace.journal.append(run_started("r", "task"))
        for n in range(700):
            workspace.journal.append(ev.Draft(ev.MessageDelta(id="m", text=f"{n}")))
        workspace.journal.append(run_finished("r"))
        return {}

    name = str(tmp_path / "events.jsonl") if to_file else "-"
    assert play(script, fleet_home, events=name) == 0
    out = capfd.readouterr().out
    lines = (Path(name).read_text() if to_file else out).splitlines()
    events = [ev.decode_event(line) for line in lines]
    assert [event.seq for event in events] == list(range(1, 706))
    assert (events[0].type, events[-1].type) == ("session.created", "turn.finished")
    assert (out == "forty-two\n") is to_file, "with `--events -` the answer stands in turn.finished alone"


def test_an_events_file_that_cannot_be_written_is_bad_input_before_anything_runs(fleet_home) -> None:
    workspace = ScriptedWorkspace(lambda _: {}, fleet_home)
    with pytest.raises(InvalidInput, match="cannot write"):
        answer(workspace, Ask(question="why?"), Output(events="/nowhere/events.jsonl"))
    assert workspace.requests == []


def test_a_reader_of_events_that_leaves_does_not_stop_the_turn(fleet_home, tmp_path, capfd) -> None:
    fifo = tmp_path / "events"
    os.mkfifo(fifo)
    reader = threading.Thread(target=lambda: os.close(os.open(fifo, os.O_RDONLY)))
    reader.start()

    def script(workspace: ScriptedWorkspace):
        reader.join()
        workspace.journal.append(*(ev.Draft(ev.MessageDelta(id="m", text="x" * 1000)) for _ in range(100)))
        return {}

    assert play(script, fleet_home, events=str(fifo)) == 1
    out, err = capfd.readouterr()
    assert out == "forty-two\n"
    assert err.splitlines()[-1] == "error: --events is not whole: Broken pipe"


def test_every_code_of_the_tree_has_its_exit_status() -> None:
    assert exit_status("not_configured") == 4
    assert exit_status("not_found") == exit_status("too_large") == 2
    assert exit_status("no_isolation") == exit_status("from_the_future") == 1


PROGRAM = """
import sys, time
from pathlib import Path
from cli.scripted_turns import ScriptedWorkspace, run_started
from fleet_rlm.cli.run import Ask, Output, answer

def script(workspace):
    workspace.journal.append(run_started("r", "a long task"))
    print("READY", file=sys.stderr, flush=True)
    if {stubborn}:
        while True:
            time.sleep(0.05)
    stopped = workspace.cancelled.wait(60)
    return {{"status": "cancelled" if stopped else "failed"}}

sys.exit(answer(ScriptedWorkspace(script, Path({home!r})), Ask(question="why?"), Output()))
"""


def start(home: Path, *, stubborn: bool = False, stderr=subprocess.PIPE) -> subprocess.Popen[bytes]:
    code = textwrap.dedent(PROGRAM).format(home=str(home), stubborn=stubborn)
    return subprocess.Popen([sys.executable, "-c", code], cwd=TESTS, stdout=subprocess.PIPE, stderr=stderr)


def wait_for(stream, word: bytes) -> None:
    seen = b""
    while word not in seen:
        piece = os.read(stream, 4096)
        assert piece, seen
        seen += piece


def handles(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """Wait until the process has a handler for this signal, as the kernel says."""
    deadline = time.monotonic() + 30
    status = Path(f"/proc/{process.pid}/status")
    while not int(re.search(r"SigCgt:\s*(\w+)", status.read_text())[1], 16) >> (number - 1) & 1:
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_cancels_and_prints_what_was_reached(number, fleet_home) -> None:
    process = start(fleet_home)
    wait_for(process.stderr.fileno(), b"READY")
    handles(process, signal.SIGTERM)  # set right after the turn was submitted; READY comes from within wait()
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert out == b"forty-two\n"
    assert err.decode().splitlines()[-1] == "cancelled; what was reached is above"


def test_a_second_ctrl_c_leaves_a_turn_that_does_not_end(fleet_home) -> None:
    process = start(fleet_home, stubborn=True)
    wait_for(process.stderr.fileno(), b"READY")
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode != 0


def test_a_terminal_sees_the_tree_move(fleet_home) -> None:
    master, slave = pty.openpty()
    process = start(fleet_home, stderr=slave)
    os.close(slave)
    wait_for(master, b"a long task")
    wait_for(master, b"Ctrl-C stops")
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=30)
    os.close(master)
    assert process.returncode == 130
    assert out == b"forty-two\n"
