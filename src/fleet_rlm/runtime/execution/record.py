"""What a turn's journal knows: every answer it got, under a key that is the same when the turn is run again.

A key is (run path, what was asked, how often it was asked for there before). What is asked of a model is known by its
place in the cell too: several may ask the same at once, and get other answers. `Record.read` builds it from events; a
turn that itself went on from another is read together with that one, the newer first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import msgspec

from fleet_rlm.runtime.execution import events as ev
from fleet_rlm.runtime.execution.losses import LossReader, RecordedLoss, begun, newer
from fleet_rlm.runtime.execution.paths import ROOT
from fleet_rlm.runtime.execution.spending import Cost

Key = tuple[str, str, int]
Moment = ev.Limits | ev.BudgetWarned
"""What is told of a turn's limits while it runs: that they are others from now on, or how near they are."""
WHOLE = 1 << 60
"""The stage of a run that came to its end."""
AT_CALLS = ("limit", "cost")
"""What is asked before a call is made. A replay makes none, so it has to be told where such a question was."""
EDITS_MEMORY = frozenset({"memory_append", "memory_replace"})
"""The tools that write to the session's memory."""

_SHOWN = (
    ev.MessageStarted,
    ev.MessageDelta,
    ev.MessageFinished,
    ev.ReasoningStarted,
    ev.ReasoningDelta,
    ev.ReasoningFinished,
)


@dataclass(slots=True)
class RecordedCall:
    """A call of the journal. `stage`: where its run stood (`Places.stage`). `shown`: what was seen of its answer.

    `edits`: under which edits of a fork it was made. `cut`: its end in place of `finished`, when its run was stopped.
    `after`: how many of the turn's moments, and of its run's questions, came before it.
    """

    started: ev.CallStarted
    path: str
    stage: int
    finished: ev.CallFinished | None = None
    cut: ev.CallFinished | None = None
    shown: list[ev.EventData] = field(default_factory=list[ev.EventData])
    shown_in_run: bool = True
    edits: Sequence[ev.TurnEdit] = ()
    after: tuple[int, int] = (0, 0)


@dataclass(slots=True)
class RecordedTool:
    """A call of a host tool. `besides`: what it brought into the turn (documents, answers of a person).

    `edited`: what it wrote to the session's memory, which stands also where a crash kept the tool from its end.
    `elsewhere`: that was another session than the one of the turn that is resumed.
    """

    path: str
    name: str
    asked: str
    finished: ev.ToolFinished | None = None
    besides: list[ev.EventData] = field(default_factory=list[ev.EventData])
    edited: ev.MemoryChanged | None = None
    elsewhere: bool = False


@dataclass(slots=True)
class RecordedQuestion:
    """A question of a run about a limit or about money. `stage`: where it stood."""

    stage: int
    asked: ev.ApprovalRequested
    resolved: ev.ApprovalResolved | None = None


@dataclass(slots=True)
class RecordedRun:
    """A run of the journal. `done`: up to which stage everything that it asked for is recorded. `kept`: what of it
    stays when it is not run again (coverage, artifacts). `limits`: those when it began, which say what it may do.
    `after`: how many of the turn's moments, and of its parent's questions, came before it. `elsewhere`: as a tool's.
    `begun`: it had taken a step. `lacks`: it was taken whole, so not all that it left is told here, but where it was
    taken from."""

    id: str
    path: str
    parent: str | None
    started: ev.RunStarted
    finished: ev.RunFinished | None = None
    done: int = -1
    stage: int = 0
    stepping: bool = False
    cells: int = 0
    kept: list[ev.EventData] = field(default_factory=list[ev.EventData])
    limits: ev.Limits = field(default_factory=ev.Limits)
    questions: list[RecordedQuestion] = field(default_factory=list[RecordedQuestion])
    after: tuple[int, int] = (0, 0)
    losses: list[RecordedLoss] = field(default_factory=list[RecordedLoss])
    begun: bool = False
    elsewhere: bool = False
    lacks: bool = False


@dataclass(frozen=True, slots=True)
class Past:
    """The events of a turn; `counts`: what it spent is spent for the turn that goes on from it."""

    events: Iterable[ev.Event]
    counts: bool = True


@dataclass(slots=True)
class Record:
    """What is known of a turn, and of the turns that it went on from."""

    calls: dict[Key, RecordedCall] = field(default_factory=dict[Key, RecordedCall])
    tools: dict[Key, RecordedTool] = field(default_factory=dict[Key, RecordedTool])
    approvals: dict[Key, ev.ApprovalResolved] = field(default_factory=dict[Key, ev.ApprovalResolved])
    runs: dict[str, RecordedRun] = field(default_factory=dict[str, RecordedRun])
    paid: list[Cost] = field(default_factory=list[Cost])
    """What these turns really spent, one for each call that was sent."""
    end: ev.TurnFinished | None = None
    exhausted: list[ev.Unit] = field(default_factory=list[ev.Unit])
    moments: list[Moment] = field(default_factory=list[Moment])
    refused: dict[str, ev.RunRefused] = field(default_factory=dict[str, ev.RunRefused])
    """Children that a limit left nothing for, by their paths."""
    offered: dict[str, ev.ToolsOffered] = field(default_factory=dict[str, ev.ToolsOffered])
    """What runs were offered of MCP servers, by their paths."""
    published: dict[tuple[str, str], ev.ArtifactPublished] = field(
        default_factory=dict[tuple[str, str], ev.ArtifactPublished]
    )
    """Artifacts, by name and SHA-256."""
    ids: dict[str, tuple[str, int]] = field(default_factory=dict[str, tuple[str, int]])
    """Where a cell or a call stands, by its id: (run path, ordinal of the cell or stage of the call)."""
    keys: dict[str, Key] = field(default_factory=dict[str, Key])
    """The key of a call, by its id."""
    anew: bool = False
    """One of these turns decided anew what its runs may do (`Origin.anew`)."""

    @classmethod
    def read(cls, turns: Iterable[Past]) -> Record:
        """The record of a turn (first) and of what it went on from (after it, in order)."""
        whole = cls()
        for number, past in enumerate(turns):
            one = _Reader(cls(), newest=number == 0).read(past.events)
            if not past.counts:
                one.paid, one.published = [], {}
                for each in (*one.tools.values(), *one.runs.values()):
                    each.elsewhere = True
            whole.add(one, first=number == 0)
        return whole

    def add(self, older: Record, *, first: bool) -> None:
        """Take from an older turn what the newer one does not know."""
        for key, call in older.calls.items():
            mine = self.calls.get(key)
            if mine is None or (mine.finished is None and call.finished is not None):
                self.calls[key] = call
        self.tools = older.tools | self.tools
        self.offered = older.offered | self.offered
        self.refused = older.refused | self.refused
        self.published = older.published | self.published
        self.approvals = older.approvals | self.approvals
        for path, run in older.runs.items():
            mine = self.runs.get(path)
            losses = run.losses if mine is None else _losses(mine, run)
            if mine is None or (mine.finished is None or mine.finished.status != "ok"):
                done = max(run.done, -1 if mine is None else mine.done)
                if mine is None or (run.finished is not None and run.finished.status == "ok"):
                    self.runs[path] = run
                self.runs[path].done = done
            elif mine.lacks and run.finished is not None and run.finished.status == "ok":
                mine.kept += [data for data in run.kept if data not in mine.kept]
                mine.lacks = run.lacks
            # Those of the oldest, where it began, as far as no newer turn decided them anew.
            self.runs[path].limits = mine.limits if mine is not None and self.anew else run.limits
            self.runs[path].losses = losses
        self.anew = self.anew or older.anew
        self.paid += older.paid
        self.ids = older.ids | self.ids
        self.keys = older.keys | self.keys
        if first:
            self.end, self.exhausted, self.moments = older.end, older.exhausted, older.moments

    def below(self, path: str) -> list[RecordedRun]:
        """The runs below one."""
        return [run for run in self.runs.values() if run.path.startswith(f"{path}/")]


class _Reader:
    """Reads one turn's events in order. `newest`: what was told of its limits, and asked, is told again."""

    def __init__(self, record: Record, *, newest: bool) -> None:
        self._record = record
        self._newest = newest
        self._runs: dict[str, RecordedRun] = {}
        self._open: dict[str, RecordedCall] = {}
        self._tools: dict[str, RecordedTool] = {}
        self._tool_keys: dict[str, Key] = {}
        self._asked: dict[str, Key] = {}
        self._forked = False
        self._questions: dict[str, RecordedQuestion] = {}
        self._seen: Counter[tuple[str, str]] = Counter()
        self._of_run: dict[str, RecordedCall] = {}
        self._edits: Sequence[ev.TurnEdit] = ()
        self._called_off: set[str] = set()
        self._limits = ev.Limits()
        self._losses: dict[str, LossReader] = {}

    def read(self, events: Iterable[ev.Event]) -> Record:
        for event in events:
            self._take(event)
        # Sent, and no end of it in the journal: spent, at a price that nobody knows.
        self._record.paid += [Cost() for call in self._open.values() if self._was_sent(call)]
        return self._record

    def _was_sent(self, call: RecordedCall) -> bool:
        """Not while it waited for another's answer, as far as that one did not end without."""
        return call.started.shared is None or call.started.shared in self._called_off

    def _take(self, event: ev.Event) -> None:
        run = self._runs.get(event.run or "")
        match event.data:
            case ev.RunStarted() as data:
                self._run_started(event, data)
            case data if isinstance(data, _SHOWN):
                self._shown(event, data)
            case data if run is None:
                self._of_turn(data)
            case data:
                self._of_one_run(run, data)

    def _of_turn(self, data: ev.EventData) -> None:
        match data:
            case ev.TurnAccepted(origin=origin, limits=limits):
                if origin is not None:
                    self._edits, self._record.anew = origin.edits, origin.anew
                    self._forked = origin.kind == "fork"
                self._limits = limits
            case ev.BudgetUpdated(limits=limits):
                if limits != self._limits:
                    self._moment(limits)
                self._limits = limits
            case ev.BudgetWarned():
                self._moment(data)
            case ev.TurnFinished():
                self._record.end = data
            case ev.BudgetExhausted(unit=unit):
                self._record.exhausted.append(unit)
            case _:
                pass

    def _of_one_run(self, run: RecordedRun, data: ev.EventData) -> None:
        self._losses[run.id].take(data)
        match data:
            case ev.RunFinished():
                self._run_finished(run, data)
            case ev.CallStarted() | ev.CallFinished():
                self._call(run, data)
            case ev.IterationStarted() | ev.CellStarted() | ev.CellFinished():
                self._step(run, data)
            case ev.ToolStarted() | ev.ToolFinished():
                self._tool(run, data)
            case ev.ApprovalRequested() | ev.ApprovalResolved():
                self._approval(run, data)
            case ev.ContextRead():
                run.kept.append(data)
            case ev.ArtifactPublished():
                run.kept.append(data)
                self._record.published.setdefault((data.name, data.sha256), data)
            case ev.ContextAdded():
                self._besides(run, data)
            case ev.MemoryChanged():
                self._edited(run, data)
            case ev.RunRefused():
                self._record.refused[data.path] = data
            case ev.ToolsOffered():
                self._record.offered[run.path] = data
            case _:
                pass

    def _run_started(self, event: ev.Event, data: ev.RunStarted) -> None:
        assert event.run is not None
        after = self._after(self._runs.get(event.parent or ""))
        run = RecordedRun(event.run, data.path or ROOT, event.parent, data, limits=self._limits, after=after)
        self._runs[event.run] = self._record.runs[run.path] = run
        reader = self._losses[run.id] = LossReader()
        run.losses = reader.losses
        if run.parent in self._losses:
            self._losses[run.parent].asks(begun(run.path))

    def _run_finished(self, run: RecordedRun, data: ev.RunFinished) -> None:
        run.finished, run.lacks = data, data.replayed
        run.done = WHOLE if data.status == "ok" else run.done
        if run.parent in self._losses:
            self._losses[run.parent].ends(run.path)

    def _call(self, run: RecordedRun, data: ev.CallStarted | ev.CallFinished) -> None:
        if isinstance(data, ev.CallStarted):
            run.stepping = False
            if not (data.place or run.begun):  # the next step of a sub-agent, which tells no iterations
                run.done = max(run.done, run.stage - 1)
            call = RecordedCall(data, run.path, run.stage, edits=self._edits, after=self._after(run))
            asked = call_key(data.request, data.place)
            key = (run.path, asked, self._occurrence(run.path, asked))
            self._record.calls[key] = call
            self._losses[run.id].asks(key)
            self._record.keys[data.id], self._record.ids[data.id] = key, (run.path, run.stage)
            self._open[data.id] = self._of_run[run.id] = call
            return
        call = self._open.pop(data.id, None)
        if data.status == "cancelled":
            self._called_off.add(data.id)
            if call is not None:
                call.cut = data
        elif call is not None:
            call.finished = data
        if data.calls and (not data.replayed or self._forked):  # what a fork takes counts there as it did then
            micro = None if data.cost_usd is None else round(data.cost_usd * 1e6)
            paid = Cost(data.prompt_tokens, data.completion_tokens, data.cached_tokens, micro_usd=micro)
            self._record.paid += [paid, *([Cost(micro_usd=0)] * (data.calls - 1))]

    def _step(self, run: RecordedRun, data: ev.IterationStarted | ev.CellStarted | ev.CellFinished) -> None:
        if isinstance(data, ev.IterationStarted):
            run.begun = True
            run.done = max(run.done, run.stage - 1)  # also where its last cell was lost
            return
        if isinstance(data, ev.CellStarted):
            run.cells += 1
            run.done = max(run.done, run.stage)
            run.stage += 1
            self._record.ids[data.id] = (run.path, run.cells)
            return
        if data.status in ("ok", "error", "submitted"):
            run.done = max(run.done, run.stage)
        run.stage += 1

    def _tool(self, run: RecordedRun, data: ev.ToolStarted | ev.ToolFinished) -> None:
        if isinstance(data, ev.ToolStarted):
            if data.cell is None and not run.stepping:  # the first tool of an agent's step
                run.stepping = True
                run.done = max(run.done, run.stage)
                run.stage += 2
            asked = tool_key(data.name, data.arguments)
            self._tools[data.id] = RecordedTool(run.path, data.name, asked)
            key = self._tool_keys[data.id] = (run.path, asked, self._occurrence(run.path, asked))
            self._losses[run.id].asks(key)
            return
        tool = self._tools.pop(data.id, None)
        if tool is None:
            return
        if data.status != "cancelled":
            tool.finished = data
        if tool.finished is not None or tool.edited is not None:
            self._record.tools[self._tool_keys[data.id]] = tool

    def _besides(self, run: RecordedRun, data: ev.EventData) -> None:
        """What happens while a tool of the run works belongs to it: to the newest, where none of several is named."""
        named = self._tools.get(getattr(data, "tool", None) or "")
        mine = (tool for tool in (named, *reversed(self._tools.values())) if tool is not None)
        tool = next((tool for tool in mine if tool.path == run.path), None)
        if tool is not None:
            tool.besides.append(data)

    def _edited(self, run: RecordedRun, data: ev.MemoryChanged) -> None:
        """Tools that edit the memory work one after another, also where others work beside them."""
        mine = (tool for tool in self._tools.values() if tool.path == run.path and tool.name in EDITS_MEMORY)
        if (tool := next(mine, None)) is not None:
            tool.edited = data

    def _approval(self, run: RecordedRun, data: ev.ApprovalRequested | ev.ApprovalResolved) -> None:
        if isinstance(data, ev.ApprovalRequested):
            asked = approval_key(data.kind, data.question)
            self._asked[data.id] = (run.path, asked, self._occurrence(run.path, asked))
            if data.kind in AT_CALLS:
                self._questions[data.id] = RecordedQuestion(run.stage, data)
                run.questions += [self._questions[data.id]] if self._newest else []
            else:
                self._besides(run, data)
            return
        question = self._questions.pop(data.id, None)
        if question is not None:
            question.resolved = data
        else:
            self._besides(run, data)
        key = self._asked.pop(data.id, None)
        if key is not None and data.status != "cancelled":
            self._record.approvals[key] = data

    def _shown(self, event: ev.Event, data: ev.EventData) -> None:
        """Text that streamed while a call was open belongs to that call."""
        newest = next(reversed(self._open.values()), None)
        call = newest if event.run is None else self._of_run.get(event.run)
        if call is not None and call.started.id in self._open:
            call.shown_in_run = event.run is not None
            _append(call.shown, data)

    def _moment(self, moment: Moment) -> None:
        self._record.moments += [moment] if self._newest else []

    def _after(self, run: RecordedRun | None) -> tuple[int, int]:
        return len(self._record.moments), len(run.questions) if run is not None else 0

    def _occurrence(self, path: str, asked: str) -> int:
        self._seen[(path, asked)] += 1
        return self._seen[(path, asked)] - 1


def _losses(mine: RecordedRun, older: RecordedRun) -> list[RecordedLoss]:
    if mine.lacks:  # taken whole, it lost nothing
        return older.losses
    return newer(mine.losses, older.losses, whole=mine.finished is not None and mine.finished.status == "ok")


def _append(shown: list[ev.EventData], data: ev.EventData) -> None:
    """Neighbouring deltas of one message become one."""
    last = shown[-1] if shown else None
    for kind in (ev.MessageDelta, ev.ReasoningDelta):
        if isinstance(data, kind) and isinstance(last, kind) and last.id == data.id:
            shown[-1] = kind(id=data.id, text=last.text + data.text)
            return
    shown.append(data)


def with_answer(call: RecordedCall, old: ev.CallFinished, answer: str) -> RecordedCall:
    """The call as if the model had answered something else."""
    said = ev.Text(head=answer, bytes=len(answer.encode("utf-8", "replace")))
    done = msgspec.structs.replace(old, status="ok", response=said, record=ev.Text(head="{}", bytes=2), error=None)
    return RecordedCall(call.started, call.path, call.stage, done)


def call_key(request: str, place: str) -> str:
    """What a model was asked, and where in the cell."""
    return f"{request}@{place}" if place else request


def tool_key(name: str, arguments: ev.Text) -> str:
    """What a host tool was asked. A large argument counts by its blob, which its content names."""
    return f"tool:{name}:{arguments.ref or arguments.head}"


def approval_key(kind: str, question: str) -> str:
    """What a person was asked."""
    return f"approval:{kind}:{question}"
