"""Questions of a running turn, put to the person at the terminal in place of the live tree.

All that is shown comes from models and files, so it is made harmless first, and every line of it stands behind a bar:
nothing in a question can pass for a line of ours.
"""

from __future__ import annotations

import os
import select
import sys
import termios
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from typing import TYPE_CHECKING, Any, Final

from fleet_rlm.cli.plain import clock, one_line, printable
from fleet_rlm.errors import InvalidInput

if TYPE_CHECKING:
    from fleet_rlm.runtime.execution.answering import Question
    from fleet_rlm.runtime.execution.events import ApprovalRequested, ApprovalResolved

LINES: Final = 30
"""Of a question, and of its detail, as many are shown."""
_LOOK_S: Final = 0.1
_LINE_BYTES: Final = 65_536


def someone_there(*, quiet: bool, as_object: bool) -> bool:
    """Whether a person can be asked: a terminal to read and to show, and an output that is not for a program."""
    if quiet or (as_object and not sys.stdout.isatty()):
        return False
    return sys.stdin.isatty() and sys.stderr.isatty() and _in_front(sys.stdin.fileno())


def rules(*, there: bool, yes: bool, no: bool) -> dict[str, Any]:
    """The settings that follow: with nobody to ask, or an answer given beforehand, the rule decides at once."""
    if yes and no:
        raise InvalidInput("--yes and --no exclude each other", hint="give one of them")
    otherwise = {"policy.otherwise": "allow" if yes else "deny"} if yes or no else {}
    return otherwise if there and not otherwise else {**otherwise, "policy.ask_seconds": 0}


class Prompt:
    """Asks at the terminal. `pause` takes the live tree off the screen for the time of a block."""

    def __init__(self, pause: Callable[[], AbstractContextManager[None]]) -> None:
        self._pause = pause

    def __call__(self, question: Question) -> str | None:
        """The person's answer; None when the question is over, or the input has ended (Ctrl-D)."""
        fd = sys.stdin.fileno()
        with self._pause():
            _forget_typed(fd)  # what was typed before the question stood there is no answer to it
            _show(question.asked)
            while (line := _line(fd, question)) is not None:
                try:
                    return _chosen(line, question.asked)
                except InvalidInput as error:
                    _say(f"{one_line(str(error))}\n{_prompt(question.asked)}", end="")
            _forget_typed(fd)
            _say("\n" + _why(question))
            return None


def _show(asked: ApprovalRequested) -> None:
    text = ["", *_quoted(asked.question, "? ", "| ")]
    if asked.detail is not None:
        text += _quoted(asked.detail.head, "| ", "| ")
        if asked.detail.bytes > len(asked.detail.head.encode()):
            text.append(f"  (the first part of {asked.detail.bytes:,} bytes)")
    text += [f"  {number}  {one_line(choice, 200)}" for number, choice in enumerate(asked.choices, 1)]
    if asked.deadline is not None:
        left = clock(max(0.0, asked.deadline / 1000 - time.time()))
        text.append(f"  without an answer within {left}: {one_line(asked.otherwise or 'no answer', 200)}")
    _say("\n".join(text) + f"\n{_prompt(asked)}", end="")


def _quoted(text: str, first: str, bar: str) -> list[str]:
    lines = printable(text).splitlines() or [""]
    shown = [f"{bar if number else first}{line}" for number, line in enumerate(lines[:LINES])]
    return [*shown, f"  ({len(lines) - LINES:,} more lines)"] if len(lines) > LINES else shown


def _prompt(asked: ApprovalRequested) -> str:
    return f"answer (1-{len(asked.choices)}): " if asked.choices else "answer: "


def _chosen(line: str, asked: ApprovalRequested) -> str:
    """Errors: InvalidInput when it is neither a choice nor the number of one."""
    from fleet_rlm.runtime.execution.approvals import checked_answer  # loaded with the engine by now

    text = line.strip()
    if text not in asked.choices and text.isdecimal() and len(text) < 10 and 1 <= int(text) <= len(asked.choices):
        return asked.choices[int(text) - 1]
    return checked_answer(text, asked.choices)


def _line(fd: int, question: Question) -> str | None:
    """A line that was typed, as long as the question stands; None at its end or the end of the input."""
    while not question.ended.done():
        if select.select([fd], [], [], _LOOK_S)[0]:
            data = os.read(fd, _LINE_BYTES)  # the terminal gives whole lines, one at a time
            return data.decode("utf-8", "replace") if data else None
    return None


def _why(question: Question) -> str:
    if not question.ended.done():
        return "no answer: the rule decides"
    end: ApprovalResolved = question.ended.result()
    said = one_line(end.answer or "no answer", 200)
    return {
        "answered": f"this question was answered elsewhere: {said}",
        "expired": f"no answer in time, so the rule decided: {said}",
        "cancelled": "this question is over: what asked it was stopped",
    }[end.status]


def _say(text: str, end: str = "\n") -> None:
    print(text, end=end, file=sys.stderr, flush=True)


def _forget_typed(fd: int) -> None:
    with suppress(termios.error):
        termios.tcflush(fd, termios.TCIFLUSH)


def _in_front(fd: int) -> bool:
    """False for a job in the background, which would be halted by reading from its terminal."""
    try:
        return os.tcgetpgrp(fd) == os.getpgrp()
    except OSError:  # a terminal, but not the one that controls this process: it may be read
        return True
