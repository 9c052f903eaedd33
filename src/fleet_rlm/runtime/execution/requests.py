"""What is asked of the engine and what it gives back: the types at its outer border. Light to import."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from fleet_rlm.runtime.execution.artifacts import Artifact
from fleet_rlm.runtime.execution.coverage import Covered
from fleet_rlm.runtime.execution.events import (
    Citation,
    ContextRef,
    ErrorInfo,
    Limits,
    Mode,
    ModelKnown,
    Origin,
    TurnSetup,
    TurnStatus,
    Unit,
    Usage,
)

if TYPE_CHECKING:
    import dspy

AtLimit = Literal["finish", "ask"]
"""At a limit: end with the best partial answer, or ask a person whether to raise it."""
MAX_QUESTION_CHARS = 200_000


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnRequest:
    """A question and how to work on it.

    `session` None makes a new one. `model`/`sub_model`: a model string, any DSPy LM, or None for the settings' model.
    `limits`, `at_limit` None: those of the settings. `command` is the client's idempotency key: the same key in a
    session gives the same turn. `origin`: the turn that this one goes on from (again.py). `present`: whether somebody
    is there to answer questions; where nobody is, the rule does at once. None: as the workspace says. `known`: what the
    turn that this one goes on from knew of its models. `setup`: of a replay, the settings that held then. `attended`:
    whether prompts speak of a person who can be asked, which is kept where recorded calls are to be found again,
    whoever is there now; None: as `present`.
    """

    question: str
    session: str | None = None
    contexts: tuple[ContextRef, ...] = ()
    mode: Mode = "auto"
    model: str | dspy.BaseLM | None = None
    sub_model: str | dspy.BaseLM | None = None
    limits: Limits | None = None
    at_limit: AtLimit | None = None
    command: str | None = None
    title: str | None = None
    origin: Origin | None = None
    present: bool | None = None
    known: Mapping[str, ModelKnown] = field(default_factory=dict[str, ModelKnown])
    setup: TurnSetup | None = None
    attended: bool | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """Another text for something of a turn: the code of a cell, the words or the answer of a call."""

    id: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ForkEdit:
    """What a fork does otherwise. What is left out stays as it was."""

    question: str | None = None
    model: str | dspy.BaseLM | None = None
    sub_model: str | dspy.BaseLM | None = None
    limits: Limits | None = None
    cell: Change | None = None
    prompt: Change | None = None
    answer: Change | None = None

    def words(self) -> str:
        """What is edited: "question, limits"."""
        names = ("question", "model", "sub_model", "limits", "cell", "prompt", "answer")
        return ", ".join(name.replace("_", " ") for name in names if getattr(self, name) is not None)


@dataclass(frozen=True, slots=True)
class Submitted:
    """The promise that a turn will be worked on: its `turn.accepted` has sequence number `seq`.

    `made_before`: it was given already, to who asked first under the same command id.
    """

    session: str
    turn: str
    seq: int
    made_before: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True)
class SandboxInfo:
    """Where the code ran: provider "local" or "daytona", and the isolation that was proved. None: no sandbox."""

    provider: str | None
    isolation: str | None


@dataclass(frozen=True, slots=True)
class TurnResult:
    """How a turn ended. `runs` counts the nodes of the tree, the root included.

    `artifacts`: the files that it published; `coverage`: how much of each context its runs have read.
    """

    session: str
    turn: str
    status: TurnStatus
    answer: str | None
    limit: Unit | None
    error: ErrorInfo | None
    usage: Usage
    runs: int
    max_depth_reached: int
    citations: tuple[Citation, ...]
    sandbox: SandboxInfo
    model: str
    artifacts: tuple[Artifact, ...] = ()
    coverage: tuple[Covered, ...] = ()
