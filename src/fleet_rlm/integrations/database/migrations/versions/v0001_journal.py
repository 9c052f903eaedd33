"""Sessions, their events, and the turns and contexts projected from them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the first tables."""
    op.create_table(
        "sessions",
        sa.Column("sid", sa.String(64), nullable=False),
        sa.Column("epoch", sa.String(32), nullable=False),
        sa.Column("title", sa.Text, nullable=False),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
        sa.Column("updated_ms", sa.BigInteger, nullable=False),
        sa.Column("head", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("sid", name="pk_sessions"),
    )
    op.create_index("ix_sessions_updated_ms", "sessions", ["updated_ms"])
    _create_events()
    _create_turns()
    op.create_table(
        "session_contexts",
        sa.Column("sid", sa.String(64), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("added_seq", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("sid", "sha256", name="pk_session_contexts"),
        sa.ForeignKeyConstraint(["sid"], ["sessions.sid"], name="fk_session_contexts_sid", ondelete="CASCADE"),
    )
    op.create_index("ix_session_contexts_sha256", "session_contexts", ["sha256"])


def _create_events() -> None:
    op.create_table(
        "events",
        sa.Column("sid", sa.String(64), nullable=False),
        sa.Column("seq", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("type", sa.String(40), nullable=False),
        sa.Column("turn", sa.String(64), nullable=True),
        sa.Column("raw", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("sid", "seq", name="pk_events"),
        sa.ForeignKeyConstraint(["sid"], ["sessions.sid"], name="fk_events_sid", ondelete="CASCADE"),
    )
    op.create_index("ix_events_turn", "events", ["turn", "seq"])


def _create_turns() -> None:
    op.create_table(
        "turns",
        sa.Column("tid", sa.String(64), nullable=False),
        sa.Column("sid", sa.String(64), nullable=False),
        sa.Column("owner", sa.String(64), nullable=False),
        sa.Column("command", sa.String(200), nullable=True),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("accepted_seq", sa.Integer, nullable=False),
        sa.Column("finished_seq", sa.Integer, nullable=True),
        sa.Column("accepted_ms", sa.BigInteger, nullable=False),
        sa.Column("finished_ms", sa.BigInteger, nullable=True),
        sa.Column("cost_usd", sa.Float, nullable=True),
        sa.PrimaryKeyConstraint("tid", name="pk_turns"),
        sa.ForeignKeyConstraint(["sid"], ["sessions.sid"], name="fk_turns_sid", ondelete="CASCADE"),
    )
    op.create_index("ix_turns_sid", "turns", ["sid", "accepted_seq"])
    op.create_index("ix_turns_command", "turns", ["sid", "command"])
    op.create_index("ix_turns_status", "turns", ["status"])


def downgrade() -> None:
    """Drop everything."""
    for table in ("session_contexts", "turns", "events", "sessions"):
        op.drop_table(table)
