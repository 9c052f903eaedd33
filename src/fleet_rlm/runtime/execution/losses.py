"""Sandboxes that go away by themselves: what their cells had begun ends, and they go away again where a turn is run
again.

A loss is a fact from outside: the run's model was told of it, and what it said then is in the journal. So it is made
once more where the turn is run again. The cell that was lost with its sandbox runs until all that it had asked for by
then has come again, and a moment longer. Where it would end by itself or ask for more, the sandbox goes at once.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Final

from fleet_rlm.errors import TreeStopped
from fleet_rlm.runtime.execution import events as ev
from fleet_rlm.runtime.execution.observer import RunScope
from fleet_rlm.runtime.execution.paths import Places
from fleet_rlm.runtime.execution.stops import UNHEARD, Stop

Ask = tuple[str, str, int]
"""What a cell asked for: the key of a call or tool in the record, or what `begun` and `ended` give."""
LOOK_S: Final = 0.02
NO_PROGRESS_S: Final = 10.0
"""So long a cell that computes nothing waits for what it had asked for, before it is lost all the same."""
MOMENT_S: Final = 0.1
"""How long the cell goes on after the last of what it asked for."""


def begun(path: str) -> Ask:
    """That a child run began."""
    return path, "run", 0


def ended(path: str) -> Ask:
    """That it ended."""
    return path, "run", 1


@dataclass(slots=True)
class RecordedLoss:
    """A loss in a run, after `cells` cells had begun. `code`: of the last of them, if that was lost too. `asked`: what
    it had asked for by then. `went_on`: the run was told and took another step. `ended`: it failed with it."""

    reason: str
    cells: int
    code: ev.Text | None = None
    asked: set[Ask] = field(default_factory=set[Ask])
    went_on: bool = False
    ended: bool = False


class LossReader:
    """Reads the losses of one run from its events, in order."""

    def __init__(self) -> None:
        self.losses: list[RecordedLoss] = []
        self._cells = 0
        self._open: ev.CellStarted | None = None
        self._lost_in: ev.CellStarted | None = None
        self._asked: set[Ask] = set()
        self._steps = 0

    def asks(self, ask: Ask) -> None:
        """The run asks for something."""
        self._asked.add(ask)
        if self._open is not None and self._open is self._lost_in:  # it had begun when the loss was told
            self.losses[-1].asked.add(ask)

    def ends(self, path: str) -> None:
        """A run that it had asked for has ended; where that is after a loss, because of it."""
        self._asked.add(ended(path))

    def take(self, data: ev.EventData) -> None:
        """An event of the run."""
        match data:
            case ev.CellStarted():
                self._cells, self._open = self._cells + 1, data
                self._asked.clear()
                self._goes_on()
            case ev.CellFinished():
                self._open = None
            case ev.IterationStarted():
                self._goes_on()
            case ev.CallStarted(place=""):
                self._steps += 1
            case ev.SandboxLost(reason=reason):
                self._lost_in = self._open
                code = None if self._open is None else self._open.code
                self.losses.append(RecordedLoss(reason, self._cells, code, set(self._asked) if code else set()))
                self._steps = 0
            case ev.RunFinished():
                self._over(data)
            case _:
                pass

    def _goes_on(self) -> None:
        for loss in self.losses:
            loss.went_on = True

    def _over(self, data: ev.RunFinished) -> None:
        """Where nothing but a last word came after a loss, it was a limit that ended the run and its sandbox."""
        if self.losses and data.status == "failed":
            self.losses[-1].ended = True
        if self._steps > (data.status == "limit" and data.limit != "iterations"):
            self._goes_on()


@dataclass(slots=True, eq=False)
class Loss:
    """A loss that is to come: before the cell that begins, or `inside` it, when it has asked for all of `asked` and
    `has_begun`. `final`: the run had no other sandbox after it. Who runs the cell sets `lose`, and what tells whether
    it `computes`, and waits for nobody."""

    reason: str
    inside: bool
    final: bool
    asked: frozenset[Ask]
    has_come: Callable[[Ask], bool]
    has_begun: Callable[[], bool]
    lose: Callable[[], None] = lambda: None
    computes: Callable[[], bool] = lambda: False
    over: threading.Event = field(default_factory=threading.Event)

    def watch(self) -> None:
        """Lose the sandbox when its moment has come, unless the cell is over before. A cell that waits for what does
        not come has come as far as it can."""
        left, since = -1, time.monotonic()
        while (now := sum(not self.has_come(ask) for ask in self.asked)) or not self.has_begun():
            if now != left or self.computes():
                left, since = now, time.monotonic()
            if time.monotonic() > since + NO_PROGRESS_S:
                break
            if self.over.wait(LOOK_S):
                return
        if not self.over.wait(MOMENT_S):
            self.lose()


@dataclass(slots=True, eq=False)
class CellWork:
    """The cell of a run that threads work for. `loss`: it is to be lost again. `lost`: its sandbox went away, so nobody
    hears what it gets: the runs `below` are stopped, and nothing more is begun. A request that was sent is paid, and
    who asks the same meanwhile may have its answer."""

    run: str
    loss: Loss | None = None
    lost: bool = False
    below: list[Stop] = field(default_factory=list[Stop])

    def lose(self) -> None:
        """Its sandbox is gone."""
        self.lost = True
        for stop in list(self.below):
            stop.set(TreeStopped("cancelled"), UNHEARD)

    def adopt(self, stop: Stop) -> None:
        """A run begins for it."""
        self.below.append(stop)
        if self.lost:
            stop.set(TreeStopped("cancelled"), UNHEARD)


CELL: ContextVar[CellWork | None] = ContextVar("fleet_cell_work", default=None)


FAILED_THEN: ContextVar[bool] = ContextVar("fleet_failed_then", default=False)
"""Whether the tool call that this thread does again had failed: it may have met the loss of its sandbox."""


def adopted(scope: RunScope) -> None:
    """A run begins; it ends with the cell that asked for it."""
    work = CELL.get()
    if work is not None and scope.parent is not None and work.run == scope.parent.id:
        work.adopt(scope.stop)


def check_heard(scope: RunScope) -> None:
    """What this thread is about to begin for a cell of the run. Errors: TreeStopped when the cell was lost."""
    work = CELL.get()
    if work is not None and work.lost and work.run == scope.id:
        raise TreeStopped("cancelled")


def losing(scope: RunScope) -> Loss | None:
    """The loss of the run's cell that this thread works for, where that is to be lost again."""
    work = CELL.get()
    return work.loss if work is not None and work.run == scope.id else None


def refuse_more(scope: RunScope) -> None:
    """What this thread asks for in the name of the run is not recorded. Errors: TreeStopped in a cell that is to be
    lost again: its sandbox goes now, as the recorded one had come no further."""
    loss = losing(scope)
    if loss is not None:
        loss.lose()
        raise TreeStopped("cancelled")


class LossesAgain:
    """The losses of one run that is run again, each once. `has_come` tells of an ask whether it came again."""

    def __init__(self, losses: Collection[RecordedLoss], places: Places, has_come: Callable[[Ask], bool]) -> None:
        self._left = list(losses)
        self._places = places
        self._has_come = has_come

    def between(self) -> str | None:
        """The reason of a loss that is to come before any more code runs."""
        found = (loss for loss in self._left if loss.code is None and loss.cells == self._places.cells > 0)
        loss = next(found, None)
        if loss is None:
            return None
        self._left.remove(loss)
        return loss.reason

    def next(self, code: Callable[[], ev.Text]) -> Loss | None:
        """What is to come of the cell that begins with this `code`; of other code nothing is known."""
        cells = self._places.cells
        for loss in self._left:
            inside = loss.code is not None
            if loss.cells == cells + inside > 0:
                self._left.remove(loss)
                if inside and loss.code != code():
                    return None
                has_begun = lambda: self._places.cells > cells  # noqa: E731
                final = loss.ended and not loss.went_on
                return Loss(loss.reason, inside, final, frozenset(loss.asked), self._has_come, has_begun)
        return None


def newer(mine: list[RecordedLoss], older: list[RecordedLoss], *, whole: bool) -> list[RecordedLoss]:
    """The losses of a run that was run again, which begin with those of before: as far as it came (`whole`: to its
    end), then those of before, as long as the run had gone on then."""
    if whole:
        return mine
    known = [loss for loss in older if loss.went_on]
    for again, before in zip(mine, known, strict=False):
        again.went_on = again.went_on or before.went_on
    return max(mine, known, key=len)
