"""Tools of MCP servers as tools of the agent: `SERVER_tool`, with the server's own schema, asked for and bounded."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection
from typing import Any, Final

import dspy
import msgspec
from dspy.adapters.types.tool import convert_input_schema_to_tool_args

from fleet_rlm.errors import DependencyError, InvalidInput
from fleet_rlm.integrations.mcp.client import CALL_S, McpClients
from fleet_rlm.integrations.mcp.servers import McpTool
from fleet_rlm.runtime.execution import events as ev
from fleet_rlm.runtime.execution.observer import SCOPE
from fleet_rlm.runtime.execution.tree import TurnTree
from fleet_rlm.runtime.tools.bounds import RESULT_CHARS, cut
from fleet_rlm.runtime.tools.mcp_schema import arguments_of, offered_name, own_name, required_of
from fleet_rlm.runtime.tools.permission import Permission

NAME_CHARS: Final = 64
ABOUT_CHARS: Final = 1_000
WARNING_CHARS: Final = 1_000
ALL_CHARS: Final = 40_000
"""Descriptions and schemas of all of them together, about 10,000 tokens of every prompt; more tools are left out."""


class ServerError(DependencyError):
    """The tool's server calls the result an error."""

    code = "tool_failed"


class _Offer(msgspec.Struct, frozen=True):
    """A tool as a model is told of it: `schema` has the JSON Schemas of its arguments, by name."""

    name: str
    about: str
    schema: dict[str, Any]
    required: list[str]

    def tool(self, run: Callable[..., str]) -> dspy.Tool:
        args, types, about = convert_input_schema_to_tool_args({"properties": self.schema, "required": self.required})
        return dspy.Tool(run, name=self.name, desc=self.about, args=args, arg_types=types, arg_desc=about)


class McpTools:
    """The tools of one turn."""

    def __init__(self, tree: TurnTree, clients: McpClients, permission: Permission) -> None:
        self._tree = tree
        self._clients = clients
        self._permission = permission

    def tools(self, taken: Collection[str] = ()) -> list[dspy.Tool]:
        """What the servers offer now; in a replay, which asks none, what they offered then. A server that fails, and
        tools of no use, are told in one warning each. `taken`: the names of the agent's own tools."""
        replay = self._tree.replay
        known = None if replay is None else replay.offered(SCOPE.get())
        if known is not None and replay is not None:
            self._tell(known)
            offers = msgspec.convert(json.loads(replay.text(known.tools)), list[_Offer])
            return [offer.tool(_of_then) for offer in offers if offer.name not in taken]
        if not self._clients.servers:
            return []
        warnings: list[str] = []
        made = self._found(taken, warnings)
        offers = [msgspec.to_builtins(offer) for offer, _ in made]
        told = self._tree.observer.text(json.dumps(offers, ensure_ascii=False))
        self._tell(ev.ToolsOffered(tools=told, warnings=warnings))
        return [tool for _, tool in made]

    def _found(self, taken: Collection[str], warnings: list[str]) -> list[tuple[_Offer, dspy.Tool]]:
        found, faults = self._clients.tools()
        for server, fault in faults.items():
            self._warn(warnings, f"tools of the MCP server {server} are missing: {fault}")
        made: dict[str, tuple[_Offer, dspy.Tool]] = {}
        useless: list[str] = []
        chars = 0
        for number, each in enumerate(found):
            name = tool_name(each)
            if name in made or name in taken:
                useless.append(f"{name} ({each.name[:120]}: there is another tool of this name)")
                continue
            try:
                offer, size = self._offer(name, each)
                tool = offer.tool(self._runner(name, each, frozenset(offer.required)))
            except Exception as error:  # noqa: BLE001 - supervisor: a foreign schema costs its own tool and no turn
                useless.append(f"{name} ({' '.join(str(error).split())[:120] or type(error).__name__})")
                continue
            chars += size
            if chars > ALL_CHARS:
                left_out = f"{len(found) - number} tools of MCP servers are left out: their descriptions are too long"
                self._warn(warnings, left_out)
                break
            made[name] = offer, tool
        if useless:
            self._warn(warnings, f"left out are tools of MCP servers: {'; '.join(useless)}")
        return list(made.values())

    def _offer(self, name: str, tool: McpTool) -> tuple[_Offer, int]:
        """The tool for a model, and how many characters its description and schema take. Errors: whatever a bad schema
        causes."""
        if tool.fault is not None:
            raise InvalidInput(tool.fault)
        arguments = {offered_name(name): each for name, each in arguments_of(tool.schema).items()}
        schema = json.loads(self._clean(json.dumps(arguments, ensure_ascii=False)))
        about = " ".join(self._clean(tool.about).split())[:ABOUT_CHARS] or f"The tool {tool.name} of {tool.server}."
        required = sorted(map(offered_name, required_of(tool.schema)))
        return _Offer(name, about, schema, required), len(about) + len(json.dumps(schema))

    def _clean(self, text: str) -> str:
        return self._tree.observer.clean(text)

    def _runner(self, name: str, tool: McpTool, required: frozenset[str]) -> Callable[..., str]:
        def run(**arguments: Any) -> str:
            given = {own_name(key): value for key, value in arguments.items() if value is not None or key in required}
            self._permission.tool(name, json.dumps(given, ensure_ascii=False, default=str))
            call = self._clients.call(tool.server, tool.name, given)
            stop = SCOPE.get().stop
            try:
                stop.race(call, CALL_S + 5)
                stop.check()
                if not call.done():
                    raise ServerError(f"no answer within {CALL_S:g} s")
            finally:
                call.cancel()  # nothing to do for one that has ended
            answer = call.result()
            text = cut(self._clean(answer.text), RESULT_CHARS)  # first: half of a secret is not recognised
            if answer.failed:
                raise ServerError(text)
            return text

        return run

    def _warn(self, warnings: list[str], message: str) -> None:
        warnings.append(self._clean(message)[:WARNING_CHARS])

    def _tell(self, offered: ev.ToolsOffered) -> None:
        warnings = [ev.Warning(code="mcp", message=message) for message in offered.warnings]
        self._tree.observer.emit_all([offered, *warnings], SCOPE.get())


def _of_then(**_: Any) -> str:
    raise ServerError("no server is asked in a replay")


def tool_name(tool: McpTool) -> str:
    """`SERVER_tool` in the characters that providers take."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", f"{tool.server}_{tool.name}")[:NAME_CHARS]
