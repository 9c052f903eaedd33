"""One port of one sandbox as seen from outside: a listening socket on a loopback address of the sandbox's own, and
who may come in.

A browser keeps cookies by host and pages by host and port. Each sandbox has an address of its own in 127.64.0.0/10,
so a page that a sandbox serves is of another origin than the API, the user interface and every other sandbox, and
its cookies reach none of them. The Host header must name the door, so no name of the web can be bent to it.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Generator
from http import HTTPStatus
from typing import Final

from fleet_rlm.sandboxd import http1
from fleet_rlm.sandboxd.door_keys import COOKIE, SIGNED, TOKEN_HEADER, Entry, Keys, cookies, set_cookie
from fleet_rlm.sandboxd.errors import ApiError
from fleet_rlm.sandboxd.http1 import Head, Malformed, Streams
from fleet_rlm.sandboxd.jail.spec import JailClosed
from fleet_rlm.sandboxd.jail.warm import Jail
from fleet_rlm.sandboxd.sandboxes import Sandbox

_HEAD_S, _DIAL_S, _ANSWER_S = 30.0, 10.0, 3600.0
_CONNECTIONS: Final = 128  # through one door, at once


class Door:
    """Listens for one port of a sandbox. A request that is open counts as activity."""

    def __init__(self, sandbox: Sandbox, port: int, keys: Keys) -> None:
        self.sandbox = sandbox
        self.port = port
        self.keys = keys
        self.authority = ""
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self, address: str) -> None:
        """Listen on a free port of a loopback address."""
        listener = socket.create_server((address, 0), backlog=128)
        listener.setblocking(False)
        self.authority = "{}:{}".format(*listener.getsockname())
        self._server = await asyncio.start_server(self._serve, sock=listener, limit=http1.HEAD_LIMIT)

    def signed_url(self, token: str) -> str:
        """The URL that a signed token makes; paths can be put after it."""
        return f"http://{self.authority}{SIGNED}{token}"

    def close(self) -> None:
        """Stop listening and break off what is open."""
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        try:
            if len(self._tasks) >= _CONNECTIONS:
                return await http1.refuse(writer, 503, f"more than {_CONNECTIONS} connections at once")
            self._tasks.add(task)
            await self._request(reader, writer)
        except Malformed as error:
            await http1.refuse(writer, 400, str(error))
        except ApiError as error:
            await http1.refuse(writer, error.status, error.message)
        except (JailClosed, OSError, TimeoutError):
            await http1.refuse(writer, 502, "the connection into the sandbox broke off")
        except asyncio.CancelledError:
            return None  # the door closes, and this connection with it
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await http1.read_head(reader, _HEAD_S)
        if head is None:
            return
        method, target = head.request()
        if head.get("host").lower() != self.authority:
            raise ApiError(403, "the Host header does not name this preview")
        entry = self.keys.judge(head, target, public=self.sandbox.record.public)
        if entry is None:
            raise ApiError(
                401, "this preview is private: send its token as X-Daytona-Preview-Token, or use a signed URL"
            )
        if entry.redirect and method == "GET":
            writer.write(_redirect(entry))
            await writer.drain()
            return
        with self._in_use():
            far = await dial(self.sandbox.running(), self.port)
            try:
                await self._exchange(head, f"{method} {entry.target} HTTP/1.1", entry.cookie, (reader, writer), far)
            finally:
                far[1].close()

    @contextlib.contextmanager
    def _in_use(self) -> Generator[None]:
        """An open preview request is activity of the sandbox."""
        sandbox = self.sandbox
        sandbox.requests += 1
        sandbox.last_activity = self.keys.now()
        try:
            yield
        finally:
            sandbox.requests -= 1
            sandbox.last_activity = self.keys.now()

    async def _exchange(self, head: Head, first: str, cookie: str, near: Streams, far: Streams) -> None:
        """Pass the request in and the answer out; a switch of protocol makes it a tunnel."""
        upgrade = head.get("upgrade") if "upgrade" in head.get("connection").lower() else ""
        inside = self._for_the_sandbox(head, first)
        inside.fields += [("connection", "upgrade"), ("upgrade", upgrade)] if upgrade else [("connection", "close")]
        far[1].write(inside.encode())
        await far[1].drain()
        sending = asyncio.create_task(http1.send_body(head, near[0], far[1]))
        try:
            answer = await _read_answer(far, near)
            tunnel = answer.status() == HTTPStatus.SWITCHING_PROTOCOLS
            if tunnel and not upgrade:
                raise _no_answer("switched to a protocol that nobody asked for")
            outside = answer.without()
            if tunnel:
                outside.fields += [("connection", "upgrade"), ("upgrade", answer.get("upgrade"))]
            else:
                outside.fields.append(("connection", "close"))
            if cookie:
                outside.fields.append(("set-cookie", set_cookie(cookie)))
            near[1].write(outside.encode())
            await near[1].drain()
            out = asyncio.create_task(http1.pump(far[0], near[1]))
            if tunnel:
                await http1.either(out, asyncio.create_task(http1.pump(near[0], far[1])))
            else:
                await http1.either(out, asyncio.create_task(_left(sending, near[0])))
        finally:
            sending.cancel()
            await asyncio.wait((sending,))

    def _for_the_sandbox(self, head: Head, first: str) -> Head:
        """The request without what opens this door or the API: code of the sandbox never sees a key."""
        kept = head.without(TOKEN_HEADER, "x-daytona-skip-preview-warning", "cookie")
        key = f"Bearer {self.keys.api_key}"
        kept.fields = [(name, value) for name, value in kept.fields if name != "authorization" or value != key]
        others = [pair for pair in cookies(head) if pair.partition("=")[0] != COOKIE]
        if others:
            kept.fields.append(("cookie", "; ".join(others)))
        kept.fields += [("x-forwarded-host", self.authority), ("x-forwarded-proto", "http")]
        return Head(first, kept.fields)


async def dial(jail: Jail, port: int) -> Streams:
    """A connection to a port of the sandbox's own loopback. ApiError 502 when nothing listens there."""
    for six in (False, True):
        try:
            connection = socket.socket(fileno=await jail.connect(port, six=six))
        except JailClosed:
            raise
        except OSError:
            continue
        try:
            async with asyncio.timeout(_DIAL_S):
                await _connected(connection)
            return await asyncio.open_connection(sock=connection, limit=http1.HEAD_LIMIT)
        except OSError:
            connection.close()
        except BaseException:
            connection.close()
            raise
    raise ApiError(502, f"nothing listens on port {port} in the sandbox", code="BAD_GATEWAY")


async def _connected(connection: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_writer(connection.fileno(), lambda: None if ready.done() else ready.set_result(None))
    try:
        await ready
    finally:
        loop.remove_writer(connection.fileno())
    if code := connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
        raise OSError(code, "refused")


async def _read_answer(far: Streams, near: Streams) -> Head:
    """The final head of an answer; those before it (100, 103) are passed on."""
    while True:
        try:
            answer = await http1.read_head(far[0], _ANSWER_S)
            status = 0 if answer is None else answer.status()
        except Malformed as error:
            raise _no_answer(f"gave no HTTP answer: {error}") from error
        if answer is None:
            raise _no_answer("closed the connection without an answer")
        if status >= HTTPStatus.OK or status == HTTPStatus.SWITCHING_PROTOCOLS:
            return answer
        near[1].write(answer.without().encode())


def _no_answer(what: str) -> ApiError:
    return ApiError(502, f"the program in the sandbox {what}", code="BAD_GATEWAY")


async def _left(sending: asyncio.Task[None], reader: asyncio.StreamReader) -> None:
    """Wait until the request is sent and its client has gone; whatever else it says goes nowhere."""
    await asyncio.wait((sending,))
    with contextlib.suppress(OSError):
        while await reader.read(http1.HEAD_LIMIT):
            pass


def _redirect(entry: Entry) -> bytes:
    """To the same page without the token in its address, which it could otherwise tell others."""
    place = "/" + entry.target.lstrip("/")  # two slashes would be another host
    fields = [("location", place), ("set-cookie", set_cookie(entry.cookie)), ("content-length", "0")]
    return Head("HTTP/1.1 303 See Other", [*fields, ("connection", "close")]).encode()
