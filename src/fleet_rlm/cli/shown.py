"""One turn as a command shows it: its live tree on a terminal, its events where `--events` says, Ctrl-C stops it."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

from fleet_rlm.cli.asking import Prompt, someone_there
from fleet_rlm.cli.plain import one_line

if TYPE_CHECKING:
    from fleet_rlm.cli.live import LiveTree
    from fleet_rlm.cli.tree import RunTree
    from fleet_rlm.runtime.execution.requests import Submitted, TurnResult
    from fleet_rlm.runtime.factory import Workspace

_LEAVE_S = 5.0
"""A question that is on the screen leaves it at once when the turn has ended; this is for a terminal that is stuck."""
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of the answer.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Nothing on stderr but errors.")]
EventsOption = Annotated[
    str | None,
    typer.Option(metavar="FILE|-", help="Write the journal as JSON lines; - is stdout, without the answer."),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """Where a turn is shown. `events`: a file name, `-` for stdout, or None."""

    as_object: bool = False
    events: str | None = None
    quiet: bool = False
    artifacts: Path | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """A turn that has ended, what its tree warned of, and why `--events` is not whole (None: it is).

    `stopped`: Ctrl-C (or a polite kill) came while it ran.
    """

    result: TurnResult
    warnings: list[str]
    failure: OSError | None
    stopped: bool = False


@contextlib.contextmanager
def opened(overrides: dict[str, Any]) -> Generator[Workspace]:
    """The workspace of the settings; everything heavy is loaded here."""
    from fleet_rlm.cli.logs import log_to_file
    from fleet_rlm.runtime.config import load_settings

    settings = load_settings(overrides=overrides)
    log_to_file(settings.make_home())
    from fleet_rlm.runtime.factory import open_workspace  # after the quick checks: this one takes a second

    with open_workspace(settings, own_process=True) as workspace:
        yield workspace


def see(
    workspace: Workspace, output: Output, sink: BinaryIO | None, begin: Callable[[], Submitted], *, whole: bool = False
) -> Seen:
    """Begin a turn and follow it to its end. `whole`: its session began for it, and all of it is shown."""
    from fleet_rlm.cli.tree import RunTree
    from fleet_rlm.cli.watch import watch
    from fleet_rlm.runtime.execution.answering import answering

    tree = RunTree()
    workspace.prepare()
    with watch(workspace.journal, tree, sink) as watching, _screen(tree, output) as screen:
        submitted = begin()
        # A new session's first event came before it was known that the session is the one to follow.
        after = 0 if whole else submitted.seq - 1
        watching.follow(submitted.session, workspace.journal.read(submitted.session, after=after))
        prompt = _prompt(workspace, screen, output)
        stopping = _stop_on_signal(workspace, submitted.turn)
        with stopping as stopped, answering(workspace, submitted, prompt, leave_s=_LEAVE_S):
            result = workspace.wait(submitted.turn)
    return Seen(result, list(dict.fromkeys(tree.warnings)), watching.failure, bool(stopped))


def tell(seen: Seen, output: Output) -> None:
    """The answer to stdout; warnings and the closing line to stderr."""
    from fleet_rlm.cli.outcome import closing_line, print_answer

    if output.events != "-" or output.as_object:
        print_answer(seen.result, as_object=output.as_object)
    if not output.quiet:
        for warning in seen.warnings:
            print(f"warning: {one_line(warning)}", file=sys.stderr)
        print(closing_line(seen.result), file=sys.stderr)


def events_status(seen: Seen, status: int) -> int:
    """The exit status, 1 in place of 0 when `--events` could not be written; then that is said."""
    if seen.failure is None:
        return status
    print(f"error: --events is not whole: {seen.failure.strerror}", file=sys.stderr)
    return status or 1


@contextlib.contextmanager
def _screen(tree: RunTree, output: Output) -> Generator[LiveTree | None]:
    """The live tree where a person looks: a terminal on stderr, and no --quiet."""
    if output.quiet or not sys.stderr.isatty():
        yield None
        return
    from fleet_rlm.cli.live import LiveTree

    with LiveTree(tree).drawn() as live:
        yield live


def _prompt(workspace: Workspace, screen: LiveTree | None, output: Output) -> Prompt | None:
    """Who answers questions: the person at the terminal, where there is one and the settings let a question wait."""
    there = someone_there(quiet=output.quiet, as_object=output.as_object)
    if screen is None or not there or not workspace.settings.policy.ask_seconds:
        return None
    return Prompt(screen.paused)


@contextlib.contextmanager
def _stop_on_signal(workspace: Workspace, turn: str) -> Generator[list[int]]:
    """Ctrl-C (or a polite kill) cancels the turn, which then ends with what it reached. A second Ctrl-C leaves at once.
    Gives the signals that came.

    The handler only starts a thread: it may strike while the main thread holds a lock that `cancel` needs.
    """

    came: list[int] = []  # no lock: a handler may strike within another

    def stop(signum: int, _frame: FrameType | None) -> None:
        came.append(signum)
        signal.signal(signum, signal.default_int_handler)
        threading.Thread(target=workspace.cancel, args=(turn,), name="fleet-cancel", daemon=True).start()

    if threading.current_thread() is not threading.main_thread():
        yield came  # only the main thread may set handlers; tests run commands in others
        return
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
