"""The live tree on a terminal (stderr), drawn from a `RunTree` a few times a second."""

from __future__ import annotations

import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from fleet_rlm.cli.plain import clock, count, one_line
from fleet_rlm.cli.tree import Row, RunTree, Totals
from fleet_rlm.runtime.execution.views import RunView

_SIGNS: Final = {
    "running": ("●", "cyan"),
    "ok": ("✓", "green"),
    "limit": ("◐", "yellow"),
    "failed": ("✗", "red"),
    "cancelled": ("■", "magenta"),
    "interrupted": ("■", "magenta"),
}
_FRAMES_PER_SECOND: Final = 8
_TASK_CHARS: Final = 300
_STOP: Final = "   Ctrl-C stops"


class _Picture:
    """A renderable that looks at the tree whenever rich asks."""

    def __init__(self, tree: RunTree, console: Console, *, moving: bool) -> None:
        self._tree, self._console, self._moving = tree, console, moving

    def __rich__(self) -> RenderableType:
        now_ms = int(time.time() * 1000)
        table = Table.grid(padding=(0, 2), expand=True)
        table.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
        table.add_column(justify="right", no_wrap=True)
        for row in self._tree.rows(limit=max(4, self._console.height - 4)):
            table.add_row(*_cells(row, now_ms))
        return Group(table, Text(totals_line(self._tree.totals()) + _STOP, style="dim")) if self._moving else table


def _cells(row: Row, now_ms: int) -> tuple[Text, Text]:
    line = Text(row.rails, style="dim")
    if row.run is None:
        return line.append(row.folded), Text()
    sign, colour = _SIGNS.get(row.run.status, ("?", "white"))
    line.append(f"{sign} ", style=colour).append(f"{row.run.kind} ", style="bold not dim")
    site = row.run.site
    if site and site.of > 1:
        line.append(f"{site.index + 1}/{site.of} ")
    line.append(one_line(row.run.task, _TASK_CHARS), style="not dim")
    return line, Text(_figures(row.run, now_ms), style="dim")


def _figures(run: RunView, now_ms: int) -> str:
    parts = [count(run.usage.calls, "call")] if run.usage.calls else []
    if run.iteration and run.finished_ts is None:
        parts.insert(0, f"step {run.iteration}" + (f"/{run.max_iterations}" if run.max_iterations else ""))
    until = now_ms if run.finished_ts is None else run.finished_ts
    return "  ".join([*parts, clock(max(0, until - run.started_ts) / 1000)])


def totals_line(totals: Totals) -> str:
    """The turn in one line: `9 runs (2 running) · 24 calls · 12,400 tokens · 3 sandboxes`."""
    if not totals.runs:
        return "starting"
    runs = count(totals.runs, "run") + (f" ({totals.running} running)" if totals.running else "")
    parts = [runs, count(totals.calls, "call"), count(totals.tokens, "token")]
    if totals.cost_usd:
        parts.append(f"${totals.cost_usd:.4f}")
    if totals.live_sandboxes:
        parts.append(count(totals.live_sandboxes, "sandbox").replace("sandboxs", "sandboxes"))
    return " · ".join(parts)


class LiveTree:
    """The tree on stderr while it moves."""

    def __init__(self, tree: RunTree) -> None:
        self._tree = tree
        self._console = Console(file=sys.stderr)
        self._live = self._new()

    def _new(self) -> Live:
        picture = _Picture(self._tree, self._console, moving=True)
        return Live(picture, console=self._console, refresh_per_second=_FRAMES_PER_SECOND, redirect_stdout=False)

    @contextmanager
    def paused(self) -> Generator[None]:
        """Off the screen until the block ends, then drawn anew below what the block wrote."""
        self._live.transient = True
        self._live.stop()
        try:
            yield
        finally:
            self._live = self._new()  # a stopped one would draw over what stands where it stood
            self._live.start(refresh=True)

    @contextmanager
    def drawn(self) -> Generator[LiveTree]:
        """Until the block ends; the last picture stays on the screen."""
        self._live.start(refresh=True)
        try:
            yield self
            self._live.update(_Picture(self._tree, self._console, moving=False), refresh=True)
        finally:
            self._live.stop()
