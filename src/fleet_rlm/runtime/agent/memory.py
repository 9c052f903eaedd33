"""Core memory: a few bounded blocks of text that belong to a session and stand in the agent's prompt.

The agent and the person both edit them; every edit is a `memory.changed` event, and the blocks are what those events
leave. There is no second store: a session that is restored, forked or looked at later has the memory of its journal,
and another session has none of it.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from fleet_rlm.errors import InvalidInput, NotFound
from fleet_rlm.runtime.execution import events as ev
from fleet_rlm.runtime.execution.journal import Journal

Who = Literal["agent", "person", "undo"]
TOTAL_CHARS: Final = 12_000
"""All blocks together; about 3,000 tokens of every prompt."""
OWN_CHARS: Final = 2_000
MAX_BLOCKS: Final = 16
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,31}")
_LINE_END = re.compile(r"\r\n?|[\u2028\u2029]")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Those of ASCII and of C1, and those that turn the direction of what follows: a person would not see what is there."""
_lock = threading.Lock()
"""Edits are read, checked and written one after the other; they are rare and quick."""


@dataclass(frozen=True, slots=True)
class Block:
    """A block by name. `limit` in characters; `about` says what it is for."""

    name: str
    limit: int
    about: str


DEFAULTS: Final = (
    Block("persona", 1_500, "how the agent should be and speak"),
    Block("person", 2_000, "what the agent knows of the person it works for"),
    Block("notes", 4_000, "facts and decisions to keep over turns"),
)
_KNOWN: Final = {block.name: block for block in DEFAULTS}


@dataclass(frozen=True, slots=True)
class Change:
    """An edit that was made: the block and its text now (None: back to empty), at `seq`; None when nothing changed."""

    block: str
    text: str | None
    seq: int | None


class SessionMemory:
    """The blocks of one session. Thread-safe. `clean` removes secrets before anything is written."""

    def __init__(
        self,
        journal: Journal,
        sid: str,
        *,
        clean: Callable[[str], str] = str,
        place: Callable[[ev.MemoryChanged], ev.Draft] = ev.Draft,
    ) -> None:
        self._journal = journal
        self._sid = sid
        self._clean = clean
        self._place = place

    def saved(self, before: int | None = None) -> dict[str, str]:
        """The blocks that were written (`before` a seq), by name. Errors: NotFound for an unknown session."""
        self._journal.head(self._sid)
        return fold(edit for edit in self.edits() if before is None or edit.seq < before)

    def edits(self) -> list[ev.Event]:
        """Every change, oldest first."""
        return self._journal.of_type(self._sid, ev.MemoryChanged.type)

    def last_edits(self) -> dict[str, int]:
        """The seq of the newest edit of each block."""
        return {event.data.block: event.seq for event in self.edits() if isinstance(event.data, ev.MemoryChanged)}

    def set(self, block: str, text: str | None, who: Who) -> Change:
        """Give a block another text; None empties it. Errors: InvalidInput (name, sizes), NotFound."""
        with _lock:
            return self._write(self.saved(), block, text, who)

    def append(self, block: str, text: str, who: Who) -> Change:
        """Add lines to the end of a block. Errors: as `set`."""
        if not text.strip():
            raise InvalidInput("there is no text to add")
        with _lock:
            saved = self.saved()
            before = saved.get(block, "")
            return self._write(saved, block, f"{before}\n{text.strip()}" if before else text.strip(), who)

    def replace(self, block: str, old: str, new: str, who: Who) -> Change:
        """Replace a passage of a block, which must stand there once; an empty `old` replaces the whole block."""
        old = _LINE_END.sub("\n", old)
        with _lock:
            saved = self.saved()
            before = saved.get(block, "")
            if not old:
                return self._write(saved, block, new, who)
            found = before.count(old)
            if found != 1:
                raise InvalidInput(
                    f"block {block[:32]!r} holds {old[:60]!r} {found} times, not once",
                    hint="give a passage exactly as it stands there, long enough to be the only one",
                )
            return self._write(saved, block, before.replace(old, new), who)

    def undo(self, seq: int) -> Change:
        """Give a block the text that it had before the edit at `seq`. Errors: NotFound."""
        with _lock:
            edit = next((event.data for event in self.edits() if event.seq == seq), None)
            if not isinstance(edit, ev.MemoryChanged):
                raise NotFound(f"there is no edit of the memory at {seq}")
            return self._write(self.saved(), edit.block, edit.before, "undo")

    def _write(self, saved: Mapping[str, str], block: str, text: str | None, who: Who) -> Change:
        after = None if text is None else self._clean(_LINE_END.sub("\n", text)).strip("\n")
        after = after or None
        before = saved.get(block)
        if before == after:
            return Change(block, after, None)
        check(saved, block, after)
        draft = self._place(ev.MemoryChanged(block=block, before=before, after=after, who=who))
        event = self._journal.append(self._sid, [draft], durable=True)[-1]
        return Change(block, after, event.seq)


def fold(edits: Iterable[ev.Event]) -> dict[str, str]:
    """What the edits leave."""
    blocks: dict[str, str] = {}
    for event in edits:
        if not isinstance(event.data, ev.MemoryChanged):
            continue
        if event.data.after is None:
            blocks.pop(event.data.block, None)
        else:
            blocks[event.data.block] = event.data.after
    return blocks


def check(saved: Mapping[str, str], block: str, text: str | None) -> None:
    """Errors: InvalidInput for a bad name, a text that is too long or no text, or too many blocks."""
    if not _NAME.fullmatch(block):
        raise InvalidInput(f"{block[:40]!r} is no name of a block", hint="a word of a-z, 0-9, _ and -, at most 32 long")
    if text is None:
        return
    control = _CONTROL.search(text)
    if control is not None:
        raise InvalidInput(f"block {block} would hold control characters (U+{ord(control[0]):04X})")
    limit = block_of(block).limit
    if len(text) > limit:
        raise InvalidInput(f"block {block} would have {len(text):,} characters, more than {limit:,}", hint=_SHORTER)
    total = len(text) + sum(len(other) for name, other in saved.items() if name != block)
    if total > TOTAL_CHARS:
        raise InvalidInput(f"the memory would have {total:,} characters, more than {TOTAL_CHARS:,}", hint=_SHORTER)
    if block not in saved and len({*_KNOWN, *saved, block}) > MAX_BLOCKS:
        raise InvalidInput(f"there are {MAX_BLOCKS} blocks already", hint="use one of them: " + ", ".join(names(saved)))


_SHORTER: Final = "say it shorter, or replace what is no longer needed"


def block_of(name: str) -> Block:
    """A block's bounds, also of one that the agent or the person made up."""
    return _KNOWN.get(name) or Block(name, OWN_CHARS, "a block of your own")


def names(saved: Mapping[str, str]) -> list[str]:
    """The default blocks and those that were added."""
    return [*_KNOWN, *(name for name in saved if name not in _KNOWN)]


def shown(saved: Mapping[str, str]) -> str:
    """The blocks as the agent's prompt has them; "" when all are empty."""
    parts = [f"[{name}]\n{saved[name]}" for name in names(saved) if saved.get(name)]
    return "\n\n".join(parts)
