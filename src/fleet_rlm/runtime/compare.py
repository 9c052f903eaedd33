"""Two turns of the journal, compared."""

from __future__ import annotations

from typing import Protocol

from fleet_rlm.integrations.database import Sessions
from fleet_rlm.runtime.content.blobs import BlobStore
from fleet_rlm.runtime.execution.diff import TurnDiff, turn_diff
from fleet_rlm.runtime.execution.journal import Journal
from fleet_rlm.runtime.past import turn_events


class Kept(Protocol):
    """What this needs of a workspace."""

    journal: Journal
    sessions: Sessions
    blobs: BlobStore


def compare(kept: Kept, turn: str, other: str) -> TurnDiff:
    """What differs between two turns, of any sessions. Errors: NotFound."""
    before, after = kept.sessions.get_turn(turn), kept.sessions.get_turn(other)
    return turn_diff(turn_events(kept.journal, before), turn_events(kept.journal, after), kept.blobs.text)
