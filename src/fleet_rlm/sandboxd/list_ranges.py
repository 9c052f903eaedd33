"""The filters of a list that are bounds: of size, and of time."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from starlette.datastructures import QueryParams

from fleet_rlm.sandboxd.errors import bad_request
from fleet_rlm.sandboxd.sandboxes import Sandbox

_SIZES: Final[dict[str, Callable[[Sandbox], int]]] = {
    "Cpu": lambda sandbox: sandbox.record.cpu,
    "MemoryGiB": lambda sandbox: sandbox.record.memory,
    "DiskGiB": lambda sandbox: sandbox.record.disk,
}
_TIMES: Final[dict[str, Callable[[Sandbox], float | None]]] = {
    "createdAt": lambda sandbox: sandbox.record.created_at,
    "lastEvent": lambda sandbox: sandbox.record.updated_at,
    "autoDestroyAt": lambda sandbox: (
        sandbox.record.created_at + sandbox.record.ttl_minutes * 60 if sandbox.record.ttl_minutes else None
    ),
}
RANGES: Final = frozenset(
    [f"{bound}{name}" for name in _SIZES for bound in ("min", "max")]
    + [f"{name}{bound}" for name in _TIMES for bound in ("After", "Before")]
)


def in_ranges(query: QueryParams) -> Callable[[Sandbox], bool]:
    """Whether a sandbox lies within the bounds of a query, which belong to them. 400 for a malformed bound."""
    sizes = [(of, _whole(query, f"min{name}"), _whole(query, f"max{name}")) for name, of in _SIZES.items()]
    times = [(of, _time(query, f"{name}After"), _time(query, f"{name}Before")) for name, of in _TIMES.items()]
    bounds = [(of, low, high) for of, low, high in (*sizes, *times) if low is not None or high is not None]

    def fits(sandbox: Sandbox) -> bool:
        return all(_within(of(sandbox), low, high) for of, low, high in bounds)

    return fits


def _within(value: float | None, low: float | None, high: float | None) -> bool:
    return value is not None and (low is None or value >= low) and (high is None or value <= high)


def _whole(query: QueryParams, name: str) -> int | None:
    text = query.get(name)
    if text is None:
        return None
    if not text.isascii() or not text.isdecimal() or len(text) > 9:
        raise bad_request(f"{name} is a whole number")
    return int(text)


def _time(query: QueryParams, name: str) -> float | None:
    text = query.get(name)
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text.replace(" ", "+"))  # a plus sign that nobody escaped
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError) as error:
        raise bad_request(f"{name} is a time such as 2026-11-30T12:00:00Z") from error
