"""The channel's frames: nothing forged passes, nothing is lost or doubled by a bad line."""

from __future__ import annotations

import random

import pytest

from fleet_rlm.integrations.daytona.worker.frames import (
    CH_CALL,
    CH_EXEC,
    CH_INTERRUPT,
    DATA,
    END,
    HEADER_BYTES,
    HELLO,
    IN_WINDOW_BYTES,
    OUT_WINDOW_BYTES,
    PIECE_BYTES,
    Frame,
    FrameReader,
    Inbox,
    Link,
    Oversized,
    encode_frame,
)

KEY = b"k" * 32


def pair() -> tuple[Link, Link]:
    host, worker = Link(IN_WINDOW_BYTES, OUT_WINDOW_BYTES), Link(OUT_WINDOW_BYTES, IN_WINDOW_BYTES)
    for link in (host, worker):
        link.use_key(KEY)
    return host, worker


def test_frames_are_found_between_banners_and_echoes() -> None:
    frame = encode_frame(b"", HELLO, 0, 0, 0, b"{}")
    reader = FrameReader()
    found: list[Frame] = []
    stream = b"Welcome to sh\xf1\r\n$ stty raw \xf1\x5e\x01" + frame + b"more text" + frame
    for at in range(len(stream)):  # one byte at a time
        found += reader.feed(stream[at : at + 1])
    assert [f.payload for f in found] == [b"{}", b"{}"]
    assert reader.skipped == len(stream) - 2 * len(frame)


@pytest.mark.parametrize("key", [b"", b"x" * 32])
def test_a_frame_with_another_key_is_ignored(key: bytes) -> None:
    reader = FrameReader()
    reader.key = KEY
    forged = encode_frame(key, END, CH_EXEC, 1, 0, b'{"status":"ok"}')
    assert list(reader.feed(forged)) == []
    assert [f.payload for f in reader.feed(encode_frame(KEY, END, 0, 1, 0, b"true"))] == [b"true"]


def test_a_key_counts_from_the_next_frame_of_the_same_read() -> None:
    reader = FrameReader()
    found: list[bytes] = []
    for frame in reader.feed(encode_frame(b"", HELLO, 0, 0, 0, b"key") + encode_frame(KEY, END, 0, 1, 0, b"keyed")):
        found.append(frame.payload)
        reader.key = KEY
    assert found == [b"key", b"keyed"]


def test_the_window_holds_back_what_is_not_acknowledged() -> None:
    host, worker = pair()
    host.send(CH_EXEC, b"x" * (10 * IN_WINDOW_BYTES))
    first = host.pump()
    assert len(first) <= IN_WINDOW_BYTES
    assert host.pump() == b""
    received = sum(len(f.payload) for f in worker.receive(first))
    assert received > IN_WINDOW_BYTES // 2
    assert list(host.receive(worker.pump())) == []  # the acknowledgement
    assert host.pump()


def test_an_interrupt_overtakes_what_waits() -> None:
    host, worker = pair()
    host.send(CH_EXEC, b"x" * (2 * IN_WINDOW_BYTES))
    list(worker.receive(host.pump()))
    host.send(CH_INTERRUPT, b"", urgent=True)
    list(host.receive(worker.pump()))
    channels = [f.channel for f in worker.receive(host.pump())]
    assert channels[0] == CH_INTERRUPT


def exchange(host: Link, worker: Link, seed: int, wanted: int) -> tuple[list[bytes], list[bytes]]:
    """Carry messages across a line that is cut at random places, losing what was on its way."""
    rng = random.Random(seed)
    inboxes = Inbox(1 << 30), Inbox(1 << 30)
    got: tuple[list[bytes], list[bytes]] = ([], [])
    links = (host, worker)
    for _ in range(5000):
        if all(len(messages) >= wanted for messages in got):
            break
        moved = False
        for source, target in ((0, 1), (1, 0)):
            data = links[source].pump()
            moved = moved or bool(data)
            cut = rng.randrange(len(data)) if data and rng.random() < 0.2 else None
            for frame in links[target].receive(data[:cut]):
                if frame.type in (DATA, END) and (message := inboxes[target].add(frame)) is not None:
                    got[target].append(message)
            if cut is not None:  # the connection dropped: the host connects again
                host.resume()
        if not moved:
            host.resume()  # what a ping without an answer leads to
    return got


@pytest.mark.parametrize("seed", range(20))
def test_dropped_connections_lose_and_double_nothing(seed: int) -> None:
    rng = random.Random(seed)
    host, worker = pair()
    to_worker = [rng.randbytes(rng.choice([0, 1, 500, PIECE_BYTES, 100_000])) for _ in range(15)]
    to_host = [rng.randbytes(rng.choice([0, 1, 500, PIECE_BYTES, 300_000])) for _ in range(15)]
    for message in to_worker:
        host.send(CH_EXEC, message)
    for message in to_host:
        worker.send(CH_CALL, message)
    got_by_host, got_by_worker = exchange(host, worker, seed, 15)
    assert got_by_worker == to_worker
    assert got_by_host == to_host


def test_unfinished_messages_are_bounded_together() -> None:
    inbox = Inbox(100_000)
    with pytest.raises(Oversized):
        for channel in range(1000):  # many half messages, each small
            inbox.add(Frame(DATA, channel, 0, 0, b"x" * 1000))


def test_the_longest_frame_is_within_what_servers_take() -> None:
    assert len(encode_frame(KEY, END, 0, 1, 0, b"x" * PIECE_BYTES)) == HEADER_BYTES + PIECE_BYTES <= 32 * 1024
