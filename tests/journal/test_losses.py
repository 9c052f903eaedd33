"""What the journal tells of lost sandboxes: which loss the run went on from, and what its cell had asked for."""

from __future__ import annotations

import pytest

from fleet_rlm.runtime.execution import events as ev
from fleet_rlm.runtime.execution.losses import LossesAgain, LossReader, RecordedLoss, newer
from fleet_rlm.runtime.execution.paths import Places

CODE, OTHER = ev.Text(head="x = 1", bytes=5), ev.Text(head="x = 2", bytes=5)
STEP = ev.CallStarted(id="cal_1", role="root", model="m", request="r", prompt=CODE)
CELL = ev.CellStarted(id="cel_1", code=CODE)
LOST = ev.SandboxLost(id="sbx_1", reason="gone")
AGAIN = ev.IterationStarted(id="itr_2", n=2, limit=20)


def cell(status: str) -> ev.CellFinished:
    return ev.CellFinished(id="cel_1", status=status, ms=1.0, output_chars=0, shown=0)  # pyright: ignore


def end(status: str, limit: str | None = None) -> ev.RunFinished:
    return ev.RunFinished(status=status, usage=ev.Usage(), limit=limit)  # pyright: ignore


def read(*events: ev.EventData) -> RecordedLoss:
    reader = LossReader()
    for event in events:
        reader.take(event)
    (loss,) = reader.losses
    return loss


@pytest.mark.parametrize(
    ("events", "inside", "went_on", "ended"),
    [
        ((STEP, CELL, LOST, cell("lost"), AGAIN), True, True, False),
        ((STEP, CELL, LOST, cell("lost"), STEP, end("ok")), True, True, False),
        ((STEP, CELL, cell("ok"), LOST, AGAIN, STEP, CELL), False, True, False),
        ((STEP, CELL, LOST, cell("lost"), end("failed")), True, False, True),
        # A cell that is deaf at the deadline loses its sandbox; after that comes a last word or none.
        ((STEP, CELL, LOST, cell("lost"), STEP, end("limit", "wall")), True, False, False),
        ((STEP, CELL, LOST, cell("lost"), end("limit", "wall")), True, False, False),
        ((STEP, CELL, LOST, cell("lost"), STEP, end("limit", "iterations")), True, True, False),
        # Its process died: the recovery ends the cell before the sandbox.
        ((STEP, CELL, cell("lost"), LOST, end("interrupted")), False, False, False),
        ((STEP, CELL, LOST, cell("lost"), STEP, end("cancelled")), True, True, False),
    ],
)
def test_what_a_loss_was(events: tuple[ev.EventData, ...], inside: bool, went_on: bool, ended: bool) -> None:
    loss = read(*events)
    assert (loss.code is not None, loss.went_on, loss.ended) == (inside, went_on, ended)
    assert (loss.reason, loss.cells) == ("gone", 1)


def test_a_loss_knows_what_its_cell_had_asked_for() -> None:
    reader = LossReader()
    reader.asks(("root", "step", 0))
    reader.take(CELL)
    reader.asks(("root", "before", 0))
    reader.take(LOST)
    reader.asks(("root", "on its way", 0))
    reader.ends("root/below")
    reader.take(cell("lost"))
    reader.asks(("root", "after", 0))
    assert reader.losses[0].asked == {("root", "before", 0), ("root", "on its way", 0)}


def again(*losses: RecordedLoss) -> tuple[LossesAgain, Places]:
    places = Places("root")
    return LossesAgain(losses, places, lambda _: True), places


def test_a_loss_comes_in_its_cell_alone_and_once() -> None:
    losses, places = again(RecordedLoss("gone", 2, CODE))
    assert losses.next(lambda: CODE) is None
    places.next_cell()
    loss = losses.next(lambda: CODE)
    assert loss is not None and loss.inside and not loss.has_begun()
    places.next_cell()
    assert loss.has_begun() and losses.next(lambda: CODE) is None


def test_other_code_keeps_its_sandbox() -> None:
    losses, _ = again(RecordedLoss("gone", 1, CODE))
    assert losses.next(lambda: OTHER) is None and losses.next(lambda: CODE) is None


def test_a_loss_between_two_cells_comes_before_the_second() -> None:
    losses, places = again(RecordedLoss("at the start", 0), RecordedLoss("between", 1))
    assert losses.between() is None and losses.next(lambda: CODE) is None
    places.next_cell()
    assert losses.between() == "between" and losses.between() is None


def test_a_run_that_was_run_again_has_its_newest_losses() -> None:
    first, second, last = RecordedLoss("1", 1, went_on=True), RecordedLoss("2", 2, went_on=True), RecordedLoss("3", 3)
    assert newer([RecordedLoss("1", 1)], [first, second, last], whole=False) == [first, second]
    assert newer([RecordedLoss("1", 1)], [first, second], whole=True) == [RecordedLoss("1", 1)]
    (mine,) = newer([RecordedLoss("1", 1)], [first], whole=False)
    assert mine.went_on, "the older one tells what came after it"
