"""A small real MCP server for tests: over stdio, or over HTTP with a port as its argument. `hang` never answers."""

import os
import sys
import time

if sys.argv[1:2] == ["hang"]:
    time.sleep(600)

from mcp.server.mcpserver import MCPServer

server = MCPServer("tests")


@server.tool()
def add(a: int, b: int = 1, note: str | None = None) -> int:
    """Add two numbers."""
    return a + b


@server.tool(name="look.up")
def look_up(word: str) -> str:
    """Look a word up in the environment."""
    return os.environ.get(word, "(unset)")


@server.tool()
def long(chars: int) -> str:
    """A long text."""
    return "x" * chars


@server.tool()
def leak(word: str, before: int) -> str:
    """A variable of the environment in a long text."""
    return "x" * before + os.environ[word] + "x" * 30_000


@server.tool()
def broken() -> str:
    """It fails."""
    raise ValueError("this tool is broken")


@server.tool()
def slow() -> str:
    """It sleeps."""
    time.sleep(300)
    return "late"


if __name__ == "__main__":
    if len(sys.argv) > 1:
        server.run("streamable-http", host="127.0.0.1", port=int(sys.argv[1]))
    else:
        server.run("stdio")
