"""A journal on a real file."""

from __future__ import annotations

from pathlib import Path

from fleet_rlm.integrations.database import Database, JournalStore, Sessions
from fleet_rlm.runtime.content.blobs import BlobStore
from fleet_rlm.runtime.execution.journal import Journal


class Store:
    """An open data folder with its journal and sessions."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.database = Database(home)
        self.blobs = BlobStore(home)
        self.journal = Journal(JournalStore(self.database), settle=self.blobs.settle)
        self.sessions = Sessions(self.database)

    def close(self) -> None:
        self.journal.close()
