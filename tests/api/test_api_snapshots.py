"""Snapshots of several sessions at once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pytest
from scripted_workspace import ScriptedWorkspace

from fleet_rlm.api.runtime_services.chat_persistence import KEPT_SNAPSHOTS, ChatPersistence
from fleet_rlm.errors import NotFound
from fleet_rlm.runtime.execution import events as ev


class SlowToRead:
    """A journal that is slow to read: `held` sessions wait for `go_on`."""

    def __init__(self, journal: Any) -> None:
        self._journal = journal
        self.held: set[str] = set()
        self.reading, self.go_on = threading.Event(), threading.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._journal, name)

    def read(self, sid: str, *args: Any) -> Any:
        if sid in self.held:
            self.reading.set()
            assert self.go_on.wait(60)
        return self._journal.read(sid, *args)


class SlowWorkspace(ScriptedWorkspace):
    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self.journal: Any = SlowToRead(self.journal)


@pytest.fixture
def workspace(fleet_home: Path) -> Iterator[SlowWorkspace]:
    opened = SlowWorkspace(fleet_home)
    yield opened
    opened.journal.go_on.set()
    opened.close()


def made(workspace: SlowWorkspace, title: str) -> str:
    sid = workspace.sessions.create(title).sid
    workspace.journal.append(sid, [ev.Draft(ev.SessionRenamed(title=f"{title}, renamed"))], durable=True)
    return sid


def test_a_long_view_of_one_session_holds_up_no_other(workspace: SlowWorkspace) -> None:
    chats, long = ChatPersistence(workspace), made(workspace, "long")
    others = [made(workspace, str(n)) for n in range(KEPT_SNAPSHOTS + 1)]  # so many that it is forgotten meanwhile
    workspace.journal.held.add(long)
    with ThreadPoolExecutor() as threads:
        slow = [threads.submit(chats._snapshot, long) for _ in range(2)]
        try:
            assert workspace.journal.reading.wait(20)
            quick = [threads.submit(chats._snapshot, sid) for sid in others]
            titles = [msgspec.json.decode(each.result(20).state)["title"] for each in quick]
            assert titles == [f"{n}, renamed" for n in range(len(others))]
            assert threads.submit(chats._approvals, others[0], True).result(20) == []
        finally:
            workspace.journal.go_on.set()
        assert {msgspec.json.decode(each.result(20).state)["title"] for each in slow} == {"long, renamed"}


def test_a_kept_view_goes_on_from_where_it_was(workspace: SlowWorkspace) -> None:
    chats, sid = ChatPersistence(workspace), made(workspace, "a")
    first = chats._snapshot(sid)
    workspace.journal.append(sid, [ev.Draft(ev.SessionRenamed(title="b"))], durable=True)
    again = chats._snapshot(sid)
    assert (again.seq, again.epoch) == (first.seq + 1, first.epoch)
    assert msgspec.json.decode(again.state)["title"] == "b"
    chats._delete(sid)
    with pytest.raises(NotFound):
        chats._snapshot(sid)
