"""A model that runs the same cell again and again to no effect, with the answer before its eyes.

Seen with models of a few billion parameters, which then use up their iterations: such a model is told once, and the
third time the run ends with what its steps have shown, as at the end of its iterations.
"""

from __future__ import annotations

from collections.abc import Iterable

from fleet_rlm.integrations.daytona.listener import CellResult

ENOUGH = 3
"""So many times the same, and the model will not find out of it."""
_OF_THE_CODE = {
    "NameError",
    "UnboundLocalError",
    "AttributeError",
    "TypeError",
    "KeyError",
    "IndexError",
    "SyntaxError",
}
"""Errors that come again with the same code; others may come from outside of it."""


class Repeats:
    """Of one run. Two cells are the same when their code, what they showed and what they left in variables are."""

    def __init__(self) -> None:
        self._before: object = None
        self._times = 0
        self.failing = False

    def begin(self) -> None:
        """A new run begins."""
        self._before, self._times, self.failing = None, 0, False

    def add(self, code: str, shown: object, result: CellResult) -> int:
        """How many times in a row this cell has been run to no effect, this time included; 0 when it may well have one
        the next time, as after an error of something outside of the code."""
        error = result.error
        if result.status not in ("ok", "error") or (error is not None and error.class_name not in _OF_THE_CODE):
            self.begin()
            return 0
        cell = (code.strip(), shown, result.changed)
        self._times = self._times + 1 if cell == self._before else 1
        self._before, self.failing = cell, error is not None
        return self._times

    @property
    def stuck(self) -> bool:
        """Whether the run should end with what it has."""
        return self._times >= ENOUGH


def repeat_note(output_names: Iterable[str]) -> str:
    """What the model is told the second time."""
    call = f"SUBMIT({', '.join(f'{name}=...' for name in output_names)})"
    return f"(The same code showed the same as before. Once you have what the task asks for, run {call}.)"
