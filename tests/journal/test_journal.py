"""The journal on a real file, with real threads and real processes."""

from __future__ import annotations

import os
import random
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest
import sqlalchemy
from opened import Store

from fleet_rlm.errors import Conflict, InternalError, NotFound, StorageError
from fleet_rlm.runtime.content.blobs import BlobStore
from fleet_rlm.runtime.execution import events as ev
from fleet_rlm.runtime.execution.events import Draft, Event
from fleet_rlm.runtime.execution.ids import new_id


def delta(text: str) -> Draft:
    return Draft(ev.MessageDelta(id="m", text=text), turn="trn_1")


def accepted(question: str = "q", command: str | None = None) -> ev.TurnAccepted:
    return ev.TurnAccepted(
        question=question, mode="auto", model="m", sub_model="m", limits=ev.Limits(), command=command
    )


def finished(cost: float | None = None) -> ev.TurnFinished:
    return ev.TurnFinished(status="ok", answer="a", usage=ev.Usage(cost_usd=cost), runs=1, max_depth_reached=0)


def test_seq_is_gapless_and_listeners_hear_in_order_under_16_threads(store: Store) -> None:
    sids = [store.sessions.create(f"s{n}").sid for n in range(3)]
    heard: dict[str, list[Event]] = {sid: [] for sid in sids}
    everything: list[Event] = []
    for sid in sids:
        store.journal.listen(sid, heard[sid].extend)
    store.journal.listen(None, everything.extend)
    mine: list[list[Event]] = [[] for _ in range(16)]

    def work(place: int) -> None:
        chance = random.Random(place)
        for n in range(150):
            drafts = [delta(f"{place}/{n}/{k}") for k in range(chance.randint(1, 3))]
            mine[place] += store.journal.append(chance.choice(sids), drafts, durable=n % 50 == 0)

    threads = [threading.Thread(target=work, args=(place,)) for place in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    store.journal.flush()
    for sid in sids:
        read = store.journal.read(sid, limit=10_000)
        assert [event.seq for event in read] == list(range(1, len(read) + 1))
        assert read[1:] == heard[sid]
        assert store.journal.head(sid).seq == len(read)
    # what an appender was told is what was written, in its own order
    for events in mine:
        for sid in sids:
            own = [event for event in events if event.sid == sid]
            assert [event.seq for event in own] == sorted(event.seq for event in own)
    assert sorted((e.sid, e.seq) for e in everything) == sorted((e.sid, e.seq) for es in mine for e in es)


def test_commits_are_grouped_and_promises_go_at_once(store: Store) -> None:
    sid = store.sessions.create("s").sid
    commits: list[Sequence[Event]] = []
    store.journal.listen(sid, commits.append)
    for n in range(1_000):
        store.journal.append(sid, [delta(str(n))])
    store.journal.flush()
    assert sum(map(len, commits)) == 1_000
    assert len(commits) < 300, "each event had a commit of its own"


@pytest.mark.parametrize("number", [1, 3, 4, 5, 21, 128, 149, 300])
def test_however_many_are_written_at_once_each_is_read_back_in_its_place(store: Store, number: int) -> None:
    sid = store.sessions.create("s").sid
    placed = store.journal.append(sid, [delta(f"{n} ' \x00 é") for n in range(number)], durable=True)
    assert store.journal.read(sid, 0, 1_000)[-number:] == placed
    assert [event.data.text for event in placed] == [f"{n} ' \x00 é" for n in range(number)]


def test_durable_means_another_connection_reads_it(store: Store) -> None:
    sid = store.sessions.create("s").sid
    store.journal.append(sid, [delta("grouped")])
    (event,) = store.journal.append(sid, [Draft(accepted(), turn="trn_1")], durable=True)
    with sqlite3.connect(f"file:{store.home / 'fleet.db'}?mode=ro", uri=True) as other:
        rows = other.execute("select seq from events where sid=? order by seq", (sid,)).fetchall()
    assert [row[0] for row in rows] == [1, 2, 3] and event.seq == 3


def test_projections_follow_the_events(store: Store) -> None:
    sid = store.sessions.create("first").sid
    context = ev.ContextRef(name="c", sha256="0" * 64, kind="text", bytes=1, chars=1, lines=1)
    store.journal.append(
        sid, [Draft(accepted(command="k1"), turn="trn_1"), Draft(ev.ContextAdded(context=context))], durable=True
    )
    row = store.sessions.get(sid)
    assert (row.title, row.head, row.turns, row.active_turn, row.cost_usd) == ("first", 3, 1, "trn_1", None)
    found = store.sessions.find_turn_by_command(sid, "k1")
    assert found is not None and found.tid == "trn_1" and found.status == "running" and found.accepted_seq == 2
    assert store.sessions.find_turn_by_command(sid, "k2") is None
    store.journal.append(
        sid, [Draft(ev.SessionRenamed(title="second")), Draft(finished(0.5), turn="trn_1")], durable=True
    )
    row = store.sessions.get(sid)
    assert (row.title, row.active_turn, row.cost_usd) == ("second", None, 0.5)
    assert store.sessions.get_turn("trn_1").finished_seq == 5
    other = store.sessions.create("newer")
    assert [r.sid for r in store.sessions.list()] == [other.sid, sid]


def test_pages_and_turns(store: Store) -> None:
    sid = store.sessions.create("s").sid
    for turn in ("trn_1", "trn_2"):
        drafts = [Draft(accepted(), turn=turn), *[Draft(ev.MessageDelta(id="m", text=turn), turn=turn)] * 5]
        store.journal.append(sid, [*drafts, Draft(finished(), turn=turn)])
    store.journal.flush()
    assert [e.seq for e in store.journal.read(sid, after=3, limit=4)] == [4, 5, 6, 7]
    assert {e.turn for e in store.journal.read(sid, turn="trn_2")} == {"trn_2"}
    assert store.journal.read("ses_unknown") == []


def test_turns_keep_their_order_when_the_clock_is_set_back(store: Store) -> None:
    drafts = [Draft(ev.SessionCreated(title="s"))]
    for turn in ("trn_1", "trn_2", "trn_3"):
        drafts += [Draft(accepted(turn), turn=turn), Draft(finished(), turn=turn)]
    times = [5_000, 5_000, 5_001, 3_000, 3_001, 4_000, 4_001]
    events = [
        ev.place(draft, epoch="e", sid="ses_1", seq=seq, ts=ts)
        for seq, (draft, ts) in enumerate(zip(drafts, times, strict=True), 1)
    ]
    store.sessions.found("s", events)
    assert [row.tid for row in store.sessions.turns_of("ses_1")] == ["trn_1", "trn_2", "trn_3"]


def test_a_turn_is_resumed_once_whoever_asks(tmp_path: Path) -> None:
    one, two = Store(tmp_path / "home"), Store(tmp_path / "home")
    sid = one.sessions.create("s").sid
    again = msgspec.structs.replace(accepted(), origin=ev.Origin(kind="resume", session=sid, turn="trn_1"))
    for turn, data in (("trn_1", accepted()), ("trn_2", again)):
        one.journal.append(sid, [Draft(data, turn=turn), Draft(finished(), turn=turn)], durable=True)
    for store in (one, two):
        with pytest.raises(Conflict, match="goes on from"):
            store.journal.append(sid, [Draft(again, turn="trn_3")], durable=True)
    next_ = msgspec.structs.replace(accepted(), origin=ev.Origin(kind="resume", session=sid, turn="trn_2"))
    two.journal.append(sid, [Draft(next_, turn="trn_4"), Draft(finished(), turn="trn_4")], durable=True)
    assert [row.tid for row in one.sessions.turns_of(sid)] == ["trn_1", "trn_2", "trn_4"]
    one.close()
    two.close()


def test_unknown_deleted_and_closed(store: Store) -> None:
    with pytest.raises(NotFound):
        store.journal.append("ses_unknown", [delta("x")])
    sid = store.sessions.create("s").sid
    store.journal.append(sid, [Draft(accepted(), turn="trn_1")], durable=True)
    with pytest.raises(Conflict):
        store.journal.delete(sid)
    store.journal.append(sid, [Draft(finished(), turn="trn_1")], durable=True)
    store.journal.delete(sid)
    with pytest.raises(NotFound):
        store.journal.append(sid, [delta("x")], durable=True)
    with pytest.raises(NotFound):
        store.sessions.get(sid)
    assert store.journal.read(sid) == []
    store.close()
    with pytest.raises(StorageError):
        store.journal.append(sid, [delta("x")])


def test_a_listener_that_fails_or_calls_back_stops_nothing(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    sid = store.sessions.create("s").sid
    refused: list[type[BaseException]] = []

    def broken(_events: Sequence[Event]) -> None:
        raise ValueError("broken view")

    def calling_back(_events: Sequence[Event]) -> None:
        try:
            store.journal.head(sid)
        except InternalError as error:
            refused.append(type(error))

    store.journal.listen(sid, broken)
    leave = store.journal.listen(sid, calling_back)
    store.journal.append(sid, [delta("1")], durable=True)
    leave()
    store.journal.append(sid, [delta("2")], durable=True)
    assert refused == [InternalError] and store.journal.head(sid).seq == 3
    assert "broken view" in caplog.text


def test_text_that_utf8_cannot_hold_is_kept_readable(store: Store) -> None:
    sid = store.sessions.create("s").sid
    (event,) = store.journal.append(sid, [delta("a\ud800b\x00c")], durable=True)
    (read,) = store.journal.read(sid, after=1)
    assert read == event and isinstance(read.data, ev.MessageDelta) and read.data.text == "a?b\x00c"


def test_a_database_that_refuses_keeps_the_order_and_tells_who_waits(store: Store) -> None:
    sid = store.sessions.create("s").sid
    blocker = sqlite3.connect(store.home / "fleet.db", timeout=0)
    blocker.execute("BEGIN IMMEDIATE")  # as a full disk would: every commit fails until it is over
    try:
        began = time.monotonic()
        store.journal.append(sid, [delta("1")])
        with pytest.raises(StorageError):
            store.journal.append(sid, [delta("2")], durable=True)
        assert time.monotonic() - began < 30 and store.journal.failing
        store.journal.append(sid, [delta("3")])
    finally:
        blocker.rollback()
        blocker.close()
    store.journal.flush()
    read = store.journal.read(sid)
    assert [(e.seq, getattr(e.data, "text", None)) for e in read] == [(1, None), (2, "1"), (3, "3")]
    assert not store.journal.failing


def cell(code: ev.Text) -> Draft:
    return Draft(ev.CellStarted(id="c", code=code), turn="trn_1")


def test_what_a_committed_event_names_is_on_the_disk(store: Store) -> None:
    """No sooner than that, so that no run waits for the disk; and whoever sees the event can read the whole."""
    sid = store.sessions.create("s").sid
    found: list[str] = []

    def hear(events: Sequence[Event]) -> None:
        another_process = BlobStore(store.home)
        texts = [event.data.code for event in events if isinstance(event.data, ev.CellStarted)]
        found.extend(another_process.text(text)[:2] for text in texts)

    store.journal.listen(sid, hear)
    texts = [store.blobs.put_text(f"{n:02}" + "x" * 9_000) for n in range(20)]
    assert [store.blobs.text(text)[:2] for text in texts] == [f"{n:02}" for n in range(20)]
    assert not list((store.home / "blobs").rglob("*"))
    store.journal.append(sid, [cell(text) for text in texts], durable=True)
    assert found == [f"{n:02}" for n in range(20)]


def test_an_event_whose_text_the_disk_refuses_waits_for_it(store: Store) -> None:
    sid = store.sessions.create("s").sid
    text = store.blobs.put_text("x" * 9_000)
    assert text.ref is not None
    in_the_way = store.home / "blobs" / text.ref.removeprefix("blob_")[:2]
    in_the_way.write_bytes(b"")  # as a full disk would: the file cannot be made until it is gone
    with pytest.raises(StorageError):
        store.journal.append(sid, [cell(text)], durable=True)
    store.journal.append(sid, [cell(text)])
    while not store.journal.failing:
        time.sleep(0.01)
    assert len(store.journal.read(sid)) == 1
    in_the_way.unlink()
    store.journal.flush()
    assert len(store.journal.read(sid)) == 2
    assert BlobStore(store.home).text(text) == "x" * 9_000


def test_who_comes_while_the_disk_refuses_is_told_why(store: Store) -> None:
    """Not only those whose events are tried at the moment: what waits behind them is refused by the same disk."""
    sid = store.sessions.create("s").sid
    text = store.blobs.put_text("x" * 9_000)
    assert text.ref is not None
    in_the_way = store.home / "blobs" / text.ref.removeprefix("blob_")[:2]
    in_the_way.write_bytes(b"")
    store.journal.append(sid, [cell(text)])
    while not store.journal.failing:
        time.sleep(0.01)
    with pytest.raises(StorageError, match="File exists|Not a directory"):
        store.journal.append(sid, [delta("1")], durable=True)
    in_the_way.unlink()
    store.journal.flush()
    assert [event.type for event in store.journal.read(sid)][1:] == ["cell.started"]


def test_an_impossible_batch_harms_only_itself(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    good, bad = store.sessions.create("g").sid, store.sessions.create("b").sid
    store.journal.append(good, [Draft(accepted(), turn="trn_same"), Draft(finished(), turn="trn_same")], durable=True)
    with pytest.raises(InternalError):  # the same turn id in another session: a defect of the caller
        store.journal.append(bad, [Draft(accepted(), turn="trn_same")], durable=True)
    store.journal.append(good, [delta("1")], durable=True)
    store.journal.append(bad, [delta("2")], durable=True)
    assert [e.seq for e in store.journal.read(bad)] == [1, 2] and store.journal.head(good).seq == 4
    assert "cannot be written" in caplog.text


def test_private_files(store: Store) -> None:
    sid = store.sessions.create("s").sid
    store.journal.append(sid, [delta("1")], durable=True)
    assert stat.S_IMODE(store.home.stat().st_mode) == 0o700
    for path in store.home.rglob("fleet.db*"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def test_an_unusable_folder_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot use the data folder") as error:
        Store(tmp_path / "file" / "home")
    assert "\n" not in str(error.value)
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "fleet.db").write_bytes(b"no database at all, " * 100)
    with pytest.raises(StorageError, match="not a database"):
        Store(tmp_path / "home")


# ---------------------------------------------------------------------- several processes

HERE = Path(__file__).parent
WRITER = """
import sys, threading
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from opened import Store
from fleet_rlm.runtime.execution import events as ev
store = Store(Path(sys.argv[1]))
sid = store.sessions.create("s").sid
store.journal.append(sid, [ev.Draft(ev.TurnAccepted(question="q", mode="auto", model="m", sub_model="m", limits=ev.Limits()), turn="trn_1")], durable=True)
print(sid, flush=True)
def work():
    n = 0
    while True:
        n += 1
        store.journal.append(sid, [ev.Draft(ev.MessageDelta(id="m", text="x" * 50), turn="trn_1")], durable=n % 20 == 0)
for _ in range(4):
    threading.Thread(target=work).start()
"""


def writer(home: Path) -> tuple[subprocess.Popen[str], str]:
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(home), str(HERE)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    sid = process.stdout.readline().strip()
    assert sid.startswith("ses_")
    return process, sid


def written(home: Path, least: int) -> None:
    """Wait until so many events are on the disk."""
    connection = sqlite3.connect(f"file:{home / 'fleet.db'}?mode=ro", uri=True)
    try:
        deadline = time.monotonic() + 60
        while connection.execute("select count(*) from events").fetchone()[0] < least:
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        connection.close()


def end(process: subprocess.Popen[str]) -> None:
    """kill -9."""
    assert process.stdout is not None
    process.kill()
    process.wait()
    process.stdout.close()


def test_kill_9_leaves_a_readable_gapless_journal(tmp_path: Path) -> None:
    home = tmp_path / "home"
    process, sid = writer(home)
    try:
        written(home, 1_000)
    finally:
        end(process)
    store = Store(home)
    read = store.journal.read(sid, limit=1_000_000)
    assert len(read) >= 1_000 and [event.seq for event in read] == list(range(1, len(read) + 1))
    assert store.sessions.get(sid).head == len(read)
    # and it goes on
    (event,) = store.journal.append(sid, [delta("after")], durable=True)
    assert event.seq == len(read) + 1
    store.close()


def test_two_processes_share_a_folder(tmp_path: Path) -> None:
    home = tmp_path / "home"
    process, sid = writer(home)
    store = Store(home)
    try:
        mine = store.sessions.create("mine").sid
        assert store.journal.append(mine, [delta("1")], durable=True)[0].seq == 2
        with pytest.raises(Conflict):  # a turn of the other process runs there
            store.journal.append(sid, [Draft(ev.SessionRenamed(title="x"))], durable=True)
        assert store.sessions.unfinished_turns() == []
        with pytest.raises(Conflict, match="another fleet process"):
            store.journal.delete(sid)
        assert store.sessions.get(sid).active_turn == "trn_1"
    finally:
        end(process)
    assert [turn.tid for turn in store.sessions.unfinished_turns()] == ["trn_1"]
    store.journal.append(sid, [Draft(ev.SessionRenamed(title="x"))], durable=True)
    assert store.sessions.get(sid).title == "x"
    store.journal.delete(sid)  # its turn has no owner any more
    assert [row.sid for row in store.sessions.list()] == [mine]
    store.close()


def test_a_head_that_moved_between_turns_is_read_anew(tmp_path: Path) -> None:
    one, two = Store(tmp_path / "home"), Store(tmp_path / "home")
    sid = one.sessions.create("s").sid
    for n, store in enumerate((one, two, one, two, two, one)):
        (event,) = store.journal.append(sid, [Draft(ev.SessionRenamed(title=f"t{n}"))], durable=True)
        assert event.seq == n + 2
    assert one.sessions.get(sid).title == "t5"
    one.close()
    two.close()


def test_two_processes_that_write_to_a_session_at_once_take_turns(tmp_path: Path) -> None:
    stores = [Store(tmp_path / "home") for _ in range(2)]
    sid = stores[0].sessions.create("s").sid

    def rename(n: int) -> int:
        (event,) = stores[n % 2].journal.append(sid, [Draft(ev.SessionRenamed(title=f"t{n}"))], durable=True)
        return event.seq

    with ThreadPoolExecutor(6) as pool:
        assert sorted(pool.map(rename, range(120))) == list(range(2, 122))
    for store in stores:
        store.close()


def test_processes_may_open_a_new_folder_at_the_same_time(tmp_path: Path) -> None:
    code = "import sys; sys.path.insert(0, sys.argv[2]); from pathlib import Path; from opened import Store; s = Store(Path(sys.argv[1])); print(s.sessions.create('x').sid); s.close()"
    command = [sys.executable, "-c", code, str(tmp_path / "home"), str(HERE)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ) for _ in range(3)]
    printed = [process.communicate(timeout=60)[0].strip() for process in processes]
    assert all(process.returncode == 0 for process in processes) and len(set(printed)) == 3


FULL = """
import resource, sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from opened import Store
from fleet_rlm.errors import StorageError
from fleet_rlm.runtime.execution import events as ev
store = Store(Path(sys.argv[1]))
sid = store.sessions.create("s").sid
def append(n, durable=False):
    store.journal.append(sid, [ev.Draft(ev.MessageDelta(id="m", text=f"{n} " + "x" * 20_000))], durable=durable)
append(0, durable=True)
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
refused, n = None, 0
while refused is None and n < 500:
    n += 1
    try:
        append(n, durable=True)
    except StorageError as error:
        refused = str(error)
assert refused and "\\n" not in refused, refused
assert store.journal.failing
for k in range(n, n + 20):
    append(k)
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
store.journal.flush()
read = store.journal.read(sid, limit=10_000)
assert [e.seq for e in read] == list(range(1, n + 22)), [e.seq for e in read]
assert [int(e.data.text.split()[0]) for e in read[1:]] == list(range(n + 20))
store.close()
print("ok", refused)
"""


def test_a_full_disk_loses_and_disorders_nothing(tmp_path: Path) -> None:
    """Writes beyond a file-size limit fail as on a full disk; then there is room again."""
    command = [sys.executable, "-c", FULL, str(tmp_path / "home"), str(HERE)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0 and done.stdout.startswith("ok"), done.stderr


def test_events_that_are_looked_up_by_type_are_found_by_an_index(store: Store) -> None:
    """However long the session is, and however many there are: nothing else is read for an artifact."""
    asked: list[tuple[str, object]] = []

    def hear(_connection: object, _cursor: object, statement: str, parameters: object, *_: object) -> None:
        asked.append((statement, parameters))

    sid = store.sessions.create("s").sid
    published = ev.ArtifactPublished(
        id=new_id("art"), name="a.md", version=1, sha256="0" * 64, bytes=1, kind="text/markdown"
    )
    store.journal.append(sid, [delta("x")] * 50 + [Draft(published, turn="trn_1")], durable=True)
    sqlalchemy.event.listen(sqlalchemy.Engine, "before_cursor_execute", hear)
    try:
        assert store.database.run(store.journal.aartifact(published.id)) == published
        assert store.journal.artifacts(sid) == [published]
        assert [event.data for event in store.journal.of_type(sid, "artifact.published")] == [published]
        with pytest.raises(NotFound):
            store.database.run(store.journal.aartifact(new_id("art")))
    finally:
        sqlalchemy.event.remove(sqlalchemy.Engine, "before_cursor_execute", hear)
    lookups = [(statement, parameters) for statement, parameters in asked if statement.startswith("SELECT")]
    assert len(lookups) == 4
    with sqlite3.connect(store.home / "fleet.db") as connection:
        for statement, parameters in lookups:
            plan = str(connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters).fetchall())  # type: ignore[arg-type]
            assert "USING INDEX ix_events_type (type=?" in plan, plan
    connection.close()
