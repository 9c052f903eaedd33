"""What a client may say on the socket, and how the server's own frames look."""

# pyright: reportGeneralTypeIssues=false

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import Meta

from fleet_rlm.runtime.execution.events import Mode

Sid = Annotated[str, Meta(min_length=1, max_length=80)]
CommandId = Annotated[str, Meta(min_length=1, max_length=200)]
Count = Annotated[int, Meta(ge=1, le=1_000_000_000_000)]
Amount = Annotated[float, Meta(gt=0, lt=1e12)]
Model = Annotated[str, Meta(min_length=3, max_length=300)]
Sha256 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]


class Hello(msgspec.Struct, frozen=True, tag="hello"):
    """The first frame. `v` is the protocol's version."""

    v: int
    client: Annotated[str, Meta(max_length=200)] = ""


class Subscribe(msgspec.Struct, frozen=True, tag="subscribe"):
    """Send me a session from `after` on. `detail` is reserved: everything is sent."""

    sid: Sid
    after: Annotated[int, Meta(ge=0)] = 0
    epoch: str | None = None
    detail: Literal["summary", "full"] = "full"


class Unsubscribe(msgspec.Struct, frozen=True, tag="unsubscribe"):
    """Send me nothing more of a session."""

    sid: Sid


class LimitValues(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Limits of one turn; what is left out comes from the settings, null takes a limit away."""

    calls: Count | msgspec.UnsetType | None = msgspec.UNSET
    tokens: Count | msgspec.UnsetType | None = msgspec.UNSET
    cost_usd: Amount | msgspec.UnsetType | None = msgspec.UNSET
    wall_s: Amount | msgspec.UnsetType | None = msgspec.UNSET
    depth: Annotated[int, Meta(ge=0, le=8)] | msgspec.UnsetType = msgspec.UNSET
    children: Count | msgspec.UnsetType | None = msgspec.UNSET
    sandboxes: Annotated[int, Meta(ge=1, le=4096)] | msgspec.UnsetType = msgspec.UNSET


class TurnStart(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Arguments of `turn.start`."""

    question: Annotated[str, Meta(min_length=1, max_length=200_000)]
    mode: Mode = "auto"
    model: Model | None = None
    sub_model: Model | None = None
    limits: LimitValues = LimitValues()
    contexts: Annotated[list[Sha256], Meta(max_length=64)] = []


class TurnCancel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Arguments of `turn.cancel`."""

    turn: Annotated[str, Meta(min_length=1, max_length=80)]


class MemorySet(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Arguments of `memory.set`: a block's new text, null for none."""

    block: Annotated[str, Meta(min_length=1, max_length=32)]
    text: Annotated[str, Meta(max_length=12_000)] | None


class MemoryUndo(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Arguments of `memory.undo`: the edit to take back, by the seq of its event."""

    seq: Annotated[int, Meta(ge=1)]


class BudgetSet(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Arguments of `budget.set`: what is left out stays, null takes a limit away."""

    turn: Annotated[str, Meta(min_length=1, max_length=80)]
    limits: LimitValues


class RunCancel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Arguments of `run.cancel`."""

    turn: Annotated[str, Meta(min_length=1, max_length=80)]
    run: Annotated[str, Meta(min_length=1, max_length=80)]


class Approve(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Arguments of `approve`: a person's answer to a question that a run waits for."""

    turn: Annotated[str, Meta(min_length=1, max_length=80)]
    approval: Annotated[str, Meta(min_length=1, max_length=80)]
    answer: Annotated[str, Meta(min_length=1, max_length=20_000)]


class TurnResume(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Arguments of `turn.resume`: limits for the rest of the turn; what is left out stays as it was."""

    turn: Annotated[str, Meta(min_length=1, max_length=80)]
    limits: LimitValues = LimitValues()


class TurnReplay(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Arguments of `turn.replay`."""

    turn: Annotated[str, Meta(min_length=1, max_length=80)]


class CellEdit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Other code for a cell."""

    id: Annotated[str, Meta(min_length=1, max_length=80)]
    code: Annotated[str, Meta(min_length=1, max_length=400_000)]


class CallEdit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Another text for what a call asks, or for what it was answered."""

    call: Annotated[str, Meta(min_length=1, max_length=80)]
    text: Annotated[str, Meta(min_length=1, max_length=400_000)]


class ForkEdit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a fork does otherwise; what is left out stays as it was."""

    question: Annotated[str, Meta(min_length=1, max_length=200_000)] | None = None
    model: Model | None = None
    sub_model: Model | None = None
    limits: LimitValues = LimitValues()
    cell: CellEdit | None = None
    prompt: CallEdit | None = None
    answer: CallEdit | None = None


class Fork(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Arguments of `fork`. `at`: only the turn's events up to this seq are shared."""

    turn: Annotated[str, Meta(min_length=1, max_length=80)]
    at: Annotated[int, Meta(ge=1)] | None = None
    edit: ForkEdit = ForkEdit()


Operation = Literal[
    "turn.start",
    "turn.cancel",
    "turn.resume",
    "turn.replay",
    "fork",
    "run.cancel",
    "approve",
    "budget.set",
    "memory.set",
    "memory.undo",
]
"""What a command may ask for; the welcome tells a client the same list."""


class Command(msgspec.Struct, frozen=True, tag="cmd"):
    """Do something, once per `id`: the same id gives the same answer."""

    id: CommandId
    sid: Sid
    op: Operation
    args: msgspec.Raw


Frame: TypeAlias = Hello | Subscribe | Unsubscribe | Command

_decoder: msgspec.json.Decoder[Frame] = msgspec.json.Decoder(Frame)
_start_decoder = msgspec.json.Decoder(TurnStart)
_cancel_decoder = msgspec.json.Decoder(TurnCancel)
_encoder = msgspec.json.Encoder()


def read_frame(text: str) -> Frame:
    """Errors: msgspec.ValidationError (JSON of another shape), msgspec.DecodeError (no JSON)."""
    return _decoder.decode(text)


def read_start(args: msgspec.Raw) -> TurnStart:
    """Errors: msgspec.ValidationError."""
    return _start_decoder.decode(args)


def read_cancel(args: msgspec.Raw) -> TurnCancel:
    """Errors: msgspec.ValidationError."""
    return _cancel_decoder.decode(args)


def write_frame(type_: str, **fields: Any) -> str:
    """A frame of the server that is no event: it has no seq and never moves a cursor."""
    return _encoder.encode({"type": type_, **fields}).decode()
