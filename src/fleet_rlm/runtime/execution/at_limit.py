"""At a limit of the tree a person may be asked whether to raise it, instead of ending with a partial answer.

One question for each unit, however many runs meet the limit at once: the first asks, the others wait for the same
answer. "raise" adds once more what the turn began with; other limits that are set from outside while the question is
open (`set_limits`) answer it too. "finish", and no answer in time, end the turn as without a question. Held-back last
words never ask. Only what the tree shares is asked about: a child's own share is for the code that gave it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field

from fleet_rlm.errors import Conflict, InvalidInput, NotFound
from fleet_rlm.runtime.execution.approvals import Approvals
from fleet_rlm.runtime.execution.budget import TreeBudget
from fleet_rlm.runtime.execution.events import Limits, Unit
from fleet_rlm.runtime.execution.marks import LIMIT_NAMES
from fleet_rlm.runtime.execution.observer import SCOPE, RunScope

RAISE, FINISH = "raise", "finish"
SAID: dict[Unit, str] = {
    "calls": "{:,} model calls",
    "tokens": "{:,} tokens",
    "cost": "${:g}",
    "wall": "{:g} seconds",
    "children": "{:,} child runs",
}


@dataclass(slots=True, eq=False)
class _Open:
    """A question that is open. `decided`: look again (True), finish (False), or who asked was stopped (None)."""

    limits: Limits
    approval: str | None = None
    decided: Future[bool | None] = field(default_factory=Future["bool | None"])


class LimitQuestions:
    """The `on_limit` of a budget. `apply(name, value)` sets one limit and tells it."""

    def __init__(self, budget: TreeBudget, approvals: Approvals, apply: Callable[[str, float], object]) -> None:
        self._budget = budget
        self._approvals = approvals
        self._apply = apply
        self._first = budget.limits
        self._open: dict[Unit, _Open] = {}
        self._finished: dict[Unit, Limits] = {}
        self._lock = threading.Lock()

    def __call__(self, unit: Unit, seen: Limits) -> bool:
        """Whether a call that was refused under the limits `seen` should look again. Errors: TreeStopped."""
        scope = SCOPE.get()
        while True:
            with self._lock:
                if self._budget.limits is not seen:
                    return True
                if self._finished.get(unit) is seen:
                    return False
                question = self._open.get(unit)
                mine = question is None
                if question is None:
                    question = self._open[unit] = _Open(seen)
            if mine:
                return self._ask(scope, unit, question)
            scope.stop.race(question.decided)
            scope.stop.check()
            decision = question.decided.result()
            if decision is not None:
                return decision

    def limits_changed(self) -> None:
        """The limits were set from outside: what was asked about those that are larger now is answered."""
        with self._lock:
            answered = [
                question.approval
                for unit, question in self._open.items()
                if question.approval is not None and _larger(unit, self._budget.limits, question.limits)
            ]
        for approval in answered:
            with suppress(Conflict, NotFound):  # it ended in this moment by itself
                self._approvals.answer(approval, RAISE)

    def _ask(self, scope: RunScope, unit: Unit, question: _Open) -> bool:
        decision: bool | None = None
        try:
            decision = self._answer(scope, unit, question)
            return decision
        finally:
            with self._lock:
                del self._open[unit]
                if decision is False:
                    self._finished[unit] = question.limits
            question.decided.set_result(decision)

    def _answer(self, scope: RunScope, unit: Unit, question: _Open) -> bool:
        name = LIMIT_NAMES[unit]
        now, first = getattr(question.limits, name), getattr(self._first, name) or getattr(question.limits, name)
        said, more = SAID[unit].format(now), SAID[unit].format(now + first)

        def opened(approval: str) -> None:
            question.approval = approval
            if self._budget.limits is not question.limits:  # set from outside while the question was put
                self.limits_changed()

        try:
            answer = self._approvals.ask(
                scope,
                kind="limit",
                question=f"The limit of {said} is reached. Raise it to {more} and go on, or finish with what there is?",
                choices=(RAISE, FINISH),
                otherwise=FINISH,
                unit=unit,
                opened=opened,
            )
        except InvalidInput:  # it has asked too often
            return False
        if answer != RAISE:
            return False
        if not _larger(unit, self._budget.limits, question.limits):  # others may have been set meanwhile
            self._apply(name, now + first)
        return True


def _larger(unit: Unit, now: Limits, before: Limits) -> bool:
    new, old = getattr(now, LIMIT_NAMES[unit]), getattr(before, LIMIT_NAMES[unit])
    return old is not None and (new is None or new > old)
