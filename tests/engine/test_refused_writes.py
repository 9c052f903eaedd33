"""What the disk refuses while a turn runs: it is told, and nothing of it comes to be later unless it is an end."""

import contextlib
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.engine.conftest import events_of
from tests.scripted import scripted

from fleet_rlm.errors import StorageError
from fleet_rlm.runtime.config import load_settings
from fleet_rlm.runtime.execution import events as ev
from fleet_rlm.runtime.execution.artifacts import ArtifactShelf
from fleet_rlm.runtime.execution.budget import TreeBudget
from fleet_rlm.runtime.execution.observer import RunScope, TurnObserver
from fleet_rlm.runtime.execution.requests import TurnRequest
from fleet_rlm.runtime.factory import Workspace, open_workspace


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Workspace]:
    with open_workspace(load_settings(home=tmp_path / "home", environ={})) as opened:
        yield opened


@contextlib.contextmanager
def held(workspace: Workspace) -> Iterator[None]:
    """Another program holds the database: every commit fails, as on a full disk."""
    blocker = sqlite3.connect(workspace.settings.home / "fleet.db", timeout=30, check_same_thread=False)
    blocker.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        blocker.rollback()
        blocker.close()


def test_a_question_that_was_refused_is_put_once_when_it_is_put_again(own: Workspace) -> None:
    lm = scripted(lambda _: "hello")
    first = own.submit(TurnRequest(question="one", mode="direct", model=lm))
    own.wait(first.turn, 60)
    again = TurnRequest(question="two", mode="direct", model=lm, session=first.session, command="c")
    with held(own), pytest.raises(StorageError):
        own.submit(again)
    own.journal.flush()
    assert own.sessions.get(first.session).active_turn is None
    second = own.submit(again)
    assert own.wait(second.turn, 60).status == "ok"
    assert own.submit(again) == second
    assert [row.tid for row in own.sessions.turns_of(first.session)] == [first.turn, second.turn]
    assert len(lm.engine.prompts) == 2


def test_a_first_question_that_was_refused_leaves_no_session(own: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the turn names cannot be brought to the disk, so its `turn.accepted` is refused. A process that is killed
    there leaves as little: session and turn are one commit."""

    def refuse() -> None:
        raise StorageError("the disk is full")

    heard: list[str] = []
    own.journal.listen(None, lambda events: heard.extend(event.type for event in events))
    question = TurnRequest(question="one", mode="direct", model=scripted(lambda _: "hello"), title="Mine")
    with monkeypatch.context() as patched:
        patched.setattr(own.journal, "_settle", refuse)
        with pytest.raises(StorageError, match="full"):
            own.submit(question)
        own.journal.flush()
    assert own.sessions.list() == [] and heard == []
    turn = own.submit(question)
    assert own.wait(turn.turn, 60).status == "ok"
    (row,) = own.sessions.list()
    assert (row.sid, row.title, row.turns, turn.seq) == (turn.session, "Mine", 1, 2)
    assert heard[:2] == ["session.created", "turn.accepted"] == [e.type for e in events_of(own, row.sid)[:2]]
    assert events_of(own, row.sid)[0].epoch == row.epoch and row.head == len(events_of(own, row.sid))
    assert row.created_ms == events_of(own, row.sid)[0].ts


def test_the_end_of_a_turn_that_was_refused_is_written_when_there_is_room(own: Workspace) -> None:
    hold = contextlib.ExitStack()

    def reply(_: str) -> str:
        hold.enter_context(held(own))
        return "hello"

    with hold:
        turn = own.submit(TurnRequest(question="one", mode="direct", model=scripted(reply)))
        with pytest.raises(StorageError):
            own.wait(turn.turn, 60)
    events = events_of(own, turn.session)
    assert [event.data.status for event in events if isinstance(event.data, ev.TurnFinished)] == ["ok"]
    assert own.sessions.get_turn(turn.turn).status == "ok"
    assert own.wait(own.submit(TurnRequest(question="two", mode="direct", model=scripted(lambda _: "b"))).turn, 60)


class Sink:
    """An event sink that can be full, and a store of blobs and texts that keeps nothing."""

    def __init__(self) -> None:
        self.events: list[ev.EventData] = []
        self.full = False

    def append(self, sid: str, drafts: list[ev.Draft], *, durable: bool = False) -> None:
        if self.full:
            raise StorageError("the disk is full")
        self.events += [draft.data for draft in drafts]

    def put_text(self, text: str) -> ev.Text:
        return ev.Text(head=text, bytes=len(text.encode()))

    def put(self, data: bytes) -> str:
        return "blob_"


def test_an_artifact_that_was_refused_is_published_when_it_is_published_again() -> None:
    sink = Sink()
    shelf = ArtifactShelf(TurnObserver(sink, sink, sid="s", turn="t", redact=str), sink, list)
    scope = RunScope(id="run", lease=TreeBudget(ev.Limits()).root())
    sink.full = True
    with pytest.raises(StorageError):
        shelf.publish(scope, "a.md", b"text")
    assert not shelf.of_turn()
    sink.full = False
    made = shelf.publish(scope, "a.md", b"text")
    assert made.version == 1 and shelf.publish(scope, "a.md", b"text") is made
    assert [event.id for event in sink.events] == [made.id]
    assert shelf.publish(scope, "a.md", b"other").version == 2


FULL = """
import resource, sys
from pathlib import Path
from tests.scripted import scripted
from fleet_rlm.runtime.config import load_settings
from fleet_rlm.runtime.execution.requests import TurnRequest
from fleet_rlm.runtime.factory import open_workspace

hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, hard))  # room for what SQLite needs to read, and for little else
with open_workspace(load_settings(home=Path(sys.argv[1]), environ={})) as workspace:
    (row,) = workspace.sessions.list()
    assert row.active_turn == "trn_1", row
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    ask = TurnRequest(question="q", mode="direct", model=scripted(lambda _: "hello"), session=row.sid)
    assert workspace.wait(workspace.submit(ask).turn, 60).status == "ok"
    print([turn.status for turn in workspace.sessions.turns_of(row.sid)])
"""


def test_a_full_disk_does_not_keep_anyone_from_reading_while_a_dead_turn_is_to_be_closed(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with open_workspace(load_settings(home=home, environ={})) as left:
        sid = left.sessions.create("s").sid
        accepted = ev.TurnAccepted(question="q", mode="auto", model="m", sub_model="m", limits=ev.Limits())
        run = ev.RunStarted(kind="rlm", task="t", signature="s", model="m")
        runs = [ev.Draft(run, turn="trn_1", run=f"run_{n}") for n in range(300)]
        left.journal.append(sid, [ev.Draft(accepted, turn="trn_1"), *runs], durable=True)
    command = [sys.executable, "-c", FULL, str(home)]
    path = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    environ = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, env=environ)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "['interrupted', 'ok']\n"
