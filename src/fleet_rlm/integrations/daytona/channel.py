"""One conversation with a worker in a sandbox: start it, exchange messages, survive dropped connections.

Everything here runs on one event loop, but what is sent where the transport takes it on any thread. Messages arrive
whole, in order, each exactly once.

Where there is a direct way to the process that runs the code, cells, tool calls and what comes back take it, past the
worker's own process: direct_way.py.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field

from fleet_rlm.errors import SandboxLost, SandboxUnavailable
from fleet_rlm.integrations.daytona.direct_way import DirectWay
from fleet_rlm.integrations.daytona.transport import (
    Transport,
    TransportError,
    TransportGone,
    boot_line,
    boot_marker,
    boot_payload,
)
from fleet_rlm.integrations.daytona.worker.frames import (
    BYE,
    CH_CALL,
    CH_EXEC,
    CH_LOST,
    DATA,
    END,
    HELLO,
    IN_WINDOW_BYTES,
    KEY,
    OUT_WINDOW_BYTES,
    PING,
    Frame,
    Inbox,
    Link,
    Oversized,
)

PING_S = 10.0
SILENCE_S = 30.0  # no byte for so long: the connection is dead, whatever it says
RECONNECT_S = 30.0
SEEN_BYTES = 4096
HELD_BYTES = 4 * OUT_WINDOW_BYTES  # an honest worker stops at its window


@dataclass(frozen=True, slots=True)
class ChannelOptions:
    """What the worker is told at start. Sizes in bytes. `marks`: see `SandboxSource.marks`."""

    contexts_root: str = "/contexts"
    marks: Mapping[str, tuple[str, str]] = field(default_factory=dict[str, tuple[str, str]])
    output_bytes: int = 8 << 20
    message_bytes: int = 64 << 20
    start_s: float = 30.0


class Channel:
    """Frames over a transport. `on_message(channel, payload)` and `on_lost(reason)` are called on the loop."""

    def __init__(
        self,
        transport: Transport,
        options: ChannelOptions,
        *,
        on_message: Callable[[int, bytes], None],
        on_lost: Callable[[str], None],
    ) -> None:
        self._transport = transport
        self._options = options
        self._on_message = on_message
        self._on_lost = on_lost
        self._lock = threading.RLock()  # over the link
        self._link = Link(IN_WINDOW_BYTES, OUT_WINDOW_BYTES)
        self._inbox = Inbox(options.message_bytes + (1 << 20))
        self._direct: DirectWay | None = None
        self._arrived: deque[bytes] = deque()
        self._frames: Generator[Frame] = self._link.receive(b"")
        self._holds = False
        self._nonce = secrets.token_hex(8)
        self._hello: asyncio.Future[None] | None = None
        self._booted = False
        self._seen = b""  # what came before the first frame, for the error message and the marker
        self._heard = 0.0
        self._ticker: asyncio.TimerHandle | None = None
        self._mending: asyncio.Task[None] | None = None
        self._ended = False

    async def open(self) -> None:
        """Start the worker and give it its key.

        Errors: SandboxUnavailable when it does not come up in time, SandboxLost when the sandbox is not there any more.
        """
        loop = asyncio.get_running_loop()
        self._hello = loop.create_future()
        try:
            async with asyncio.timeout(self._options.start_s):
                await self._transport.open(self._received, self._connection_lost)
                if not self._hello.done():  # a warm worker may have spoken already
                    self._transport.write(boot_line(self._nonce))
                await self._hello
        except TimeoutError:
            seen = self._seen[-200:].decode("utf-8", "replace").strip()
            raise SandboxUnavailable(
                f"the sandbox's Python did not answer within {self._options.start_s:g} s; its terminal shows {seen!r}",
                hint="the sandbox image needs python3 3.9 or newer and a shell",
            ) from None
        except TransportError as error:  # the cause tells the caller that trying again may help
            kind = SandboxLost if isinstance(error, TransportGone) else SandboxUnavailable
            raise kind(f"the sandbox's terminal cannot be opened: {error}") from error
        self._heard = time.monotonic()
        self._ticker = loop.call_later(PING_S, self._tick)

    def send(self, channel: int, payload: bytes, *, urgent: bool = False) -> None:
        """Queue one message to the worker; any thread, if `any_thread`."""
        if channel in (CH_CALL, CH_EXEC) and self._direct is not None:
            self._direct.send(channel, payload)
            return
        with self._lock:
            if not self._ended:
                self._link.send(channel, payload, urgent=urgent)
                self._flush()

    def await_room(self) -> None:
        """Any thread but the loop's: where code in the sandbox does not read what it asked for, wait until it does."""
        if self._direct is not None:
            self._direct.await_room()

    @property
    def any_thread(self) -> bool:
        """Whether `send` may be called on any thread."""
        return self._transport.any_thread

    async def close(self) -> None:
        """Say goodbye and disconnect; nothing is called back after this."""
        with self._lock:
            if self._end():
                self._link.control(BYE)
                self._flush()
        await self._transport.close()

    def _end(self) -> bool:
        """Stop everything that runs by itself; False when it was stopped before."""
        first, self._ended = not self._ended, True
        if self._direct is not None:
            self._direct.end()
        if self._ticker is not None:
            self._ticker.cancel()
        if self._mending is not None and self._mending is not asyncio.current_task():
            self._mending.cancel()
        return first

    def _lose(self, reason: str) -> None:
        if self._hello is not None and not self._hello.done():
            self._end()
            self._hello.set_exception(TransportError(reason))
        elif self._end():
            self._on_lost(reason)

    def _flush(self) -> None:
        data = self._link.pump()
        if data:
            self._transport.write(data)

    def _received(self, data: bytes) -> None:
        if self._ended:
            return
        self._heard = time.monotonic()
        if self._hello is not None and not self._hello.done():
            self._watch_boot(data)
        self._arrived.append(data)
        self._take_frames()

    def _take_frames(self) -> None:
        """Go through what arrived. What is held is not acknowledged, and the worker soon reads no more of its child."""
        with self._lock:
            try:
                while not self._holds and (frame := self._next_frame()) is not None:
                    self._on_frame(frame)
            except Oversized as error:
                self._lose(str(error))
                return
            if sum(map(len, self._arrived)) > HELD_BYTES:
                self._lose("the terminal sent more than it may")
            self._flush()

    def _next_frame(self) -> Frame | None:
        while (frame := next(self._frames, None)) is None and self._arrived:
            self._frames = self._link.receive(self._arrived.popleft())
        return frame

    def _watch_boot(self, data: bytes) -> None:
        """Before HELLO: look for the marker of the booted Python and send it the worker."""
        self._seen = (self._seen + data)[-SEEN_BYTES:]
        if not self._booted and boot_marker(self._nonce) in self._seen:
            self._booted = True
            self._transport.write(boot_payload())

    def _on_frame(self, frame: Frame) -> None:
        if frame.type == HELLO:
            self._greet()
        elif frame.type in (DATA, END):
            message = self._inbox.add(frame)
            if message is None:
                return
            if self._direct is not None and frame.channel == CH_EXEC:
                self._direct.printed()
            elif self._direct is not None and frame.channel == CH_LOST:
                self._direct.lost(message)
            else:
                self._on_message(frame.channel, message)

    def hold(self) -> None:
        """On the loop: hear nothing more of the process that runs the code, until `go_on`. It will have to wait."""
        if self._direct is not None:
            self._direct.hold()
        else:
            self._holds = True

    def go_on(self) -> None:
        """On the loop: pass on what was held, and what comes."""
        if self._direct is not None:
            self._direct.go_on()
        elif not self._ended:
            self._holds = False
            self._take_frames()

    def lend(self) -> DirectWay | None:
        """On the loop: leave the direct way to a thread, until `go_on`. None: there is none, or it is held."""
        return self._direct if self._direct is not None and self._direct.lend() else None

    def _greet(self) -> None:
        """The worker's code-running child exists by now, so the key stays between us and the parent."""
        if self._hello is None or self._hello.done():
            return
        key = secrets.token_bytes(32)
        options = {
            "key": key.hex(),
            "contexts": self._options.contexts_root,
            "marks": dict(self._options.marks),
            "output_bytes": self._options.output_bytes,
            "message_bytes": self._options.message_bytes,
            "direct": self._transport.direct is not None,
        }
        self._link.control(KEY, json.dumps(options).encode())
        self._flush()
        self._link.use_key(key)
        line = self._transport.direct
        if line is not None:
            self._direct = DirectWay(line, self._options.message_bytes, self._on_message, self._lose)
            self._direct.begin()
        self._hello.set_result(None)

    def _tick(self) -> None:
        if self._ended:
            return
        if self._mending is None and time.monotonic() - self._heard > SILENCE_S:
            self._connection_lost("no answer to pings")
        elif self._mending is None:
            with self._lock:
                self._link.control(PING)
                self._flush()
        self._ticker = asyncio.get_running_loop().call_later(PING_S, self._tick)

    def _connection_lost(self, reason: str) -> None:
        if self._ended or self._mending is not None:
            return
        # A worker without its key has nothing to resume.
        if self._hello is None or not self._hello.done() or not self._transport.reopens:
            self._lose(reason)
            return
        self._mending = asyncio.get_running_loop().create_task(self._mend(reason))

    async def _mend(self, reason: str) -> None:
        """Connect again and resume, or give the sandbox up."""
        give_up = time.monotonic() + RECONNECT_S
        delay = 0.02
        try:
            while True:
                try:
                    await self._transport.reopen()
                    break
                except TransportGone as error:
                    self._lose(f"{reason}; {error}")
                    return
                except TransportError as error:
                    if time.monotonic() + delay > give_up:
                        self._lose(f"{reason}; reconnecting failed for {RECONNECT_S:g} s: {error}")
                        return
                await asyncio.sleep(delay)
                delay = min(delay * 2, 5.0)
        finally:
            self._mending = None
        self._heard = time.monotonic()
        with self._lock:
            self._frames.close()  # a half frame of the lost connection
            self._arrived.clear()
            self._link.resume()
            self._flush()
