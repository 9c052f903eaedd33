"""What is sent with a cell: its code, and only what changed of the variables, tools and output fields."""

from __future__ import annotations

import hashlib
import keyword
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from fleet_rlm.integrations.daytona.binding import BIND_FUNCTION, ContextValue
from fleet_rlm.integrations.daytona.offer import argument_mode
from fleet_rlm.integrations.daytona.worker.ahead import AHEAD
from fleet_rlm.integrations.daytona.worker.readers import SEEN
from fleet_rlm.integrations.daytona.worker.values import to_json

Tools = Mapping[str, Callable[..., Any]]
Fields = Sequence[Mapping[str, Any]] | None

SAVE_FUNCTION, RESTORE_FUNCTION = "__fleet_save__", "__fleet_restore__"
OWN_FUNCTIONS = (BIND_FUNCTION, SAVE_FUNCTION, RESTORE_FUNCTION)
RESERVED = frozenset({"SUBMIT", "__builtins__", AHEAD, SEEN, *OWN_FUNCTIONS})
FACADE_MARK = "__dspy_host_token"  # dspy sends it with the code of its sandbox facade
MAX_REQUEST_BYTES = 128 << 20
RAW_PREFIX = "_raw_"  # dspy's names for the payloads of SandboxSerializable inputs


class BadRequest(ValueError):
    """The host's own arguments are wrong; the text says which."""


def is_internal(code: str, variables: Mapping[str, Any]) -> bool:
    """Whether dspy or we sent this code (a facade, the injection of an input, a checkpoint): no person's cell."""
    if code.startswith(tuple(f"{name}(" for name in OWN_FUNCTIONS)) or FACADE_MARK in variables:
        return True
    return bool(variables) and all(name.startswith(RAW_PREFIX) for name in variables)


class RequestWriter:
    """Knows what the worker already has."""

    def __init__(self, limit: int = MAX_REQUEST_BYTES) -> None:
        self._limit = limit
        self._sent: dict[str, Any] = {}  # name -> the immutable value itself, or a digest
        self._tools: list[tuple[str, str]] = []
        self._fields: Fields = None

    def write(self, cell: str, code: str, variables: Mapping[str, Any], tools: Tools, fields: Fields) -> bytes:
        """The bytes of one cell for the worker. BadRequest names what cannot be sent."""
        check_names(variables, tools, fields)
        parts: list[tuple[str, bytes]] = [("cell", to_json(cell)), ("code", to_json(code))]
        offered = [(name, argument_mode(tool)) for name, tool in tools.items()]
        if offered != self._tools:
            parts.append(("tools", to_json(offered)))
            self._tools = offered
        if fields != self._fields:
            parts.append(("fields", to_json(fields)))
            self._fields = None if fields is None else [dict(field) for field in fields]
        plain: list[tuple[str, bytes]] = []
        bound: list[tuple[str, bytes]] = []
        for name, value in variables.items():
            data = self._if_changed(name, value)
            if data is not None:
                (bound if isinstance(value, ContextValue) else plain).append((name, data))
        parts.append(("vars", _object(plain)))
        parts.append(("bind", _object(bound)))
        request = _object(parts)
        if len(request) > self._limit:
            self._sent.clear()
            raise BadRequest(
                f"the cell's code and variables have {len(request):,} bytes, more than {self._limit:,}; "
                "large inputs belong into a context"
            )
        return request

    def _if_changed(self, name: str, value: Any) -> bytes | None:
        """The value's JSON, or None when the worker was given the same before (so the guest's changes stay)."""
        known = self._sent.get(name, self)
        simple = value is None or isinstance(value, str | int | float | bool)
        if simple and type(known) is type(value) and known == value:
            return None
        data = value.to_sandbox() if isinstance(value, ContextValue) else to_json(value)
        mark = value if simple else hashlib.blake2b(data).digest()
        if not simple and known == mark:
            return None
        if not name.startswith(RAW_PREFIX):  # the sandbox drops those when it has used them
            self._sent[name] = mark
        return data


def _object(items: Sequence[tuple[str, bytes]]) -> bytes:
    return b"{" + b",".join(to_json(name) + b":" + data for name, data in items) + b"}"


def _bad_names(names: Sequence[Any], refused: Sequence[str] | frozenset[str]) -> list[Any]:
    return [
        name
        for name in names
        if not isinstance(name, str) or not name.isidentifier() or keyword.iskeyword(name) or name in refused
    ]


def check_names(variables: Mapping[str, Any], tools: Tools, fields: Fields) -> None:
    """Every name must be a Python identifier that is free. BadRequest otherwise."""
    if bad := _bad_names(list(tools), RESERVED):
        raise BadRequest(f"tool names must be non-reserved Python identifiers; invalid names: {bad!r}")
    if bad := _bad_names(list(variables), RESERVED | set(tools)):
        raise BadRequest(
            f"variable names must be non-reserved Python identifiers distinct from tool names; invalid names: {bad!r}"
        )
    names = [cast(Any, field).get("name") for field in fields or []]
    if bad := _bad_names(names, ()):
        raise BadRequest(f"output field names must be Python identifiers; invalid names: {bad!r}")
    if len(set(names)) != len(names):
        raise BadRequest(f"output field names must be unique: {names!r}")
