"""At the soft deadline of a turn the cells that only compute are interrupted, so that their runs have their last words.

The seconds that are held back (budget.py) are of use only to a run whose model can still be asked. A cell that waits
for the host needs nothing: what it asks for ends or is refused. One that computes or sleeps would go on until the hard
deadline kills it, and its run could say nothing but the value of its variable `answer`. One that is deaf to that is
killed after half of what is left, so that the other half is there for the last word. With `at_limit` "ask" the person
is asked first, as where a call meets the deadline.
"""

from __future__ import annotations

import threading
from concurrent.futures import wait
from dataclasses import dataclass

from fleet_rlm.errors import TreeStopped
from fleet_rlm.runtime.execution.budget import HELD_BACK_FRACTION, HELD_BACK_S, TreeBudget
from fleet_rlm.runtime.execution.cells import CellRecorder
from fleet_rlm.runtime.execution.observer import RunScope, entered
from fleet_rlm.runtime.execution.run_interpreter import RunInterpreter

LOOK_S = 1.0
"""The clock stands still while a person is asked, and limits change: the deadline is looked up again."""
BUSY_LOOK_S = 0.1
"""After the soft deadline, of which at most HELD_BACK_S are left."""


@dataclass(frozen=True, slots=True, eq=False)
class _Watched:
    scope: RunScope
    recorder: CellRecorder
    interpreter: RunInterpreter


class LastMoments:
    """Watches the cells of one turn. Thread-safe; its thread lives while there are cells and a time limit."""

    def __init__(self, budget: TreeBudget) -> None:
        self._budget = budget
        self._lock = threading.Lock()
        self._watched: dict[RunInterpreter, _Watched] = {}
        self._interrupted: set[str] = set()
        self._runs = False

    def watch(self, scope: RunScope, recorder: CellRecorder, interpreter: RunInterpreter) -> None:
        """An interpreter begins; until `forget`."""
        with self._lock:
            self._watched[interpreter] = _Watched(scope, recorder, interpreter)
        self.look()

    def forget(self, recorder: CellRecorder) -> None:
        """It has ended. Idempotent."""
        with self._lock:
            self._watched = {key: each for key, each in self._watched.items() if each.recorder is not recorder}

    def look(self) -> None:
        """There may be a time limit now."""
        with self._lock:
            if self._runs or not self._watched or self._budget.limits.wall_s is None:
                return
            self._runs = True
        threading.Thread(target=self._run, name="fleet-last-moments", daemon=True).start()

    def _run(self) -> None:
        try:
            while (seconds := self._step()) is not None:
                wait((self._budget.stopped,), seconds)
        except TreeStopped:  # while the person was asked
            with self._lock:
                self._runs = False

    def _step(self) -> float | None:
        """Do what is due; seconds until the next look, None when there is nothing to watch."""
        wall = self._budget.limits.wall_s
        with self._lock:
            if wall is None or not self._watched or self._budget.stopped.done():
                self._runs = False
                return None
            watched = list(self._watched.values())
        left = wall - self._budget.usage().wall_s
        computing = left - min(HELD_BACK_S, wall * HELD_BACK_FRACTION)
        if computing > 0:
            return min(computing + 0.001, LOOK_S)
        busy = [each for each in watched if each.recorder.computes and each.scope.cell not in self._interrupted]
        if busy and not self._is_raised(busy[0].scope):
            for each in busy:
                self._interrupted.add(each.scope.cell or "")
                each.interpreter.interrupt(max(0.0, left / 2), TreeStopped("limit", "wall"))
        return BUSY_LOOK_S

    def _is_raised(self, scope: RunScope) -> bool:
        """Whether the time limit is another now, by the answer of a person. Errors: TreeStopped."""
        seen, ask = self._budget.limits, self._budget.on_limit
        if ask is None:
            return False
        with entered(scope):
            return ask("wall", seen)
