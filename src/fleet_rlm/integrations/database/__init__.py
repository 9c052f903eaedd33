"""One schema, one repository layer. SQLite now; the types and statements are those that Postgres has too."""

from fleet_rlm.integrations.database.engine import Database
from fleet_rlm.integrations.database.sessions import SessionRow, Sessions, TurnRow
from fleet_rlm.integrations.database.store import Batch, Head, JournalStore, Outcome, Stored

__all__ = ["Batch", "Database", "Head", "JournalStore", "Outcome", "SessionRow", "Sessions", "Stored", "TurnRow"]
