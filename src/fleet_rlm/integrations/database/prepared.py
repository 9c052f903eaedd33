"""Statements of the hot path, put into SQL once.

Building a statement and finding its text in SQLAlchemy's cache costs several times what SQLite needs to run it; a
commit of events runs three of them, some hundred times a second.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, CursorResult
from sqlalchemy.sql.expression import Executable


class Prepared:
    """One statement with named parameters, which must be plain text and numbers: no type converts them."""

    def __init__(self, statement: Executable) -> None:
        self._statement = statement
        self._ready: dict[str, tuple[str, tuple[str, ...] | None]] = {}

    def run(self, connection: Connection, values: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> CursorResult[Any]:
        """Run it with one set of parameters, or with each of several."""
        text, order = self._text(connection)
        if isinstance(values, Mapping):
            return connection.exec_driver_sql(text, _placed(values, order))
        return connection.exec_driver_sql(text, [_placed(row, order) for row in values])

    def _text(self, connection: Connection) -> tuple[str, tuple[str, ...] | None]:
        found = self._ready.get(connection.dialect.name)
        if found is None:
            compiled = self._statement.compile(dialect=connection.dialect)  # pyright: ignore[reportAttributeAccessIssue]
            names = tuple(compiled.positiontup) if compiled.positional else None
            found = self._ready[connection.dialect.name] = str(compiled), names
        return found


def _placed(values: Mapping[str, Any], order: tuple[str, ...] | None) -> Any:
    return dict(values) if order is None else tuple(values[name] for name in order)
