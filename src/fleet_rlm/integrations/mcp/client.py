"""Connections to MCP servers, each made when it is first needed and kept until `close`.

All of them live on one event loop in a thread of its own; each in one task, which opens and closes it, as the SDK wants
it. A server that fails or hangs costs its own tools and a line; it is tried again after a while.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import shutil
import threading
import time
from collections.abc import AsyncGenerator, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from fleet_rlm.errors import DependencyError, NotConfigured
from fleet_rlm.integrations.mcp.listing import Sieve
from fleet_rlm.integrations.mcp.servers import KEPT_OF_OURS, McpAnswer, McpListing, McpServer, McpTool

CONNECT_S: Final = 20.0
CALL_S: Final = 120.0
CLOSE_S: Final = 5.0
AGAIN_S: Final = 60.0
MAX_TOOLS: Final = 64
MAX_PAGES: Final = 10
SHORTEST_SECRET: Final = 8


class McpFailed(DependencyError):
    """A server could not be started or reached, or did not answer."""

    code = "mcp_failed"
    retryable = True


@dataclass(slots=True)
class _Connection:
    """One server: `client` while it is connected; `ready` ends with its tools or its fault."""

    server: McpServer
    ready: Future[McpListing]
    leave: asyncio.Event
    began: float = field(default_factory=time.monotonic)
    client: Any = None
    task: asyncio.Task[None] | None = None
    gone: bool = False


class McpClients:
    """The servers of the settings. Thread-safe; its methods wait, so they are for ordinary threads."""

    def __init__(self, servers: Sequence[McpServer], *, connect_s: float = CONNECT_S) -> None:
        self.servers = tuple(servers)
        self._connect_s = connect_s
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._connections: dict[str, _Connection] = {}
        self._closed = False

    def tools(self) -> tuple[list[McpTool], dict[str, str]]:
        """The tools of all servers, and by server why some of them, or all, are missing. Takes `connect_s` at most."""
        waiting = {server.name: self._connected(server).ready for server in self.servers}
        deadline = time.monotonic() + self._connect_s
        tools: list[McpTool] = []
        faults: dict[str, str] = {}
        for name, ready in waiting.items():
            try:
                listing = ready.result(max(0.0, deadline - time.monotonic()))
                tools += listing.tools
                if listing.missing is not None:
                    faults[name] = listing.missing
            except TimeoutError:
                faults[name] = f"no answer within {self._connect_s:g} s"
            except (McpFailed, NotConfigured) as error:
                faults[name] = error.message
        return tools, faults

    def call(self, server: str, name: str, arguments: dict[str, Any]) -> Future[McpAnswer]:
        """Begin a call; cancelling the future gives it up. The future's errors: McpFailed."""
        found = self._connections.get(server)
        if found is None or self._loop is None:
            raise McpFailed(f"{server} is not connected")
        return asyncio.run_coroutine_threadsafe(_call(found, name, arguments), self._loop)

    def close(self) -> None:
        """End every connection and every program that was started. Idempotent."""
        with self._lock:
            self._closed = True
            loop, self._loop = self._loop, None
            found = list(self._connections.values())
        if loop is None or self._thread is None:
            return
        ended = asyncio.run_coroutine_threadsafe(_end(found), loop)
        try:
            ended.result(2 * CLOSE_S + 1)
        except TimeoutError:
            ended.cancel()
        loop.call_soon_threadsafe(loop.stop)
        self._thread.join(CLOSE_S)
        if not self._thread.is_alive():
            loop.close()

    def _connected(self, server: McpServer) -> _Connection:
        """The connection of a server: the one there is, or a new one where that failed a while ago."""
        with self._lock:
            if self._closed:
                raise McpFailed("the workspace is closed")
            found = self._connections.get(server.name)
            if found is not None and not (found.gone and time.monotonic() - found.began > AGAIN_S):
                return found
            loop = self._running()
            made = self._connections[server.name] = _Connection(server, Future(), asyncio.Event())
        loop.call_soon_threadsafe(_begin, made, self._connect_s)
        return made

    def _running(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=self._loop.run_forever, name="fleet-mcp", daemon=True)
            self._thread.start()
        return self._loop


def _begin(connection: _Connection, connect_s: float) -> None:
    connection.task = asyncio.ensure_future(_keep(connection, connect_s))


async def _keep(connection: _Connection, connect_s: float) -> None:
    """Connect, list, stay until told to leave. Everything that goes wrong ends in `ready`, or marks it as gone."""
    ready = connection.ready
    sieve = Sieve(connection.server.name)
    try:
        async with asyncio.timeout(connect_s) as bound, _open(connection.server, sieve) as client:
            sieve.version = client.protocol_version
            listing = await _list(connection.server.name, client, sieve)
            bound.reschedule(None)
            connection.client = client
            ready.set_result(listing)
            await connection.leave.wait()
    except Exception as error:  # noqa: BLE001 - supervisor: whatever a foreign server does costs its own tools only
        if not ready.done():
            ready.set_exception(_failed(connection.server, error))
    finally:
        connection.client, connection.gone = None, True
        if not ready.done():
            ready.set_exception(McpFailed("it was stopped"))


@asynccontextmanager
async def _open(server: McpServer, sieve: Sieve) -> AsyncGenerator[Any]:
    try:
        import httpx2
        from mcp import Client, StdioServerParameters, stdio_client
        from mcp.client.streamable_http import streamable_http_client
    except ImportError:
        raise NotConfigured(
            f"the MCP server {server.name} needs the extra mcp", hint="pip install 'fleet-rlm[mcp]'"
        ) from None
    if server.url is not None:
        timeout = httpx2.Timeout(CONNECT_S, read=CALL_S)
        async with (
            httpx2.AsyncClient(headers=dict(server.headers), timeout=timeout) as http,
            Client(
                sieve.over(streamable_http_client(server.url, http_client=http)), read_timeout_seconds=CALL_S
            ) as client,
        ):
            yield client
        return
    assert server.command is not None
    command, args = _alone(server.command, server)
    program = StdioServerParameters(command=command, args=args, env=dict(server.env))
    with open(os.devnull, "w") as nowhere:  # noqa: ASYNC230, PTH123 - a device, and the SDK wants a file
        async with Client(sieve.over(stdio_client(program, errlog=nowhere)), read_timeout_seconds=CALL_S) as client:
            yield client


def _alone(command: str, server: McpServer) -> tuple[str, list[str]]:
    """The command and its arguments, without what the SDK hands on of our environment beyond KEPT_OF_OURS.

    The SDK adds its own list to what it is given, so `env -u` takes it away again; where there is none (Windows), it
    stays. Errors: McpFailed when there is no such program, which `env` would tell nobody.
    """
    from mcp.client.stdio import get_default_environment

    given = get_default_environment()
    unwanted = sorted(set(given) - {*KEPT_OF_OURS, *server.env})
    env = shutil.which("env") if os.name == "posix" else None
    found = shutil.which(command, path=server.env.get("PATH", given.get("PATH")))
    if found is None:
        raise McpFailed(f"there is no program {command}", hint="give its whole path, or put it on PATH")
    if env is None or not unwanted or "=" in found:  # `env` takes a word with = for a variable
        return command, list(server.args)
    return env, [*(part for name in unwanted for part in ("-u", name)), found, *server.args]


async def _list(server: str, client: Any, sieve: Sieve) -> McpListing:
    tools: dict[str, McpTool] = {}
    cursor: str | None = None
    for _ in range(MAX_PAGES):
        page = await client.list_tools(cursor=cursor)
        for tool in page.tools:
            found = McpTool(server, tool.name, tool.description or "", dict(tool.input_schema or {}))
            tools.setdefault(tool.name, found)  # listed twice, it is still one tool
        cursor = page.next_cursor
        if not cursor or len(tools) >= MAX_TOOLS:
            break
    taken = list(tools.values())[:MAX_TOOLS]
    missing = None
    if cursor or len(taken) < len(tools):
        missing = f"{len(taken)} of {'more than ' if cursor else ''}{len(tools)} are taken"
    return McpListing([*sieve.refused.values(), *taken], missing)


async def _call(connection: _Connection, name: str, arguments: dict[str, Any]) -> McpAnswer:
    if connection.client is None:
        raise McpFailed(f"{connection.server.name} has ended")
    try:
        async with asyncio.timeout(CALL_S):
            answer = await connection.client.call_tool(name, arguments)
    except Exception as error:  # supervisor: a foreign server may raise anything
        raise _failed(connection.server, error) from error
    return McpAnswer(_as_text(answer), bool(answer.is_error))


def _as_text(answer: Any) -> str:
    """The parts of an answer for a model: texts as they are, of everything else what it is and how large."""
    parts: list[str] = []
    for part in answer.content:
        text = getattr(part, "text", None) or getattr(getattr(part, "resource", None), "text", None)
        if isinstance(text, str):
            parts.append(text)
        else:
            data = getattr(part, "data", "")
            size = len(base64.b64decode(data)) if isinstance(data, str) and data else 0
            parts.append(f"[{getattr(part, 'mime_type', None) or part.type}, {size:,} bytes]")
    if not parts and answer.structured_content is not None:
        return json.dumps(answer.structured_content, ensure_ascii=False, default=str)
    return "\n".join(parts) or "(nothing)"


async def _end(connections: Sequence[_Connection]) -> None:
    tasks = [connection.task for connection in connections if connection.task is not None]
    for connection in connections:
        connection.leave.set()
        if connection.client is None and connection.task is not None:  # it is still connecting, and may hang in that
            connection.task.cancel()
    if not tasks:
        return
    _, late = await asyncio.wait(tasks, timeout=CLOSE_S)
    for task in late:
        task.cancel()
    if late:
        await asyncio.wait(late, timeout=CLOSE_S)


def _failed(server: McpServer, error: BaseException) -> McpFailed | NotConfigured:
    """One line, without the values that the settings keep secret."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, NotConfigured | McpFailed):
        return error
    text = "no answer in time" if isinstance(error, TimeoutError) else str(error)
    hidden = {value for value in (*server.env.values(), *server.secrets()) if len(value) >= SHORTEST_SECRET}
    for secret in sorted(hidden, key=len, reverse=True):
        text = text.replace(secret, "•••")
    return McpFailed(" ".join(text.split())[:200] or type(error).__name__)
