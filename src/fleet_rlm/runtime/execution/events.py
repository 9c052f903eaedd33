"""The closed union of events: one immutable fact each, tagged by `type`.

Envelope (JSON): `{v, epoch, sid, seq, ts, type, turn, run, parent, depth, data}`. `seq` is per session, starts at 1
and has no gaps; the journal assigns it. `ts` is milliseconds since 1970 UTC, for people only: order is `seq`.
`parent` is the run above `run`; `depth` is 0 for the root run.

Every `*.started` has exactly one `*.finished` with the same id, also after a crash; children finish before parents.
Large text is a `Text` with a blob reference. Secrets are removed before an event exists.
"""

# Structs inherit `frozen` from their base at run time; the checker wants the word on each class.
# pyright: reportGeneralTypeIssues=false

from __future__ import annotations

from typing import Any, ClassVar, Literal, TypeAlias, cast, get_args

import msgspec

VERSION = 1
HEAD_CHARS = 4096
"""Characters of a large value that stay in the event; the rest lies in the blob store."""

RunKind = Literal["agent", "rlm", "batch", "direct"]
TurnStatus = Literal["ok", "failed", "cancelled", "limit", "interrupted"]
RunStatus = TurnStatus
Mode = Literal["auto", "rlm", "direct"]
CallRole = Literal["root", "sub", "judge", "reflection"]
CallStatus = Literal["ok", "failed", "cancelled"]
Unit = Literal["calls", "tokens", "cost", "wall", "depth", "children", "sandboxes", "iterations"]
ApprovalKind = Literal["question", "tool", "host", "cost", "depth", "limit"]


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Base of the value types that events are made of."""


class Text(Record):
    """A text value. When `ref` is set, `head` is only its beginning and the whole lies in that blob.

    Units: `bytes` is the UTF-8 size of the whole text.
    """

    head: str
    bytes: int
    ref: str | None = None


class ContextRef(Record):
    """A large input by handle. Units: bytes, characters, lines of its text; `files` counts the files of a set."""

    name: str
    sha256: str
    kind: Literal["text", "tree"]
    bytes: int
    chars: int
    lines: int
    files: int = 1


class Limits(Record):
    """What a turn may use. None = no limit. Units: cost in US dollars, wall in seconds.

    `depth` as in arXiv 2512.24601: 0 = no sub-calls, 1 = sub-calls are plain models, N > 1 = sub-calls are RLMs.
    """

    calls: int | None = None
    tokens: int | None = None
    cost_usd: float | None = None
    wall_s: float | None = None
    depth: int = 2
    children: int | None = None
    sandboxes: int = 64


class Usage(Record):
    """What was used. `cost_usd` is None where the price of any call is unknown.

    `cached_tokens` of the prompt tokens came from the provider's cache.
    """

    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    cost_usd: float | None = None
    wall_s: float = 0.0


class ErrorInfo(Record):
    """A failure for a person: stable code, one line, and what to do."""

    code: str
    message: str
    hint: str | None = None
    retryable: bool = False


class Citation(Record):
    """A place that an answer rests on. `line` is 1-based; `start`/`end` are character offsets in the context.

    `place` says where that line stands in the document it was taken from: "page 4", "sheet Prices, row 12", "cell 7".
    """

    context: str
    path: str
    line: int
    start: int
    end: int
    quote: str
    place: str | None = None


class CallSite(Record):
    """Where a child run was asked for: the cell, the function, and its place in a batch."""

    cell: str | None
    function: str
    index: int = 0
    of: int = 1


class VariableChange(Record):
    """A REPL variable that a cell created or changed. `size` is len() where it has one."""

    name: str
    type: str
    preview: str
    size: int | None = None


class CellError(Record):
    """An exception of model-written code. `line` is 1-based in the cell's code."""

    name: str
    message: str
    line: int | None = None
    traceback: str = ""


class TurnEdit(Record):
    """What a fork changes below its request, at a place that is the same when the turn is run again.

    `path` is the run's. Either `cell` (from 1) gets `code`, or the call with this `request` (its hash, with its place
    in the cell; `again` = how often the run had sent the same before) gets another `prompt` or another `answer`.
    """

    path: str
    cell: int | None = None
    code: str | None = None
    request: str | None = None
    again: int = 0
    prompt: str | None = None
    answer: str | None = None


class Origin(Record):
    """The turn that this one goes on from, and how.

    "resume": the rest of a turn that a dead process left; "replay": the same once more, from its journal alone;
    "fork": the past up to `seq` (of the session `session`), then something else. `edits` stay with every turn that goes
    on from a fork. `anew`: a fork whose own limits say what its runs may do, also those that the origin has. `kept`: by
    blob, the events of the origin and of what that went on from, newest first, for a session that outlives theirs.
    `knew`: the turn's agent knew its session as it was before that event.
    """

    kind: Literal["resume", "replay", "fork"]
    session: str
    turn: str
    seq: int | None = None
    edits: list[TurnEdit] = []
    anew: bool = False
    kept: list[str] = []
    knew: int | None = None


class ReadSpan(Record):
    """Characters [start, end) of a context's text."""

    start: int
    end: int


class Data(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Base of all event payloads; `type` is the event's name."""

    type: ClassVar[str] = ""


class SessionCreated(Data):
    type = "session.created"
    title: str


class SessionRenamed(Data):
    type = "session.renamed"
    title: str


class SessionForked(Data):
    """This session shares the past of another up to its `seq` and goes its own way from there."""

    type = "session.forked"
    session: str
    seq: int
    turn: str | None = None
    edit: str | None = None


Ability = Literal["tools", "schema", "json", "reasoning"]
"""Native tool calls; answers that fit a JSON schema; answers in JSON; thinking before the answer."""


class ModelKnown(Record):
    """What was known of a model when a turn began; its requests depend on it.

    `wire`: its name for DSPy. `can`: what DSPy's adapters may ask of it. `window`: tokens that it reads at once.
    `writes_code` False: it failed the smallest task of an agent. `tried`: on this day (ISO); None: never, or it is no
    server of one's own.
    """

    wire: str
    can: list[Ability] = []
    window: int | None = None
    writes_code: bool = True
    tried: str | None = None


class Rules(Record):
    """When a person was asked; the fields are those of `policy.Policy`."""

    ask_tools: list[str] = []
    ask_hosts: list[str] = msgspec.field(default_factory=lambda: ["*"])
    allowed_hosts: list[str] = []
    ask_cost_usd: float | None = None
    ask_depth: int | None = None
    ask_seconds: float = 600.0
    otherwise: Literal["deny", "allow"] = "deny"
    ask_user: bool = True
    max_depth: int = 8


class TurnSetup(Record):
    """The settings by which a turn's requests were made, for a replay under others.

    `variables`, `tools`, `models`, `judge`: as the settings of these names say (`models`: those that code may name;
    `judge`: None when answers were not checked, "" for the root's). `attended`: whether its prompts speak of a person
    who can be asked; None in journals that did not tell it, whose `rules` are those for when somebody is there.
    """

    variables: Literal["auto", "always", "never"] = "auto"
    rules: Rules = Rules()
    tools: list[str] = []
    models: list[str] = []
    judge: str | None = None
    attended: bool | None = None


class TurnAccepted(Data):
    """The promise: once this is in the journal the turn is never lost. `command` is the client's idempotency key.

    `objects`: the models that a Python caller gave as objects, which their names alone do not bring back. `known`: what
    was known of the models, by name. `setup`: None in journals that did not tell it.
    """

    type = "turn.accepted"
    question: str
    mode: Mode
    model: str
    sub_model: str
    limits: Limits
    contexts: list[ContextRef] = []
    command: str | None = None
    origin: Origin | None = None
    objects: list[Literal["model", "sub_model"]] = []
    known: dict[str, ModelKnown] = {}
    setup: TurnSetup | None = None


class TurnStarted(Data):
    type = "turn.started"


class TurnFinished(Data):
    """The end of a turn, exactly once. `limit` names the unit that was reached when `status` is "limit".

    `before` is the part of `usage` that the turns paid for from which this one goes on.
    """

    type = "turn.finished"
    status: TurnStatus
    answer: str | None
    usage: Usage
    runs: int
    max_depth_reached: int
    limit: Unit | None = None
    error: ErrorInfo | None = None
    citations: list[Citation] = []
    isolation: str | None = None
    provider: str | None = None
    before: Usage | None = None


class MessageStarted(Data):
    type = "message.started"
    id: str
    role: Literal["assistant"] = "assistant"


class MessageDelta(Data):
    type = "message.delta"
    id: str
    text: str


class MessageFinished(Data):
    """`length` in characters and `sha256` of the text that the deltas gave, so that a client can detect loss.

    That is only the beginning of an answer of more than 200,000 characters; the whole stands in `turn.finished`.
    """

    type = "message.finished"
    id: str
    length: int
    sha256: str


class ReasoningStarted(Data):
    type = "reasoning.started"
    id: str


class ReasoningDelta(Data):
    type = "reasoning.delta"
    id: str
    text: str


class ReasoningFinished(Data):
    type = "reasoning.finished"
    id: str
    length: int
    sha256: str


class RunStarted(Data):
    """A node of the recursion tree. Its id and parent stand in the envelope.

    `path` names its place in the tree and is the same whenever the turn is run again, whatever ran first: the
    parent's path, the cell or step, the function, and its index there.
    """

    type = "run.started"
    kind: RunKind
    task: str
    signature: str
    model: str
    path: str = ""
    contexts: list[ContextRef] = []
    site: CallSite | None = None
    max_iterations: int | None = None
    chars: int | None = None


class RunFinished(Data):
    """`usage` is rolled up over the run and everything below it.

    `replayed`: the run was not worked off again, its output comes from the journal of an earlier turn. `passed`: what
    the parent's code got, as JSON, where that is not `output`: pieces of contexts by handle. `json`: whether `output`
    is JSON, where the answer has a type; None: it is a text, or was written before this was told.
    """

    type = "run.finished"
    status: RunStatus
    usage: Usage
    output: Text | None = None
    limit: Unit | None = None
    error: ErrorInfo | None = None
    replayed: bool = False
    passed: Text | None = None
    json: bool | None = None


class RunRefused(Data):
    """A limit left nothing for a child that the run asked for. `own`: a limit of its share, and not of the turn."""

    type = "run.refused"
    path: str
    unit: Unit
    message: str
    own: bool = False


class IterationStarted(Data):
    type = "iteration.started"
    id: str
    n: int
    limit: int


class IterationFinished(Data):
    """Milliseconds that the iteration waited for the model and for the sandbox."""

    type = "iteration.finished"
    id: str
    n: int
    model_ms: float
    sandbox_ms: float


class CellStarted(Data):
    type = "cell.started"
    id: str
    code: Text
    iteration: int | None = None


class CellOutput(Data):
    type = "cell.output"
    id: str
    stream: Literal["stdout", "stderr"]
    text: str


class CellFinished(Data):
    """`shown` = characters of the output that the model sees in its next turn; `output_chars` = all there were.

    `batched`: sub-calls of loops in the code that were made side by side without being asked to.
    """

    type = "cell.finished"
    id: str
    status: Literal["ok", "error", "submitted", "interrupted", "lost"]
    ms: float
    output_chars: int
    shown: int
    value: Text | None = None
    error: CellError | None = None
    changed: list[VariableChange] = []
    truncated: bool = False
    batched: int = 0


class CallStarted(Data):
    """One language-model request. `request` is the hash of everything that determines the answer.

    `shared` names the call in flight whose answer this one waits for; none is sent for it, unless that one is stopped.
    `place` says for which of the calls of its cell it was made, and for which item of a batch.
    """

    type = "call.started"
    id: str
    role: CallRole
    model: str
    request: str
    prompt: Text
    shared: str | None = None
    place: str = ""


class CallFinished(Data):
    """`queued_ms` of `ms` were spent waiting for a place; `cached_tokens` of the prompt came from the provider's cache.

    `tries` requests were sent for it, and each counts. `shared` names the call that was in flight already and whose
    answer this one got, so that none was sent and it cost nothing; `replayed` calls got theirs from the journal.
    `record` is the answer as data, for a replay; `response` as a person reads it.
    """

    type = "call.finished"
    id: str
    status: CallStatus
    ms: float
    tries: int = 1
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    cost_usd: float | None = None
    cached: bool = False
    shared: str | None = None
    replayed: bool = False
    queued_ms: float = 0.0
    response: Text | None = None
    record: Text | None = None
    error: ErrorInfo | None = None

    @property
    def calls(self) -> int:
        """What it counts as: the requests that were sent, none for one that got the answer of another."""
        return 0 if self.shared is not None else self.tries


class ToolStarted(Data):
    """A host function that the agent, or the code of `cell`, calls."""

    type = "tool.started"
    id: str
    name: str
    arguments: Text
    cell: str | None = None


class ToolFinished(Data):
    """`json`: the result is a JSON value, else the text itself."""

    type = "tool.finished"
    id: str
    status: Literal["ok", "failed", "cancelled"]
    ms: float
    result: Text | None = None
    error: ErrorInfo | None = None
    replayed: bool = False
    json: bool = False


class ContextAdded(Data):
    type = "context.added"
    context: ContextRef


class ContextRead(Data):
    """What a run's code has read of a context since it last told."""

    type = "context.read"
    sha256: str
    spans: list[ReadSpan]


class ArtifactPublished(Data):
    """A file that a run made for the person. `sha256` names its blob; `kind` is a media type; versions start at 1."""

    type = "artifact.published"
    id: str
    name: str
    version: int
    sha256: str
    bytes: int
    kind: str
    cell: str | None = None


class MemoryChanged(Data):
    """A block of core memory, before and after (None: it did not exist, or it is gone)."""

    type = "memory.changed"
    block: str
    before: str | None
    after: str | None
    who: Literal["agent", "person", "undo"]


class HistoryCompacted(Data):
    """Older steps or turns left the model's view of this run, for they outgrew its window; the journal keeps them."""

    type = "history.compacted"
    dropped: int
    before_chars: int
    after_chars: int


class ToolsOffered(Data):
    """What the agent was offered of MCP servers, for a replay without them.

    `tools`: a JSON list of objects with `name`, `about`, `schema` (the properties of a JSON Schema) and `required`;
    `warnings`: what was said of servers and tools that are missing.
    """

    type = "tools.offered"
    tools: Text
    warnings: list[str] = []


class ApprovalRequested(Data):
    """The run waits for a person. `deadline` in milliseconds since 1970 UTC; then `otherwise` is taken as the answer.

    A "question" without choices takes free text. `seconds` is how long it may wait, for a resumed run. `unit` names the
    limit that a "limit" is about, `tool` the call of a host tool that asks, here and in the answer.
    """

    type = "approval.requested"
    id: str
    kind: ApprovalKind
    question: str
    choices: list[str] = []
    detail: Text | None = None
    deadline: int | None = None
    seconds: float | None = None
    otherwise: str | None = None
    unit: Unit | None = None
    tool: str | None = None


class ApprovalResolved(Data):
    type = "approval.resolved"
    id: str
    status: Literal["answered", "expired", "cancelled"]
    answer: str | None = None
    who: Literal["person", "rule"] = "person"
    replayed: bool = False
    tool: str | None = None


class SandboxRequested(Data):
    type = "sandbox.requested"
    id: str
    provider: str


class SandboxReady(Data):
    type = "sandbox.ready"
    id: str
    sandbox: str
    provider: str
    isolation: str
    ms: float


class SandboxLost(Data):
    type = "sandbox.lost"
    id: str
    reason: str


class SandboxReleased(Data):
    type = "sandbox.released"
    id: str


class BudgetUpdated(Data):
    """`reserved` is what is promised to calls in flight and to held-back final answers."""

    type = "budget.updated"
    spent: Usage
    reserved_calls: int
    limits: Limits
    children: int = 0
    live_sandboxes: int = 0


class BudgetWarned(Data):
    """`fraction` of the limit that is used: 0.7 or 0.9."""

    type = "budget.warned"
    unit: Unit
    fraction: float


class BudgetExhausted(Data):
    type = "budget.exhausted"
    unit: Unit


class Warning(Data):
    type = "warning"
    code: str
    message: str
    where: str | None = None


class Error(Data):
    type = "error"
    code: str
    message: str
    where: str | None = None
    retryable: bool = False


EventData: TypeAlias = (
    SessionCreated
    | SessionRenamed
    | SessionForked
    | TurnAccepted
    | TurnStarted
    | TurnFinished
    | MessageStarted
    | MessageDelta
    | MessageFinished
    | ReasoningStarted
    | ReasoningDelta
    | ReasoningFinished
    | RunStarted
    | RunFinished
    | RunRefused
    | IterationStarted
    | IterationFinished
    | CellStarted
    | CellOutput
    | CellFinished
    | CallStarted
    | CallFinished
    | ToolStarted
    | ToolFinished
    | ContextAdded
    | ContextRead
    | ArtifactPublished
    | MemoryChanged
    | HistoryCompacted
    | ToolsOffered
    | ApprovalRequested
    | ApprovalResolved
    | SandboxRequested
    | SandboxReady
    | SandboxLost
    | SandboxReleased
    | BudgetUpdated
    | BudgetWarned
    | BudgetExhausted
    | Warning
    | Error
)

EVENT_TYPES: dict[str, type[Data]] = {kind.type: kind for kind in cast("tuple[type[Data], ...]", get_args(EventData))}


class Draft(msgspec.Struct, frozen=True):
    """An event before the journal has given it its place."""

    data: EventData
    turn: str | None = None
    run: str | None = None
    parent: str | None = None
    depth: int = 0


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """An event with its place in the journal."""

    epoch: str
    sid: str
    seq: int
    ts: int
    type: str
    data: EventData
    turn: str | None = None
    run: str | None = None
    parent: str | None = None
    depth: int = 0
    v: int = VERSION


class _Envelope(msgspec.Struct, frozen=True, kw_only=True):
    epoch: str
    sid: str
    seq: int
    ts: int
    type: str
    data: msgspec.Raw
    turn: str | None = None
    run: str | None = None
    parent: str | None = None
    depth: int = 0
    v: int = VERSION


_encoder = msgspec.json.Encoder()
_envelope_decoder = msgspec.json.Decoder(_Envelope)
_data_decoders: dict[str, msgspec.json.Decoder[Any]] = {
    name: msgspec.json.Decoder(kind) for name, kind in EVENT_TYPES.items()
}


def encode_event(event: Event) -> bytes:
    """The event as one line of JSON, without the newline."""
    return _encoder.encode(event)


def decode_event(raw: bytes | str) -> Event:
    """Read an event back.

    Errors: msgspec.ValidationError when the line is not an event of this version; KeyError never.
    """
    env = _envelope_decoder.decode(raw)
    decoder = _data_decoders.get(env.type)
    if decoder is None:
        raise msgspec.ValidationError(f"unknown event type {env.type!r} at seq {env.seq}")
    return Event(
        epoch=env.epoch,
        sid=env.sid,
        seq=env.seq,
        ts=env.ts,
        type=env.type,
        data=decoder.decode(env.data),
        turn=env.turn,
        run=env.run,
        parent=env.parent,
        depth=env.depth,
        v=env.v,
    )


def place(draft: Draft, *, epoch: str, sid: str, seq: int, ts: int) -> Event:
    """The draft as an event at its place."""
    return Event(
        epoch=epoch,
        sid=sid,
        seq=seq,
        ts=ts,
        type=draft.data.type,
        data=draft.data,
        turn=draft.turn,
        run=draft.run,
        parent=draft.parent,
        depth=draft.depth,
    )
