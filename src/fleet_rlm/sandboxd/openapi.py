"""The API's own document (OpenAPI 3.1), made from the routes that are served and the types that they use."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from fleet_rlm.sandboxd.models import DAEMON_VERSION
from fleet_rlm.sandboxd.operations import BYTES, FORM, OPERATIONS, Operation
from fleet_rlm.sandboxd.wire import ByMethod, answer

_ERROR: Final = "ErrorEnvelope"
_NUMBERS: Final = frozenset({"limit", "depth", "expires", "port", "page", "expiresInSeconds"})
_PLAIN: Final = Operation()
_FLAGS: Final = frozenset({"recursive", "isPublic", "follow"})


class ErrorEnvelope(msgspec.Struct, rename="camel"):
    """What every answer above 399 has."""

    status_code: int
    error: str
    message: str
    errors: list[str]
    code: str
    source: str
    timestamp: str
    path: str
    method: str


class OpenApi:
    """/openapi.json: the document about all other routes. `tables` maps a prefix to its routes."""

    def __init__(self, origin: str, tables: Mapping[str, Sequence[BaseRoute]]) -> None:
        self._origin = origin
        self._tables = tables

    async def document(self, request: Request) -> Response:
        """This document."""
        return answer(build(self._origin, self._tables))


def build(origin: str, tables: Mapping[str, Sequence[BaseRoute]]) -> dict[str, Any]:
    """The document. A route that `operations.py` does not know is in it without types."""
    served = list(_served(tables))
    types = {kind for _, _, _, operation in served for kind in (operation.body, operation.answers) if _named(kind)}
    kinds = sorted({*types, ErrorEnvelope}, key=str)
    schemas, components = msgspec.json.schema_components(kinds, ref_template="#/components/schemas/{name}")
    schema_of = dict(zip(kinds, schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for method, path, summary, operation in served:
        paths.setdefault(path, {})[method.lower()] = _operation(method, path, summary, operation, schema_of)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "fleet-rlm sandbox server",
            "version": DAEMON_VERSION,
            "description": "A server for one machine that speaks the Daytona API. WebSockets are not described here.",
        },
        "servers": [{"url": origin}],
        "security": [{"bearer": []}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
    }


def _served(tables: Mapping[str, Sequence[BaseRoute]]) -> Iterator[tuple[str, str, str, Operation]]:
    """Every method of every route, as (method, path, summary, operation)."""
    for prefix, routes in tables.items():
        for item in routes:
            if isinstance(item, Route) and isinstance(item.app, ByMethod):
                path = prefix + re.sub(r"\{(\w+):\w+\}", r"{\1}", item.path)
                for method, handler in item.app.handlers.items():
                    if (method, path) in UNDESCRIBED:
                        continue
                    yield method, path, (handler.__doc__ or "").strip(), OPERATIONS.get((method, path), _PLAIN)


# Paths that are no part of an HTTP API: the transport of events, and what programs in a sandbox serve themselves.
UNDESCRIBED: Final = frozenset({("GET", "/api/socket.io/"), ("POST", "/api/socket.io/")})


def _named(kind: Any) -> bool:
    return kind is not None and kind is not bytes


def _operation(
    method: str, path: str, summary: str, operation: Operation, schema_of: Mapping[Any, Any]
) -> dict[str, Any]:
    success: dict[str, Any] = {"description": "Success"}
    if operation.answers is not None:
        success["content"] = {operation.gives: {"schema": _schema(operation.answers, operation.gives, schema_of)}}
    described: dict[str, Any] = {
        "operationId": _identifier(method, path),
        "summary": summary.partition("\n")[0],
        "parameters": [*_path_parameters(path), *(_query_parameter(name) for name in operation.query)],
        "responses": {
            str(operation.status): success,
            "default": {
                "description": "An error",
                "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{_ERROR}"}}},
            },
        },
    }
    if operation.body is not None:
        content = {operation.takes: {"schema": _schema(operation.body, operation.takes, schema_of)}}
        described["requestBody"] = {"required": operation.takes != BYTES, "content": content}
    return described


def _schema(kind: Any, media: str, schema_of: Mapping[Any, Any]) -> Any:
    if kind is not bytes:
        return schema_of[kind]
    if media == FORM:
        return {"type": "object", "additionalProperties": {"type": "string"}}
    return {"type": "string", "format": "binary"}


def _identifier(method: str, path: str) -> str:
    return "_".join([method.lower(), *re.findall(r"\w+", path)])


def _path_parameters(path: str) -> list[dict[str, Any]]:
    names = re.findall(r"\{(\w+)\}", path)
    return [{"name": name, "in": "path", "required": True, "schema": _simple(name)} for name in names]


def _query_parameter(text: str) -> dict[str, Any]:
    name = text.rstrip("*")
    return {"name": name, "in": "query", "required": text.endswith("*"), "schema": _simple(name)}


def _simple(name: str) -> dict[str, Any]:
    if name in _NUMBERS:
        return {"type": "integer", "minimum": 0}
    return {"type": "boolean"} if name in _FLAGS else {"type": "string"}
