"""`fleet sessions`: what was asked before on this machine."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Generator, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Final

import typer

from fleet_rlm.cli.plain import one_line, printable
from fleet_rlm.errors import InvalidInput

if TYPE_CHECKING:
    from fleet_rlm.runtime.execution import events as ev
    from fleet_rlm.runtime.execution.journal import Journal
    from fleet_rlm.runtime.factory import Workspace

app = typer.Typer(help="List, show, compare and delete sessions.", rich_markup_mode=None)

_PAGE: Final = 500
_Id = Annotated[str, typer.Argument(metavar="ID", show_default=False)]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@contextlib.contextmanager
def _opened() -> Generator[Workspace]:
    from fleet_rlm.cli.logs import log_to_file
    from fleet_rlm.runtime.config import load_settings

    settings = load_settings()
    log_to_file(settings.make_home())
    from fleet_rlm.runtime.factory import open_workspace

    with open_workspace(settings) as workspace:
        yield workspace


@app.command("list")
def list_(as_object: _Json = False) -> None:
    """The sessions, newest first."""
    with _opened() as workspace:
        rows = workspace.sessions.list()
    if as_object:
        shown = [{"id": r.sid, "title": r.title, "created_ms": r.created_ms, "updated_ms": r.updated_ms} for r in rows]
        print(json.dumps({"sessions": shown}, ensure_ascii=False))
        return
    for row in rows:
        print(f"{row.sid}  {_when(row.updated_ms)}  {one_line(row.title, 100)}")
    if not rows:
        print("no sessions yet (start with `fleet run QUESTION`)", file=sys.stderr)


@app.command()
def show(session: _Id, as_object: _Json = False) -> None:
    """The questions and answers of a session; with --json its journal, one event a line."""
    with _opened() as workspace:
        row = workspace.sessions.get(session)
        if as_object:
            from fleet_rlm.runtime.execution.events import encode_event

            for event in _events(workspace.journal, row.sid):
                sys.stdout.buffer.write(encode_event(event) + b"\n")
            return
        print(f"{one_line(row.title)}  ({row.sid}, {_when(row.created_ms)})")
        for event in _events(workspace.journal, row.sid):
            _print_turn(event)


@app.command()
def delete(session: _Id, yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False) -> None:
    """Delete a session and its journal."""
    with _opened() as workspace:
        row = workspace.sessions.get(session)
        if not yes:
            if not sys.stdin.isatty():
                raise InvalidInput("deleting cannot be undone", hint=f"fleet sessions delete {row.sid} --yes")
            typer.confirm(f"Delete {one_line(row.title, 60)!r} ({row.sid})?", abort=True, err=True)
        workspace.delete_session(row.sid)


@app.command()
def memory(
    session: _Id,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="BLOCK=TEXT", help="Give a block another text; empty clears it."),
    ] = None,
    undo: Annotated[int | None, typer.Option("--undo", metavar="SEQ", help="Take back the edit at SEQ.")] = None,
    as_object: _Json = False,
) -> None:
    """What the agent keeps in mind in a session, and a person's edits of it."""
    from fleet_rlm.runtime.agent.memory import block_of, names

    edits = [_edit(text) for text in set_ or []]
    with _opened() as workspace:
        for block, text in edits:
            workspace.set_memory(session, block, text or None)
        if undo is not None:
            workspace.undo_memory(session, undo)
        kept = workspace.memory(session)
        saved = kept.saved()
        last = kept.last_edits()
    if as_object:
        print(json.dumps({"memory": saved, "last_edit": last}, ensure_ascii=False))
        return
    for name in names(saved):
        text = saved.get(name, "")
        edited = f", edit {last[name]}" if name in last else ""
        print(f"{name} ({len(text)} of {block_of(name).limit} characters{edited})")
        if text:
            print("  " + printable(text).replace("\n", "\n  "))


@app.command()
def diff(
    turn: Annotated[str, typer.Argument(metavar="TURN", show_default=False)],
    other: Annotated[str, typer.Argument(metavar="TURN", show_default=False)],
    as_object: _Json = False,
) -> None:
    """What differs between two turns: numbers, answers, and run by run the code and its output."""
    from fleet_rlm.cli.difference import as_json, lines_of

    with _opened() as workspace:
        found = workspace.diff(turn, other)
    if as_object:
        print(as_json(found))
        return
    for line in lines_of(found):
        print(line)


def _edit(text: str) -> tuple[str, str]:
    block, sign, value = text.partition("=")
    if not sign:
        raise InvalidInput(f"{text[:60]!r} is no edit of a memory block", hint="write --set BLOCK=TEXT")
    return block.strip(), value


def _events(journal: Journal, session: str) -> Iterator[ev.Event]:
    after = 0
    while page := journal.read(session, after=after, limit=_PAGE):
        yield from page
        after = page[-1].seq


def _print_turn(event: ev.Event) -> None:
    from fleet_rlm.runtime.execution import events as ev

    match event.data:
        case ev.TurnAccepted(question=question):
            print(f"\n> {printable(question)}")
        case ev.TurnFinished(status=status, answer=answer):
            if answer:
                print(printable(answer))
            if status != "ok":
                print(f"[{status}]")
        case _:
            pass


def _when(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).astimezone().strftime("%Y-%m-%d %H:%M")
