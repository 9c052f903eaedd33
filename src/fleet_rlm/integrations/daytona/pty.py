"""A terminal of a Daytona sandbox over its WebSocket.

The address and sub-protocols are those of the SDK's `create_pty_session`, which is not used itself because it
looks for the connection only every 100 ms, and a child sandbox has to be ready in a third of that.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from urllib.parse import urlencode

import aiohttp

from fleet_rlm.integrations.daytona.transport import (
    MAX_WRITE_BYTES,
    WARM_SCRIPT_VARIABLE,
    TransportError,
    TransportGone,
)
from fleet_rlm.integrations.daytona.worker import worker_sha256

CONNECT_S = 20.0
HEARTBEAT_S = 20.0
MAX_MESSAGE_BYTES = 4 << 20
_EXIT_PROTOCOL = "X-Daytona-Pty-Exit-Control"


class PtyTransport:
    """Implements `Transport`. `toolbox_url` is the sandbox's own API, `headers` carry the key."""

    any_thread = False
    reopens = True
    direct = None

    def __init__(self, http: aiohttp.ClientSession, toolbox_url: str, headers: Mapping[str, str]) -> None:
        self._http = http
        self._url = re.sub("^http", "ws", toolbox_url)
        self._headers = dict(headers)
        self._id = f"fleet-{uuid.uuid4().hex}"
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._queue: deque[bytes] = deque()
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._receive: Callable[[bytes], None] = lambda _: None
        self._closed: Callable[[str], None] = lambda _: None
        self._exited: str | None = None
        self._answered: asyncio.Future[None] | None = None

    async def open(self, receive: Callable[[bytes], None], closed: Callable[[str], None]) -> None:
        self._receive, self._closed = receive, closed
        query = urlencode({"id": self._id, "cols": 80, "rows": 24})
        variables = json.dumps({WARM_SCRIPT_VARIABLE: worker_sha256()}).encode()
        envs = base64.urlsafe_b64encode(variables).rstrip(b"=").decode()
        await self._connect(f"{self._url}/process/pty/create-connect?{query}", f"X-Daytona-Pty-Envs~{envs}")

    async def reopen(self) -> None:
        if self._exited is not None:
            raise TransportGone(self._exited)
        if self._http.closed:
            raise TransportGone("the sandbox runtime is closed")
        await self._disconnect()
        await self._connect(f"{self._url}/process/pty/{self._id}/connect")

    def write(self, data: bytes) -> None:
        if self._socket is None:
            return
        for at in range(0, len(data), MAX_WRITE_BYTES):
            self._queue.append(data[at : at + MAX_WRITE_BYTES])
        self._wake.set()

    async def close(self) -> None:
        await asyncio.sleep(0)  # one turn for what was written just before
        await self._disconnect()

    async def _connect(self, url: str, *protocols: str) -> None:
        try:
            async with asyncio.timeout(CONNECT_S):
                self._socket = await self._http.ws_connect(
                    url,
                    headers=self._headers,
                    protocols=(_EXIT_PROTOCOL, *protocols),
                    heartbeat=HEARTBEAT_S,
                    max_msg_size=MAX_MESSAGE_BYTES,
                    compress=0,
                )
        except aiohttp.WSServerHandshakeError as error:
            gone = error.status in (404, 410)
            raise (TransportGone if gone else TransportError)(f"the server answered HTTP {error.status}") from error
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise TransportError(str(error) or "no answer in time") from error
        self._queue.clear()
        loop = asyncio.get_running_loop()
        self._answered = loop.create_future()
        self._tasks = [loop.create_task(self._read(self._socket)), loop.create_task(self._send(self._socket))]
        try:
            await asyncio.wait_for(self._answered, CONNECT_S)
        except (TransportError, TimeoutError) as error:
            await self._disconnect()
            raise TransportError(str(error) or "the terminal did not answer") from error

    async def _disconnect(self) -> None:
        socket, self._socket = self._socket, None
        for task in self._tasks:
            task.cancel()
        self._tasks = []
        if socket is not None and not socket.closed:
            await socket.close()

    async def _read(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        while True:
            message = await socket.receive()
            if message.type == aiohttp.WSMsgType.BINARY:
                self._ready()
                self._receive(message.data)
            elif message.type == aiohttp.WSMsgType.TEXT:
                self._on_control(message.data)
            else:
                break
        self._lost(socket, f"the connection closed with code {socket.close_code}")

    def _on_control(self, text: str) -> None:
        """A control message of the terminal; other text is output."""
        try:
            told = json.loads(text)
        except ValueError:
            told = None
        if not isinstance(told, dict) or told.get("type") != "control":
            self._receive(text.encode())
        elif told.get("status") == "connected":
            self._ready()
        elif told.get("status") == "exited":
            self._exited = f"the worker's terminal ended ({told.get('exitReason') or told.get('exitCode')})"
        elif told.get("status") == "error":
            self._exited = str(told.get("error", "the terminal could not be started"))[:500]

    def _ready(self) -> None:
        if self._answered is not None and not self._answered.done():
            self._answered.set_result(None)

    async def _send(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._queue:
                    await socket.send_bytes(self._queue.popleft())
        except (aiohttp.ClientError, OSError) as error:
            self._lost(socket, f"sending failed: {error}")

    def _lost(self, socket: aiohttp.ClientWebSocketResponse, reason: str) -> None:
        if self._socket is not socket:
            return
        self._socket = None
        if self._answered is not None and not self._answered.done():
            self._answered.set_exception(TransportError(self._exited or reason))
        else:
            self._closed(self._exited or reason)
