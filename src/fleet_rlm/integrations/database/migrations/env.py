"""Alembic's entry: runs on the connection that `migrate.upgrade` hands over, never on one of its own."""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection

from fleet_rlm.integrations.database.schema import metadata


def run() -> None:
    """Apply the pending revisions in one transaction each."""
    connection = context.config.attributes.get("connection")
    assert isinstance(connection, Connection), "migrations run through fleet_rlm.integrations.database.migrate"
    context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
    with context.begin_transaction():
        context.run_migrations()


run()
