"""Tool calls as a strict type, for servers that enforce a JSON schema but have no tools of their own.

DSPy describes text tool calls as "any name, any arguments", and small models then invent both. Here each tool is a type
with its own name and arguments, so that an enforcing server can only produce calls that exist.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, Union

import dspy
import pydantic
from dspy.adapters.types.tool import Tool, ToolCalls


def calls_type(tools: Iterable[Tool]) -> type[pydantic.BaseModel]:
    """A pydantic model `{"tool_calls": [...]}` whose items are calls of exactly these tools."""
    kinds = tuple(_call_type(tool) for tool in tools)
    # Both types are built from values at run time, which type checkers do not follow.
    either: Any = Union
    listed: Any = list
    return pydantic.create_model("Calls", tool_calls=(listed[either[kinds]], ...))


def with_typed_calls(signature: Any, tools: Iterable[Tool]) -> Any:
    """The agent's signature with its `tool_calls` typed by these tools, and its thought a plain text."""
    return signature.with_updated_fields("tool_calls", type_=calls_type(tools)).with_updated_fields(
        "next_thought", type_=str
    )


def as_tool_calls(value: Any) -> ToolCalls:
    """DSPy's own type, whatever a step brought: typed calls, DSPy's calls, or none."""
    if value is None:
        return ToolCalls(tool_calls=[])
    if isinstance(value, ToolCalls):
        return value
    dumped = value.model_dump() if isinstance(value, pydantic.BaseModel) else value
    return ToolCalls.from_dict_list(dumped["tool_calls"])


def needs_typed_calls(lm: dspy.BaseLM | None) -> bool:
    """Whether this model calls tools through an enforced schema."""
    return lm is not None and lm.supports_response_schema and not lm.supports_function_calling


def _call_type(tool: Tool) -> type[pydantic.BaseModel]:
    types = tool.arg_types or {}
    arguments: dict[str, Any] = {name: (types.get(name, str), ...) for name in tool.args or {}}
    shape = pydantic.create_model(f"{tool.name}_arguments", **arguments)
    only: Any = Literal
    name: Any = only[tool.name]
    return pydantic.create_model(f"{tool.name}_call", name=(name, ...), args=(shape, ...))
