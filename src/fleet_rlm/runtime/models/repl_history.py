"""Keeps the steps that an RLM's model sees within bounds: outputs of older cells are shortened, by rule.

DSPy sends every step again in every prompt, so that a run's prompts grow with the square of its steps. The variables
are all still in the REPL, so an older output can be printed again; the journal keeps the whole of each. What is
shortened moves on in blocks of steps, so that the beginning of the prompt, which providers cache, changes seldom.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from dspy.primitives.repl_types import REPLEntry, REPLHistory
from dspy.utils.exceptions import LMError

from fleet_rlm.runtime.models.failures import is_context_overflow

T = TypeVar("T")
MOST_CHARS: Final = 120_000
"""Of all steps together (about 30,000 tokens); a window that is smaller says so by its refusal."""
LEAST_CHARS: Final = 4_000
KEPT: Final = 3
"""The newest steps stay as they are, unless nothing else is left to shorten."""
BLOCK: Final = 4
SHORT: Final = 400
SHORTEST: Final = 80
CODE: Final = 1_500


@dataclass(frozen=True, slots=True)
class Shortened:
    """What a run's model sees less of: how many steps, and the characters of all steps before and after."""

    steps: int
    before_chars: int
    after_chars: int


class StepsInView:
    """The steps of one run as its model sees them. `tell` hears when more of them were shortened."""

    def __init__(self, tell: Callable[[Shortened], None] | None = None, *, most: int = MOST_CHARS) -> None:
        self._tell = tell
        self._most = most
        self._told = 0

    def ask(self, request: Callable[[Any], T], history: Any) -> T:
        """`request(history as the model sees it)`, again with less for as long as the provider says it is too long."""
        if not isinstance(history, REPLHistory):
            return request(history)
        while True:
            seen = self._fitted(history)
            try:
                return request(seen)
            except LMError as error:
                smaller = min(self._most, _chars(seen.entries)) // 2
                if not is_context_overflow(error) or smaller < LEAST_CHARS or _chars(seen.entries) <= LEAST_CHARS:
                    raise
                self._most = smaller

    def _fitted(self, history: REPLHistory) -> REPLHistory:
        """The history itself while it is short enough; else with as few blocks of older steps shortened as will do."""
        entries, before = history.entries, _chars(history.entries)
        if before <= self._most:
            return history
        upto = 0
        seen = entries
        while upto < len(entries) - KEPT and _chars(seen) > self._most:
            upto = min(upto + BLOCK, len(entries) - KEPT)
            seen = [_short(entry) for entry in entries[:upto]] + entries[upto:]
        if _chars(seen) > self._most:
            room = max(SHORTEST, self._most // max(1, 2 * len(entries)))
            seen = [_short(entry, room) for entry in seen]
        after = _chars(seen)
        if after >= before:
            return history
        if self._tell is not None and upto > self._told:
            self._tell(Shortened(upto - self._told, before, after))
        self._told = max(self._told, upto)
        return history.model_copy(update={"entries": seen})


def _chars(entries: list[REPLEntry]) -> int:
    return sum(len(entry.output) + len(entry.code) + len(entry.reasoning) for entry in entries)


def _short(entry: REPLEntry, chars: int = SHORT) -> REPLEntry:
    code, output = _cut(entry.code, max(CODE, chars), "# "), _cut(entry.output, chars, "")
    if code == entry.code and output == entry.output:
        return entry
    return entry.model_copy(update={"code": code, "output": output})


def _cut(text: str, chars: int, mark: str) -> str:
    if len(text) <= chars:
        return text
    tail = chars // 3
    gap = f"{mark}[... {len(text) - chars:,} characters left out; print it again if needed ...]"
    return f"{text[: chars - tail]}\n{gap}\n{text[-tail:]}"
