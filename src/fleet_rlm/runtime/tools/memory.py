"""The agent's tools for its core memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fleet_rlm.runtime.agent.memory import Change, SessionMemory, block_of
from fleet_rlm.runtime.execution import events as ev
from fleet_rlm.runtime.execution.journal import Journal
from fleet_rlm.runtime.execution.observer import SCOPE
from fleet_rlm.runtime.execution.tree import TurnTree


class MemoryTools:
    """Editing the blocks of the turn's session; what is wrong with an edit is told to the model by its error."""

    def __init__(self, memory: SessionMemory) -> None:
        self._memory = memory

    def tools(self) -> list[Callable[..., Any]]:
        """Both, for there is nothing to read: the blocks stand in the prompt."""
        return [self.memory_append, self.memory_replace]

    def memory_append(self, block: str, text: str) -> str:
        """Keep something for later turns, when asked to or when it will matter again. Blocks: person (who asks), persona (how to be), notes."""  # noqa: E501 - one line for the model
        return _told(self._memory.append(block, text, "agent"))

    def memory_replace(self, block: str, old: str, new: str) -> str:
        """Correct the memory: replace the passage `old` of a block; an empty `old` replaces the whole block."""
        return _told(self._memory.replace(block, old, new, "agent"))


def turn_memory(tree: TurnTree, journal: Journal) -> SessionMemory:
    """The memory of the turn's session, whose edits appear under the run that makes them."""

    def place(edit: ev.MemoryChanged) -> ev.Draft:
        scope = SCOPE.get(None)
        parent = scope.parent.id if scope and scope.parent else None
        return ev.Draft(data=edit, turn=tree.turn, run=scope.id if scope else None, parent=parent)

    return SessionMemory(journal, tree.sid, clean=tree.observer.clean, place=place)


def _told(change: Change) -> str:
    if change.seq is None:
        return f"{change.block} says that already"
    return made(change.block, change.text)


def made(block: str, text: str | None) -> str:
    """What a tool says of an edit that it made."""
    return f"{block} now has {len(text or '')} of {block_of(block).limit} characters"
