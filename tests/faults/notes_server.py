"""A real MCP server whose one tool leaves a mark: a line in the file that its argument names."""

import sys

from mcp.server.mcpserver import MCPServer

server = MCPServer("notes")


@server.tool()
def write(text: str) -> str:
    """Write a note."""
    with open(sys.argv[1], "a") as notes:
        notes.write(text + "\n")
    return f"noted: {text}"


server.run("stdio")
