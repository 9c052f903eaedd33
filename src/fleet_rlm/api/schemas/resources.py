"""Bodies and answers of the resources."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from fleet_rlm.api.schemas.values import (
    Body,
    Citation,
    ErrorInfo,
    Limits,
    LimitsBody,
    Mode,
    Sha256,
    Shape,
    TurnState,
    Unit,
    Usage,
)


def _visible(title: str) -> str:
    if not any(char.isprintable() and not char.isspace() for char in title):
        raise ValueError("nothing of it can be seen")
    return title


Title = Annotated[str, Field(min_length=1, max_length=200, pattern=r"\S"), AfterValidator(_visible)]
ModelName = Annotated[str, Field(min_length=3, max_length=300)]


class Health(Shape):
    """The process answers."""

    status: Literal["ok"]


class SandboxState(Shape):
    """Where model-written code runs, and how well it is shut in."""

    provider: str
    isolation: str | None
    detail: str | None


class Ready(Shape):
    """Whether turns can be accepted now."""

    ready: bool
    database: Literal["ok", "failing"]
    sandbox: SandboxState


class StatusAnswer(Shape):
    """How the workspace stands, and the limits a turn gets when it names none."""

    version: str
    provider: str
    isolation: str | None
    isolation_detail: str | None
    model: str | None
    model_label: str | None
    demo: bool
    configured: bool
    active_turns: int
    live_sandboxes: int
    limits: Limits
    modes: list[Mode]
    warnings: list[str]


class SessionAnswer(Shape):
    """A session in a list. `head` is the newest seq of its journal within `epoch`."""

    id: str
    title: str
    created_ms: int
    updated_ms: int
    head: int
    epoch: str
    active_turn: str | None
    turns: int
    cost_usd: float | None


class SessionList(Shape):
    """Newest change first."""

    sessions: list[SessionAnswer]


class NewSession(Body):
    """A session to be created."""

    title: Title | None = None


class SessionChange(Body):
    """A session's new title."""

    title: Title


class EventPage(Shape):
    """Events with seq > `after`, in order; their shape is events.schema.json."""

    epoch: str
    head: int
    events: list[dict[str, Any]]


class NewTurn(Body):
    """A question with everything that belongs to it."""

    question: Annotated[str, Field(min_length=1, max_length=200_000, pattern=r"\S")]
    mode: Mode = "auto"
    model: ModelName | None = None
    sub_model: ModelName | None = None
    limits: LimitsBody | None = None
    contexts: Annotated[list[Sha256], Field(max_length=64, default_factory=list)]


class TurnAccepted(Shape):
    """The promise: this turn is never lost. `seq` is that of its `turn.accepted`."""

    session: str
    turn: str
    seq: int


class TurnAnswer(Shape):
    """A turn as its journal tells it."""

    turn: str
    session: str
    status: TurnState
    answer: str | None
    usage: Usage
    limit: Unit | None
    error: ErrorInfo | None
    citations: list[Citation]


class TurnCancel(Shape):
    """`cancelling` is false when the turn had already ended."""

    turn: str
    cancelling: bool


class NewText(Body):
    """A text to be kept as a context."""

    name: Annotated[str, Field(min_length=1, max_length=200)]
    text: str


class Lines(Shape):
    """Lines of a context's file, without line ends."""

    lines: list[str]


class Place(Shape):
    """Where a character of a context lies: its file, and its 1-based line there."""

    path: str
    line: int


class ArtifactAnswer(Shape):
    """A file that a run published. `ts` in milliseconds since 1970 UTC; `kind` is a media type."""

    id: str
    name: str
    version: int
    sha256: str
    bytes: int
    kind: str
    turn: str | None
    run: str | None
    cell: str | None
    ts: int


class ArtifactList(Shape):
    """The artifacts of a session, in the order of their publication."""

    artifacts: list[ArtifactAnswer]


class KeyState(Shape):
    """A key is never shown, only its last four characters."""

    set: bool
    ends: str | None
    source: str | None


class Suggestion(Shape):
    """A model that could be chosen right now."""

    model: str
    label: str
    kind: Literal["env", "local", "demo"]
    api_base: str | None
    ready: bool


class ModelPrice(Shape):
    """US dollars per million tokens, who says so, and as of which day."""

    input_usd: float
    output_usd: float
    cached_usd: float | None
    source: str
    date: str | None


class RoleFacts(Shape):
    """What is known of a role's model: its window in tokens, its price, and why it may be too weak for agents.

    `probed` is the day a server of one's own was tried.
    """

    role: Literal["root", "sub", "judge"]
    model: str
    context_window: int | None
    price: ModelPrice | None
    weak: str | None
    probed: str | None


class ModelSettings(Shape):
    """The models in use and where each value came from."""

    model: str | None
    sub_model: str | None
    judge_model: str | None
    models_allowed: list[str]
    verify: Literal["off", "judge"]
    roles: list[RoleFacts]
    api_base: str | None
    key: KeyState
    sources: dict[str, str]
    suggestions: list[Suggestion]


class ModelChange(Body):
    """New values; a field that is left out stays, null removes it. `api_key` is never read back."""

    model: ModelName | None = None
    sub_model: ModelName | None = None
    judge_model: ModelName | None = None
    models_allowed: Annotated[list[ModelName], Field(max_length=100)] | None = None
    verify: Literal["off", "judge"] | None = None
    api_base: Annotated[str, Field(max_length=2000)] | None = None
    api_key: Annotated[str, Field(max_length=4000)] | None = None


class TestStep(Shape):
    """One step of a connection test; `fix` says what to do when it failed."""

    name: str
    ok: bool
    ms: float
    detail: str
    fix: str | None


class TestAnswer(Shape):
    """A connection test, step by step."""

    ok: bool
    steps: list[TestStep]
