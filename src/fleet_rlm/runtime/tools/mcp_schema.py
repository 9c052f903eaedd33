"""The arguments of a foreign tool: its JSON schema as DSPy and providers can take it.

DSPy reads of each argument one `type` word, and follows references without end. So references are written out, one
that leads into itself becomes any value, a list of types becomes `anyOf`, `true` becomes any value. What is lost by
that is checked by the tool's own server.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, TypeGuard, cast

from jsonschema import Draft202012Validator, SchemaError

from fleet_rlm.errors import InvalidInput

MAX_PARTS: Final = 2_000
"""Schemas within a tool's schema, references written out."""
MAX_DEPTH: Final = 40
_ONE = frozenset({"items", "contains", "not", "if", "then", "else", "propertyNames", "additionalProperties"})
_SEVERAL = frozenset({"anyOf", "oneOf", "allOf", "prefixItems"})
_NAMED = frozenset({"properties", "patternProperties", "dependentSchemas"})
_NOT_KEPT = frozenset({"$defs", "definitions", "$schema", "$id"})
_OF_DSPY = re.compile(r"(?:self|instance)_*")


def arguments_of(schema: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Argument -> its schema. Errors: InvalidInput with what makes it useless."""
    properties = schema.get("properties") or {}
    if not isinstance(properties, Mapping):
        raise InvalidInput("its properties are no table")
    writer = _Writer(schema)
    named = cast("Mapping[str, Any]", properties)
    made = {name: writer.written(each, ()) for name, each in named.items() if each is not False}
    for name, each in made.items():
        try:
            Draft202012Validator.check_schema(each)
        except SchemaError as error:
            raise InvalidInput(f"the schema of {name[:80]} is none: {' '.join(error.message.split())[:200]}") from None
    return made


def required_of(schema: Mapping[str, Any]) -> frozenset[str]:
    """The arguments that must be given."""
    listed: Any = schema.get("required")
    return frozenset(each for each in listed if isinstance(each, str)) if _is_list(listed) else frozenset()


def offered_name(argument: str) -> str:
    """An argument's name for DSPy, which calls a tool by methods with names of their own: one `_` more than those."""
    return f"{argument}_" if _OF_DSPY.fullmatch(argument) else argument


def own_name(offered: str) -> str:
    """The server's name of an argument, from the one that `offered_name` gave it."""
    return offered.removesuffix("_") if _OF_DSPY.fullmatch(offered) else offered


class _Writer:
    """Writes one tool's schemas out; counts them, because few references can stand for millions."""

    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root
        self._parts = 0

    def written(self, schema: Any, within: tuple[str, ...], depth: int = 0) -> dict[str, Any]:
        """One schema. `within`: the references that led here."""
        self._parts += 1
        if self._parts > MAX_PARTS or depth > MAX_DEPTH:
            raise InvalidInput(f"its schema has more than {MAX_PARTS:,} parts or {MAX_DEPTH} levels")
        if isinstance(schema, bool):
            return {} if schema else {"not": {}}
        if not isinstance(schema, Mapping):
            raise InvalidInput(f"its schema holds {str(schema)[:40]!r} where a schema has to be")
        given = dict(cast("Mapping[str, Any]", schema))
        reference = given.pop("$ref", None)
        if reference is not None:
            target = self._target(str(reference), within)
            referred = self.written(target, (*within, str(reference)), depth + 1)
            return {**referred, **self._parts_of(given, within, depth)}
        return self._parts_of(given, within, depth)

    def _target(self, reference: str, within: tuple[str, ...]) -> Any:
        """What a reference names: of one that leads into itself its type alone, of one that leads nowhere any value."""
        found: Any = self._root if reference.startswith("#/") else None
        for step in reference[2:].split("/"):
            key = step.replace("~1", "/").replace("~0", "~")
            if not isinstance(found, Mapping) or key not in found:
                return True
            found = cast("Mapping[str, Any]", found)[key]
        if reference not in within:
            return found
        kind = cast("Mapping[str, Any]", found).get("type") if isinstance(found, Mapping) else None
        return True if kind is None else {"type": kind}

    def _parts_of(self, given: dict[str, Any], within: tuple[str, ...], depth: int) -> dict[str, Any]:
        made: dict[str, Any] = {}
        for key, value in given.items():
            if key in _NOT_KEPT or (key == "required" and not _is_list(value)):  # a boolean there is of an old draft
                continue
            if key in _ONE:
                made[key] = value if isinstance(value, bool) else self.written(value, within, depth + 1)
            elif key in _SEVERAL and _is_list(value):
                made[key] = [self.written(each, within, depth + 1) for each in value]
            elif key in _NAMED and isinstance(value, Mapping):
                table = cast("Mapping[str, Any]", value)
                made[key] = {name: self.written(each, within, depth + 1) for name, each in table.items()}
            else:
                made[key] = value
        return _one_type(made)


def _one_type(schema: dict[str, Any]) -> dict[str, Any]:
    """The same with a list of types as `anyOf`; beside another `anyOf` the list is left to the server."""
    types: Any = schema.get("type")
    if not _is_list(types):
        return schema
    rest = {key: value for key, value in schema.items() if key != "type"}
    if len(types) == 1:
        return {"type": types[0], **rest}
    return rest if "anyOf" in rest else {"anyOf": [{"type": each} for each in types], **rest}


def _is_list(value: object) -> TypeGuard[list[Any]]:
    return isinstance(value, list)
