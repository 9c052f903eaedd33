"""Bodies and answers of a session's memory."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from fleet_rlm.api.schemas.values import Body, Shape


class MemoryText(Body):
    """What a block shall hold."""

    text: Annotated[str, Field(max_length=12_000)]


class MemoryUndone(Body):
    """The edit to take back, by the seq of its event."""

    seq: Annotated[int, Field(ge=1, le=2**53)]


class MemoryBlock(Shape):
    """A block with its bound in characters and what it is for."""

    name: str
    text: str
    limit: int
    about: str


class MemoryEdited(Shape):
    """One edit; null text means that the block did not exist, or is gone."""

    seq: int
    ts: int
    block: str
    before: str | None
    after: str | None
    who: Literal["agent", "person", "undo"]


class MemoryAnswer(Shape):
    """The memory of a session; `limit` bounds all blocks together."""

    blocks: list[MemoryBlock]
    limit: int
    edits: list[MemoryEdited]


class MemoryChange(Shape):
    """What an edit left; `seq` is null when it changed nothing."""

    block: str
    text: str | None
    seq: int | None
