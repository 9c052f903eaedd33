"""The marks of a budget's limits at which people are warned: 70 and 90 % of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from fleet_rlm.runtime.execution.events import Limits, Unit

WARN_AT = (0.7, 0.9)
LONGEST_WAIT_S = 86_400.0
"""A time limit may be longer than any timer can wait: then it is waited for in parts."""

LIMIT_NAMES: dict[Unit, str] = {
    "calls": "calls",
    "tokens": "tokens",
    "cost": "cost_usd",
    "wall": "wall_s",
    "children": "children",
}
"""Units that run out, with the name of their limit."""


class Marks:
    """Which marks are passed. Not thread-safe: the budget that owns it has the lock.

    `amount` tells what is used of a unit. It is looked at with every call, so only marks still to come are.
    """

    def __init__(self, limits: Limits, amount: Callable[[Unit], float]) -> None:
        self._amount = amount
        self._passed: set[tuple[Unit, float]] = set()
        self._ahead: list[tuple[Unit, float, float]] = []
        self._look_ahead(limits)

    def passed_now(self) -> list[tuple[Unit, float]]:
        """The marks that were passed since the last time: unit and part of its limit."""
        new: list[tuple[Unit, float]] = []
        for unit, mark, limit in self._ahead:
            if self._amount(unit) / limit >= mark:
                new.append((unit, mark))
        if new:
            self._passed.update(new)
            self._ahead = [each for each in self._ahead if each[:2] not in self._passed]
        return new

    def move(self, limits: Limits) -> None:
        """The limits are others: what was passed and is not any more may be passed again."""
        used = {unit: self._amount(unit) / limit for unit, limit in _limits(limits)}
        self._passed = {(unit, mark) for unit, mark in self._passed if used.get(unit, 0.0) >= mark}
        self._look_ahead(limits)

    def next_look(self, wall: float) -> float:
        """Seconds until the next mark of this time limit, or its end; in parts when that is far away."""
        marks = (mark * limit for unit, mark, limit in self._ahead if unit == "wall")
        return max(0.0, min(min((*marks, wall)) - self._amount("wall"), LONGEST_WAIT_S))

    def _look_ahead(self, limits: Limits) -> None:
        self._ahead = [
            (unit, mark, limit)
            for unit, limit in _limits(limits)
            for mark in WARN_AT
            if (unit, mark) not in self._passed
        ]


def _limits(limits: Limits) -> Iterator[tuple[Unit, float]]:
    for unit, name in LIMIT_NAMES.items():
        limit = getattr(limits, name)
        if limit:
            yield unit, limit
