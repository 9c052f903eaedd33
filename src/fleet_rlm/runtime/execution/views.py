"""The tables of a Workbench: what a screen shows of a session. workbench.py fills them from events."""

# pyright: reportGeneralTypeIssues=false

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from fleet_rlm.runtime.execution import events as ev

Status: TypeAlias = Literal["running", "ok", "failed", "cancelled", "limit", "interrupted"]
CallStatus: TypeAlias = Literal["running", "ok", "failed", "cancelled"]
CellStatus: TypeAlias = Literal["running", "ok", "error", "submitted", "interrupted", "lost"]


class View(msgspec.Struct, kw_only=True):
    """Base of the tables' rows. Times are milliseconds since 1970 UTC (`ts`) or durations (`ms`)."""


class BudgetView(View):
    """The newest `budget.updated` of a turn, with the warnings so far."""

    spent: ev.Usage
    reserved_calls: int
    limits: ev.Limits
    children: int = 0
    live_sandboxes: int = 0
    warned: list[ev.Unit] = []
    exhausted: ev.Unit | None = None


class Notice(View):
    """A `warning` or `error` event of a turn, or what a person may want to know besides."""

    level: Literal["info", "warning", "error"]
    code: str
    message: str
    where: str | None
    run: str | None
    seq: int


class TurnView(View):
    """A turn: its request, and its end once `status` is not "running". `runs` is in the order of their starts.

    `messages` and `reasoning` are those of the root run; those of other runs stand with them. `objects`: see
    TurnAccepted.
    """

    id: str
    ts: int
    question: str
    mode: ev.Mode
    model: str
    sub_model: str
    limits: ev.Limits
    contexts: list[ev.ContextRef]
    command: str | None
    origin: ev.Origin | None = None
    objects: list[Literal["model", "sub_model"]] = []
    status: Status = "running"
    finished_ts: int | None = None
    answer: str | None = None
    usage: ev.Usage = ev.Usage()
    limit: ev.Unit | None = None
    error: ev.ErrorInfo | None = None
    citations: list[ev.Citation] = []
    provider: str | None = None
    isolation: str | None = None
    runs: list[str] = []
    messages: list[str] = []
    reasoning: list[str] = []
    budget: BudgetView | None = None
    notices: list[Notice] = []


class Step(View):
    """What a run did, in order: the id leads to the table of its kind."""

    kind: Literal["iteration", "cell", "call", "tool", "artifact", "approval"]
    id: str


class RunView(View):
    """A node of the recursion tree. `sandbox` names a row of `sandboxes`; `iteration` is the newest number.

    `reads`: by context, the spans that its code has read, in order and merged. `waiting` names an approval.
    """

    id: str
    turn: str
    parent: str | None
    depth: int
    kind: ev.RunKind
    task: str
    signature: str
    model: str
    path: str
    contexts: list[ev.ContextRef]
    site: ev.CallSite | None
    max_iterations: int | None
    chars: int | None
    started_ts: int
    status: Status = "running"
    finished_ts: int | None = None
    iteration: int = 0
    usage: ev.Usage = ev.Usage()
    output: ev.Text | None = None
    limit: ev.Unit | None = None
    error: ev.ErrorInfo | None = None
    children: list[str] = []
    steps: list[Step] = []
    sandbox: str | None = None
    messages: list[str] = []
    reasoning: list[str] = []
    reads: dict[str, list[ev.ReadSpan]] = {}
    waiting: str | None = None
    replayed: bool = False


class IterationView(View):
    """One step of an RLM run; the durations are None while it lasts."""

    id: str
    run: str
    n: int
    limit: int
    model_ms: float | None = None
    sandbox_ms: float | None = None


class OutputPart(View):
    """Output of a cell; neighbours of one stream are merged."""

    stream: Literal["stdout", "stderr"]
    text: str


class CellView(View):
    """One block of code with everything it printed."""

    id: str
    run: str
    iteration: int | None
    code: ev.Text
    started_ts: int
    output: list[OutputPart] = []
    status: CellStatus = "running"
    ms: float | None = None
    output_chars: int = 0
    shown: int | None = None
    value: ev.Text | None = None
    error: ev.CellError | None = None
    changed: list[ev.VariableChange] = []
    truncated: bool = False
    batched: int = 0


class CallView(View):
    """One language-model request."""

    id: str
    run: str
    role: ev.CallRole
    model: str
    request: str
    prompt: ev.Text
    status: CallStatus = "running"
    ms: float | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    cost_usd: float | None = None
    cached: bool = False
    shared: str | None = None
    replayed: bool = False
    queued_ms: float = 0.0
    response: ev.Text | None = None
    error: ev.ErrorInfo | None = None


class ToolView(View):
    """One call of a host function by the agent, or by the code of `cell`."""

    id: str
    run: str
    name: str
    arguments: ev.Text
    cell: str | None = None
    status: CallStatus = "running"
    ms: float | None = None
    result: ev.Text | None = None
    error: ev.ErrorInfo | None = None
    replayed: bool = False


class MessageView(View):
    """Text of the assistant, or its reasoning: the turn's lists tell which."""

    id: str
    turn: str
    run: str | None
    text: str = ""
    done: bool = False


class SandboxView(View):
    """A sandbox from its request to its release. `sandbox` is the provider's id."""

    id: str
    run: str | None
    provider: str
    sandbox: str | None = None
    isolation: str | None = None
    state: Literal["requested", "ready", "lost", "released"] = "requested"
    ms: float | None = None


class ArtifactView(View):
    """A version of a file that a run published."""

    id: str
    turn: str
    run: str | None
    ts: int
    name: str
    version: int
    sha256: str
    bytes: int
    kind: str
    cell: str | None = None


class ApprovalView(View):
    """A question to a person, and its answer once `status` is not "open"."""

    id: str
    turn: str
    run: str | None
    ts: int
    kind: ev.ApprovalKind
    question: str
    choices: list[str]
    detail: ev.Text | None
    deadline: int | None
    otherwise: str | None
    unit: ev.Unit | None = None
    status: Literal["open", "answered", "expired", "cancelled"] = "open"
    answer: str | None = None
    who: Literal["person", "rule"] | None = None


class MemoryEdit(View):
    """One change of a block of core memory; undoing it is setting `before` again."""

    seq: int
    ts: int
    block: str
    before: str | None
    after: str | None
    who: Literal["agent", "person", "undo"]


class Workbench(View):
    """Everything that a session's journal says, up to and including `seq`."""

    sid: str
    epoch: str = ""
    seq: int = 0
    title: str = ""
    turn_order: list[str] = []
    turns: dict[str, TurnView] = {}
    runs: dict[str, RunView] = {}
    iterations: dict[str, IterationView] = {}
    cells: dict[str, CellView] = {}
    calls: dict[str, CallView] = {}
    tools: dict[str, ToolView] = {}
    messages: dict[str, MessageView] = {}
    sandboxes: dict[str, SandboxView] = {}
    contexts: dict[str, ev.ContextRef] = {}
    artifacts: dict[str, ArtifactView] = {}
    approvals: dict[str, ApprovalView] = {}
    memory: dict[str, str] = {}
    memory_edits: list[MemoryEdit] = []
    forked_from: ev.Origin | None = None
    unknown_events: int = 0
