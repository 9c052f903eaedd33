"""Events of the types that are looked up by type, in an index of their own."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

SOUGHT = sa.text(
    "type IN ('artifact.published', 'memory.changed', 'tool.finished', 'tool.started', 'turn.accepted',"
    " 'turn.finished')"
)


def upgrade() -> None:
    """Create the index."""
    op.create_index("ix_events_type", "events", ["type", "sid", "seq"], sqlite_where=SOUGHT, postgresql_where=SOUGHT)


def downgrade() -> None:
    """Drop it."""
    op.drop_index("ix_events_type", "events")
