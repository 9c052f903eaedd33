"""WS /api/v1/ws: one socket per browser tab, from its greeting to its close.

    -> hello            <- welcome
    -> subscribe        <- subscribed, [snapshot], events ..., caught_up, events ...
    -> cmd              <- ack
                        <- heartbeat, sessions.changed, error

Close codes: 4401 not signed in, 4404 unknown session, 4408 too slow, 4429 too many sockets or frames, 1002 no hello,
1003 binary, 1007 no JSON, 1009 frame too large, 1011 a defect of ours, 1012 the server goes down. A turn never
depends on a socket.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, get_args

import msgspec
from fastapi import APIRouter, WebSocket, WebSocketDisconnect

from fleet_rlm.api.failures import error_body
from fleet_rlm.api.routers.ws.again_commands import AGAIN_OPS, run_again
from fleet_rlm.api.routers.ws.frames import (
    Command,
    Hello,
    Operation,
    Subscribe,
    Unsubscribe,
    read_cancel,
    read_frame,
    read_start,
    write_frame,
)
from fleet_rlm.api.routers.ws.limit_commands import LIMIT_OPS, change_limits
from fleet_rlm.api.routers.ws.memory_commands import MEMORY_OPS, edit_memory
from fleet_rlm.api.routers.ws.run_commands import RUN_OPS, act_on_run
from fleet_rlm.api.routers.ws.stream import Following
from fleet_rlm.api.runtime_services.chat_runtime import Asked
from fleet_rlm.api.services import Services, services
from fleet_rlm.errors import FleetError, InternalError, InvalidInput, NotFound
from fleet_rlm.runtime.execution.events import VERSION

log = logging.getLogger(__name__)
_CAPABILITIES = (*get_args(Operation), "snapshot")
router = APIRouter()


@dataclass(frozen=True, slots=True)
class SocketLimits:
    """What one socket may do. Units: seconds, events, frames."""

    heartbeat_s: float = 15.0
    hello_s: float = 10.0
    send_s: float = 10.0
    close_s: float = 30.0
    flush_s: float = 0.03
    snapshot_gap: int = 5_000
    subscriptions: int = 16
    commands: int = 8
    frames_per_s: float = 20.0
    burst: int = 60
    sockets: int = 64


class Closing(Exception):
    """Ends the socket with a code."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


@router.websocket("/ws")
async def socket(ws: WebSocket) -> None:
    """See the module."""
    limits: SocketLimits = ws.app.state.socket_limits
    open_sockets: set[WebSocket] = ws.app.state.sockets
    await ws.accept()
    if len(open_sockets) >= limits.sockets:
        await ws.close(4429, "too many sockets")
        return
    open_sockets.add(ws)
    try:
        await _Socket(ws, services(ws), limits).run()
    finally:
        open_sockets.discard(ws)


class _Socket:
    """One connection. Tasks: the reader, the notices, one per subscription, and commands in flight."""

    def __init__(self, ws: WebSocket, served: Services, limits: SocketLimits) -> None:
        self._ws = ws
        self._served = served
        self._limits = limits
        self._sending = asyncio.Lock()
        self._changed = asyncio.Event()
        self._subscriptions: dict[str, asyncio.Task[None]] = {}
        self._commands: set[asyncio.Task[None]] = set()
        self._tokens = float(limits.burst)
        self._counted = time.monotonic()

    async def run(self) -> None:
        """Serve until either side ends it."""
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                await self._greet()
                group.create_task(self._notices())
                await self._read()
        except* Closing as ending:
            await self._close(_first(ending, Closing))
        except* WebSocketDisconnect as gone:
            log.debug("socket gone: %s", gone.exceptions[0])
        except* RuntimeError as defect:
            log.error("a socket failed", exc_info=defect)
            await self._close(Closing(1011, "the workspace failed on this socket"))

    async def _close(self, ending: Closing) -> None:
        with suppress(TimeoutError, RuntimeError, WebSocketDisconnect):
            # A client that does not read cannot be told yet; when it reads on, it hears the reason.
            async with asyncio.timeout(self._limits.close_s):
                await self._ws.close(ending.code, ending.reason[:120])

    async def _greet(self) -> None:
        try:
            async with asyncio.timeout(self._limits.hello_s):
                frame = await self._receive()
        except TimeoutError:
            raise Closing(1002, "no hello") from None
        if not isinstance(frame, Hello):
            raise Closing(1002, "the first frame must be hello")
        if frame.v != VERSION:
            raise Closing(1002, f"this server speaks version {VERSION}")
        await self._send(
            "welcome",
            v=VERSION,
            heartbeat_ms=int(self._limits.heartbeat_s * 1000),
            limits={"subscriptions": self._limits.subscriptions, "frames_per_s": self._limits.frames_per_s},
            capabilities=[*_CAPABILITIES],
        )

    async def _receive(self) -> Any:
        message = await self._ws.receive()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1005))
        self._count()
        text = message.get("text")
        if text is None:
            raise Closing(1003, "frames are text")
        try:
            return read_frame(text)
        except msgspec.ValidationError as error:
            return InvalidInput(f"frame refused: {error}")
        except msgspec.DecodeError:
            raise Closing(1007, "frames are JSON") from None
        except RecursionError:
            raise Closing(1007, "nested too deeply") from None

    def _count(self) -> None:
        now = time.monotonic()
        gained = (now - self._counted) * self._limits.frames_per_s
        self._tokens = min(float(self._limits.burst), self._tokens + gained) - 1
        self._counted = now
        if self._tokens < 0:
            raise Closing(4429, "too many frames")

    async def _read(self) -> None:
        while True:
            match await self._receive():
                case Subscribe() as frame:
                    await self._subscribe(frame)
                case Unsubscribe(sid=sid):
                    self._drop(sid)
                case Command() as command:
                    self._start_command(command)
                case FleetError() as error:
                    await self._send("error", **error_body(error))
                case _:
                    await self._send("error", **error_body(InvalidInput("hello comes once")))

    # ------------------------------------------------------------------ sending

    async def _send(self, type_: str, **fields: Any) -> None:
        await self._send_text(write_frame(type_, **fields))

    async def _send_text(self, text: str) -> None:
        """Send, or end the socket when the other side does not read: it resumes by its cursor."""
        try:
            async with asyncio.timeout(self._limits.send_s), self._sending:
                await self._ws.send_text(text)
        except TimeoutError:
            raise Closing(4408, "slow consumer") from None
        except RuntimeError as gone:  # so Starlette and the server report a send on a closed socket
            raise WebSocketDisconnect(1006) from gone

    async def _notices(self) -> None:
        leave = self._served.feed.on_notice(self._changed.set)
        try:
            while True:
                try:
                    async with asyncio.timeout(self._limits.heartbeat_s):
                        await self._changed.wait()
                except TimeoutError:
                    await self._send("heartbeat", ts=time.time_ns() // 1_000_000)
                else:
                    self._changed.clear()
                    await self._send("sessions.changed")
                    await asyncio.sleep(self._limits.flush_s)
        finally:
            leave()

    # ------------------------------------------------------------------ subscriptions

    def _drop(self, sid: str) -> None:
        task = self._subscriptions.pop(sid, None)
        if task is not None:
            task.cancel()

    async def _subscribe(self, frame: Subscribe) -> None:
        previous = self._subscriptions.pop(frame.sid, None)
        if previous is not None:
            previous.cancel()
            await asyncio.wait([previous])
        while len(self._subscriptions) >= self._limits.subscriptions:
            oldest = next(iter(self._subscriptions))
            self._drop(oldest)
            await self._send("unsubscribed", sid=oldest)
        self._subscriptions[frame.sid] = self._group.create_task(self._stream(frame))

    async def _stream(self, frame: Subscribe) -> None:
        async with self._following(frame) as following:
            await self._replay_or_snapshot(frame, following)
            told = False
            loop = asyncio.get_running_loop()
            sent = 0.0
            if following.seq >= following.head:
                told = await self._caught_up(following)
            while not following.ended:
                chunk = await following.next(3600.0)
                if chunk.events:
                    await self._send_text(f"[{','.join(event.raw for event in chunk.events)}]")
                if not told and chunk.caught_up:
                    told = await self._caught_up(following)
                if told and chunk.caught_up:
                    # Small commits become one frame; the first after a silence goes at once.
                    await asyncio.sleep(max(0.0, sent + self._limits.flush_s - loop.time()))
                    sent = loop.time()
            if not following.gone:
                raise Closing(1012, "the server goes down")
        await self._send("error", sid=frame.sid, **error_body(NotFound("this session was deleted")))

    @asynccontextmanager
    async def _following(self, frame: Subscribe) -> AsyncGenerator[Following]:
        try:
            async with self._served.feed.follow(frame.sid, frame.after) as following:
                yield following
        except NotFound:
            raise Closing(4404, "unknown session") from None

    async def _replay_or_snapshot(self, frame: Subscribe, following: Following) -> None:
        other = frame.epoch not in (None, "", following.epoch)
        far = following.head - frame.after > self._limits.snapshot_gap
        mode = "snapshot" if other or far or frame.after > following.head else "replay"
        start = following.seq + 1
        if mode == "replay":
            await self._subscribed(following, mode, start)
            return
        snapshot = await self._served.persistence.snapshot(frame.sid)
        following.seq = snapshot.seq
        following.heard(snapshot.seq)
        await self._subscribed(following, mode, snapshot.seq + 1)
        head = write_frame("snapshot", sid=snapshot.sid, epoch=snapshot.epoch, seq=snapshot.seq)
        await self._send_text(f'{head[:-1]},"state":{snapshot.state.decode()}}}')

    async def _subscribed(self, following: Following, mode: str, start: int) -> None:
        sid, epoch, head = following.sid, following.epoch, following.head
        await self._send("subscribed", sid=sid, epoch=epoch, mode=mode, **{"from": start}, head=head)

    async def _caught_up(self, following: Following) -> bool:
        await self._send("caught_up", sid=following.sid, seq=following.seq)
        return True

    # ------------------------------------------------------------------ commands

    def _start_command(self, command: Command) -> None:
        if len(self._commands) >= self._limits.commands:
            raise Closing(4429, "too many commands at once")
        task = self._group.create_task(self._answer(command))
        self._commands.add(task)
        task.add_done_callback(self._commands.discard)

    async def _answer(self, command: Command) -> None:
        try:
            fields = await self._perform(command)
        except msgspec.ValidationError as error:
            await self._refuse(command, InvalidInput(f"{command.op}: {error}"))
        except FleetError as error:
            await self._refuse(command, error)
        except Exception:  # supervisor: a defect in one command must not end the tab's socket
            log.exception("command %s failed", command.op)
            await self._refuse(command, InternalError("the workspace failed on this command"))
        else:
            await self._send("ack", id=command.id, ok=True, **fields)

    async def _refuse(self, command: Command, error: FleetError) -> None:
        await self._send("ack", id=command.id, ok=False, error=error_body(error))

    async def _perform(self, command: Command) -> dict[str, Any]:
        if command.op == "turn.cancel":
            turn = read_cancel(command.args).turn
            await self._served.chat.cancel(turn, command.sid)
            return {"turn": turn}
        if command.op in AGAIN_OPS:
            return await run_again(self._served.again, command)
        if command.op in LIMIT_OPS:
            return await change_limits(self._served.workspace, command)
        if command.op in MEMORY_OPS:
            return await edit_memory(self._served.workspace, command)
        if command.op in RUN_OPS:
            return await act_on_run(self._served.control, command)
        start = read_start(command.args)
        submitted = await self._served.chat.start(
            Asked(
                session=command.sid,
                question=start.question,
                mode=start.mode,
                model=start.model,
                sub_model=start.sub_model,
                limits=msgspec.to_builtins(start.limits),
                contexts=start.contexts,
                command=command.id,
            )
        )
        return {"turn": submitted.turn, "seq": submitted.seq}


def _first(group: BaseExceptionGroup[Closing], kind: type[Closing]) -> Closing:
    found: BaseException = group
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    assert isinstance(found, kind)
    return found
