"""What a session holds for those who use the library: its questions with their answers, and its memory as a mapping."""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping
from dataclasses import dataclass
from typing import Literal

from fleet_rlm.runtime.agent.memory import SessionMemory
from fleet_rlm.runtime.execution.events import Event, MemoryChanged, TurnAccepted, TurnFinished, TurnStatus
from fleet_rlm.runtime.execution.journal import Journal


@dataclass(frozen=True, slots=True)
class Exchange:
    """A question of a session and what came of it. `answer` is None while it runs, and where there is none."""

    turn: str
    question: str
    answer: str | None
    status: TurnStatus | Literal["running"]


def exchanges(journal: Journal, sid: str) -> tuple[Exchange, ...]:
    """A session's questions, oldest first; of one that was resumed only the newest turn. Errors: NotFound."""
    journal.head(sid)
    ends = {event.turn: event.data for event in journal.of_type(sid, TurnFinished.type)}
    found: dict[str | None, Exchange] = {}
    for event in journal.of_type(sid, TurnAccepted.type):
        asked, end = event.data, ends.get(event.turn)
        if not isinstance(asked, TurnAccepted) or event.turn is None:
            continue
        if asked.origin is not None and asked.origin.kind == "resume":
            found.pop(asked.origin.turn, None)
        answer, status = (end.answer, end.status) if isinstance(end, TurnFinished) else (None, "running")
        found[event.turn] = Exchange(event.turn, asked.question, answer, status)
    return tuple(found.values())


class Memory(MutableMapping[str, str]):
    """The blocks of a session's core memory, which stand in its agent's prompt and which the agent edits too.

        session.memory["person"] = "Prefers short answers."
        del session.memory["notes"]

    Only blocks with a text are in it; an empty text empties a block. Every edit is an event and can be undone.
    Errors of an edit: InvalidInput (name, sizes), Conflict while a turn of another process runs in the session.
    """

    def __init__(self, found: Callable[[], SessionMemory | None], made: Callable[[], SessionMemory]) -> None:
        self._found = found
        self._made = made

    def __getitem__(self, block: str) -> str:
        return self._saved()[block]

    def __setitem__(self, block: str, text: str) -> None:
        self._made().set(block, text, "person")

    def __delitem__(self, block: str) -> None:
        if block not in self:
            raise KeyError(block)
        self._made().set(block, None, "person")

    def __iter__(self) -> Iterator[str]:
        return iter(self._saved())

    def __len__(self) -> int:
        return len(self._saved())

    def __repr__(self) -> str:
        return f"Memory({self._saved()!r})"

    @property
    def edits(self) -> tuple[Event, ...]:
        """Every edit, oldest first: `event.seq`, and in `event.data` block, before, after and who."""
        memory = self._found()
        return () if memory is None else tuple(e for e in memory.edits() if isinstance(e.data, MemoryChanged))

    def undo(self, seq: int) -> None:
        """Give a block the text it had before the edit at `seq`. Errors: NotFound, and as an edit."""
        self._made().undo(seq)

    def _saved(self) -> dict[str, str]:
        memory = self._found()
        return {} if memory is None else memory.saved()
