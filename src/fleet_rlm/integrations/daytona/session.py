"""A live worker as threads use it: run a cell, serve its tool calls, interrupt it, end it.

The channel lives on an event loop; the thread that runs a cell waits on the cell's mailbox. Host tools run on threads
of their own, in a copy of the context of the thread that runs the cell.
"""

from __future__ import annotations

import asyncio
import contextvars
import json
import queue
import random
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import replace
from typing import Any, TypeVar

import msgspec

from fleet_rlm.errors import SandboxUnavailable, TreeStopped
from fleet_rlm.integrations.daytona.cells import (
    STREAMS,
    Cell,
    Ended,
    Lost,
    Outcome,
    Output,
    OutputLog,
    Poked,
    Raised,
    ToolCall,
    cut_notice,
)
from fleet_rlm.integrations.daytona.channel import Channel, ChannelOptions
from fleet_rlm.integrations.daytona.lead import Lead
from fleet_rlm.integrations.daytona.listener import CellLimits
from fleet_rlm.integrations.daytona.threads import Crew, DaemonThreads
from fleet_rlm.integrations.daytona.transport import Transport, TransportError
from fleet_rlm.integrations.daytona.worker.calls import MAX_LIVE_CALLS
from fleet_rlm.integrations.daytona.worker.frames import (
    CH_CALL,
    CH_CUT,
    CH_EXEC,
    CH_INTERRUPT,
    CH_LOST,
)
from fleet_rlm.integrations.daytona.worker.values import from_json, to_json

WIND_UP_S = 0.5  # a worker that is alive and whose code is not deaf answers within a millisecond
PRESS_EVERY_S = 0.5  # an interrupt may reach the sandbox before the cell does
OPEN_RETRY_S = (0.1, 0.4, 1.0, 2.5, 5.0)  # a sandbox that was just made may not take connections yet
MAX_ERROR_CHARS = 4000
MOST_CALLS = 2 * MAX_LIVE_CALLS  # the worker queues from MAX_LIVE_CALLS on; only a forger gets here
HELD_CALLS = MAX_LIVE_CALLS  # and waits until no more than these are left
MOST_CALL_BYTES = 128 << 20  # the same of what calls that have no answer weigh
HELD_CALL_BYTES = MOST_CALL_BYTES // 2

InvokeTool = Callable[[str, list[Any], dict[str, Any]], Any]
ToolScope = Callable[[str, str, str], AbstractContextManager[None]]

_threads = DaemonThreads("fleet-tool")
_calls = msgspec.json.Decoder(ToolCall)
_outcomes = msgspec.json.Decoder(Outcome)
_Read = TypeVar("_Read")

ASKED_AHEAD: contextvars.ContextVar[bool] = contextvars.ContextVar("fleet_asked_ahead", default=False)
"""Whether the guest's call of this thread is asked before the code itself asks it: it may be refused, and nobody is to
wait for it or be asked about it."""
LET_GO: contextvars.ContextVar[Callable[[BaseException], None] | None] = contextvars.ContextVar(
    "fleet_let_go", default=None
)
"""In the thread of a tool call: ends the call with what is no Exception, from any thread, as if the tool had raised it.
The thread, which something holds, is left to itself, and what it brings later goes nowhere."""


class Session:
    """One worker. `on_lost(reason)` is called once, on the loop, when the sandbox is gone by itself."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        limits: CellLimits,
        invoke_tool: InvokeTool,
        tool_scope: ToolScope | None,
        on_lost: Callable[[str], None],
    ) -> None:
        self._loop = loop
        self._limits = limits
        self._invoke_tool = invoke_tool
        self._tool_scope = tool_scope
        self._on_lost = on_lost
        self._channel: Channel | None = None
        self._lock = threading.Lock()
        self._cell: Cell | None = None
        self._context: contextvars.Context | None = None
        self._early: list[Output] = []  # printed by the guest's threads between two cells
        self._crew = Crew(_threads, MOST_CALLS)
        self._lead = Lead(loop, self._call_came, self._serve, _threads.run)
        self._queued = 0  # calls that no thread has begun
        self._live: dict[int, int] = {}  # the calls that run now, with their weight
        self._call_bytes = 0  # of all calls, queued and live
        self._holding = False
        self._awaits_tools = False
        self._interrupt: str | None = None
        self._grace_s = limits.grace_s
        self._gone: str | None = None
        self._doom: str | None = None
        self._closing: asyncio.Future[None] | None = None

    async def open(
        self, terminal: Callable[[], Transport], contexts_root: str, marks: Mapping[str, tuple[str, str]]
    ) -> None:
        """Start the worker on a terminal (on the loop); a terminal that fails at once is tried again."""
        options = ChannelOptions(contexts_root, marks, self._limits.output_bytes, self._limits.message_bytes)
        for delay in (*OPEN_RETRY_S, None):
            channel = Channel(terminal(), options, on_message=self._on_message, on_lost=self.lose)
            try:
                await channel.open()
                self._channel = channel
                return
            except SandboxUnavailable as error:
                await channel.close()
                if delay is None or not isinstance(error.__cause__, TransportError):
                    raise
            except BaseException:
                await channel.close()
                raise
            await asyncio.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311 - jitter is no secret

    def run(self, cell: Cell, request: bytes, log: OutputLog) -> Outcome | Lost | Raised:
        """Run one cell on the calling thread; returns when it and the tools it called have ended."""
        with self._lock:
            if self._gone is not None:
                return Lost(self._gone)
            self._cell, self._interrupt, self._awaits_tools = cell, None, False
            self._context = contextvars.copy_context()
            for piece in self._early:
                cell.events.put(piece)
            self._early.clear()
        try:
            self._send(CH_EXEC, request)
            return self._watch(cell, log)
        finally:
            with self._lock:
                self._cell = self._context = None
            log.flush(end=True)

    def interrupt(self, reason: str, grace_s: float | None = None) -> None:
        """Any thread: SIGINT to the running cell; the session is killed when that does not end it in time.

        `grace_s`: it has less time than the limits say."""
        with self._lock:
            cell = self._cell
            if cell is None or self._interrupt is not None:
                return
            self._grace_s = self._limits.grace_s if grace_s is None else min(grace_s, self._limits.grace_s)
            self._interrupt = reason
        cell.events.put(Poked())

    @property
    def interrupted_by(self) -> str | None:
        """Why the last cell was interrupted."""
        return self._interrupt

    def end(self, reason: str) -> None:
        """Any thread: no more of this session; a waiting `run` returns Lost."""
        with self._lock:
            self._gone = self._gone or reason
            cell = self._cell
        if cell is not None:
            cell.events.put(Lost(self._gone))

    def close_soon(self) -> None:
        """Any thread: disconnect in the background."""
        if self._channel is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._begin_close, self._channel)

    def _send(self, channel: int, payload: bytes, urgent: bool = False) -> None:
        carrier = self._channel
        assert carrier is not None
        if carrier.any_thread:
            carrier.send(channel, payload, urgent=urgent)
        elif not self._loop.is_closed():
            self._loop.call_soon_threadsafe(lambda: carrier.send(channel, payload, urgent=urgent))

    def doom(self, reason: str) -> None:
        """In place of its end, the next cell loses the sandbox."""
        self._doom = reason

    def lose(self, reason: str) -> None:
        """Any thread: gone by itself. Told first, so that whoever waits for the cell knows when it wakes."""
        if self._gone is None:
            self._on_lost(reason)
            self.end(reason)

    # -- on the loop -------------------------------------------------------------------------------------------

    def _begin_close(self, channel: Channel) -> None:
        self._closing = asyncio.ensure_future(channel.close())

    def _on_message(self, channel: int, payload: bytes) -> None:
        if channel in STREAMS:
            self._on_output(Output(channel, payload))
        elif channel == CH_CALL:
            self._on_call(payload)
        elif channel == CH_EXEC:
            cell = self._cell
            if cell is not None:
                cell.events.put(Ended(payload))
        elif channel == CH_CUT:
            self._on_output(cut_notice(json.loads(payload)))
        elif channel == CH_LOST:
            self.lose(str(json.loads(payload).get("reason", "the Python process ended")))

    def _on_call(self, payload: bytes) -> None:
        carrier = self._channel
        assert carrier is not None
        self._call_came(payload)
        came = [payload]
        if self._queued + len(self._live) == 1 and self._lead.begin(carrier, came):
            return
        if self._holding:
            carrier.hold()
        self._crew.run(lambda: self._serve(came))

    def _call_came(self, payload: bytes) -> None:
        size = _weight(payload)
        with self._lock:
            self._queued += 1
            self._call_bytes += size
            calls = self._queued + len(self._live)
            self._holding = calls >= MOST_CALLS or (self._call_bytes >= MOST_CALL_BYTES and calls > 1)

    def _on_output(self, piece: Output) -> None:
        cell = self._cell
        if cell is not None:
            cell.events.put(piece)
        elif len(self._early) < 64:
            self._early.append(piece)

    # -- on the thread that runs the cell ----------------------------------------------------------------------

    def _watch(self, cell: Cell, log: OutputLog) -> Outcome | Lost | Raised:
        started = time.monotonic()
        ended: Outcome | None = None
        press_at: float | None = None
        kill_at: float | None = None
        wall_at = None if self._limits.wall_s is None else started + self._limits.wall_s
        while True:
            if ended is not None and (self._tools_done() or (kill_at is not None and time.monotonic() >= kill_at)):
                return _raised_meanwhile(cell, ended) or ended
            event = _next(cell, log.due(), press_at, kill_at, wall_at)
            if isinstance(event, Raised) and not _is_cancel(event.error):
                return replace(event, outcome=ended or self._wind_up(cell, log))
            if isinstance(event, Lost | Raised):
                return event
            if isinstance(event, Output):
                log.add(event)
            elif isinstance(event, Ended):
                ended = self._outcome(cell, event.payload) or ended
            if log.due() == 0:
                log.flush()
            now = time.monotonic()
            if wall_at is not None and now >= wall_at:
                wall_at = None
                self.interrupt(f"the cell ran longer than its limit of {self._limits.wall_s:g} s")
            if self._interrupt is not None and kill_at is None:
                press_at, kill_at = now, now + self._grace_s
            if press_at is not None and now >= press_at and ended is None:
                self._send(CH_INTERRUPT, b"", urgent=True)
                press_at = now + PRESS_EVERY_S
            if kill_at is not None and now >= kill_at and ended is None:
                self.lose(f"{self._interrupt}, and it did not stop within {self._grace_s:.2g} s of being told")

    def _wind_up(self, cell: Cell, log: OutputLog) -> Outcome | None:
        """A call has ended the cell: what its code printed before may be on its way still, and what it assigned is
        told by its own end, for which it is interrupted. None where it does not end in time."""
        self._send(CH_INTERRUPT, b"", urgent=True)
        until = time.monotonic() + WIND_UP_S
        while (event := _next(cell, None, until)) is not None and not isinstance(event, Lost):
            if isinstance(event, Output):
                log.add(event)
            elif isinstance(event, Ended) and (outcome := self._outcome(cell, event.payload)) is not None:
                return outcome
        return None

    def _tools_done(self) -> bool:
        """Whether all calls have ended; if not, whoever ends the last one tells."""
        with self._lock:
            self._awaits_tools = bool(self._live or self._queued)
            return not self._awaits_tools

    def _outcome(self, cell: Cell, payload: bytes) -> Outcome | None:
        """The checked outcome; None when it belongs to another cell. Nonsense ends the session, and so does `doom`."""
        try:
            outcome = _read(payload, _outcomes)
        except (ValueError, RecursionError) as error:
            self.lose(f"the sandbox sent a result that cannot be read: {error}")
            return None
        if outcome.cell != cell.id:
            return None
        if self._doom is not None:
            self.lose(self._doom)
            return None
        return outcome

    # -- on tool threads ---------------------------------------------------------------------------------------

    def _serve(self, came: list[bytes]) -> None:
        """One tool call of the guest, from its bytes to its reply. They are taken out of the list, so that nobody keeps
        them for as long as the tool takes."""
        began = time.perf_counter()
        call: ToolCall | None = None
        payload = came.pop()
        try:
            call = _read(payload, _calls)
        except (ValueError, RecursionError) as error:
            self.lose(f"the sandbox sent a tool call that cannot be read: {error}")
        size = _weight(payload)
        del payload
        with self._lock:
            self._queued -= 1
            cell, context = self._cell, self._context
            refused = cell is None or context is None
            if call is None or call.id in self._live or self._gone is not None:
                call = None
            elif not refused:
                self._live[call.id] = size
            if call is None or refused:
                self._call_bytes -= size
                self._tell_done()
        if call is not None and refused:
            message = "host tools can only be called while a cell is running"
            self._send(CH_CALL, self._failed(call.id, "RuntimeError", message))
        elif call is not None and cell is not None and context is not None:
            context.copy().run(self._invoke, cell, call)
        self._lead.note(time.perf_counter() - began)

    def _invoke(self, cell: Cell, call: ToolCall) -> None:
        LET_GO.set(lambda error: self._break_off(cell, call, error))
        ASKED_AHEAD.set(call.ahead)
        scope = self._tool_scope
        try:
            with scope(cell.id, call.name, str(call.id)) if scope is not None else nullcontext():
                value = self._invoke_tool(call.name, call.args, call.kwargs)
            reply = self._returned(call.id, value)
        except Exception as error:  # noqa: BLE001 - whatever a host tool raises becomes the guest's exception
            reply = self._failed(call.id, type(error).__name__, str(error)[:MAX_ERROR_CHARS])
        except BaseException as error:  # noqa: BLE001 - ends the session and goes to the caller of execute
            self._break_off(cell, call, error)
            return
        if self._channel is not None:
            self._channel.await_room()
        if self._leave(call):  # first: whoever has the reply may end the cell
            self._send(CH_CALL, reply)

    def _break_off(self, cell: Cell, call: ToolCall, error: BaseException) -> None:
        """Any thread: the call ends with what is no Exception, unless it has ended."""
        with self._lock:
            if call.id not in self._live:
                return
        if call.ahead:  # the code has not come so far: it meets this itself, when and if it asks
            self._send(CH_CALL, to_json({"id": call.id, "refused": True}))
        else:
            with self._lock:  # not `end`: the cell goes on until all that it printed was heard
                self._gone = self._gone or f"a host tool raised {type(error).__name__}"
            cell.events.put(Raised(error))
        self._leave(call)

    def _leave(self, call: ToolCall) -> bool:
        """The call is over; False when it was before."""
        with self._lock:
            size = self._live.pop(call.id, None)
            self._call_bytes -= size or 0
            self._tell_done()
        return size is not None

    def _tell_done(self) -> None:
        """A call is over: let more come, and wake the thread that waits for the end of all, if it was the last (with
        the lock)."""
        few = self._queued + len(self._live) <= HELD_CALLS and self._call_bytes <= HELD_CALL_BYTES
        if self._holding and few and self._channel is not None:
            self._holding = False
            if not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._channel.go_on)
        if self._awaits_tools and not self._live and not self._queued and self._cell is not None:
            self._cell.events.put(Poked())

    def _returned(self, id: int, value: Any) -> bytes:
        payload = to_json({"id": id, "value": value})
        if len(payload) <= self._limits.message_bytes:
            return payload
        size = self._limits.message_bytes >> 20
        text = f"the tool's result of {len(payload):,} bytes is larger than the limit of {size} MiB"
        return self._failed(id, "ValueError", text)

    def _failed(self, id: int, kind: str, message: str) -> bytes:
        return to_json({"id": id, "error": {"class": kind, "message": message}})


def _weight(payload: bytes) -> int:
    """Bytes that a call takes while it waits: its message, and 64 for each value that its arguments may be made of,
    which is about what CPython takes for a small one and its place."""
    return len(payload) + 64 * (payload.count(b",") + payload.count(b"[") + payload.count(b"{"))


def _read(payload: bytes, decoder: msgspec.json.Decoder[_Read]) -> _Read:
    """What the sandbox says. Errors: ValueError, RecursionError."""
    try:
        return decoder.decode(payload)
    except ValueError:  # or it has what only Python's own JSON knows: NaN, lone surrogates
        return msgspec.convert(from_json(payload), decoder.type)


def _raised_meanwhile(cell: Cell, ended: Outcome) -> Raised | None:
    """What a call raised whose end came behind that of its cell, as where both were stopped at once."""
    with suppress(queue.Empty):
        while True:
            event = cell.events.get_nowait()
            if isinstance(event, Raised):
                return replace(event, outcome=ended)
    return None


def _is_cancel(error: BaseException) -> bool:
    """Whoever cancels waits for nothing."""
    return isinstance(error, TreeStopped) and error.reason == "cancelled"


def _next(cell: Cell, due: float | None, *times: float | None) -> Any:
    """The next event, or None when one of the times (monotonic; `due` is relative) has come."""
    now = time.monotonic()
    waits = [max(0.0, at - now) for at in times if at is not None]
    if due is not None:
        waits.append(due)
    try:
        return cell.events.get(timeout=min(waits) if waits else None)
    except queue.Empty:
        return None
