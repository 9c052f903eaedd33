"""Bodies and answers of what a person does to a running turn."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from fleet_rlm.api.schemas.values import Body, Shape, Unit


class RunCancel(Shape):
    """`cancelling` is false when the run had already ended."""

    turn: str
    run: str
    cancelling: bool


class ApprovalReply(Body):
    """What a person says to a question: one of its choices, or free text where it has none."""

    answer: Annotated[str, Field(min_length=1, max_length=20_000)]


class ApprovalReplied(Shape):
    """The answer that stands."""

    turn: str
    approval: str
    answer: str


class LongText(Shape):
    """A text; when `ref` is set, `head` is its beginning and the whole lies in that blob."""

    head: str
    bytes: int
    ref: str | None


class ApprovalAnswer(Shape):
    """A question of a run, and how it ended. `ts` and `deadline` in milliseconds since 1970 UTC.

    `unit`: the limit that a question of the kind "limit" is about.
    """

    id: str
    turn: str
    run: str | None
    ts: int
    kind: Literal["question", "tool", "host", "cost", "depth", "limit"]
    question: str
    choices: list[str]
    detail: LongText | None
    deadline: int | None
    otherwise: str | None
    unit: Unit | None
    status: Literal["open", "answered", "expired", "cancelled"]
    answer: str | None
    who: Literal["person", "rule"] | None


class ApprovalList(Shape):
    """Questions of a session, oldest first."""

    approvals: list[ApprovalAnswer]
