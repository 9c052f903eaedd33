"""An MCP server over stdio whose tools have schemas as other people's servers have them, some of no use to anybody."""

import asyncio
import os
from typing import Any

import mcp_types as types
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server
from mcp.shared.exceptions import MCPError

TREE = {"type": "object", "properties": {"name": {"type": "string"}, "next": {"$ref": "#/$defs/Tree"}}}
DEEP: dict[str, Any] = {"type": "string"}
for _ in range(60):
    DEEP = {"type": "array", "items": DEEP}
# each definition is ten of the one before it: 10,000,000,000 of them written out
MANY: dict[str, Any] = {"D0": {"type": "string"}} | {
    f"D{n}": {"type": "object", "properties": {f"p{i}": {"$ref": f"#/$defs/D{n - 1}"} for i in range(10)}}
    for n in range(1, 11)
}
PROPERTIES: dict[str, Any] = {
    "either": {"word": {"type": ["string", "null"], "maxLength": 9}, "only": {"type": ["integer"]}},
    "anything": {"value": True, "never": False, "type": {"type": "string"}},
    "tree": {"root": {"$ref": "#/$defs/Tree", "description": "where it begins"}},
    "older": {"word": {"$ref": "#/definitions/Word"}},
    "far": {"word": {"$ref": "https://example.com/word.json"}},
    "lost": {"word": {"$ref": "#/$defs/Nowhere"}},
    "deep": {"word": DEEP},
    "many": {"word": {"$ref": "#/$defs/D10"}},
    "wrong": {"word": {"type": "strng"}},
    "listed": {"word": "string"},
}
DEFS = {"$defs": {"Tree": TREE, **MANY}, "definitions": {"Word": {"type": "string", "minLength": 2}}}


async def list_tools(_context: Any, _params: Any) -> types.ListToolsResult:
    schemas = {name: {"type": "object", "properties": each, **DEFS} for name, each in PROPERTIES.items()}
    schemas["unlisted"] = {"type": "object", "properties": [1, 2]}
    schemas["bare"] = {"type": "object"}
    schemas["refuse"] = {"type": "object", "properties": {"before": {"type": "integer"}}}
    return types.ListToolsResult(tools=[types.Tool(name=n, input_schema=s) for n, s in schemas.items()])


async def call_tool(_context: Any, params: types.CallToolRequestParams) -> types.CallToolResult:
    if params.name == "refuse":
        raise MCPError(code=-32000, message="x" * params.arguments["before"] + os.environ["ODD_TOKEN"] + "x" * 500)
    return types.CallToolResult(content=[types.TextContent(type="text", text=f"{params.name}: {params.arguments}")])


async def main() -> None:
    server = Server("odd", on_list_tools=list_tools, on_call_tool=call_tool)
    async with stdio_server() as (reads, writes):
        await server.run(reads, writes, server.create_initialization_options())


if __name__ == "__main__":
    asyncio.run(main())
