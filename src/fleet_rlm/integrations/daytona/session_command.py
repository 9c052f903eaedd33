"""A shell in a sandbox by plain requests: the way for networks through which no WebSocket passes.

A session command relays between its input and log and a shell that a keeper holds (worker/keeper.py). Bytes go in by
`send_session_command_input` and are read by asking for the whole log and remembering how far it was read. A log only
grows, so from ROTATE_CHARS on a new relay in a new session takes over, as after a lost connection.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import functools
import uuid
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from fleet_rlm.integrations.daytona.retry import retried
from fleet_rlm.integrations.daytona.said import first_line
from fleet_rlm.integrations.daytona.transport import TransportError, TransportGone
from fleet_rlm.integrations.daytona.worker.keeper import ATTACHED, GONE

if TYPE_CHECKING:
    from daytona import AsyncSandbox

T = TypeVar("T")
ROTATE_CHARS = 768 * 1024
SEND_BYTES = 24 * 1024
ATTACH_S = 20.0
REQUEST_S = 30.0
QUICK_S, SLOW_S, SLOWEST_S = 0.005, 0.1, 0.5  # between two looks at the log; the last after a minute of silence
LOOK_ALIVE_S = 2.0  # of silence, then whether the relay still runs


class SessionTransport:
    """Implements `Transport` on one sandbox."""

    any_thread = False
    reopens = True
    direct = None

    def __init__(self, sandbox: AsyncSandbox) -> None:
        self._process = sandbox.process
        self._path = f"/tmp/.fleet-{uuid.uuid4().hex}"  # noqa: S108 - in the sandbox, private by mode and name
        self._session = ""
        self._command = ""
        self._attached: asyncio.Future[None] | None = None
        self._waiting = bytearray()
        self._wake = asyncio.Event()
        self._sent = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._leaving: set[asyncio.Task[None]] = set()
        self._live = False
        self._receive: Callable[[bytes], None] = lambda _: None
        self._closed: Callable[[str], None] = lambda _: None

    async def open(self, receive: Callable[[bytes], None], closed: Callable[[str], None]) -> None:
        self._receive, self._closed = receive, closed
        await self._attach("start")

    async def reopen(self) -> None:
        self._detach()
        await self._attach("attach")

    def write(self, data: bytes) -> None:
        if self._live:
            self._waiting += data
            self._wake.set()

    async def close(self) -> None:
        for _ in range(50):  # what was written just before goes out first
            if not self._waiting or not self._live:
                break
            await asyncio.sleep(0.01)
        self._detach()
        if self._leaving:
            await asyncio.wait(list(self._leaving), timeout=REQUEST_S)

    async def _attach(self, how: str) -> None:
        """A new relay in a new session; returns when it has its keeper."""
        from daytona import SessionExecuteRequest

        self._session = f"fleet-{uuid.uuid4().hex}"
        request = SessionExecuteRequest(
            command=f"exec python3 -I -u -c '{keeper_program()}' {how} {self._path}",
            run_async=True,
            suppress_input_echo=True,
        )
        session = self._session
        await self._do(lambda: self._process.create_session(session))
        self._command = (await self._do(lambda: self._process.execute_session_command(session, request), 1)).cmd_id
        loop = asyncio.get_running_loop()
        self._attached = loop.create_future()
        self._waiting.clear()
        self._live = True
        self._tasks = [loop.create_task(self._read()), loop.create_task(self._send())]
        try:
            await asyncio.wait_for(self._attached, ATTACH_S)
        except (TransportError, TimeoutError) as error:
            self._detach()
            if isinstance(error, TransportGone):
                raise
            raise TransportError(str(error) or "the relay did not answer") from error

    def _detach(self) -> None:
        """Leave the present relay and its session behind; they are deleted in the background."""
        self._live = False
        for task in self._tasks:
            if task is not asyncio.current_task():
                task.cancel()
        self._tasks = []
        session, self._session = self._session, ""
        if session:
            task = asyncio.get_running_loop().create_task(self._leave(session))
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)

    async def _leave(self, session: str) -> None:
        try:
            await self._do(lambda: self._process.delete_session(session))
        except TransportError:
            return  # it ends with its sandbox

    async def _read(self) -> None:
        session, command = self._session, self._command
        read, silent, pause = 0, 0.0, QUICK_S
        try:
            while self._live:
                log = await self._do(lambda: self._process.get_session_command_logs(session, command))
                text = log.stdout or ""
                end = text.rfind("\n") + 1
                if end > read:
                    self._take(text[read:end])
                    read, silent, pause = end, 0.0, QUICK_S
                elif read > ROTATE_CHARS:
                    self._lost("the relay's log is full")
                elif silent > LOOK_ALIVE_S and await self._ended(session, command):
                    self._lost("the relay ended")
                if read > 4 * ROTATE_CHARS:
                    self._lost("the relay's log is full")
                await self._pause(pause)
                silent += pause
                pause = min(pause * 1.5, SLOW_S if silent < 60 else SLOWEST_S)
        except TransportError as error:
            self._lost(str(error))

    async def _pause(self, seconds: float) -> None:
        """Look again after a while, or as soon as something was sent: its answer is near."""
        try:
            await asyncio.wait_for(self._sent.wait(), seconds)
            self._sent.clear()
        except TimeoutError:
            return

    async def _ended(self, session: str, command: str) -> bool:
        found = await self._do(lambda: self._process.get_session_command(session, command))
        return found.exit_code is not None

    def _take(self, lines: str) -> None:
        assert self._attached is not None
        for line in lines.splitlines():
            if line == ATTACHED and not self._attached.done():
                self._attached.set_result(None)
            elif line == GONE and not self._attached.done():
                self._attached.set_exception(TransportGone("the shell in the sandbox has ended"))
            elif line:
                try:
                    self._receive(base64.b64decode(line, validate=True))
                except binascii.Error:
                    continue  # somebody else's line; frames find their own way

    async def _send(self) -> None:
        session, command = self._session, self._command
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._waiting:
                    data = bytes(self._waiting[:SEND_BYTES])
                    del self._waiting[:SEND_BYTES]
                    line = base64.b64encode(data).decode() + "\n"
                    await self._do(
                        lambda line=line: self._process.send_session_command_input(session, command, line), 1
                    )
                    self._sent.set()
        except TransportError as error:  # whether it arrived is unknown: the frames will find out
            self._lost(str(error))

    async def _do(self, request: Callable[[], Coroutine[Any, Any, T]], tries: int = 4) -> T:
        """One request, repeated where that is safe (tries > 1)."""
        from daytona import DaytonaError, DaytonaNotFoundError

        try:
            async with asyncio.timeout(REQUEST_S):
                return await (retried(request, give_up_s=10) if tries > 1 else request())
        except DaytonaNotFoundError as error:
            raise TransportGone(first_line(error)) from error
        except (DaytonaError, OSError) as error:  # TimeoutError is an OSError
            raise TransportError(first_line(error) or type(error).__name__) from error

    def _lost(self, reason: str) -> None:
        if not self._live:
            return
        self._live = False
        if self._attached is not None and not self._attached.done():
            self._attached.set_exception(TransportError(reason))
        else:
            self._closed(reason)


@functools.cache
def keeper_program() -> str:
    """The keeper as the text of a `python3 -c` in single quotes."""
    source = (Path(__file__).parent / "worker" / "keeper.py").read_bytes()
    return f'import base64;exec(base64.b64decode("{base64.b64encode(source).decode()}"))'
