"""Two turns beside each other."""

from __future__ import annotations

from typing import Literal

from fleet_rlm.api.schemas.values import Shape, TurnState, Usage


class TurnSide(Shape):
    """One of the two turns; `answer` is null until it has one."""

    session: str
    turn: str
    question: str
    model: str
    status: TurnState
    answer: str | None
    usage: Usage
    runs: int
    iterations: int


class RunSide(Shape):
    """A run of one of them. `cells`: the code of its cells; `replayed`: it was taken whole from an earlier turn."""

    run: str
    task: str
    kind: Literal["agent", "rlm", "batch", "direct"]
    model: str
    status: TurnState
    usage: Usage
    output: str | None
    cells: list[str]
    replayed: bool


class RunPair(Shape):
    """A place of the recursion tree in both turns; null where there is no run at it."""

    path: str
    change: Literal["same", "changed", "added", "removed"]
    a: RunSide | None
    b: RunSide | None


class TurnDiff(Shape):
    """The two turns, and their runs in pairs."""

    a: TurnSide
    b: TurnSide
    runs: list[RunPair]
