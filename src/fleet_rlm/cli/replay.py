"""`fleet replay FILE|TURN`: a recorded turn once more, from its journal alone, and whether it went the same way."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fleet_rlm.cli.failures import CANCELLED
from fleet_rlm.cli.plain import one_line
from fleet_rlm.cli.shown import EventsOption, JsonOption, Output, QuietOption, Seen, events_status, opened, see, tell
from fleet_rlm.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleet_rlm.runtime.execution.events import Event
    from fleet_rlm.runtime.execution.requests import Submitted
    from fleet_rlm.runtime.factory import Workspace

MAX_LINE_BYTES = 64 << 20


def replay(
    what: Annotated[str, typer.Argument(metavar="FILE|TURN", show_default=False)],
    as_object: JsonOption = False,
    events: EventsOption = None,
    quiet: QuietOption = False,
) -> int:
    """Work off a recorded turn once more without calling a model: its answers come from the journal.

    FILE is what `fleet run --events FILE` wrote, TURN the id of a turn of this data folder.

    Exit status: 0 the same events (but for ids and times), 1 other ones, and the first difference is named,
    2 bad usage or input, 130 stopped by Ctrl-C.
    """
    from fleet_rlm.runtime.config import expanded

    file = expanded(Path(what))
    # What may not be looked at is told by reading it: Path.exists would raise.
    there = not what.startswith("trn_") or os.path.exists(file)  # noqa: PTH110
    recorded = read_events(file) if there else None
    output = Output(as_object=as_object, events=events, quiet=quiet)
    with opened({}) as workspace:
        if recorded is None:
            from fleet_rlm.runtime.again import turn_events

            recorded = turn_events(workspace.journal, workspace.sessions.get_turn(what))
            return _compared(workspace, recorded, lambda: workspace.replay(what), output)
        turn = next((event.turn for event in reversed(recorded) if event.type == "turn.accepted"), None)
        mine = [event for event in recorded if event.turn == turn]
        return _compared(workspace, mine, lambda: workspace.replay_events(recorded), output)


def read_events(file: Path) -> list[Event]:
    """The events of a file of JSON lines. Errors: InvalidInput with the line that is none."""
    import msgspec

    from fleet_rlm.runtime.execution.events import decode_event

    found: list[Event] = []
    try:
        with file.open("rb") as lines:
            while line := lines.readline(MAX_LINE_BYTES):
                if line.strip():
                    found.append(decode_event(line))
    except OSError as error:
        hint = "name a file of `fleet run --events FILE`, or a turn by its id (trn_…)"
        raise InvalidInput(f"cannot read {file}: {error.strerror}", hint=hint) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        hint = "replay takes what `fleet run --events FILE` wrote"
        raise InvalidInput(f"{file}, event {len(found) + 1}: {one_line(str(error), 200)}", hint=hint) from None
    return found


def _compared(workspace: Workspace, recorded: list[Event], begin: Callable[[], Submitted], output: Output) -> int:
    from fleet_rlm.cli.watch import event_sink

    with event_sink(output.events) as sink:
        seen = see(workspace, output, sink, begin)
    tell(seen, output)
    return events_status(seen, _verdict(workspace, recorded, seen))


def _verdict(workspace: Workspace, recorded: list[Event], seen: Seen) -> int:
    """0 when the turn went as the recorded one; else what is different, on stderr."""
    from fleet_rlm.runtime.again import turn_events
    from fleet_rlm.runtime.execution.normalised import first_difference

    result = seen.result
    if seen.stopped and result.status == "cancelled":
        print("cancelled", file=sys.stderr)
        return CANCELLED
    again = turn_events(workspace.journal, workspace.sessions.get_turn(result.turn))
    difference = first_difference(recorded, again)
    if difference is None:
        return 0
    why = f"{result.error.message}; " if result.error is not None else ""
    print(f"error: the replay is not the recorded turn: {one_line(why + difference, 500)}", file=sys.stderr)
    return 1
