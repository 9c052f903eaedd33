"""Values on their way between guest and host: JSON as far as it goes, short previews, and `Failure`."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

MAX_DEPTH = 60
_PLAIN = (bool, int, float, str)
_class_name = type.__dict__["__name__"].__get__


class Failure:
    """An item that could not be done: false in a condition, with `.error` (class name) and `.message`."""

    __slots__ = ("error", "message")

    def __init__(self, error: str, message: str) -> None:
        self.error = error
        self.message = message

    def __bool__(self) -> bool:
        return False

    def __repr__(self) -> str:
        return f"Failure({self.error}: {self.message})"


def to_json(value: Any) -> bytes:
    """Compact JSON bytes; what JSON has no word for becomes its nearest plain form, see `plain`."""
    try:
        text = _encoder.encode(value)
    except (TypeError, ValueError, RecursionError):  # odd dictionary keys, circles, too deep
        text = _encoder.encode(plain(value))
    return text.encode("utf-8", "surrogatepass")


def bounded_text(value: Any, limit: int) -> str:
    """A string itself, any other value as JSON (its repr when JSON cannot), cut to `limit` characters."""
    if isinstance(value, str):
        return str(value[:limit])
    parts: list[str] = []
    size = 0
    try:
        for part in json.JSONEncoder(ensure_ascii=False, default=_nearest).iterencode(value):
            parts.append(part)
            size += len(part)
            if size >= limit:
                break
    except Exception:  # noqa: BLE001 - circles, odd keys, too deep, or a guest's own conversion that raises
        return bounded_repr(value, limit)[:limit]
    return "".join(parts)[:limit]


def type_name(value: Any) -> str:
    """The name of its class, past whatever the metaclass makes of `__name__`."""
    return str(_class_name(type(value)))


def from_json(data: bytes) -> Any:
    return json.loads(data.decode("utf-8", "surrogatepass"))


def plain(value: Any, above: tuple[int, ...] = ()) -> Any:
    """The value with only JSON types in it. Keys become text; circles and great depth become their repr.

    `above`: the ids of what it lies in.
    """
    if value is None or issubclass(type(value), _PLAIN):  # not what only says that it is one, as a mock does
        return value
    if len(above) > MAX_DEPTH or id(value) in above:
        return bounded_repr(value, 200)
    above = (*above, id(value))
    if isinstance(value, dict):
        return {k if issubclass(type(k), str) else str(k): plain(v, above) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v, above) for v in value]
    return plain(_nearest(value), above)


def _nearest(value: Any) -> Any:
    """What a value is in JSON's words; its repr when there is nothing better."""
    if isinstance(value, Failure):
        return {"$failure": {"error": value.error, "message": value.message}}
    if isinstance(value, (set, frozenset)):
        return list(value)
    if isinstance(value, (bytes, bytearray)):
        return bytes(value).decode("utf-8", "replace")
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    for method in ("model_dump", "tolist", "item", "isoformat"):  # pydantic; numpy arrays and scalars; dates
        try:
            convert = getattr(value, method, None)
            if callable(convert) and not isinstance(value, type):
                return convert()
        except Exception:  # noqa: BLE001, S112 - somebody else's method on somebody else's value
            continue
    return bounded_repr(value, 10_000)


_encoder = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=_nearest)


def bounded_repr(value: Any, limit: int) -> str:
    """`repr` that reads only as much of a large builtin value as fits in about `limit` characters."""
    try:
        return _repr(value, limit, 0)
    except KeyboardInterrupt:  # of the cell, which has to end
        raise
    except BaseException as error:  # noqa: BLE001 - a guest's __repr__ may raise anything
        return f"<{type_name(value)} whose repr raises {type_name(error)}>"


def _repr(value: Any, limit: int, depth: int) -> str:
    if isinstance(value, (str, bytes)) and len(value) > limit:
        half = max(limit // 2, 10)
        head, tail = value[:half], value[len(value) - half :]
        return f"{head!r} ... {tail!r} ({len(value):,} in all)"
    kind = type(value)
    if kind in (list, tuple, set, frozenset, dict) and len(value) > 8:
        return _repr_items(value, limit, depth)
    text = repr(value)
    return text if len(text) <= limit else f"{text[:limit]}... ({len(text):,} characters)"


def _repr_items(value: Any, limit: int, depth: int) -> str:
    if depth > 6:
        return f"<{type(value).__name__} of {len(value)}>"
    open_, close = {list: "[]", tuple: "()"}.get(type(value), "{}")
    parts: list[str] = []
    used = 0
    for item in value.items() if isinstance(value, dict) else value:
        if used >= limit:
            parts.append(f"... ({len(value):,} in all)")
            break
        if isinstance(value, dict):
            text = f"{_repr(item[0], 200, depth + 1)}: {_repr(item[1], limit - used, depth + 1)}"
        else:
            text = _repr(item, limit - used, depth + 1)
        parts.append(text)
        used += len(text) + 2
    return open_ + ", ".join(parts) + close
