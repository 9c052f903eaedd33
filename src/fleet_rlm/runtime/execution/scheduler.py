"""One scheduler over the tree: which call is sent next, which sandbox may live, which requests are the same.

The scheduler of a turn is a thin part of its own over what belongs to the process: the throttle of each provider
(`throttle.py`), which all turns share fairly (`fair.py`). Its own are the live sandboxes of the tree
(`sandbox_gate.py`) and the requests in flight (`flights.py`). Every wait is abandoned the moment its run is stopped.
A run that waits for its children or for a retry holds no place.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any, TypeVar

from fleet_rlm.runtime.execution.batch import Batch, LetGo
from fleet_rlm.runtime.execution.budget import TreeBudget
from fleet_rlm.runtime.execution.flights import Flights
from fleet_rlm.runtime.execution.losses import check_heard
from fleet_rlm.runtime.execution.observer import RunScope
from fleet_rlm.runtime.execution.sandbox_gate import SandboxGate
from fleet_rlm.runtime.execution.throttle import PROVIDERS, Place, Providers, Throttle

CALL_WIDTH = 64
"""Language-model calls in flight at one provider, at most, unless the settings say otherwise."""

T = TypeVar("T")
R = TypeVar("R")


class Scheduler:
    """The scheduler of one turn.

    Args:
        turn: its id; turns share a provider fairly.
        call_width: calls in flight at one provider, at most.
    """

    def __init__(
        self,
        tree: TreeBudget,
        *,
        turn: str = "",
        call_width: int = CALL_WIDTH,
        providers: Providers = PROVIDERS,
    ) -> None:
        self._tree = tree
        self._turn = turn
        self._providers = providers
        self.call_width = call_width
        self.flights = Flights()
        self.sandboxes = SandboxGate(tree)

    def throttle(self, endpoint: Hashable, owner: Any = None) -> Throttle:
        """The gate of a provider, shared by the whole process."""
        return self._providers.throttle(endpoint, self.call_width, owner=owner)

    def enter(self, throttle: Throttle, scope: RunScope, *, drives: bool) -> Place:
        """A place for one request, to be given back with `throttle.leave`. Waits for it; errors: TreeStopped.

        `drives`: it is the next step of a run, and not one sub-call among many.
        """
        place = Place(self._turn, urgency(scope, drives=drives), scope.line)
        granted = throttle.enter(place)
        try:
            if granted is not None:
                scope.stop.race(granted)
            scope.stop.check()
            check_heard(scope)
        except BaseException:
            throttle.give_up(place)
            raise
        return place

    def sandbox_place(self, scope: RunScope) -> AbstractContextManager[None]:
        """A context manager that holds one of the tree's places for live sandboxes for a run. Errors: TreeStopped."""
        return self.sandboxes.held(self._tree.level(scope.depth), scope.stop)

    def map(
        self, work: Callable[[T, LetGo | None], R], items: Iterable[T], *, scope: RunScope, width: int | None = None
    ) -> list[R]:
        """`work` over all items side by side, results in order, each in a copy of the caller's context.

        `width` bounds the threads; None: as wide as calls may be. Errors: TreeStopped when `scope` is stopped;
        else the first error in order of the items, raised after all have ended.
        """
        todo: Sequence[T] = list(items)
        if len(todo) <= 1:
            return [work(item, None) for item in todo]
        return Batch(work, todo, scope.stop).run(min(width or self.call_width, len(todo)))


def urgency(scope: RunScope, *, drives: bool) -> int:
    """0: a closing answer, or the root's next step: all wait for it; 1: the next step of a child; 2: a sub-call."""
    if scope.final or (drives and scope.parent is None):
        return 0
    return 1 if drives else 2
