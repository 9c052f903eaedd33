"""A server's list of tools as the SDK takes it.

The SDK checks each page as a whole, so that one tool with a bad schema would cost all of its server. What it would
refuse is taken out of the page before it gets there, and kept with the reason.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final, cast

from pydantic import ValidationError

from fleet_rlm.integrations.mcp.servers import McpTool

NAMELESS: Final = "unnamed"
REASON_CHARS: Final = 120


class Sieve:
    """Stands before the messages of one server. `refused`: the tools that it took out, each with its fault.

    `version`: of the protocol, as agreed with the server; until it is known, nothing is taken out.
    """

    def __init__(self, server: str) -> None:
        self._server = server
        self.version: str | None = None
        self.refused: dict[str, McpTool] = {}

    @asynccontextmanager
    async def over(self, transport: AbstractAsyncContextManager[Any]) -> AsyncGenerator[tuple[Any, Any]]:
        """The same transport, its pages of tools sifted."""
        async with transport as (reads, writes):
            yield _Sifted(reads, self._sift), writes

    def _sift(self, item: Any) -> None:
        found: Any = getattr(getattr(item, "message", None), "result", None)
        page: Any = cast("dict[str, Any]", found).get("tools") if isinstance(found, dict) else None
        if self.version is None or not isinstance(page, list):
            return
        found["tools"] = [tool for tool in cast("list[Any]", page) if self._taken(found, tool, self.version)]

    def _taken(self, page: dict[str, Any], tool: Any, version: str) -> bool:
        from mcp_types import Tool  # of the extra, as in client.py
        from mcp_types.methods import validate_server_result

        try:
            validate_server_result("tools/list", version, {**page, "tools": [tool]})
            Tool.model_validate(tool, by_name=False)
        except ValidationError as error:
            refused = _refused(self._server, tool, error)
            self.refused[refused.name] = refused
            return False
        return True


class _Sifted:
    """A stream of messages, each looked at before it is given on."""

    def __init__(self, stream: Any, look: Callable[[Any], None]) -> None:
        self._stream = stream
        self._look = look

    @property
    def last_context(self) -> Any:
        """The sender's context, which the SDK reads here."""
        return getattr(self._stream, "last_context", None)

    async def receive(self) -> Any:
        item = await self._stream.receive()
        self._look(item)
        return item

    async def aclose(self) -> None:
        await self._stream.aclose()

    def __aiter__(self) -> _Sifted:
        return self

    async def __anext__(self) -> Any:
        item = await self._stream.__anext__()
        self._look(item)
        return item

    async def __aenter__(self) -> _Sifted:
        await self._stream.__aenter__()
        return self

    async def __aexit__(self, *raised: Any) -> bool | None:
        return await self._stream.__aexit__(*raised)


def _refused(server: str, tool: Any, error: ValidationError) -> McpTool:
    name: Any = cast("dict[str, Any]", tool).get("name") if isinstance(tool, dict) else None
    first = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(str(step) for step in first["loc"] if step not in ("tools", 0))
    fault = f"{place}: {first['msg']}" if place else first["msg"]
    return McpTool(server, name if isinstance(name, str) and name else NAMELESS, "", {}, fault[:REASON_CHARS])
