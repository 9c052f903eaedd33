"""The tables. One schema for SQLite and, later, Postgres: only types that both have.

`sessions`, `turns` and `session_contexts` are projections of `events`, kept in the transaction that commits the events,
so that they can never disagree with the journal.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Float, ForeignKey, Index, Integer, MetaData, String, Table, Text, text

HEAD_REVISION = "0002"
"""The newest migration. A test compares it with the migrations folder, and the tables here with a migrated file."""

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

sessions = Table(
    "sessions",
    metadata,
    Column("sid", String(64), primary_key=True),
    Column("epoch", String(32), nullable=False),
    Column("title", Text, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("updated_ms", BigInteger, nullable=False),
    Column("head", Integer, nullable=False),
    Index("ix_sessions_updated_ms", "updated_ms"),
)

SOUGHT = (
    "artifact.published", "memory.changed", "tool.finished", "tool.started", "turn.accepted", "turn.finished",
)  # fmt: skip
"""Types of events that are looked up by type. Only they are in an index for it: one over all events would make each
commit half as dear again, and most events are pieces of output and of text."""
IS_SOUGHT = text("type IN ({})".format(", ".join(f"'{each}'" for each in SOUGHT)))
"""Stands in such a query as it stands in the index, word for word; otherwise neither database takes the index."""

events = Table(
    "events",
    metadata,
    Column("sid", String(64), ForeignKey("sessions.sid", ondelete="CASCADE"), primary_key=True),
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("type", String(40), nullable=False),
    Column("turn", String(64), nullable=True),
    Column("raw", Text, nullable=False),
    Index("ix_events_turn", "turn", "seq"),
    Index("ix_events_type", "type", "sid", "seq", sqlite_where=IS_SOUGHT, postgresql_where=IS_SOUGHT),
)

turns = Table(
    "turns",
    metadata,
    Column("tid", String(64), primary_key=True),
    Column("sid", String(64), ForeignKey("sessions.sid", ondelete="CASCADE"), nullable=False),
    Column("owner", String(64), nullable=False),
    Column("command", String(200), nullable=True),
    Column("status", String(16), nullable=False),
    Column("accepted_seq", Integer, nullable=False),
    Column("finished_seq", Integer, nullable=True),
    Column("accepted_ms", BigInteger, nullable=False),
    Column("finished_ms", BigInteger, nullable=True),
    Column("cost_usd", Float, nullable=True),
    Index("ix_turns_sid", "sid", "accepted_seq"),
    Index("ix_turns_command", "sid", "command"),
    Index("ix_turns_status", "status"),
)

session_contexts = Table(
    "session_contexts",
    metadata,
    Column("sid", String(64), ForeignKey("sessions.sid", ondelete="CASCADE"), primary_key=True),
    Column("sha256", String(64), primary_key=True),
    Column("name", Text, nullable=False),
    Column("added_seq", Integer, nullable=False),
    Index("ix_session_contexts_sha256", "sha256"),
)
