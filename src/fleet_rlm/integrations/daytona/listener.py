"""What an interpreter tells about its sandbox and its cells, and to whom."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

CellStatus = Literal["ok", "error", "submitted", "interrupted", "lost"]
StreamName = Literal["stdout", "stderr"]


@dataclass(frozen=True, slots=True)
class CellLimits:
    """Bounds of every cell. Sizes are bytes; `wall_s` None means: as long as the turn lasts.

    `output_bytes` is what is kept of stdout and stderr together (the first half, and the end of each).
    `message_bytes` bounds one value on its way out of the sandbox. After SIGINT a cell has `grace_s` to end.
    """

    wall_s: float | None = None
    output_bytes: int = 8 << 20
    message_bytes: int = 64 << 20
    grace_s: float = 2.0


@dataclass(frozen=True, slots=True)
class CellError:
    """An exception of the guest. `line` is the 1-based line of the cell; `traceback` begins at the cell."""

    class_name: str
    message: str
    line: int | None = None
    traceback: str | None = None


@dataclass(frozen=True, slots=True)
class VariableChange:
    """A variable that the cell made, replaced or grew. `size` is its length where it has one.

    `text` is given for the variable named `answer` alone: a string itself, another value as JSON, at most 20,000
    characters of it.
    """

    name: str
    type: str
    size: int | None
    preview: str
    text: str | None = None


@dataclass(frozen=True, slots=True)
class CellResult:
    """How a cell ended. `value` is the repr of its last expression; `ms` is time inside the sandbox.

    `reads`: by context, the characters [start, end) that the code looked at. `batched` sub-calls of loops were made
    side by side. `handles`: the submitted outputs with `$slice` in place of each piece of a context, if there are any.
    They come from the sandbox and are not to be trusted.
    """

    status: CellStatus
    stdout: str = ""
    stderr: str = ""
    value: str | None = None
    error: CellError | None = None
    changed: tuple[VariableChange, ...] = ()
    ms: float = 0.0
    truncated: bool = False
    reads: Mapping[str, tuple[tuple[int, int], ...]] = field(default_factory=dict[str, tuple[tuple[int, int], ...]])
    batched: int = 0
    handles: Any = None


@dataclass(frozen=True, slots=True)
class Restarted:
    """A new sandbox after a loss: why the old one went, and the guest's variables that went with it.

    `epoch` counts the sandboxes of an interpreter from 1. The inputs are there again; no cell was run again.
    """

    reason: str
    lost: tuple[str, ...]
    epoch: int

    def __str__(self) -> str:
        names = ", ".join(self.lost[:40]) + (f" and {len(self.lost) - 40} more" if len(self.lost) > 40 else "")
        gone = f"These variables are gone: {names}." if self.lost else "No variables of yours were in it."
        return (
            f"the sandbox was lost ({self.reason}) and a new one was started. {gone} Inputs and tools are there again."
        )


class CellListener(Protocol):
    """Told about sandboxes and cells by the thread that runs `execute`, tools by their own threads. Be quick."""

    def sandbox_requested(self, id: str, provider: str) -> None: ...
    def sandbox_ready(self, id: str, sandbox_id: str, provider: str, isolation: str, ms: float) -> None: ...
    def sandbox_lost(self, id: str, reason: str) -> None: ...
    def sandbox_released(self, id: str) -> None: ...
    def cell_started(self, cell: str, code: str) -> None: ...
    def cell_output(self, cell: str, stream: StreamName, text: str) -> None: ...
    def cell_finished(self, cell: str, result: CellResult) -> None: ...
    def tool_scope(self, cell: str, name: str, call_id: str) -> AbstractContextManager[None]: ...
