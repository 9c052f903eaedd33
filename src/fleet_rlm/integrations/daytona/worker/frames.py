"""The channel's frames and their reliable order, without any input or output of its own.

Both ends use this file: the host imports it, and it is the first part of the worker's source in the sandbox.

    frame = magic(2) version(1) type(1) channel(4) seq(8) ack(8) length(4) check(8) payload(<= 16 KiB)

`check` is a keyed BLAKE2b over all the rest. The key is empty until the host's KEY frame, which it sends only
after the process that runs model code was forked, so nothing that this code writes to the terminal can pass.
DATA and END frames are numbered from 1, acknowledged by the `ack` of any frame, and kept until then.
"""

from __future__ import annotations

import hashlib
import struct
from collections import deque
from collections.abc import Generator
from typing import NamedTuple

MAGIC = b"\xf1\x5e"
VERSION = 1
PIECE_BYTES = 16 * 1024
OUT_WINDOW_BYTES = 256 * 1024  # out of the sandbox: what may be unacknowledged; servers drop slow readers at MBs
IN_WINDOW_BYTES = 64 * 1024  # into the sandbox: terminals buffer little

HELLO, KEY, SYNC, DATA, END, ACK, PING, PONG, BYE = range(1, 10)

# Channels. The direction is the host's view: IN goes to the worker.
CH_EXEC = 0  # in: a cell to run; out: its result
CH_STDOUT = 1  # out: bytes
CH_STDERR = 2  # out: bytes
CH_CALL = 3  # out: a host tool call; in: its reply
CH_INTERRUPT = 4  # in: interrupt the running cell
CH_CUT = 5  # out: so many bytes of a stream were left out here
CH_LOST = 6  # out: the process that ran the code is gone
CH_SETUP = 7  # in: worker to child only, before the first cell
CH_LATER = 8  # out: a cell's result that counts once the parent has told the end of its output; child to host only

_HEAD = struct.Struct(">2sBBIQQI")
_CHECK_BYTES = 8
HEADER_BYTES = _HEAD.size + _CHECK_BYTES
# Enough zeros to complete any frame that a dropped connection cut in two.
PADDING = bytes(HEADER_BYTES + PIECE_BYTES)
ASK_SYNC, GIVE_SYNC = b"?", b"!"


class Frame(NamedTuple):
    type: int
    channel: int
    seq: int
    ack: int
    payload: bytes


def encode_frame(key: bytes, type_: int, channel: int, seq: int, ack: int, payload: bytes) -> bytes:
    """One frame as bytes; `payload` is at most PIECE_BYTES long."""
    head = _HEAD.pack(MAGIC, VERSION, type_, channel, seq, ack, len(payload))
    return b"".join((head, _check(key, head, payload), payload))


def _check(key: bytes, head: bytes, payload: bytes) -> bytes:
    digest = hashlib.blake2b(head, digest_size=_CHECK_BYTES, key=key)
    digest.update(payload)
    return digest.digest()


class FrameReader:
    """Finds valid frames in a byte stream and skips everything else (banners, echoes, halves of frames)."""

    def __init__(self) -> None:
        self.key = b""
        self.skipped = 0  # bytes that belonged to no valid frame
        self._buffer = bytearray()

    def clear(self) -> None:
        """Forget a half frame: the connection it came by is gone."""
        self._buffer.clear()

    def feed(self, data: bytes) -> Generator[Frame, None, None]:
        """Add bytes; yield the frames that are complete now. A key set between two of them counts at once."""
        self._buffer += data
        at = 0
        try:
            while True:
                start = self._buffer.find(MAGIC, at)
                if start < 0:
                    start = max(at, len(self._buffer) - 1)  # the last byte may begin a magic
                self.skipped += start - at
                at = start
                frame, end = self._frame_at(start)
                if end == 0:  # not complete yet
                    return
                self.skipped += 1 if frame is None else 0
                at = end
                if frame is not None:
                    yield frame
        finally:
            del self._buffer[:at]

    def _frame_at(self, start: int) -> tuple[Frame | None, int]:
        """The frame at `start` and its end; (None, end) for a false magic, (None, 0) when bytes are missing."""
        if len(self._buffer) - start < HEADER_BYTES:
            return None, 0
        head = bytes(self._buffer[start : start + _HEAD.size])
        _, version, type_, channel, seq, ack, length = _HEAD.unpack(head)
        if version != VERSION or not HELLO <= type_ <= BYE or length > PIECE_BYTES:
            return None, start + 1
        end = start + HEADER_BYTES + length
        if len(self._buffer) < end:
            return None, 0
        payload = bytes(self._buffer[start + HEADER_BYTES : end])
        check = bytes(self._buffer[start + _HEAD.size : start + HEADER_BYTES])
        if check != _check(self.key, head, payload):
            return None, start + 1
        return Frame(type_, channel, seq, ack, payload), end


class Link:
    """Numbered, acknowledged, windowed pieces in both directions.

    `send` queues, `pump` gives the bytes that may go on the wire now, `receive` takes bytes off the wire and
    returns what is new and in order. After a lost connection one side pumps `resume()` and both resend.
    """

    def __init__(self, window: int, peer_window: int) -> None:
        self.reader = FrameReader()
        self.key = b""
        self._window = window
        self._ack_every = peer_window // 4
        self._waiting: deque[tuple[int, int, bytes]] = deque()
        self._urgent: deque[tuple[int, int, bytes]] = deque()
        self._sent: deque[tuple[int, bytes]] = deque()
        self._in_flight = 0
        self._seq = 0
        self._received = 0  # highest in-order seq
        self._unacked = 0  # bytes received since our last frame
        self._gap_asked = False
        self._out: list[bytes] = []

    def use_key(self, key: bytes) -> None:
        """From now on every frame in both directions carries this key."""
        self.key = self.reader.key = key

    @property
    def room(self) -> int:
        """Bytes that would go out at once; zero or less means: wait for acknowledgements."""
        return self._window - self._in_flight - sum(len(p) for _, _, p in self._waiting)

    def send(self, channel: int, payload: bytes, *, end: bool = True, urgent: bool = False) -> None:
        """Queue a message, or with `end=False` a first part of one."""
        queue = self._urgent if urgent else self._waiting
        for at in range(0, len(payload), PIECE_BYTES):
            last = at + PIECE_BYTES >= len(payload)
            queue.append((END if last and end else DATA, channel, payload[at : at + PIECE_BYTES]))
        if not payload and end:
            queue.append((END, channel, b""))

    def control(self, type_: int, payload: bytes = b"") -> None:
        """Queue a frame without a number: it may be lost, and costs no window."""
        self._out.append(encode_frame(self.key, type_, 0, 0, self._received, payload))
        self._unacked = 0

    def resume(self) -> None:
        """Begin again on a fresh connection: tell the peer what arrived and ask for the rest."""
        self.reader.clear()
        self._out.clear()
        self._out.append(PADDING)
        self.control(SYNC, ASK_SYNC)

    def pump(self) -> bytes:
        """Everything that may be written now."""
        while self._urgent or self._waiting:
            queue = self._urgent or self._waiting
            type_, channel, payload = queue[0]
            size = HEADER_BYTES + len(payload)
            if self._in_flight + size > self._window:
                break
            queue.popleft()
            self._seq += 1
            frame = encode_frame(self.key, type_, channel, self._seq, self._received, payload)
            self._sent.append((self._seq, frame))
            self._in_flight += size
            self._unacked = 0
            self._out.append(frame)
        data = b"".join(self._out)
        self._out.clear()
        return data

    def receive(self, data: bytes) -> Generator[Frame, None, None]:
        """New frames in order: data pieces, and HELLO, KEY, PONG, BYE as they come. Exhaust it."""
        for frame in self.reader.feed(data):
            self._acknowledged(frame.ack)
            if frame.type in (DATA, END):
                if self._in_order(frame):
                    yield frame
            elif frame.type == SYNC:
                self._synchronise(frame.payload)
            elif frame.type == PING:
                self.control(PONG)
            elif frame.type != ACK:
                yield frame
        if self._unacked >= self._ack_every:
            self.control(ACK)

    def _in_order(self, frame: Frame) -> bool:
        if frame.seq == self._received + 1:
            self._received = frame.seq
            self._unacked += HEADER_BYTES + len(frame.payload)
            self._gap_asked = False
            return True
        if frame.seq > self._received and not self._gap_asked:
            self._gap_asked = True
            self.control(SYNC, ASK_SYNC)
        return False

    def _acknowledged(self, ack: int) -> None:
        while self._sent and self._sent[0][0] <= ack:
            self._in_flight -= len(self._sent.popleft()[1])

    def _synchronise(self, payload: bytes) -> None:
        """The peer told what it has: send the rest again, and answer if it asked."""
        if payload == ASK_SYNC:
            self._out.append(PADDING)
            self.control(SYNC, GIVE_SYNC)
        self._out.extend(frame for _, frame in self._sent)


class Oversized(ValueError):
    """A message grew beyond what this end accepts."""


class Inbox:
    """Puts pieces together to messages; never holds more than `limit` bytes of unfinished ones."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = 0
        self._parts: dict[int, list[bytes]] = {}

    def add(self, frame: Frame) -> bytes | None:
        """The whole message when this frame ends it."""
        self._held += len(frame.payload)
        if self._held > self._limit:
            raise Oversized(f"a message is larger than {self._limit >> 20} MiB")
        if frame.type == DATA:
            self._parts.setdefault(frame.channel, []).append(frame.payload)
            return None
        parts = self._parts.pop(frame.channel, None)
        message = frame.payload if parts is None else b"".join([*parts, frame.payload])
        self._held -= len(message)
        return message
