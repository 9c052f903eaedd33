"""One conversation with a worker in a sandbox: start it, exchange messages, survive dropped connections.

Everything here runs on one event loop, but what is sent where the transport takes it on any thread. Messages arrive
whole, in order, each exactly once.

Where there is a direct way to the process that runs the code, cells, tool calls and what comes back take it, past the
worker's own process. That one still reads what is printed, and tells when it has read all of a cell's: the result of a
cell that printed something waits for that.
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
from fleet_rlm.integrations.daytona.transport import (
    Line,
    Transport,
    TransportError,
    TransportGone,
    boot_line,
    boot_marker,
    boot_payload,
)
from fleet_rlm.integrations.daytona.worker.calls import MESSAGE_HEAD, Messages
from fleet_rlm.integrations.daytona.worker.frames import (
    BYE,
    CH_CALL,
    CH_EXEC,
    CH_LATER,
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
        self._direct: Line | None = None
        self._arrived: deque[bytes] = deque()
        self._frames: Generator[Frame] = self._link.receive(b"")
        self._said = Messages()
        self._holds = False
        self._lent = False
        self._lost: bytes | None = None  # how the process ended, while that is not told
        self._result: bytes | None = None  # of a cell whose output has not all been told
        self._told = 0  # cells whose output has, and whose result is to come
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
            self._direct.write(MESSAGE_HEAD.pack(len(payload), channel) + payload)
            return
        with self._lock:
            if not self._ended:
                self._link.send(channel, payload, urgent=urgent)
                self._flush()

    def await_room(self) -> None:
        """Any thread but the loop's: where code in the sandbox does not read what it asked for, wait until it does."""
        if self._direct is not None:
            self._direct.await_room(self._options.message_bytes)

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
                while not (self._holds and self._direct is None) and (frame := self._next_frame()) is not None:
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
                self._told += 1
                self._match()
                return
            if self._direct is not None and frame.channel == CH_LOST:
                self._lost = message
                self._tell_lost()
                return
            self._on_message(frame.channel, message)

    def _tell_lost(self) -> None:
        """The process is gone: first what it said before, which may be in another thread's hands for a moment."""
        if self._lost is None or self._lent or self._direct is None:
            return
        self._direct.take()
        self._on_message(CH_LOST, self._lost)
        self._lost = None

    def _heard_directly(self, data: bytes) -> None:
        """From the process that runs the code, which may write there what it likes."""
        self._said.add(data)
        self._pass_on()

    def hold(self) -> None:
        """On the loop: hear nothing more of the process that runs the code, until `go_on`. It will have to wait."""
        self._holds = True
        if self._direct is not None:
            self._direct.pause()

    def lend(self) -> bool:
        """On the loop: leave the direct way to a thread, which may use `next_call`, until `go_on`. False: there is
        none, or it is held."""
        if self._direct is None or self._holds or self._ended:
            return False
        self.hold()
        self._lent = True
        return True

    def next_call(self, patience_s: float) -> bytes | None:
        """In the thread to which the direct way was lent: the next tool call. None: none came in time, or something
        else did."""
        assert self._direct is not None
        limit = self._options.message_bytes
        try:
            while (channel := self._said.channel(limit)) is None:
                data = self._direct.read(patience_s)
                if not data:
                    return None
                self._said.add(data)
            message = self._said.next(limit) if channel == CH_CALL else None
        except ValueError:  # the loop finds it too
            return None
        return None if message is None else message[1]

    def go_on(self) -> None:
        """On the loop: pass on what was held, and what comes."""
        if self._ended:
            return
        self._holds = self._lent = False
        self._take_frames()
        self._pass_on()
        self._tell_lost()
        if self._direct is not None and not self._holds:
            self._direct.resume()

    def _pass_on(self) -> None:
        try:
            while not (self._holds or self._ended):
                message = self._said.next(self._options.message_bytes)
                if message is None:
                    return
                channel, payload = message
                if channel in (CH_CALL, CH_EXEC):
                    self._on_message(channel, payload)
                elif channel == CH_LATER and self._result is None:
                    self._result = payload
                    self._match()
                else:
                    raise ValueError(f"a message on channel {channel}")
        except ValueError as error:
            self._lose(f"the Python process broke the control protocol: {error}")

    def _match(self) -> None:
        """Pass a result on when all that its cell printed was."""
        if self._result is not None and self._told:
            result, self._result = self._result, None
            self._told -= 1
            self._on_message(CH_EXEC, result)

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
        self._direct = self._transport.direct
        if self._direct is not None:
            self._direct.listen(self._heard_directly)
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
