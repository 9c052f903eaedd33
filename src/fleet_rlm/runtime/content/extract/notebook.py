"""Jupyter notebooks (.ipynb) to text: each cell a section with its source and what it printed."""

from __future__ import annotations

import json
import re
from typing import Any, cast

from fleet_rlm.runtime.content.extract.protocol import Fault
from fleet_rlm.runtime.content.extract.sink import Sink

_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def read_notebook(path: str, sink: Sink) -> None:
    """Errors: Fault when it is no notebook, or one without cells."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - a path of the task
            book = json.loads(file.read().decode("utf-8-sig"))
        cells = _cells(book)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise Fault("it is no Jupyter notebook (its JSON has no list of cells)") from None
    if not cells:
        raise Fault("it is a notebook without cells")
    for number, cell in enumerate(cells, 1):
        kind = str(cell.get("cell_type", "code"))
        sink.section(f"cell {number} ({kind})")
        sink.text(_joined(cell.get("source", cell.get("input", ""))))
        for output in cast("list[Any]", cell.get("outputs") or []):
            if isinstance(output, dict) and (text := _output(cast("dict[str, Any]", output))):
                sink.end_line()
                sink.text(f"--- output of cell {number} ---\n{text}")


def _cells(book: Any) -> list[dict[str, Any]]:
    found = book["cells"] if "cells" in book else [cell for sheet in book["worksheets"] for cell in sheet["cells"]]
    if not all(isinstance(cell, dict) for cell in found):
        raise TypeError("a cell is no object")
    return list(found)


def _output(output: dict[str, Any]) -> str:
    """Text as text; of pictures and the like only their type."""
    if output.get("output_type") == "error" or "traceback" in output:
        return _ANSI.sub("", "\n".join(map(str, output.get("traceback") or [output.get("evalue", "")])))
    data = output.get("data")
    if not isinstance(data, dict):
        return _ANSI.sub("", _joined(output.get("text", "")))
    shown = cast("dict[str, Any]", data)
    for kind in ("text/plain", "text/markdown", "text/latex"):
        if kind in shown:
            pictures = [name for name in shown if name.startswith("image/")]
            return "".join([_ANSI.sub("", _joined(shown[kind])), *(f"\n[{name}]" for name in pictures)])
    return f"[{', '.join(map(str, shown))}]"


def _joined(text: Any) -> str:
    return "".join(map(str, cast("list[Any]", text))) if isinstance(text, list) else str(text)
