"""What may stand in `Limits`: whoever names limits in Python is not held to the types, and the journal is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from fleet_rlm.errors import InvalidInput
from fleet_rlm.runtime.execution.events import Limits

RANGES: Final[dict[str, tuple[float, float]]] = {
    "calls": (1, 1e12),
    "tokens": (1, 1e12),
    "cost_usd": (1e-9, 1e12),
    "wall_s": (1e-3, 1e12),
    "depth": (0, 8),
    "children": (1, 1e12),
    "sandboxes": (1, 4096),
}
NEVER_NONE: Final = ("depth", "sandboxes")
NOT_WHOLE: Final = ("cost_usd", "wall_s")


def typed_limits(limits: Limits, *, what: str = "the limit") -> Limits:
    """The same, a whole float as the int that it says. Errors: InvalidInput for a value of another type."""
    values = {name: _whole(name, value) for name, value in msgspec.structs.asdict(limits).items()}
    for name, value in values.items():
        if not _is_typed(name, value):
            raise InvalidInput(f"{what} {name} must be {_kind(name)}, not {value!r:.80}")
    return Limits(**values)


def checked_limits(limits: Mapping[str, Any], *, what: str = "the limit") -> dict[str, Any]:
    """Limits by name, each of its type and within its range. Errors: InvalidInput."""
    if not limits:
        raise InvalidInput("no limit is given", hint="name one of " + ", ".join(RANGES))
    checked: dict[str, Any] = {}
    for name, value in limits.items():
        if name not in RANGES:
            raise InvalidInput(f"unknown limit {name[:80]!r}", hint="there are " + ", ".join(RANGES))
        low, high = RANGES[name]
        checked[name] = _whole(name, value)
        if not _is_typed(name, checked[name]):
            raise InvalidInput(f"{what} {name} must be {_kind(name)}, not {value!r:.80}")
        if not (value is None or low <= value <= high):
            raise InvalidInput(f"{what} {name} cannot be {value!r:.80}", hint=f"from {low:g} to {high:g}")
    return checked


def _whole(name: str, value: Any) -> Any:
    return int(value) if name not in NOT_WHOLE and isinstance(value, float) and value.is_integer() else value


def _kind(name: str) -> str:
    return "a number" if name in NOT_WHOLE else "a whole number"


def _is_typed(name: str, value: Any) -> bool:
    if value is None:
        return name not in NEVER_NONE
    kinds = int | float if name in NOT_WHOLE else int
    return isinstance(value, kinds) and not isinstance(value, bool) and -math.inf < value < math.inf
