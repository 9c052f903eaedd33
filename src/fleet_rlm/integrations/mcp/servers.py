"""What the settings say of an MCP server, and what a server offers. Light to import."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class McpServer:
    """A server by its name: a program that is started (`command`, `args`, `env`), or an address (`url`, `headers`).

    A program gets `env` and, of ours, only what programs cannot do without (PATH, HOME and their like).
    """

    name: str
    command: str | None = None
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), repr=False)
    url: str | None = None
    headers: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), repr=False)


@dataclass(frozen=True, slots=True)
class McpTool:
    """A tool as its server describes it: its name there, one text, and the JSON schema of its arguments."""

    server: str
    name: str
    about: str
    schema: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class McpAnswer:
    """What a tool said, as text. `failed`: the server calls it an error."""

    text: str
    failed: bool
