"""What the settings say of an MCP server, and what a server offers. Light to import."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlsplit

KEPT_OF_OURS: Final = ("PATH", "HOME")
"""What a program gets of our environment: where programs are, and where those that run others keep them."""

_SECRET_NAME = re.compile(r"KEY|TOKEN|SECRET|PASS|PWD|AUTH|CREDENTIAL|COOKIE", re.IGNORECASE)
_NAMED = re.compile(r"-{0,2}([\w.-]+)\s*[=:]\s*(.+)", re.DOTALL)
_DRAWN = re.compile(
    r"(?=.*[a-z])(?=.*[A-Z])(?=.*\d)[\w+=-]{20,}|[0-9a-fA-F]{32,}|(?:sk|pk|gh[a-z]|glpat|xox[a-z]|hf)[-_][\w-]{8,}"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class McpServer:
    """A server by its name: a program that is started (`command`, `args`, `env`), or an address (`url`, `headers`).

    A program gets `env` and, of our environment, KEPT_OF_OURS.
    """

    name: str
    command: str | None = None
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), repr=False)
    url: str | None = None
    headers: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), repr=False)

    def secrets(self) -> set[str]:
        """What it was told and nobody else should be: headers, and what is named or looks like a secret."""
        found = {secret for value in self.headers.values() for secret in in_header(value)}
        for name, value in self.env.items():
            found |= {value} if _SECRET_NAME.search(name) else set(_in_text(value))
        before = ""
        for argument in self.args:
            if before.startswith("-") and "=" not in before and _SECRET_NAME.search(before):
                found.add(argument)
            found |= set(_in_text(argument))
            before = argument
        return found | set(in_address(self.url or ""))


def in_header(value: str) -> set[str]:
    """The secrets in the value of a header: of "Bearer X" X stands alone elsewhere."""
    return {value, *value.split()[-1:]}


def _in_text(text: str) -> Iterator[str]:
    """The secrets in an argument or a variable whose own name says nothing."""
    named = _NAMED.fullmatch(text)
    if named is not None and _SECRET_NAME.search(named[1]):
        yield named[2]
        yield named[2].split()[-1]
    elif named is not None:
        yield from _in_text(named[2])
    if _DRAWN.fullmatch(text):
        yield text
    yield from in_address(text)


def in_address(text: str) -> Iterator[str]:
    """The password of an address, and what stands in its query under such a name."""
    if "://" not in text:
        return
    try:
        parts = urlsplit(text)
    except ValueError:
        return
    if parts.password:
        yield parts.password
        yield unquote(parts.password)
    for name, value in parse_qsl(parts.query):
        if _SECRET_NAME.search(name):
            yield value


@dataclass(frozen=True, slots=True)
class McpTool:
    """A tool as its server describes it: its name there, one text, and the JSON schema of its arguments.

    `fault`: why it is none of the protocol's and of no use.
    """

    server: str
    name: str
    about: str
    schema: Mapping[str, Any]
    fault: str | None = None


@dataclass(frozen=True, slots=True)
class McpListing:
    """The tools of a server, and in words how many of them are not among these."""

    tools: list[McpTool]
    missing: str | None


@dataclass(frozen=True, slots=True)
class McpAnswer:
    """What a tool said, as text. `failed`: the server calls it an error."""

    text: str
    failed: bool
