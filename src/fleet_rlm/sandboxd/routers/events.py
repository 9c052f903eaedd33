"""Control API: changes of state over Socket.IO (protocol 5 on Engine.IO 4, over WebSockets only).

Written here in a few lines instead of taken from a package: the server side of python-socketio brings its client
along, whose import alone would take several times what the whole server needs to start.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
from collections import deque
from collections.abc import Sequence
from typing import Any, Final

import msgspec
from starlette.routing import BaseRoute
from starlette.types import Message, Receive, Scope, Send

from fleet_rlm.sandboxd import sockets
from fleet_rlm.sandboxd.errors import ApiError
from fleet_rlm.sandboxd.feed import Change
from fleet_rlm.sandboxd.listing import item, single
from fleet_rlm.sandboxd.sandboxes import Sandboxes
from fleet_rlm.sandboxd.settings import Settings

PATH: Final = "/api/socket.io/"
_PING_S, _PONG_S, _LOGIN_S = 25.0, 20.0, 10.0
_BACKLOG: Final = 1024  # events that a client may be behind before its socket is closed; it then asks for states
_CLIENTS: Final = 512
_LOGIN_LIMIT: Final = 8192
_OPEN, _CLOSE, _PING, _PONG = "0", "1", "2", "3"
_CONNECT, _DISCONNECT, _EVENT, _REFUSED = "40", "41", "42", "44"
_GOING_AWAY, _POLICY = 1001, 1008


def is_event_socket(scope: Scope) -> bool:
    """Whether this upgrade shows its key in its first packet instead of a header, as Socket.IO clients do."""
    return scope["type"] == "websocket" and scope["path"] == PATH


class EventApi:
    """/socket.io/."""

    def __init__(self, sandboxes: Sandboxes, settings: Settings) -> None:
        self._sandboxes = sandboxes
        self._key = settings.api_key.encode()
        self._toolbox = f"{settings.origin}/toolbox"
        self._clients = 0

    def routes(self) -> Sequence[BaseRoute]:
        """The routes, relative to the API's base."""
        return [sockets.socket_route("/socket.io/", self.connect)]

    async def connect(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One client: open, log in, then events until it leaves, falls behind or falls silent."""
        if self._clients >= _CLIENTS:
            raise ApiError(503, f"{_CLIENTS} clients listen to events already", code="LIMIT_REACHED")
        self._clients += 1
        try:
            await sockets.accept(scope, receive, send)
            await _say(send, _OPEN, _handshake())
            if await self._log_in(receive, send):
                await self._serve(receive, send)
        except OSError:
            return  # the client is gone
        finally:
            self._clients -= 1

    async def _log_in(self, receive: Receive, send: Send) -> bool:
        try:
            async with asyncio.timeout(_LOGIN_S):
                text = _text(await receive())
        except TimeoutError:
            text = ""
        if text is None:
            return False
        if text.startswith(_CONNECT) and self._key_fits(text.removeprefix(_CONNECT)):
            await _say(send, _CONNECT, {"sid": secrets.token_urlsafe(12)})
            return True
        await _say(send, _REFUSED, {"message": "the API key is missing or wrong"})
        await sockets.close(send, _POLICY, "not logged in")
        return False

    def _key_fits(self, auth: str) -> bool:
        try:
            login = msgspec.json.decode(auth[:_LOGIN_LIMIT], type=_Login)
        except (msgspec.MsgspecError, RecursionError, UnicodeError):
            return False
        return hmac.compare_digest(login.token.encode(errors="replace"), self._key)

    async def _serve(self, receive: Receive, send: Send) -> None:
        client = _Client(self._toolbox)
        self._sandboxes.feed.add(client.take)
        sending = asyncio.create_task(client.deliver(send))
        listening = asyncio.create_task(_listen(receive, client))
        try:
            await asyncio.wait((sending, listening), return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._sandboxes.feed.remove(client.take)
            for task in (sending, listening):
                task.cancel()
            await asyncio.gather(sending, listening, return_exceptions=True)


class _Login(msgspec.Struct):
    token: str


class _Client:
    """What one client has yet to get."""

    def __init__(self, toolbox: str) -> None:
        self._toolbox = toolbox
        self._packets: deque[str] = deque()
        self._some = asyncio.Event()
        self.alive = asyncio.Event()  # it has said something since the last ping

    def take(self, change: Change) -> None:
        """Note a change, as the sandbox is now."""
        if change.before is None:
            self.push(_packet(_EVENT, ["sandbox.created", single(change.sandbox, self._toolbox)]))
        else:  # as in a list: the environment, which may hold what is private, does not go along every time
            body = {
                "sandbox": item(change.sandbox, self._toolbox),
                "oldState": change.before.value,
                "newState": change.sandbox.state.value,
            }
            self.push(_packet(_EVENT, ["sandbox.state.updated", body]))

    def push(self, packet: str) -> None:
        """Queue a packet; one too many ends the socket."""
        self._packets.append(packet)
        self._some.set()

    async def deliver(self, send: Send) -> None:
        """Send packets and pings until the client falls behind or silent."""
        while True:
            self._some.clear()
            if len(self._packets) > _BACKLOG:
                return await sockets.close(send, _POLICY, "slow consumer")
            while self._packets:
                await send({"type": "websocket.send", "text": self._packets.popleft()})
            try:
                async with asyncio.timeout(_PING_S):
                    await self._some.wait()
            except TimeoutError:
                self.alive.clear()
                await send({"type": "websocket.send", "text": _PING})
                try:
                    async with asyncio.timeout(_PONG_S):
                        await self.alive.wait()
                except TimeoutError:
                    return await sockets.close(send, _GOING_AWAY, "no answer to a ping")


async def _listen(receive: Receive, client: _Client) -> None:
    """What a client may say: pongs, pings, and that it leaves. Its events are for nobody."""
    while (text := _text(await receive())) is not None:
        client.alive.set()
        if text == _PING:
            client.push(_PONG)
        elif text == _CLOSE or text.startswith(_DISCONNECT):
            return


def _handshake() -> dict[str, Any]:
    times = {"pingInterval": int(_PING_S * 1000), "pingTimeout": int(_PONG_S * 1000)}
    return {"sid": secrets.token_urlsafe(12), "upgrades": [], **times, "maxPayload": 1_000_000}


def _text(message: Message) -> str | None:
    """What the client says; None when it has left."""
    if message["type"] != "websocket.receive":
        return None
    return message.get("text") or ""


def _packet(kind: str, body: object) -> str:
    return kind + msgspec.json.encode(body).decode()


async def _say(send: Send, kind: str, body: object) -> None:
    await send({"type": "websocket.send", "text": _packet(kind, body)})
