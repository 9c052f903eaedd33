"""`fleet run QUESTION`: one turn, with a live tree on a terminal and the answer on stdout."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fleet_rlm.cli.asking import rules, someone_there
from fleet_rlm.cli.inputs import add_contexts, check_names, check_question
from fleet_rlm.cli.plain import one_line
from fleet_rlm.cli.shown import (
    EventsOption,
    JsonOption,
    Output,
    QuietOption,
    Seen,
    events_status,
    opened,
    see,
    tell,
)
from fleet_rlm.errors import InvalidInput

if TYPE_CHECKING:
    from fleet_rlm.runtime.execution.events import ContextRef
    from fleet_rlm.runtime.execution.requests import Submitted
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


def run(
    question: Annotated[str | None, typer.Argument(metavar="QUESTION", show_default=False)] = None,
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
    resume: Annotated[
        str | None,
        typer.Option(
            metavar="TURN", help="In place of QUESTION: go on with this turn. Limits given here replace those it had."
        ),
    ] = None,
    as_object: JsonOption = False,
    events: EventsOption = None,
    artifacts: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Save the files that the turn publishes into DIR.")
    ] = None,
    quiet: QuietOption = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Allow what the policy would ask about.")] = False,
    no: Annotated[bool, typer.Option("--no", help="Deny what the policy would ask about.")] = False,
) -> int:
    """Answer QUESTION, over the given contexts if any; or go on with a turn that did not come to its end.

    What a run asks on its way (a tool that needs leave, a question of the model) is asked on the terminal. Without
    one, and with --quiet, --yes or --no, nobody is waited for: --yes allows, --no denies, else policy.otherwise rules.

    Exit status: 0 answered, 1 failed or stdout cannot be written, 2 bad usage or input, 3 a limit was reached and the
    answer is partial, 4 not configured, 130 cancelled.
    """
    if resume is not None:
        _check_resume({"QUESTION": question, "--context": context, "--mode": mode, "--session": session})
        question = question or ""
    else:
        question = check_question(question)
    ask = Ask(question=question, names=context or [], session=session, model=model, sub_model=sub_model)
    check_names(ask.names)
    limits = {"calls": max_calls, "tokens": max_tokens, "cost_usd": max_cost, "wall_s": timeout, "depth": max_depth}
    output = Output(as_object=as_object, events=events, quiet=quiet, artifacts=artifacts)
    asking = rules(there=someone_there(quiet=quiet, as_object=as_object), yes=yes, no=no)
    given = {f"limits.{name}": limit for name, limit in limits.items()}
    with opened({"mode": mode and mode.value, **given, **asking}) as workspace:
        if resume is not None:
            return go_on(workspace, resume, ask, limits, output)
        return answer(workspace, ask, output)


def _check_resume(others: dict[str, object]) -> None:
    """Errors: InvalidInput for what a resumed turn has from its beginning."""
    for name, value in others.items():
        if value:
            raise InvalidInput(f"{name} and --resume do not go together", hint="a resumed turn keeps what it was asked")


def answer(workspace: Workspace, ask: Ask, output: Output) -> int:
    """Run the turn, show it as `output` says, and return the exit status. Errors: FleetError before it starts."""
    from fleet_rlm.cli.outcome import artifact_folder
    from fleet_rlm.cli.watch import event_sink

    folder = artifact_folder(output.artifacts)
    with event_sink(output.events) as sink:
        contexts = add_contexts(workspace.contexts, ask.names)
        # Only then what is heavy: reading and importing would share one core anyway, and bad input is told at once.
        seen = see(workspace, output, sink, lambda: _submit(workspace, ask, contexts), whole=ask.session is None)
    return _end(workspace, seen, output, folder)


def go_on(workspace: Workspace, turn: str, ask: Ask, changes: dict[str, Any], output: Output) -> int:
    """Resume a turn, with those of its limits changed that are not None. Errors: FleetError before it starts."""
    from fleet_rlm.cli.outcome import artifact_folder
    from fleet_rlm.cli.watch import event_sink
    from fleet_rlm.runtime.again import changed_limits

    folder = artifact_folder(output.artifacts)
    limits = changed_limits(workspace, turn, {name: value for name, value in changes.items() if value is not None})
    with event_sink(output.events) as sink:
        seen = see(workspace, output, sink, lambda: workspace.resume(turn, limits, lm=ask.model, sub_lm=ask.sub_model))
    return _end(workspace, seen, output, folder)


def _submit(workspace: Workspace, ask: Ask, contexts: tuple[ContextRef, ...]) -> Submitted:
    from fleet_rlm.runtime.execution.requests import TurnRequest

    settings = workspace.settings
    return workspace.submit(
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


def _end(workspace: Workspace, seen: Seen, output: Output, folder: Path | None) -> int:
    from fleet_rlm.cli.outcome import conclude, save_artifacts

    tell(seen, output)
    written, fault = save_artifacts(seen.result, workspace.blobs, folder) if folder is not None else ([], None)
    if not output.quiet:
        for path in written:
            print(f"saved {path}", file=sys.stderr)
    status = events_status(seen, conclude(seen.result))
    if fault is None:
        return status
    print(f"error: {one_line(fault, 500)}", file=sys.stderr)
    return status or 1
