"""Spreadsheets (.xlsx, .xls, .xlsb, .ods) to text: each sheet a section, each row one line of CSV."""

from __future__ import annotations

import csv
import datetime
import io
from typing import Any

from python_calamine import CalamineError, CalamineSheet, PasswordError, load_workbook

from fleet_rlm.runtime.content.extract.protocol import Fault
from fleet_rlm.runtime.content.extract.sheet_errors import errors_as_texts
from fleet_rlm.runtime.content.extract.sink import Sink


def read_sheets(path: str, sink: Sink) -> None:
    """Row n of a sheet stands on the n-th line below its heading. Errors: Fault (damaged, encrypted, empty)."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - a path of the task
            book = load_workbook(errors_as_texts(file))
            filled = 0
            for name in book.sheet_names:
                sink.section(f"sheet {name}", name)
                filled += _write_rows(book.get_sheet_by_name(name), sink)
    except PasswordError:
        raise Fault("it is encrypted; save a copy without a password") from None
    except (CalamineError, ValueError, OSError) as error:
        raise Fault(f"it is a damaged spreadsheet ({' '.join(str(error).split())[:120]})") from None
    if not filled:
        raise Fault("it is a spreadsheet without values")


def _write_rows(sheet: CalamineSheet, sink: Sink) -> int:
    """Rows with a value."""
    if sheet.start is None:
        return 0
    filled = blank = 0
    for row in sheet.iter_rows():
        line = _csv_line(row)
        if not line:
            blank += 1  # written only when a row with values follows
            continue
        sink.text("\n" * blank + line + "\n")
        blank, filled = 0, filled + 1
    return filled


def _csv_line(row: list[Any]) -> str:
    cells = [_cell(value) for value in row]
    while cells and not cells[-1]:
        cells.pop()
    if not cells:
        return ""
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(cells)
    return line.getvalue()


def _cell(value: Any) -> str:
    """A value on one line, so that rows and lines stay together."""
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    if isinstance(value, datetime.datetime):
        return value.isoformat(" ")
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    return " ".join(str(value).split()) if isinstance(value, str) else str(value)
