"""What a turn was asked before its calls, and what was told of its limits, once more in a replay.

A replay reserves nothing, so it meets no limit and spends no money: nobody is asked, and no mark is passed. What the
journal has of both is told where it was: a change of the limits and a warning before the first call that came after
it; a question in its run before the next call or child of that run, or where the run came no further.
"""

from __future__ import annotations

import threading
from collections import Counter

import msgspec

from fleet_rlm.runtime.execution import events as ev
from fleet_rlm.runtime.execution.budget import TreeBudget
from fleet_rlm.runtime.execution.ids import new_id
from fleet_rlm.runtime.execution.observer import RunScope, TurnObserver
from fleet_rlm.runtime.execution.record import Record, RecordedQuestion


class ToldAgain:
    """For one replay. Thread-safe."""

    def __init__(self, record: Record, budget: TreeBudget, observer: TurnObserver) -> None:
        self._record = record
        self._budget = budget
        self._observer = observer
        self._told = 0
        self._asked: Counter[str] = Counter()
        self._lock = threading.Lock()

    def before(self, scope: RunScope, after: tuple[int, int]) -> None:
        """A call of the run, or a child of it, begins that came `after` these (see RecordedCall)."""
        moments, questions = after
        with self._lock:
            self._tell(moments)
            self._ask(scope, questions)

    def no_further(self, scope: RunScope) -> None:
        """The run's cell ends, or the run: what it was asked by then is told."""
        run = self._record.runs.get(scope.path)
        if run is not None:
            stage = scope.places.stage
            with self._lock:
                self._ask(scope, sum(question.stage <= stage for question in run.questions))

    def rest(self) -> None:
        """The turn is over."""
        with self._lock:
            self._tell(len(self._record.moments))

    def _tell(self, until: int) -> None:
        for moment in self._record.moments[self._told : until]:
            if isinstance(moment, ev.BudgetWarned):
                self._observer.emit(moment)
                continue
            now = self._budget.limits
            same = {"depth": now.depth, "sandboxes": now.sandboxes, "wall_s": now.wall_s}  # of the whole replay
            self._budget.set_limits(msgspec.structs.replace(moment, **same), again=True)
            self._observer.budget(self._budget, now=True)
        self._told = max(self._told, until)

    def _ask(self, scope: RunScope, until: int) -> None:
        run = self._record.runs.get(scope.path)
        for question in run.questions[self._asked[scope.path] : until] if run is not None else ():
            self._observer.emit_all(_again(question), scope)
        self._asked[scope.path] = max(self._asked[scope.path], until)


def _again(question: RecordedQuestion) -> list[ev.EventData]:
    id = new_id("apr")
    told: list[ev.EventData] = [msgspec.structs.replace(question.asked, id=id)]
    if question.resolved is not None:
        told.append(msgspec.structs.replace(question.resolved, id=id, replayed=True))
    return told
