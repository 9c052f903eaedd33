"""A line between us and the server that a test can cut: a TCP relay on loopback."""

from __future__ import annotations

import asyncio
import re
from typing import Any

from fleet_rlm.integrations.daytona.runtime import SandboxRuntime
from fleet_rlm.integrations.daytona.source import SandboxHandle, SandboxSpec
from fleet_rlm.integrations.daytona.transport import Transport


class CutLine:
    """Relays one port to another; `cut` closes every connection. Everything runs on the runtime's loop."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._writers: set[asyncio.StreamWriter] = set()
        self.connections = 0
        self.port = 0

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._relay, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._writers |= {writer, far_writer}
        head = await reader.read(65536)  # the server takes no foreign port in a Host header
        far_writer.write(head.replace(f"127.0.0.1:{self.port}".encode(), f"127.0.0.1:{self._port}".encode()))
        await asyncio.gather(self._pump(reader, far_writer), self._pump(far_reader, writer))

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()
            self._writers.discard(writer)

    async def cut(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()

    async def stop(self) -> None:
        self._server.close()
        await self.cut()


class CutSource:
    """The runtime's sandboxes, with their terminals behind a line that can be cut."""

    def __init__(self, runtime: SandboxRuntime) -> None:
        self._runtime = runtime
        found = re.search(r":(\d+)/", runtime.settings.api_url)
        assert found is not None
        self.line = CutLine(int(found[1]))
        self.do(self.line.start())
        self.contexts_root = runtime.contexts_root
        self.loop, self.provider, self.isolation = runtime.loop, runtime.provider, runtime.isolation

    def do(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._runtime.loop).result(20)

    async def acquire(self, spec: SandboxSpec) -> SandboxHandle:
        return await self._runtime.acquire(spec)

    def marks(self, spec: SandboxSpec) -> dict[str, tuple[str, str]]:
        return {}

    def terminal(self, handle: SandboxHandle) -> Transport:
        behind = re.sub(r":\d+/", f":{self.line.port}/", handle.toolbox_url, count=1)
        return self._runtime.terminal(SandboxHandle(handle.id, behind))

    def delete(self, handle: SandboxHandle) -> None:
        self._runtime.delete(handle)

    def retire(self, handle: SandboxHandle) -> None:
        self._runtime.retire(handle)
