"""What was stopped, once more where the turn is run again.

A run that a person stopped, and in a replay a whole turn, when every run in it has come as far as it had come: what
ran side by side is as far apart as the machine likes, so a stop at the first run that reaches its place would cut the
others short of theirs. What was stopped with a lost cell goes with the cell.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection
from functools import partial

from fleet_rlm.errors import TreeStopped
from fleet_rlm.runtime.execution import events as ev
from fleet_rlm.runtime.execution.budget import TreeBudget
from fleet_rlm.runtime.execution.observer import RunScope
from fleet_rlm.runtime.execution.record import WHOLE, Key, Record, RecordedRun
from fleet_rlm.runtime.execution.stops import STOPPED_ALONE, UNHEARD

_BY_ITSELF = ("ok", "failed", "limit")
STOP_AGAIN_S = 0.1
"""How long a cell or a call that was stopped is under way again before it is."""
LOOK_S = 0.02
NO_PROGRESS_S = 10.0
"""A run that cannot come so far (its cell computes longer than then) does not hold up the stop for ever."""


class StopTogether:
    """Of these runs. `stop` ends them; `claimed` tells whether a recorded call was asked for again; `over` are those
    that have ended already. Thread-safe."""

    def __init__(
        self,
        record: Record,
        runs: Collection[RecordedRun],
        stop: Callable[[], object],
        claimed: Callable[[Key], bool],
        over: Collection[str] = (),
    ) -> None:
        self._stop = stop
        self._claimed = claimed
        ends = {run.path: run.finished.status if run.finished else "interrupted" for run in runs}
        self._missing = set(ends).difference(over)
        """Runs that have not come as far yet."""
        self._calls = [key for key, call in record.calls.items() if ends.get(call.path) in ("cancelled", "interrupted")]
        self._lock = threading.Lock()
        self._watches = False

    def reached(self, path: str) -> None:
        """A run is where it was stopped."""
        self.over(path)
        with self._lock:
            begins, self._watches = not self._watches, True
        if begins:
            threading.Thread(target=self._watch, name="fleet-stop-again", daemon=True).start()

    def over(self, path: str) -> None:
        """A run has ended, as it did then."""
        with self._lock:
            self._missing.discard(path)

    def _watch(self) -> None:
        last, since = -1, time.monotonic()
        while True:
            time.sleep(LOOK_S)
            with self._lock:
                left = len(self._missing) + sum(not self._claimed(key) for key in self._calls)
            if left != last:
                last, since = left, time.monotonic()
            if left == 0 or time.monotonic() > since + NO_PROGRESS_S:
                self._stop()
                return


class StopsAgain:
    """The stops of one turn that is run again. `replays`: as a replay does, which shows all of them. `same_models`: its
    runs are asked by the models that asked them then, else they are meant to become others. `edited` tells of a run's
    path whether an edit lies in it."""

    def __init__(
        self,
        record: Record,
        budget: TreeBudget,
        claimed: Callable[[Key], bool],
        edited: Callable[[str], bool],
        *,
        replays: bool,
        same_models: bool,
    ) -> None:
        self._record = record
        self._edited = edited
        self._claimed = claimed
        self._replays = replays
        self._same_models = same_models
        self.unheard: set[str] = set()
        """Runs that began for cells which are to be lost again."""
        self._together = StopTogether(record, record.runs.values(), partial(_soon, budget.stop), claimed)
        self._alone: dict[str, StopTogether] = {}
        self._over: set[str] = set()
        self._lock = threading.Lock()

    def soon(self, scope: RunScope) -> bool:
        """Where the recorded cell or call was stopped, this one is, when what runs beside it has begun too; tells
        whether it will be."""
        stop = self._recorded(scope, scope.places.stage)
        if stop is not None:
            stop()
        return stop is not None

    def cell_over(self, scope: RunScope) -> None:
        """A cell has ended, maybe before its stop came, where the recorded one was stopped: its run comes no further.

        Errors: TreeStopped there.
        """
        self.wait(scope, WHOLE if self._came_no_further(scope) else scope.places.stage - 1)

    def wait(self, scope: RunScope, stage: int) -> None:
        """Where the recorded run was stopped, this one is. Errors: TreeStopped there."""
        stop = self._recorded(scope, stage)
        if stop is not None:
            stop()
            scope.stop.future.result()
            scope.stop.check()

    def run_over(self, scope: RunScope) -> None:
        """A run has ended."""
        with self._lock:
            self._over.add(scope.path)
            stops = [self._together, *self._alone.values()]
        for each in stops:
            each.over(scope.path)

    def stopped_in(self, scope: RunScope, stage: int) -> bool:
        """Whether what was under way there was stopped, and will be again: also by a deadline, which comes alone."""
        run = self._record.runs.get(scope.path)
        cut = self._replays and self._record.exhausted[:1] == ["wall"]
        return self._recorded(scope, stage) is not None or (cut and run is not None and stage > run.done)

    def _came_no_further(self, scope: RunScope) -> bool:
        """Whether the recorded run was stopped behind this cell: it had ended its cell, and did nothing more."""
        run = self._record.runs.get(scope.path)
        if run is None or run.finished is None or run.finished.status not in ("cancelled", "interrupted"):
            return False
        if run.cells > scope.places.cells or any(asked.stage >= scope.places.stage for asked in run.questions):
            return False
        steps = [key for key, call in self._record.calls.items() if call.path == run.path and not call.started.place]
        return all(self._claimed(key) for key in steps)

    def _recorded(self, scope: RunScope, stage: int) -> Callable[[], None] | None:
        """What stops again what was stopped when the run stood here: a run that a person stopped, with all below it; in
        a replay also the turn that was cancelled, or ended with its process. None where the recorded run had come
        further, or is meant to become another."""
        run = self._record.runs.get(scope.path)
        if run is None or stage <= run.done or not self._same_models:
            return None
        line = [scope]
        while line[-1].parent is not None:
            line.append(line[-1].parent)
        for each in reversed(line):
            end = self._end_of(each.path)
            why = None if end is None else end.error
            if (why == UNHEARD and each.path in self.unheard) or self._left_over(each):
                return lambda: None  # the loss of the cell stops it again, or the end of its parent
            if why == STOPPED_ALONE and not self._edited(each.path):
                return partial(self._alone_of(each).reached, scope.path)
        end = self._end_of(line[-1].path)
        ended_early = end is not None and end.status in ("cancelled", "interrupted")
        return partial(self._together.reached, scope.path) if self._replays and ended_early else None

    def _alone_of(self, scope: RunScope) -> StopTogether:
        """The stop of one run with all below it."""
        with self._lock:
            if scope.path not in self._alone:
                runs = [self._record.runs[scope.path], *self._record.below(scope.path)]
                stop = partial(_soon, scope.stop.set)
                self._alone[scope.path] = StopTogether(self._record, runs, stop, self._claimed, self._over)
            return self._alone[scope.path]

    def _left_over(self, scope: RunScope) -> bool:
        """Whether nobody waited for the run any more, and it was stopped with the end of the run above it."""
        if scope.parent is None:
            return False
        end, above = self._end_of(scope.path), self._end_of(scope.parent.path)
        if end is None or above is None or end.error is not None:
            return False
        return end.status == "cancelled" and above.status in _BY_ITSELF

    def _end_of(self, path: str) -> ev.RunFinished | None:
        run = self._record.runs.get(path)
        return None if run is None else run.finished


def _soon(stop: Callable[[TreeStopped], object]) -> None:
    timer = threading.Timer(STOP_AGAIN_S, stop, (TreeStopped("cancelled"),))
    timer.daemon = True
    timer.start()
