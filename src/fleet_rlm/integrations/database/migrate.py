"""Brings a database to the newest revision with the migrations inside this package."""

from __future__ import annotations

import logging
from pathlib import Path

from sqlalchemy import Connection, inspect, text

from fleet_rlm.errors import StorageError
from fleet_rlm.integrations.database.schema import HEAD_REVISION

FOLDER = Path(__file__).parent / "migrations"


def current_revision(connection: Connection) -> str | None:
    """The revision that the database is at; None for an empty one."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    row = connection.execute(text("select version_num from alembic_version")).first()
    return None if row is None else str(row[0])


def upgrade(connection: Connection, revision: str = "head") -> None:
    """Run the pending migrations. Does not import Alembic when there are none.

    Errors: StorageError when the file was written by a newer version of this package.
    """
    current = current_revision(connection)
    if current == HEAD_REVISION:
        return
    if current is not None and current > HEAD_REVISION:
        raise StorageError(
            f"the database is at revision {current}, newer than this version knows ({HEAD_REVISION})",
            hint="use the newer fleet-rlm, or another FLEET_HOME",
        )
    # Alembic takes a third of a second to import and is needed once in the life of a file.
    from alembic import command
    from alembic.config import Config

    logging.getLogger("alembic").setLevel(logging.WARNING)
    config = Config()
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, revision)
