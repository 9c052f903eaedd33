"""`fleet run QUESTION`: one turn, with a live tree on a terminal and the answer on stdout."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fleet_rlm.cli.inputs import add_contexts, check_names, check_question
from fleet_rlm.cli.plain import one_line

if TYPE_CHECKING:
    from fleet_rlm.cli.tree import RunTree
    from fleet_rlm.cli.watch import Watch
    from fleet_rlm.runtime.execution.events import ContextRef
    from fleet_rlm.runtime.execution.requests import TurnResult
    from fleet_rlm.runtime.factory import Workspace


class ModeName(StrEnum):
    """How a question is answered: the agent decides, always one RLM, or one plain model call."""

    auto = "auto"
    rlm = "rlm"
    direct = "direct"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What is asked. `names` as given to `--context`; None of a model: the settings' choice."""

    question: str
    names: Sequence[str] = ()
    session: str | None = None
    model: str | None = None
    sub_model: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """Where a turn is shown. `events`: a file name, `-` for stdout, or None."""

    as_object: bool = False
    events: str | None = None
    quiet: bool = False
    artifacts: Path | None = None


def run(
    question: Annotated[str, typer.Argument(metavar="QUESTION", show_default=False)],
    context: Annotated[
        list[str] | None,
        typer.Option(
            "--context",
            "-c",
            metavar="PATH|URL|-",
            help="A file, a folder, REPOSITORY@REF, a web address, or - for stdin. Repeatable.",
        ),
    ] = None,
    mode: Annotated[ModeName | None, typer.Option(help="How to answer.", show_default="auto")] = None,
    model: Annotated[str | None, typer.Option(metavar="MODEL", help="provider/model, or demo/search.")] = None,
    sub_model: Annotated[str | None, typer.Option(metavar="MODEL", help="The model of sub-calls.")] = None,
    max_calls: Annotated[int | None, typer.Option(metavar="N", min=1, help="Model calls, all runs together.")] = None,
    max_tokens: Annotated[int | None, typer.Option(metavar="N", min=1, help="Prompt and completion tokens.")] = None,
    max_cost: Annotated[float | None, typer.Option(metavar="USD", min=0, help="US dollars.")] = None,
    timeout: Annotated[float | None, typer.Option(metavar="S", min=0, help="Wall seconds.")] = None,
    max_depth: Annotated[int | None, typer.Option(metavar="N", min=0, max=8, help="Depth of child runs.")] = None,
    session: Annotated[str | None, typer.Option(metavar="ID", help="Go on in this session.")] = None,
    as_object: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of the answer.")] = False,
    events: Annotated[
        str | None,
        typer.Option(metavar="FILE|-", help="Write the journal as JSON lines; - is stdout, without the answer."),
    ] = None,
    artifacts: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Save the files that the turn publishes into DIR.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Nothing on stderr but errors.")] = False,
) -> int:
    """Answer QUESTION, over the given contexts if any.

    Exit status: 0 answered, 1 failed, 2 bad usage or input, 3 a limit was reached and the answer is partial,
    4 not configured, 130 cancelled.
    """
    ask = Ask(question=check_question(question), names=context or [], session=session, model=model, sub_model=sub_model)
    check_names(ask.names)
    overrides = {
        "mode": mode and mode.value,
        "limits.calls": max_calls,
        "limits.tokens": max_tokens,
        "limits.cost_usd": max_cost,
        "limits.wall_s": timeout,
        "limits.depth": max_depth,
    }
    output = Output(as_object=as_object, events=events, quiet=quiet, artifacts=artifacts)
    with _opened(overrides) as workspace:
        return answer(workspace, ask, output)


@contextlib.contextmanager
def _opened(overrides: dict[str, Any]) -> Generator[Workspace]:
    from fleet_rlm.cli.logs import log_to_file
    from fleet_rlm.runtime.config import load_settings

    settings = load_settings(overrides=overrides)
    log_to_file(settings.make_home())
    from fleet_rlm.runtime.factory import open_workspace  # after the quick checks: this one takes a second

    with open_workspace(settings) as workspace:
        yield workspace


def answer(workspace: Workspace, ask: Ask, output: Output) -> int:
    """Run the turn, show it as `output` says, and return the exit status. Errors: FleetError before it starts."""
    from fleet_rlm.cli.outcome import closing_line, conclude, print_answer, save_artifacts
    from fleet_rlm.cli.tree import RunTree
    from fleet_rlm.cli.watch import event_sink, watch

    tree = RunTree()
    with event_sink(output.events) as sink:
        contexts = add_contexts(workspace.contexts, ask.names)
        # Only now: reading and importing would share one core anyway, and bad input is to be told at once.
        workspace.prepare()
        with watch(workspace.journal, tree, sink) as watching, _screen(tree, output):
            result = _turn(workspace, ask, contexts, watching)
    if output.events != "-" or output.as_object:
        print_answer(result, as_object=output.as_object)
    if not output.quiet:
        for warning in dict.fromkeys(tree.warnings):
            print(f"warning: {one_line(warning)}", file=sys.stderr)
        print(closing_line(result), file=sys.stderr)
    if output.artifacts is not None:
        for path in save_artifacts(result, workspace.blobs, output.artifacts):
            if not output.quiet:
                print(f"saved {path}", file=sys.stderr)
    status = conclude(result)
    if watching.failure is not None:
        print(f"error: --events is not whole: {watching.failure.strerror}", file=sys.stderr)
        return status or 1
    return status


def _turn(workspace: Workspace, ask: Ask, contexts: tuple[ContextRef, ...], watching: Watch) -> TurnResult:
    from fleet_rlm.runtime.execution.requests import TurnRequest

    settings = workspace.settings
    submitted = workspace.submit(
        TurnRequest(
            question=ask.question,
            session=ask.session,
            contexts=contexts,
            mode=settings.mode,
            model=ask.model,
            sub_model=ask.sub_model,
            limits=settings.limits,
        )
    )
    # A new session's first event was there before anyone could listen.
    before = submitted.seq - 1 if ask.session else 0
    watching.follow(submitted.session, workspace.journal.read(submitted.session, after=before))
    with _stop_on_signal(workspace, submitted.turn):
        return workspace.wait(submitted.turn)


@contextlib.contextmanager
def _screen(tree: RunTree, output: Output) -> Generator[None]:
    """The live tree where a person looks: a terminal on stderr, and no --quiet."""
    if output.quiet or not sys.stderr.isatty():
        yield
        return
    from fleet_rlm.cli.live import live_tree

    with live_tree(tree):
        yield


@contextlib.contextmanager
def _stop_on_signal(workspace: Workspace, turn: str) -> Generator[None]:
    """Ctrl-C (or a polite kill) cancels the turn, which then ends with what it reached. A second Ctrl-C leaves at once.

    The handler only starts a thread: it may strike while the main thread holds a lock that `cancel` needs.
    """

    def stop(signum: int, _frame: FrameType | None) -> None:
        signal.signal(signum, signal.default_int_handler)
        threading.Thread(target=workspace.cancel, args=(turn,), name="fleet-cancel", daemon=True).start()

    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set handlers; tests run commands in others
        return
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
