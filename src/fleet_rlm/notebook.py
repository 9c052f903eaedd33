"""A turn as HTML for a notebook cell: the answer, the recursion tree while it grows, and what was used.

Everything shown was written by models or came out of sandboxes, so all of it is escaped, and each text is bounded.
The colours are the notebook's own (`currentColor` and opacity), so light and dark both work. No dependency: IPython is
imported only where it runs already.
"""

from __future__ import annotations

import html
import sys
from collections.abc import Callable
from typing import Any, Final, Protocol

from fleet_rlm.runtime.execution.events import Usage
from fleet_rlm.runtime.execution.views import RunView, Workbench

MAX_ROWS: Final = 200
"""Rows of the tree that a cell shows; the journal has them all."""
TASK_CHARS: Final = 120
ANSWER_CHARS: Final = 20_000

_SIGNS: Final = {"running": "◌", "ok": "●", "limit": "◐", "failed": "✕", "cancelled": "○", "interrupted": "○"}
_BOX: Final = "font-family:ui-monospace,monospace;font-size:12px;line-height:1.5"


class Cell(Protocol):
    """A place in a notebook whose HTML can be replaced."""

    def show(self, markup: str) -> None:
        """Show this in place of what was there."""
        ...


def here() -> Cell | None:
    """The output of the notebook cell that runs now, or None outside of a notebook."""
    shell = sys.modules.get("IPython")
    if shell is None or shell.get_ipython() is None:
        return None
    from IPython.display import HTML, display  # pyright: ignore[reportMissingImports] - it is loaded already

    return _NotebookCell(display(HTML(""), display_id=True), HTML)


class _NotebookCell:
    def __init__(self, handle: Any, kind: Callable[[str], Any]) -> None:
        self._handle = handle
        self._kind = kind

    def show(self, markup: str) -> None:
        self._handle.update(self._kind(markup))


def turn_html(bench: Workbench, turn: str, *, answer: str | None, status: str, usage: Usage | None) -> str:
    """A turn: its answer, its tree and its usage."""
    parts = [f'<div style="{_BOX}">']
    if answer is not None:
        parts.append(f'<div style="white-space:pre-wrap;font-size:13px">{_text(answer, ANSWER_CHARS)}</div>')
    parts.append(f'<details open><summary style="opacity:.75">{_summary(bench, turn, status, usage)}</summary>')
    parts.append(_tree(bench, turn))
    return "".join([*parts, "</details></div>"])


def _summary(bench: Workbench, turn: str, status: str, usage: Usage | None) -> str:
    runs = sum(run.turn == turn for run in bench.runs.values())
    words = [status, _count(runs, "run")]
    if usage is not None:
        words += [_count(usage.calls, "call"), _count(usage.prompt_tokens + usage.completion_tokens, "token")]
        if usage.cached_tokens and usage.prompt_tokens:
            words.append(f"{usage.cached_tokens / usage.prompt_tokens:.0%} of the prompt cached")
        words.append("price unknown" if usage.cost_usd is None else f"${usage.cost_usd:.4f}")
        words.append(f"{usage.wall_s:.1f} s")
    return html.escape(" · ".join(words))


def _tree(bench: Workbench, turn: str) -> str:
    """All runs of the turn, depth first, as lines that are indented by their depth."""
    roots = [run for run in bench.runs.values() if run.turn == turn and run.parent is None]
    stack, lines = list(reversed(roots)), list[str]()
    while stack and len(lines) < MAX_ROWS:
        run = stack.pop()
        lines.append(_row(run))
        stack += [bench.runs[child] for child in reversed(run.children) if child in bench.runs]
    if stack:
        lines.append('<div style="opacity:.6">… more rows are in the journal</div>')
    return "".join(lines)


def _row(run: RunView) -> str:
    sign = _SIGNS.get(run.status, "?")
    note = f"{run.kind}, {run.model}, {_count(run.usage.calls, 'call')}"
    return (
        f'<div style="padding-left:{run.depth * 18}px" title="{html.escape(run.status)}">{sign} '
        f'{_text(run.task, TASK_CHARS)} <span style="opacity:.6">{html.escape(note)}</span></div>'
    )


def _count(number: int, word: str) -> str:
    return f"{number:,} {word}" + ("" if number == 1 else "s")


def _text(text: str, most: int) -> str:
    return html.escape(text if len(text) <= most else text[: most - 1] + "…")
