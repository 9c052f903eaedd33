"""An MCP server that writes its messages itself, so that its tools may be as no SDK would let them be.

Its argument names a file with a JSON list of pages, each a list of tools: a name, or a whole tool. Every tool says how it was called.
"""

import json
import sys
from pathlib import Path
from typing import Any

PAGES: list[list[Any]] = json.loads(Path(sys.argv[1]).read_text())


def tool(given: Any) -> Any:
    return given if not isinstance(given, str) else {"name": given, "inputSchema": {"type": "object"}}


def result(method: str, params: dict[str, Any]) -> dict[str, Any] | None:
    if method == "initialize":
        info = {"name": "raw", "version": "1"}
        return {"protocolVersion": params["protocolVersion"], "capabilities": {"tools": {}}, "serverInfo": info}
    if method == "tools/list":
        page = int(params.get("cursor") or 0)
        after = {"nextCursor": str(page + 1)} if page + 1 < len(PAGES) else {}
        return {"tools": [tool(each) for each in PAGES[page]], **after}
    if method == "tools/call":
        text = f"{params['name']} {json.dumps(params.get('arguments'), sort_keys=True)}"
        return {"content": [{"type": "text", "text": text}]}
    return None


for line in sys.stdin:
    message = json.loads(line)
    if "id" not in message:
        continue
    found = result(message["method"], message.get("params") or {})
    end = {"result": found} if found is not None else {"error": {"code": -32601, "message": "no such method"}}
    print(json.dumps({"jsonrpc": "2.0", "id": message["id"], **end}), flush=True)
