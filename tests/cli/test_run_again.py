"""`fleet run --resume TURN` and `fleet replay FILE|TURN` on the real engine with `demo/search`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fleet_rlm.runtime.execution import events as ev

FLEET = Path(sys.executable).parent / "fleet"
DEMO = ("--model", "demo/search")
QUESTION = "Where did the lighthouse keeper of Vardo hide the brass key?"
FACT = "The lighthouse keeper of Vardo hid the brass key under the third stone."


def fleet(*words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([FLEET, *words], capture_output=True, text=True, timeout=110, **options)


def one_error(done: subprocess.CompletedProcess[str]) -> str:
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    [line] = done.stderr.splitlines()
    assert line.startswith("error: ")
    return line


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """One turn that was cut by its limit on calls and one that was answered, with the file of its events."""
    home = tmp_path_factory.mktemp("recorded")
    environment = {**os.environ, "FLEET_HOME": str(home)}
    library = home / "library.txt"
    library.write_text("".join(f"{FACT if n == 31_007 else f'Nothing in line {n}.'}\n" for n in range(40_000)))
    words = ("run", QUESTION, "-c", str(library), *DEMO, "--mode", "rlm", "--json")
    cut = fleet(*words, "--max-calls", "2", "--max-depth", "1", env=environment)
    assert cut.returncode == 3, cut.stderr
    file = home / "events.jsonl"
    whole = fleet(*words, "--events", str(file), env=environment)
    assert whole.returncode == 0, whole.stderr
    return {
        "cut": json.loads(cut.stdout),
        "whole": json.loads(whole.stdout),
        "file": file,
        "home": home,
        "env": environment,
    }


def test_a_turn_goes_on_with_a_higher_limit(recorded: dict[str, Any]) -> None:
    cut, environment = recorded["cut"], recorded["env"]
    assert "would end there again" in one_error(fleet("run", "--resume", cut["turn"], env=environment))
    done = fleet("run", "--resume", cut["turn"], "--max-calls", "500", "--events", "-", "--json", env=environment)
    assert done.returncode == 0, done.stderr
    *lines, result = done.stdout.splitlines()
    answer = json.loads(result)
    assert FACT in answer["answer"] and answer["session"] == cut["session"] and answer["turn"] != cut["turn"]
    events = [ev.decode_event(line) for line in lines]
    accepted, end = events[0].data, events[-1].data
    assert isinstance(accepted, ev.TurnAccepted) and isinstance(end, ev.TurnFinished)
    assert (accepted.limits.calls, accepted.limits.depth, accepted.question) == (500, 1, QUESTION)
    calls = [e.data for e in events if isinstance(e.data, ev.CallFinished)]
    assert calls[0].replayed, "what was answered is not asked again"
    assert end.before is not None and end.before.calls == cut["usage"]["calls"]
    assert "goes on from this one" in one_error(fleet("run", "--resume", cut["turn"], env=environment))


WRONG = [
    (("run",), "there is no question"),
    (("run", "why?", "--resume", "trn_1"), "QUESTION and --resume"),
    (("run", "--resume", "trn_1", "--session", "ses_1"), "--session and --resume"),
    (("run", "--resume", "trn_1", "-c", "-"), "--context and --resume"),
    (("run", "--resume", "trn_1"), "trn_1"),
    (("replay", "trn_1"), "trn_1"),
    (("replay", "nothing.jsonl"), "nothing.jsonl: No such file"),
    (("replay", "."), "Is a directory"),
]


@pytest.mark.parametrize(("words", "fault"), WRONG)
def test_wrong_use_is_one_line(words: tuple[str, ...], fault: str) -> None:
    assert fault in one_error(fleet(*words))


def test_a_file_and_a_turn_are_replayed_without_a_call(recorded: dict[str, Any]) -> None:
    whole, environment = recorded["whole"], recorded["env"]
    for what in (str(recorded["file"]), whole["turn"]):
        done = fleet("replay", what, "--json", env=environment)
        assert done.returncode == 0, done.stderr
        again = json.loads(done.stdout)
        assert (again["answer"], again["runs"]) == (whole["answer"], whole["runs"])
        assert again["session"] != whole["session"]
    plain = fleet(
        "replay", whole["turn"], "--quiet", "--events", str(recorded["home"] / "again.jsonl"), env=environment
    )
    assert (plain.returncode, plain.stderr) == (0, "") and FACT in plain.stdout
    events = [ev.decode_event(line) for line in (recorded["home"] / "again.jsonl").read_text().splitlines()]
    calls = [event.data for event in events if isinstance(event.data, ev.CallFinished)]
    assert calls and all(call.replayed for call in calls)


def test_a_turn_that_met_its_limit_is_replayed_as_it_was(recorded: dict[str, Any]) -> None:
    done = fleet("replay", recorded["cut"]["turn"], "--json", env=recorded["env"])
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["status"] == "limit"


def changed(recorded: dict[str, Any], name: str, old: str, new: str) -> Path:
    file = recorded["home"] / name
    text = recorded["file"].read_text()
    assert old in text
    file.write_text(text.replace(old, new))
    return file


def test_the_first_difference_is_one_line(recorded: dict[str, Any]) -> None:
    file = changed(recorded, "other.jsonl", '"max_depth_reached":1', '"max_depth_reached":7')
    done = fleet("replay", str(file), "--quiet", env=recorded["env"])
    assert done.returncode == 1 and FACT in done.stdout
    [line] = done.stderr.splitlines()
    assert "not the recorded turn" in line and "turn.finished differs" in line and '"max_depth_reached":7' in line


def test_an_answer_that_is_missing_is_named(recorded: dict[str, Any]) -> None:
    lines = recorded["file"].read_text().splitlines(keepends=True)
    last = max(n for n, line in enumerate(lines) if '"type":"call.finished"' in line)
    file = recorded["home"] / "missing.jsonl"
    file.write_text("".join(lines[:last] + lines[last + 1 :]))
    done = fleet("replay", str(file), "--quiet", env=recorded["env"])
    assert (done.returncode, done.stdout) == (1, "")
    [line] = done.stderr.splitlines()
    assert "nothing is recorded for" in line


def test_a_bad_file_is_one_line(recorded: dict[str, Any], tmp_path: Path) -> None:
    cases = {
        "empty": ("", "no turn"),
        "text": ("hello\n", "event 1"),
        "binary": ("\x00\x01\n", "event 1"),
        "cut": ("\n".join(recorded["file"].read_text().splitlines()[:-1]), "no end"),
    }
    for name, (text, fault) in cases.items():
        (tmp_path / name).write_text(text)
        assert fault in one_error(fleet("replay", str(tmp_path / name), env=recorded["env"])), name
    elsewhere = fleet("replay", str(recorded["file"]))
    assert "not in this data folder" in one_error(elsewhere)
