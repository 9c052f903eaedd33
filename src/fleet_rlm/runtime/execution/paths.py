"""Names of places in a turn's tree that are the same whenever the turn is run again, whatever ran first.

The root run is `root`. A child's path is its parent's, the place there where it was asked for, the function, and a
short hash of what was asked: `root/c2.rlm_query_batched:3fa9c1d2[17]` is item 17 of a batch in the second cell,
`root/s1.0.delegate:77aa01bc` what tool call 0 of the agent's first step delegated. Asked again in the same place with
the same words, it gets `#1`, `#2` and so on. The hash makes the order of a cell's threads not matter.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

ROOT = "root"
DIGEST_CHARS = 8

PASSING: ContextVar[str] = ContextVar("fleet_passing", default="")
"""A part of the prompt that is written now which says how a run stands (what is left of the budget): it is never the
same again, so it is no part of what a request is known by."""
CALL_PLACE: ContextVar[str] = ContextVar("fleet_call_place", default="")
"""Which of the calls of a cell this thread works for, and which item of a batch: `7.3`. The order in which code asks
is the same when it runs again, that in which threads get to a provider is not."""
_ADDRESS = re.compile(r"\b0x[0-9a-f]{6,16}\b")
_tool_place: ContextVar[tuple[str, str] | None] = ContextVar("fleet_tool_place", default=None)


class Places:
    """Where a run has come to: its cells and steps so far, and how often each thing was asked for. Thread-safe."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.cells = 0
        self.steps = 0
        self.inside = False
        self._seen: Counter[str] = Counter()
        self._lock = threading.Lock()

    def next_cell(self) -> int:
        """The ordinal (from 1) of the cell that begins."""
        with self._lock:
            self.cells += 1
            self.inside = True
            return self.cells

    def cell_done(self) -> None:
        """The cell has ended."""
        with self._lock:
            self.inside = False

    @property
    def stage(self) -> int:
        """How far the run is: 1 in its first cell, 2 after it (or after an agent's first step), and so on."""
        with self._lock:
            return 2 * (self.cells + self.steps) - self.inside

    def next_step(self) -> int:
        """The ordinal (from 1) of the agent's step that begins."""
        with self._lock:
            self.steps += 1
            return self.steps

    @property
    def here(self) -> str:
        """The place of this thread in the run: the tool call that it works for, else the newest cell."""
        found = _tool_place.get()
        if found is not None and found[0] == self.path:
            return found[1]
        return f"c{self.cells}"

    def occurrence(self, key: str) -> int:
        """How often `key` was asked for before, in this run."""
        with self._lock:
            self._seen[key] += 1
            return self._seen[key] - 1

    def count(self, key: str) -> int:
        """How often `key` was asked for so far, in this run."""
        with self._lock:
            return self._seen[key]

    def branch(self, function: str, asked: Any) -> str:
        """The place of what `function` is asked for now: what a child's path adds to its parent's."""
        name = f"{self.here}.{function}:{digest(asked)}"
        again = self.occurrence(name)
        return f"{name}#{again}" if again else name

    def child(self, branch: str) -> str:
        """The path of a child run."""
        return f"{self.path}/{branch}"


@contextmanager
def tool_place(path: str, step: int, index: int) -> Generator[str]:
    """This thread works for tool call `index` of step `step` of the run at `path`. Gives the place."""
    place = f"s{step}.{index}"
    token = _tool_place.set((path, place))
    try:
        yield place
    finally:
        _tool_place.reset(token)


def _shown(value: object) -> str:
    """An object without its address, which is another one each time."""
    return _ADDRESS.sub("0x", repr(value))


def digest(asked: Any) -> str:
    """A short hash of a JSON-like value."""
    body = json.dumps(asked, sort_keys=True, ensure_ascii=False, default=_shown)
    return hashlib.sha256(body.encode("utf-8", "surrogatepass")).hexdigest()[:DIGEST_CHARS]
