"""Statements of the hot path, put into SQL once and given to the driver as they are.

Building a statement, finding its text in SQLAlchemy's cache and carrying it through its events costs several times
what SQLite needs to run it; a commit of events runs three of them, some hundred times a second.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.engine.interfaces import DBAPICursor
from sqlalchemy.sql.expression import Executable


class Prepared:
    """One statement with named parameters, which must be plain text and numbers: no type converts them."""

    def __init__(self, statement: Executable) -> None:
        self._statement = statement
        self._ready: dict[str, tuple[str, tuple[str, ...] | None]] = {}

    def run(self, connection: Connection, values: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> DBAPICursor:
        """Run it with one set of parameters, or with each of several, in the connection's transaction.

        The cursor is the driver's, and so are the errors.
        """
        text, order = self._text(connection)
        cursor = connection.connection.cursor()
        if isinstance(values, Mapping):
            cursor.execute(text, _placed(values, order))
        else:
            cursor.executemany(text, [_placed(row, order) for row in values])
        return cursor

    def _text(self, connection: Connection) -> tuple[str, tuple[str, ...] | None]:
        found = self._ready.get(connection.dialect.name)
        if found is None:
            compiled = self._statement.compile(dialect=connection.dialect)  # pyright: ignore[reportAttributeAccessIssue]
            names = tuple(compiled.positiontup) if compiled.positional else None
            found = self._ready[connection.dialect.name] = str(compiled), names
        return found


def _placed(values: Mapping[str, Any], order: tuple[str, ...] | None) -> Any:
    return dict(values) if order is None else tuple(values[name] for name in order)
