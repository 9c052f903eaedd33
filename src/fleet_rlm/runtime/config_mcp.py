"""The `[mcp.NAME]` tables of the settings file: MCP servers whose tools the agent gets.

[mcp.tickets]
command = "tickets-server"      # a program ...
args = ["--project", "fleet"]
env = { TICKETS_TOKEN = "..." }

[mcp.search]
url = "http://127.0.0.1:9000/mcp"   # ... or an address
headers = { Authorization = "Bearer ..." }
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, cast

from fleet_rlm.errors import InvalidInput
from fleet_rlm.integrations.mcp.servers import McpServer
from fleet_rlm.runtime.config_values import address

MAX_SERVERS: Final = 16
MAX_CHARS: Final = 4096
_NAME = re.compile(r"[a-z][a-z0-9]{0,19}")
_KEYS = {"command": ("args", "env"), "url": ("headers",)}


def mcp_servers(tables: object, where: str) -> tuple[McpServer, ...]:
    """The servers of the file's `mcp` table. Errors: InvalidInput with the server, the key and its fault."""
    if not isinstance(tables, Mapping):
        raise InvalidInput(f"bad value of mcp in {where}: expected tables such as [mcp.NAME]")
    named = cast("Mapping[str, Any]", tables)
    if len(named) > MAX_SERVERS:
        raise InvalidInput(f"{len(named)} MCP servers in {where}, more than {MAX_SERVERS}")
    return tuple(_server(name, table, where) for name, table in named.items())


def mcp_tables(tables: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The same as flat tables by their dotted names, for a file that is written anew."""
    flat: dict[str, dict[str, Any]] = {}
    for name, table in tables.items():
        inner = {key: value for key, value in table.items() if isinstance(value, Mapping)}
        flat[f"mcp.{name}"] = {key: value for key, value in table.items() if key not in inner}
        for key, values in inner.items():
            flat[f"mcp.{name}.{key}"] = {json.dumps(each): value for each, value in values.items()}
    return flat


def _server(name: str, table: object, where: str) -> McpServer:
    def fault(what: str, hint: str | None = None) -> InvalidInput:
        return InvalidInput(f"bad value of mcp.{name[:40]} in {where}: {what}", hint=hint)

    if not _NAME.fullmatch(name):
        raise fault("a server's name is a word of a-z and 0-9, at most 20 long")
    if not isinstance(table, Mapping):
        raise fault("expected a table", hint='[mcp.NAME] with command = "..." or url = "..."')
    values = cast("Mapping[str, Any]", table)
    kinds = [kind for kind in _KEYS if kind in values]
    if len(kinds) != 1:
        raise fault("expected either command or url")
    kind = kinds[0]
    unknown = set(values) - {kind, *_KEYS[kind]}
    if unknown:
        raise fault(f"unknown {', '.join(sorted(unknown))[:80]}", hint=f"beside {kind}: {', '.join(_KEYS[kind])}")
    try:
        if kind == "url":
            headers = _texts(values.get("headers", {}), "headers")
            return McpServer(name=name, url=address(values["url"]), headers=headers)
        return McpServer(
            name=name,
            command=_text(values["command"], "command"),
            args=tuple(_text(each, "args") for each in _list(values.get("args", []))),
            env=_texts(values.get("env", {}), "env"),
        )
    except ValueError as error:
        raise fault(str(error)) from None


def _list(value: object) -> list[object]:
    if not isinstance(value, list):
        raise ValueError("args is no list of texts")
    return cast("list[object]", value)


def _texts(value: object, what: str) -> Mapping[str, str]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{what} is no table of texts")
    given = cast("Mapping[str, object]", value)
    return MappingProxyType({key: _text(each, what) for key, each in given.items()})


def _text(value: object, what: str) -> str:
    if not isinstance(value, str) or not value or len(value) > MAX_CHARS or "\0" in value:
        raise ValueError(f"{what} holds something else than texts of 1 to {MAX_CHARS} characters")
    return value
