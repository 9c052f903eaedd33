"""A run that asks: on a terminal the person answers, without one the rule does, at once."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from fleet_rlm.cli.asking import rules
from fleet_rlm.errors import InvalidInput

TESTS = Path(__file__).resolve().parents[1]
PROGRAM = """
import queue, sys
from pathlib import Path
from cli.scripted_turns import ScriptedWorkspace, run_started, TURN
from fleet_rlm.cli.run import Ask, answer
from fleet_rlm.cli.shown import Output
from fleet_rlm.runtime.execution import events as ev

def put(workspace, id, **fields):
    workspace.journal.append(ev.Draft(ev.ApprovalRequested(id=id, **fields), turn=TURN, run="r"))

def script(workspace):
    workspace.journal.append(run_started("r", "a long task"))
    put(workspace, "apr_1", **{asked!r})
    if {elsewhere}:
        import time
        while not Path({home!r}, "seen").exists():  # the test has seen the question
            time.sleep(0.05)
        workspace.answer(TURN, "apr_1", "from the page")
    if {stopped}:
        workspace.cancelled.wait(60)
        return {{"status": "cancelled"}}
    try:
        got = workspace.answers.get(timeout={seconds})[1]
    except queue.Empty:
        got = "nobody was asked"
    return {{"answer": f"got {{got!r}}"}}

sys.exit(answer(ScriptedWorkspace(script, Path({home!r})), Ask(question="why?"), Output()))
"""
TOOL = {
    "kind": "tool",
    "question": "May the tool x be used?\n  1  \x1b[2Jfine",
    "choices": ["allow once", "deny"],
    "otherwise": "deny",
}
FREE = {"kind": "question", "question": "Which year?"}


class Terminal:
    """`fleet run` over a scripted turn, at a terminal of its own."""

    def __init__(self, home: Path, asked: dict, *, elsewhere: bool = False, stopped: bool = False) -> None:
        code = textwrap.dedent(PROGRAM).format(
            home=str(home), asked=asked, elsewhere=elsewhere, stopped=stopped, seconds=60
        )
        self.screen, slave = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-c", code], cwd=TESTS, stdin=slave, stdout=subprocess.PIPE, stderr=slave
        )
        os.close(slave)
        self.seen = ""

    def shows(self, words: str) -> str:
        """Wait for words on the screen; returns what was shown until then, since the last time."""
        while words not in self.seen:
            piece = os.read(self.screen, 4096)
            assert piece, self.seen
            self.seen += piece.decode()
        before, _, self.seen = self.seen.partition(words)
        return before

    def types(self, text: str) -> None:
        os.write(self.screen, text.encode())

    def ends(self) -> tuple[int, str]:
        """Exit status and stdout."""
        out, _ = self.process.communicate(timeout=60)
        os.close(self.screen)
        return self.process.returncode, out.decode()


def test_the_person_at_the_terminal_is_asked_in_place_of_the_tree(fleet_home) -> None:
    terminal = Terminal(fleet_home, TOOL)
    before = terminal.shows("answer (1-2): ")
    assert "\x1b[2J" not in before
    lines = [re.sub(r"\x1b\[[^a-zA-Z]*[a-zA-Z]", "", line).strip() for line in before.splitlines()]
    assert lines[-4:] == ["? May the tool x be used?", "|   1  \ufffd[2Jfine", "1  allow once", "2  deny"]
    terminal.types("3\n")
    assert "'3' is not a choice" in terminal.shows("answer (1-2): ")
    terminal.types("0000000011\n")
    assert "'0000000011' is not a choice" in terminal.shows("answer (1-2): ")
    terminal.types("2\n")
    terminal.shows("a long task")
    assert terminal.ends() == (0, "got 'deny'\n")


def test_a_text_is_the_answer_where_there_are_no_choices(fleet_home) -> None:
    terminal = Terminal(fleet_home, FREE)
    terminal.shows("answer: ")
    terminal.types("\n")
    assert "the answer is empty" in terminal.shows("answer: ")
    terminal.types("the année 1984\n")
    assert terminal.ends() == (0, "got 'the année 1984'\n")


def test_the_end_of_the_input_leaves_it_to_the_rule(fleet_home) -> None:
    terminal = Terminal(fleet_home, TOOL)
    terminal.shows("answer (1-2): ")
    terminal.types("\x04")
    terminal.shows("no answer: the rule decides")
    assert terminal.ends() == (0, "got None\n")


def test_a_question_that_ends_otherwise_leaves_the_screen(fleet_home) -> None:
    terminal = Terminal(fleet_home, FREE, elsewhere=True)
    terminal.shows("answer: ")
    fleet_home.mkdir(exist_ok=True)
    (fleet_home / "seen").touch()
    terminal.shows("this question was answered elsewhere: from the page")
    assert terminal.ends()[0] == 0


def test_ctrl_c_cancels_a_turn_that_waits_for_an_answer(fleet_home) -> None:
    terminal = Terminal(fleet_home, TOOL, stopped=True)
    terminal.shows("answer (1-2): ")
    terminal.process.send_signal(signal.SIGINT)
    terminal.shows("this question is over: what asked it was stopped")
    assert terminal.ends() == (130, "forty-two\n")


def test_without_a_terminal_nobody_is_asked(fleet_home) -> None:
    code = PROGRAM.format(home=str(fleet_home), asked=TOOL, elsewhere=False, stopped=False, seconds=2)
    done = subprocess.run([sys.executable, "-c", code], cwd=TESTS, stdin=subprocess.DEVNULL, capture_output=True)
    assert (done.returncode, done.stdout) == (0, b"got 'nobody was asked'\n") and b"May the tool" not in done.stderr


@pytest.mark.parametrize(
    ("there", "yes", "no", "settings"),
    [
        (True, False, False, {}),
        (False, False, False, {"policy.ask_seconds": 0}),
        (True, True, False, {"policy.otherwise": "allow", "policy.ask_seconds": 0}),
        (True, False, True, {"policy.otherwise": "deny", "policy.ask_seconds": 0}),
    ],
)
def test_an_answer_given_beforehand_is_a_rule_that_holds_at_once(there, yes, no, settings) -> None:
    assert rules(there=there, yes=yes, no=no) == settings


def test_yes_and_no_exclude_each_other() -> None:
    with pytest.raises(InvalidInput, match="exclude each other"):
        rules(there=True, yes=True, no=True)
