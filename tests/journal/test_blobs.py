"""Large values by content."""

from __future__ import annotations

import hashlib
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from fleet_rlm.errors import InvalidInput, NotFound
from fleet_rlm.runtime.content.blobs import MAX_WAITING_BYTES, BlobStore


def test_bytes_come_back_whole_and_in_parts(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    data = bytes(range(256)) * 40
    ref = store.put(data)
    assert ref == f"blob_{hashlib.sha256(data).hexdigest()}" == store.put(data)
    assert store.read(ref) == data and store.size(ref) == len(data)
    assert store.read(ref, 100, 10) == data[100:110] and store.read(ref, len(data)) == b""
    path = store.path(ref)
    assert path.parent.name == path.name[:2] and len(list(tmp_path.rglob("*.*"))) == 0
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    with pytest.raises(InvalidInput):
        store.read(ref, -1)


def test_short_text_stays_in_the_event(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    short, long = store.put_text("é" * 10), store.put_text("é" * 5_000)
    assert (short.head, short.bytes, short.ref) == ("é" * 10, 20, None)
    assert len(long.head) == 4096 and long.bytes == 10_000 and long.ref is not None
    assert store.text(long) == "é" * 5_000 and store.text(short) == "é" * 10
    assert store.text(store.put_text("\ud800" * 5_000)) == "?" * 5_000


def test_a_text_is_written_when_it_is_settled_or_looked_for(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    long = "é" * 5_000
    first, second = store.put_text(long), store.put_text(long)
    assert first == second and first.ref is not None
    assert store.read(first.ref, 4, 4) == "éé".encode() == store.read(first.ref, 9_996)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    assert store.path(first.ref).stat().st_size == store.size(first.ref) == 10_000
    other = store.put_text("x" * 5_000)
    store.settle()
    assert BlobStore(tmp_path).text(other) == "x" * 5_000


def test_no_more_waits_in_memory_than_a_bound(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    texts = [store.put_text(f"{n}" + "x" * (MAX_WAITING_BYTES // 2)) for n in range(3)]
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 2
    store.settle()
    assert [BlobStore(tmp_path).text(text)[:2] for text in texts] == ["0x", "1x", "2x"]
    assert store.put_text("y" * (MAX_WAITING_BYTES // 2)).ref is not None
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 3


@pytest.mark.parametrize(
    "ref", ["", "blob_", "blob_" + "0" * 64, "blob_../../etc/passwd", "x" * 5000, "blob_" + "A" * 64]
)
def test_unknown_and_malformed_references(tmp_path: Path, ref: str) -> None:
    with pytest.raises(NotFound) as error:
        BlobStore(tmp_path).read(ref)
    assert len(str(error.value)) < 200


def test_many_writers_of_one_value(tmp_path: Path) -> None:
    stores = [BlobStore(tmp_path) for _ in range(8)]
    data = b"x" * 300_000
    threads = [threading.Thread(target=store.put, args=(data,)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [stores[0].path(stores[0].put(data))]


WRITER = """
import os, sys
from pathlib import Path
from fleet_rlm.runtime.content.blobs import BlobStore
store = BlobStore(Path(sys.argv[1]))
print("go", flush=True)
while True:
    store.put(os.urandom(30 << 20))
"""


def test_what_a_killed_process_left_half_written_is_removed_a_day_later(tmp_path: Path) -> None:
    def half() -> list[Path]:
        return [path for path in (tmp_path / "blobs").rglob(".*") if path.is_file()]

    kept = BlobStore(tmp_path).put(b"whole")
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    while not half():
        time.sleep(0.001)
    os.kill(process.pid, signal.SIGSTOP)
    left = half()
    process.kill()
    process.wait()
    process.stdout.close()
    BlobStore(tmp_path)
    assert half() == left  # another process may be at it
    for path in left:
        os.utime(path, (1, 1))
    assert BlobStore(tmp_path).read(kept) == b"whole" and not half()
