"""One running cell on the host's side: what came out of the sandbox for it, and how it ended."""

from __future__ import annotations

import codecs
import math
import queue
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import msgspec

from fleet_rlm.integrations.daytona.listener import CellError, CellResult, StreamName, VariableChange
from fleet_rlm.integrations.daytona.worker.frames import CH_STDERR, CH_STDOUT
from fleet_rlm.integrations.daytona.worker.reads import MAX_SPANS

MAX_NAME, MAX_PREVIEW, MAX_TEXT, MAX_CHANGED = 200, 1_000, 21_000, 40
"""Characters of what a worker tells of a cell, and how many variables: no less than an honest one tells."""
MAX_NUMBER = 2**31 - 1
EMIT_EVERY_S = 0.05  # at most 20 pieces of output a second and stream reach the listener

STREAMS: dict[int, StreamName] = {CH_STDOUT: "stdout", CH_STDERR: "stderr"}


class GuestError(msgspec.Struct, frozen=True):
    """An error as the worker tells it."""

    message: str
    class_name: str = msgspec.field(name="class")
    line: int | None = None
    traceback: str | None = None


class GuestChange(msgspec.Struct, frozen=True):
    """A changed variable as the worker tells it."""

    name: str
    type: str
    preview: str
    size: int | None = None
    text: str | None = None


class Outcome(msgspec.Struct, frozen=True):
    """A cell's end as the worker tells it. From a sandbox, so every field is checked."""

    cell: str
    status: Literal["ok", "error", "submitted", "interrupted"]
    ms: float = 0.0
    value: str | None = None
    output: Any = None
    syntax: bool = False
    error: GuestError | None = None
    changed: list[GuestChange] = []
    handles: Any = None
    reads: dict[str, list[tuple[int, int]]] = {}
    batched: int = 0


class ToolCall(msgspec.Struct, frozen=True):
    """A guest's call of a host tool. `ahead`: it is asked before the code itself asks it, and may be refused."""

    id: int
    name: str
    args: list[Any]
    kwargs: dict[str, Any]
    ahead: bool = False


@dataclass(frozen=True, slots=True)
class Output:
    """A piece of a stream, or (with `cut` > 0) the place where so many bytes are missing."""

    channel: int
    data: bytes
    cut: int = 0


@dataclass(frozen=True, slots=True)
class Ended:
    """The cell's result, still as JSON bytes."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Lost:
    """The sandbox is gone, or the session was ended."""

    reason: str


@dataclass(frozen=True, slots=True)
class Raised:
    """A host tool raised what is not an Exception: it ends the session and goes to the caller of execute.

    `outcome`: how the cell ended that was interrupted for it, where it did in time.
    """

    error: BaseException
    outcome: Outcome | None = None


@dataclass(frozen=True, slots=True)
class Poked:
    """Something that the waiting thread looks at changed: a tool ended, or somebody asked to interrupt."""


CellEvent = Output | Ended | Lost | Raised | Poked


@dataclass(slots=True)
class _Stream:
    decoder: codecs.IncrementalDecoder = field(default_factory=lambda: codecs.getincrementaldecoder("utf-8")("replace"))
    parts: list[str] = field(default_factory=list[str])
    waiting: list[str] = field(default_factory=list[str])
    size: int = 0


class OutputLog:
    """Collects a cell's streams, and passes them on in few pieces."""

    def __init__(self, emit: Callable[[StreamName, str], None], limit: int) -> None:
        self._emit = emit
        self._limit = 2 * limit + (1 << 20)  # the worker cuts; this only bounds a worker that does not
        self._streams: dict[StreamName, _Stream] = {name: _Stream() for name in STREAMS.values()}
        self._next_emit = 0.0
        self.truncated = False

    def add(self, piece: Output) -> None:
        """Take a piece of stdout or stderr."""
        name = STREAMS.get(piece.channel)
        if name is None:
            return
        stream = self._streams[name]
        if piece.cut:
            self.truncated = True
            text = stream.decoder.decode(b"", True) + f"\n[... {piece.cut:,} bytes of output left out ...]\n"
            stream.decoder.reset()
        elif stream.size > self._limit:
            self.truncated = True
            return
        else:
            text = stream.decoder.decode(piece.data)
        stream.size += len(piece.data)
        stream.parts.append(text)
        stream.waiting.append(text)

    def due(self) -> float | None:
        """Seconds until something should be emitted; None when there is nothing."""
        if not any(stream.waiting for stream in self._streams.values()):
            return None
        return max(0.0, self._next_emit - time.monotonic())

    def flush(self, *, end: bool = False) -> None:
        """Emit what waits."""
        self._next_emit = time.monotonic() + EMIT_EVERY_S
        for name, stream in self._streams.items():
            if end:
                last = stream.decoder.decode(b"", True)
                stream.parts.append(last)
                stream.waiting.append(last)
            text = "".join(stream.waiting)
            stream.waiting.clear()
            if text:
                self._emit(name, text)

    def text(self, name: StreamName) -> str:
        return "".join(self._streams[name].parts)


class Cell:
    """The mailbox between the channel's loop, the tool threads and the thread that waits in execute."""

    def __init__(self, id: str) -> None:
        self.id = id
        self.events: queue.SimpleQueue[CellEvent] = queue.SimpleQueue()


def cut_result(outcome: Outcome | None, log: OutputLog) -> CellResult:
    """The result of a cell that was cut: by an interruption that it has answered (what it left is there still, but it
    can submit nothing any more, and how much a loop had asked ahead is chance), or with its sandbox."""
    if outcome is not None:
        return replace(result_of(outcome, log), status="interrupted", value=None, handles=None, batched=0)
    return CellResult("lost", stdout=log.text("stdout"), stderr=log.text("stderr"), truncated=log.truncated)


def result_of(outcome: Outcome, log: OutputLog) -> CellResult:
    """The typed result of a cell that ended by itself or by interruption.

    The guest can take the worker's place and tell anything, so numbers are made such as JSON can hold and texts cut.
    """
    error = outcome.error
    return CellResult(
        status=outcome.status,
        stdout=log.text("stdout"),
        stderr=log.text("stderr"),
        value=None if outcome.value is None else outcome.value[:MAX_TEXT],
        error=None if error is None else _error(error),
        changed=tuple(_change(each) for each in outcome.changed[:MAX_CHANGED]),
        ms=min(max(0.0, outcome.ms), float(MAX_NUMBER)) if math.isfinite(outcome.ms) else 0.0,
        truncated=log.truncated,
        reads={sha: tuple(spans[:MAX_SPANS]) for sha, spans in outcome.reads.items()},
        batched=_count(outcome.batched),
        handles=outcome.handles,
    )


def _error(error: GuestError) -> CellError:
    trace = None if error.traceback is None else error.traceback[:MAX_TEXT]
    return CellError(
        error.class_name[:MAX_NAME],
        error.message[:MAX_TEXT],
        None if error.line is None else _count(error.line),
        trace,
    )


def _change(change: GuestChange) -> VariableChange:
    return VariableChange(
        change.name[:MAX_NAME],
        change.type[:MAX_NAME],
        None if change.size is None else _count(change.size),
        change.preview[:MAX_PREVIEW],
        None if change.text is None else change.text[:MAX_TEXT],
    )


def _count(number: int) -> int:
    return min(max(0, number), MAX_NUMBER)


def cut_notice(payload: dict[str, Any]) -> Output:
    """The worker's word that it left bytes out of a stream."""
    return Output(int(payload["channel"]), b"", cut=int(payload["bytes"]))
