"""A durable write is durable or never: what was refused is not written when the disk has room again."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fleet_rlm.errors import NotFound, StorageError
from fleet_rlm.integrations.database import Database, JournalStore, Sessions
from fleet_rlm.runtime.execution import events as ev
from fleet_rlm.runtime.execution.events import Draft, Event
from fleet_rlm.runtime.execution.journal import Journal


class Disk:
    """A journal whose disk can be full: what is to be on it before a commit cannot be written then."""

    def __init__(self, home: Path) -> None:
        self.full = False
        self.tries = 0
        self.database = Database(home)
        self.journal = Journal(JournalStore(self.database), settle=self._settle)
        self.sessions = Sessions(self.database)

    def _settle(self) -> None:
        if self.full:
            self.tries += 1
            raise StorageError("the disk is full")

    def fill(self) -> None:
        """Full, and the writer knows."""
        self.full = True
        self.tries = 0

    def texts(self, sid: str) -> list[str]:
        """What the session holds behind its first event; its places are dense."""
        self.journal.flush()
        events = self.journal.read(sid, limit=100_000)
        assert [event.seq for event in events] == list(range(1, len(events) + 1))
        assert self.journal.head(sid).seq == len(events)
        return [event.data.text for event in events[1:] if isinstance(event.data, ev.MessageDelta)]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    opened = Disk(tmp_path / "home")
    yield opened
    opened.full = False
    opened.journal.close()


def delta(text: str) -> Draft:
    return Draft(ev.MessageDelta(id="m", text=text), turn="trn_1")


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.005)


def test_what_was_refused_is_never_written_and_what_stands_behind_it_moves_up(disk: Disk) -> None:
    sid, other = disk.sessions.create("s").sid, disk.sessions.create("other").sid
    heard: list[Event] = []
    disk.journal.listen(None, heard.extend)
    disk.fill()
    disk.journal.append(sid, [delta("1")])
    until(lambda: disk.tries > 0)
    with ThreadPoolExecutor(3) as pool:
        refused = [
            pool.submit(disk.journal.append, where, [delta(f"{text} a"), delta(f"{text} b")], durable=True)
            for where, text in ((sid, "never"), (other, "neither"))
        ]
        disk.journal.append(sid, [delta("2"), delta("3")])
        for future in refused:
            assert isinstance(future.exception(30), StorageError)
    disk.journal.append(sid, [delta("4")])
    disk.full = False
    (last,) = disk.journal.append(sid, [delta("5")], durable=True)
    assert disk.texts(sid) == ["1", "2", "3", "4", "5"] and disk.texts(other) == []
    assert last.seq == 6 and disk.journal.read(sid, after=5) == [last]
    assert [event for event in heard if event.sid == sid] == disk.journal.read(sid, after=1)


def test_a_turn_that_was_refused_is_not_there_afterwards(disk: Disk) -> None:
    sid = disk.sessions.create("s").sid
    accepted = ev.TurnAccepted(question="q", mode="auto", model="m", sub_model="m", limits=ev.Limits(), command="c")
    disk.fill()
    with pytest.raises(StorageError):
        disk.journal.append(sid, [Draft(accepted, turn="trn_1")], durable=True)
    disk.full = False
    disk.journal.flush()
    assert disk.sessions.find_turn_by_command(sid, "c") is None and disk.sessions.get(sid).active_turn is None
    disk.journal.append(sid, [Draft(accepted, turn="trn_2")], durable=True)
    assert [row.tid for row in disk.sessions.turns_of(sid)] == ["trn_2"]


def test_what_waits_in_a_session_that_is_gone_harms_nobody(disk: Disk) -> None:
    gone, sid = disk.sessions.create("gone").sid, disk.sessions.create("s").sid
    disk.fill()
    disk.journal.append(gone, [delta("1")])
    disk.journal.append(sid, [delta("1")])
    disk.journal.delete(gone)
    with pytest.raises(NotFound):
        disk.journal.append(gone, [delta("2")], durable=True)
    with pytest.raises(StorageError):
        disk.journal.append(sid, [delta("2")], durable=True)
    disk.full = False
    assert disk.texts(sid) == ["1"]


@pytest.mark.parametrize("seed", range(3))
def test_whoever_is_told_is_told_the_truth_while_the_disk_comes_and_goes(disk: Disk, seed: int) -> None:
    """Of eight threads: all that was not refused is there, in its order, and nothing else; seqs are as they were told."""
    sids = [disk.sessions.create(f"s{n}").sid for n in range(3)]
    heard: dict[str, list[Event]] = {sid: [] for sid in sids}
    for sid in sids:
        disk.journal.listen(sid, heard[sid].extend)
    written: list[list[tuple[str, str]]] = [[] for _ in range(8)]
    told: list[Event] = []
    refused: set[str] = set()
    over = threading.Event()

    def weather() -> None:
        chance = random.Random(seed)
        while not over.wait(chance.uniform(0.01, 0.3)):
            disk.full = True
            over.wait(chance.choice((0.02, 1.6)))
            disk.full = False

    def work(place: int) -> None:
        chance = random.Random(seed * 100 + place)
        for n in range(60):
            sid, texts = chance.choice(sids), [f"{place}/{n}/{k}" for k in range(chance.randint(1, 3))]
            durable = chance.random() < 0.2
            try:
                events = disk.journal.append(sid, [delta(text) for text in texts], durable=durable)
            except StorageError:
                refused.update(texts)
                continue
            written[place] += [(sid, text) for text in texts]
            told.extend(events if durable else ())

    sky = threading.Thread(target=weather)
    sky.start()
    workers = [threading.Thread(target=work, args=(place,)) for place in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    over.set()
    sky.join()
    for sid in sids:
        texts = disk.texts(sid)
        assert not refused & set(texts)
        assert sorted(texts) == sorted(text for mine in written for where, text in mine if where == sid)
        for place, mine in enumerate(written):
            assert [t for t in texts if t.startswith(f"{place}/")] == [text for where, text in mine if where == sid]
        events = disk.journal.read(sid, after=1, limit=100_000)
        assert events == heard[sid]
        by_seq = {event.seq: event for event in events}
        assert all(by_seq[event.seq] == event for event in told if event.sid == sid)
