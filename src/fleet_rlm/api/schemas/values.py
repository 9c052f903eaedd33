"""Values of events at the HTTP edge: the same names, every field present."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Mode = Literal["auto", "rlm", "direct"]
Unit = Literal["calls", "tokens", "cost", "wall", "depth", "children", "sandboxes", "iterations"]
TurnState = Literal["running", "ok", "failed", "cancelled", "limit", "interrupted"]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Shape(BaseModel):
    """Base of answers."""

    model_config = ConfigDict(from_attributes=True)


class Body(BaseModel):
    """Base of request bodies: an unknown field is a mistake, and is said so; a text or a truth value is no number."""

    model_config = ConfigDict(extra="forbid", strict=True)


class ContextRef(Shape):
    """A large input by handle. Units: bytes, characters and lines of its text."""

    name: str
    sha256: str
    kind: Literal["text", "tree"]
    bytes: int
    chars: int
    lines: int
    files: int


class Limits(Shape):
    """What a turn may use; null = no limit. Units: cost in US dollars, wall in seconds."""

    calls: int | None
    tokens: int | None
    cost_usd: float | None
    wall_s: float | None
    depth: int
    children: int | None
    sandboxes: int


class LimitsBody(Body):
    """Limits for one turn; what is left out comes from the settings, null takes a limit away."""

    calls: Annotated[int | None, Field(ge=1, le=1_000_000_000)] = None
    tokens: Annotated[int | None, Field(ge=1, le=1_000_000_000_000)] = None
    cost_usd: Annotated[float | None, Field(gt=0, lt=1e12)] = None
    wall_s: Annotated[float | None, Field(gt=0, lt=1e12)] = None
    depth: Annotated[int, Field(ge=0, le=8)] = 2
    children: Annotated[int | None, Field(ge=1, le=1_000_000_000)] = None
    sandboxes: Annotated[int, Field(ge=1, le=4096)] = 64


class Usage(Shape):
    """What was used; `cost_usd` is null where a price is unknown."""

    calls: int
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    cost_usd: float | None
    wall_s: float


class ErrorInfo(Shape):
    """A failure for a person."""

    code: str
    message: str
    hint: str | None
    retryable: bool


class Citation(Shape):
    """A place that an answer rests on; `line` is 1-based. `place` is e.g. "page 4" of the document behind the text."""

    context: str
    path: str
    line: int
    start: int
    end: int
    quote: str
    place: str | None = None


class Failure(Shape):
    """The inside of every error answer."""

    code: str
    message: str
    hint: str | None
    request_id: str | None


class ErrorAnswer(Shape):
    """Every answer with a status of 400 or more."""

    error: Failure
