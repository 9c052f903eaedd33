"""The way out of a sandbox that may use the network: an HTTP proxy of the server behind a door in the jail.

CONNECT makes a tunnel, absolute URLs make plain HTTP requests, one per connection. The policy judges every
connection anew, so a change is in force at once. What a tunnel carries is not looked into.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Mapping, Sequence
from typing import Final
from weakref import WeakKeyDictionary

from yarl import URL

from fleet_rlm.sandboxd.doorway import open_door
from fleet_rlm.sandboxd.egress import Policy, Refused
from fleet_rlm.sandboxd.jail.warm import Jail

_HEAD_LIMIT: Final = 64 * 1024
_HEAD_S: Final = 30.0
_CONNECT_S: Final = 15.0
_IDLE_S: Final = 900.0
_CHUNK: Final = 64 * 1024
_CONNECTIONS: Final = 64  # of one sandbox, at once
_NAMES: Final = ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")
_AROUND: Final = dict.fromkeys(("NO_PROXY", "no_proxy"), "localhost,127.0.0.1,::1")
_REQUEST: Final = re.compile(r"([A-Z]{1,16}) (\S{1,8192}) HTTP/1\.[01]")
_OWN: Final = frozenset({"host", "connection", "keep-alive", "upgrade", "te", "trailer", "expect"})


class Malformed(Exception):
    """A request that is none; the text says why."""


class Egress:
    """The proxies of all jails that have one."""

    def __init__(self) -> None:
        self._proxies: WeakKeyDictionary[Jail, Proxy] = WeakKeyDictionary()

    async def apply(self, jail: Jail, policy: Policy) -> None:
        """Put a policy in force for a jail; connections from before end. A jail without one needs no proxy.

        ApiError 503 when the sandbox has no room for the door, JailClosed when it is gone.
        """
        proxy = self._proxies.get(jail)
        if proxy is None:
            if not policy:
                return
            proxy = Proxy(jail)
            await proxy.open()
            self._proxies[jail] = proxy
        proxy.use(policy)


class Proxy:
    """One proxy, as long as its jail lives."""

    def __init__(self, jail: Jail) -> None:
        self._jail = jail
        self._policy = Policy()
        self._tasks: set[asyncio.Task[None]] = set()
        self._environment: dict[str, str] = {}
        self._closing: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Begin to listen in the jail."""
        door = await open_door(self._jail)
        url = f"http://127.0.0.1:{door.getsockname()[1]}"
        self._environment = {**dict.fromkeys(_NAMES, url), **_AROUND}
        server = await asyncio.start_server(self._serve, sock=door, limit=_HEAD_LIMIT)
        self._closing = asyncio.create_task(self._close_with_jail(server))

    def use(self, policy: Policy) -> None:
        """Judge by this policy from now on, and tell programs of the proxy when it leads anywhere."""
        self._policy = policy
        for task in self._tasks:
            task.cancel()
        own = {name: value for name, value in self._environment.items() if name not in self._jail.spec.env}
        if policy:
            self._jail.update_env(own)
        else:
            self._jail.update_env({}, unset=list(own))

    async def _close_with_jail(self, server: asyncio.Server) -> None:
        await self._jail.closed.wait()
        server.close()
        for task in self._tasks:
            task.cancel()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        try:
            if len(self._tasks) >= _CONNECTIONS:
                await _say(writer, 503, f"more than {_CONNECTIONS} connections at once")
                return
            self._tasks.add(task)
            await self._request(reader, writer)
        except Refused as error:
            await _say(writer, 403, str(error))
        except Malformed as error:
            await _say(writer, 400, str(error))
        except (OSError, EOFError, ValueError, asyncio.LimitOverrunError) as error:
            await _say(writer, 502, str(error) or type(error).__name__)
        except asyncio.CancelledError:
            return  # the policy changed or the jail ended: the connection ends with the writer
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with asyncio.timeout(_HEAD_S):
            head = await reader.readuntil(b"\r\n\r\n")
        line, *fields = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
        match = _REQUEST.fullmatch(line)
        if match is None:
            raise Malformed("not an HTTP/1.1 request")
        method, target = match[1], match[2]
        if method == "CONNECT":
            url = _url(f"https://{target}")
            far_reader, far_writer = await self._connect(url)
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            await _both_ways(reader, writer, far_reader, far_writer)
            return
        url = _url(target)
        if url.scheme != "http":
            raise Malformed("https goes by CONNECT, and a plain request names a whole http URL")
        headers = _headers(fields)
        far_reader, far_writer = await self._connect(url)
        try:
            far_writer.write(_rewritten(method, url, headers))
            sending = asyncio.create_task(_send_body(reader, far_writer, dict(headers)))
            try:
                await _pump(far_reader, writer)
            finally:
                sending.cancel()
                await asyncio.wait((sending,))
        finally:
            far_writer.close()

    async def _connect(self, url: URL) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection to the first address that answers, of those that the policy allows."""
        if url.host is None or url.port is None:
            raise Malformed("the URL has no host or no port")
        failure: OSError | None = None
        for address in await self._policy.addresses(url.host, url.port):
            try:
                async with asyncio.timeout(_CONNECT_S):
                    return await asyncio.open_connection(address, url.port, limit=_CHUNK)
            except OSError as error:  # a timeout is one too
                failure = error
        raise OSError(f"{url.host} port {url.port}: {failure or 'no address'}")


def _url(text: str) -> URL:
    try:
        url = URL(text, encoded=True)
        url.port  # noqa: B018 - checks it
    except ValueError as error:
        raise Malformed("not a URL") from error
    return url


def _headers(fields: Sequence[str]) -> list[tuple[str, str]]:
    headers: list[tuple[str, str]] = []
    for text in fields:
        name, colon, value = text.partition(":")
        if not colon or not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name):
            raise Malformed("a header field is malformed")
        headers.append((name.lower(), value.strip()))
    framing = [name for name, _ in headers if name in ("content-length", "transfer-encoding")]
    if len(framing) > 1:
        raise Malformed("two statements about the length of the body")
    return headers


def _rewritten(method: str, url: URL, headers: Sequence[tuple[str, str]]) -> bytes:
    """The request as the server gets it: for the host that was judged, and no other request after it."""
    authority = url.raw_authority.rpartition("@")[2]
    kept = [f"{name}: {value}" for name, value in headers if name not in _OWN and not name.startswith("proxy-")]
    lines = [f"{method} {url.raw_path_qs or '/'} HTTP/1.1", f"host: {authority}", "connection: close", *kept]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


async def _send_body(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, headers: Mapping[str, str]) -> None:
    """Exactly the body that the headers announce."""
    with contextlib.suppress(OSError, EOFError, ValueError):
        if headers.get("transfer-encoding", "").lower() == "chunked":
            while True:
                line = await reader.readline()
                size = int(line.split(b";")[0], 16)
                writer.write(b"%x\r\n" % size)
                await _copy(reader, writer, size)
                await reader.readexactly(2)  # trailers are not passed on: a line of one breaks the connection off
                writer.write(b"\r\n")
                if size == 0:
                    break
        elif length := headers.get("content-length"):
            await _copy(reader, writer, int(length))
        await writer.drain()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, size: int) -> None:
    while size > 0:
        data = await reader.read(min(_CHUNK, size))
        if not data:
            raise EOFError
        size -= len(data)
        writer.write(data)
        await writer.drain()


async def _both_ways(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    far_reader: asyncio.StreamReader,
    far_writer: asyncio.StreamWriter,
) -> None:
    tasks = [asyncio.create_task(_pump(reader, far_writer)), asyncio.create_task(_pump(far_reader, writer))]
    try:
        await asyncio.gather(*tasks)  # when one side breaks off, both end
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        far_writer.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        async with asyncio.timeout(_IDLE_S):
            data = await reader.read(_CHUNK)
            if not data:
                break
            writer.write(data)
            await writer.drain()
    if writer.can_write_eof():
        with contextlib.suppress(OSError):
            writer.write_eof()


async def _say(writer: asyncio.StreamWriter, status: int, text: str) -> None:
    """An answer of the proxy itself. In a connection that has begun it would only be noise, which ends it as well; to
    one that has ended nothing can be said."""
    if writer.is_closing():
        return
    body = f"sandbox network: {text}\n".encode()
    head = f"HTTP/1.1 {status} Refused\r\ncontent-type: text/plain\r\ncontent-length: {len(body)}\r\n"
    with contextlib.suppress(OSError):
        writer.write(f"{head}connection: close\r\n\r\n".encode() + body)
        await writer.drain()
