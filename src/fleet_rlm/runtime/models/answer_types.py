"""Types of a child's result: a word, a JSON Schema, or a shape written as `{"name": "str", "tags": ["str"]}`.

A schema comes from model-written code, so its size and depth are bounded, it cannot name another document, and it
becomes plain types that pydantic checks: a result is the JSON value itself, whatever its keys are called.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, NotRequired, Required, TypeAlias, Union, cast, get_origin

import pydantic
from typing_extensions import TypedDict

from fleet_rlm.errors import InvalidInput

Schema: TypeAlias = "str | Mapping[str, Any] | Sequence[Any] | None"

MAX_SCHEMA_CHARS = 20_000
MAX_DEPTH = 12
MAX_NODES = 500

WORDS: Mapping[str, Any] = {
    "str": str,
    "int": int,
    "float": float,
    "bool": bool,
    "list": list[Any],
    "dict": dict[str, Any],
    "list[str]": list[str],
    "list[int]": list[int],
    "list[float]": list[float],
    "list[dict]": list[dict[str, Any]],
    "dict[str, str]": dict[str, str],
    "dict[str, int]": dict[str, int],
    "any": Any,
}
_PLAIN = {"string": str, "integer": int, "number": float, "boolean": bool, "null": None}
_TYPES = {*_PLAIN, "object", "array"}
_BOUNDS = {
    "minimum": "ge", "maximum": "le", "exclusiveMinimum": "gt", "exclusiveMaximum": "lt", "multipleOf": "multiple_of",
    "minLength": "min_length", "maxLength": "max_length", "minItems": "min_length", "maxItems": "max_length",
    "pattern": "pattern",
}  # fmt: skip
_KEYWORDS = {"type", "properties", "items", "enum", "const", "anyOf", "oneOf", "additionalProperties"}


def schema_key(schema: Schema) -> str | None:
    """The schema as one text, the same for the same schema. Errors: InvalidInput when it is no JSON or too large."""
    if schema is None or isinstance(schema, str):
        return schema
    try:
        text = json.dumps(schema, sort_keys=False, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        raise InvalidInput("a schema must be JSON") from None
    if len(text) > MAX_SCHEMA_CHARS:
        raise InvalidInput(f"the schema has {len(text):,} characters, more than {MAX_SCHEMA_CHARS:,}")
    return text


def answer_type(schema: Schema) -> Any:
    """The Python type that a schema stands for; `str` for None. A text may be a word or the JSON of a schema.

    Errors: InvalidInput that says what is wrong and where.
    """
    if schema is None:
        return str
    if isinstance(schema, str):
        if not schema.lstrip().startswith(("{", "[")):
            return _word(schema, "schema")
        try:
            schema = cast("Mapping[str, Any]", json.loads(schema))
        except (ValueError, RecursionError):
            raise InvalidInput("the schema is not valid JSON") from None
    made = _Reader().read(schema, "schema", 0)
    if get_origin(made) is Annotated:  # else a signature would take the bounds for remarks on its field
        made = _named(made)
    try:
        pydantic.TypeAdapter(made)
    except Exception as error:  # noqa: BLE001 - whatever pydantic finds in bounds and patterns
        raise InvalidInput(f"the schema cannot be used: {str(error).splitlines()[0][:200]}") from None
    return made


def _word(word: str, where: str) -> Any:
    text = word.replace(" ", "").replace(",", ", ")
    optional = text.endswith(("|None", "?"))
    found = WORDS.get(text.removesuffix("|None").removesuffix("?"))
    if found is None:
        raise InvalidInput(
            f"unknown type {word[:60]!r} in {where}", hint="use one of " + " | ".join(WORDS) + ", or a JSON Schema"
        )
    return Union[found, None] if optional else found  # noqa: UP007 - of a type that is known at run time only


class _Reader:
    """Reads one schema; counts what it has read."""

    def __init__(self) -> None:
        self._nodes = 0

    def read(self, schema: Any, where: str, depth: int) -> Any:
        self._nodes += 1
        if depth > MAX_DEPTH or self._nodes > MAX_NODES:
            raise InvalidInput(f"the schema is too deep or too large at {where[:200]}")
        if isinstance(schema, str):
            return _word(schema, where)
        if isinstance(schema, list | tuple):
            items = cast("Sequence[Any]", schema)
            if len(items) != 1:
                raise InvalidInput(f"{where[:200]}: a list has one item, the type of all")
            return list[self.read(items[0], f"{where}[]", depth + 1)]
        if schema is True:
            return Any
        if not isinstance(schema, Mapping):
            raise InvalidInput(f"{where[:200]} is neither a type's name nor a schema")
        found = cast("Mapping[str, Any]", schema)
        return self._schema(found, where, depth) if _is_json_schema(found) else self._shape(found, where, depth)

    def _shape(self, shape: Mapping[str, Any], where: str, depth: int) -> Any:
        fields = {
            str(name).removesuffix("?"): (self.read(inner, f"{where}.{name}", depth + 1), not str(name).endswith("?"))
            for name, inner in shape.items()
        }
        return _typed_dict(fields, closed=True)

    def _schema(self, schema: Mapping[str, Any], where: str, depth: int) -> Any:
        if "$ref" in schema:
            raise InvalidInput(f"{where[:200]}: $ref is not supported", hint="write the schema out")
        if "const" in schema:
            return _one_of([schema["const"]], where)
        if "enum" in schema:
            return _one_of(schema["enum"], where)
        for word in ("anyOf", "oneOf"):
            if word in schema:
                return self._union([self.read(each, where, depth + 1) for each in _list_of(schema[word], where)])
        kind = schema.get("type")
        if isinstance(kind, list | tuple):
            kinds = cast("Sequence[Any]", kind)
            return self._union([self._typed({**schema, "type": each}, where, depth + 1) for each in kinds])
        made = self._typed(schema, where, depth)
        return Union[made, None] if schema.get("nullable") is True else made  # noqa: UP007

    def _union(self, types: list[Any]) -> Any:
        return Union[tuple(types)]  # noqa: UP007

    def _typed(self, schema: Mapping[str, Any], where: str, depth: int) -> Any:
        kind = schema.get("type", "object" if "properties" in schema else "array" if "items" in schema else None)
        if kind == "object":
            return self._object(schema, where, depth)
        if kind == "array":
            return _bounded(list[self.read(schema.get("items", True), f"{where}[]", depth + 1)], schema)
        if kind is None:
            return Any
        if kind not in _PLAIN:
            raise InvalidInput(f"{where[:200]}: unknown type {str(kind)[:60]!r}", hint="one of " + ", ".join(_TYPES))
        return _bounded(_PLAIN[kind], schema) if kind != "null" else None

    def _object(self, schema: Mapping[str, Any], where: str, depth: int) -> Any:
        properties: Any = schema.get("properties")
        more: Any = schema.get("additionalProperties", True)
        if not properties:
            value = self.read(more, f"{where}.*", depth + 1) if isinstance(more, Mapping) else Any
            return dict[str, value]
        if not isinstance(properties, Mapping):
            raise InvalidInput(f"{where[:200]}: properties must be an object")
        required = schema.get("required", [])
        named = cast("Mapping[str, Any]", properties)
        fields = {
            name: (self.read(inner, f"{where}.{name}", depth + 1), name in required) for name, inner in named.items()
        }
        return _typed_dict(fields, closed=more is False)


def _is_json_schema(schema: Mapping[str, Any]) -> bool:
    """A shape may have a field called "type" too; then its value is no type of JSON Schema."""
    kind = schema.get("type")
    if "$ref" in schema or any(isinstance(schema.get(word), list) for word in ("enum", "anyOf", "oneOf")):
        return True
    if isinstance(kind, str) and kind in _TYPES:
        return True
    if isinstance(kind, list) and kind and all(each in _TYPES for each in cast("list[Any]", kind)):
        return True
    return (isinstance(schema.get("properties"), Mapping) or "const" in schema) and schema.keys() <= {
        *_KEYWORDS, "required", "title", "description", "$schema",
    }  # fmt: skip


def _typed_dict(fields: Mapping[str, tuple[Any, bool]], *, closed: bool) -> Any:
    make = cast("Callable[[str, dict[str, Any]], Any]", TypedDict)
    made = make(
        "Result", {name: Required[kind] if needed else NotRequired[kind] for name, (kind, needed) in fields.items()}
    )
    made.__pydantic_config__ = pydantic.ConfigDict(extra="forbid" if closed else "allow")
    return made


def _bounded(kind: Any, schema: Mapping[str, Any]) -> Any:
    bounds = {ours: schema[theirs] for theirs, ours in _BOUNDS.items() if theirs in schema}
    return Annotated[kind, pydantic.Field(**bounds)] if bounds else kind


def _named(kind: Any) -> Any:
    """A class that stands for a type with bounds and validates as that type does."""

    def schema(_cls: Any, _source: Any, handler: pydantic.GetCoreSchemaHandler) -> Any:
        return handler.generate_schema(kind)

    return type("Result", (), {"__get_pydantic_core_schema__": classmethod(schema)})


def _one_of(values: Any, where: str) -> Any:
    found = _list_of(values, where)
    if not all(isinstance(value, str | int | bool) or value is None for value in found):
        raise InvalidInput(f"{where[:200]}: an enum holds texts, whole numbers, booleans or null")
    return Literal[tuple(found)]


def _list_of(values: Any, where: str) -> list[Any]:
    if not isinstance(values, list | tuple) or not values:
        raise InvalidInput(f"{where[:200]}: a list that is not empty was expected")
    return list(cast("Sequence[Any]", values))
