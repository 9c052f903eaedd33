"""Events -> what a screen shows: the reducer behind snapshots, exports and lists.

`Workbench` (views.py) is a session as flat tables that point at each other by id; lists of ids keep the order of
events. It is written twice, here and in the page (src/frontend/src/workspace/reducer.ts), and both pass the recorded
journals under tests/fixtures/journals.

Rules: events are applied in order of `seq` without gaps; an event at or below `seq` changes nothing, so duplicates are
harmless; one beyond `seq + 1` is not applied and ends the batch. `reduce` changes the Workbench in place.
A finished run's usage is the rolled-up one of its event; until then it is the sum of the run's own calls.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal, TypeAlias, TypeVar

from fleet_rlm.runtime.execution import events as ev
from fleet_rlm.runtime.execution.views import (
    ApprovalView,
    ArtifactView,
    BudgetView,
    CallView,
    CellView,
    IterationView,
    MemoryEdit,
    MessageView,
    Notice,
    OutputPart,
    RunView,
    SandboxView,
    Step,
    ToolView,
    TurnView,
    Workbench,
)


def reduce(state: Workbench, events: Iterable[ev.Event]) -> Workbench:
    """Apply events and return the same Workbench; compare its `seq` with the last event's to see a gap."""
    for event in events:
        if event.seq <= state.seq:
            continue
        if event.seq > state.seq + 1:
            break
        handler = _HANDLERS.get(type(event.data))
        if handler is None:
            state.unknown_events += 1
        else:
            handler(state, event, event.data)
        state.seq = event.seq
        state.epoch = event.epoch
    return state


Handler: TypeAlias = Callable[[Workbench, ev.Event, Any], None]
H = TypeVar("H", bound=Handler)
_HANDLERS: dict[type[ev.Data], Handler] = {}


def _on(*kinds: type[ev.Data]) -> Callable[[H], H]:
    def register(handler: H) -> H:
        _HANDLERS.update(dict.fromkeys(kinds, handler))
        return handler

    return register


def _turn(s: Workbench, e: ev.Event) -> TurnView | None:
    return s.turns.get(e.turn or "")


StepKind: TypeAlias = Literal["iteration", "cell", "call", "tool", "artifact", "approval"]


def _step(s: Workbench, e: ev.Event, kind: StepKind, id: str) -> RunView | None:
    run = s.runs.get(e.run or "")
    if run:
        run.steps.append(Step(kind=kind, id=id))
    return run


@_on(ev.SessionCreated)
def _created(s: Workbench, _e: ev.Event, d: ev.SessionCreated) -> None:
    s.title = d.title


@_on(ev.SessionRenamed)
def _renamed(s: Workbench, _e: ev.Event, d: ev.SessionRenamed) -> None:
    s.title = d.title


@_on(ev.SessionForked)
def _forked(s: Workbench, _e: ev.Event, d: ev.SessionForked) -> None:
    kind = "replay" if d.edit == "replay" else "fork"
    s.forked_from = ev.Origin(kind=kind, session=d.session, turn=d.turn or "", seq=d.seq)


@_on(ev.TurnAccepted)
def _accepted(s: Workbench, e: ev.Event, d: ev.TurnAccepted) -> None:
    tid = e.turn or ""
    s.turns[tid] = TurnView(
        id=tid,
        ts=e.ts,
        question=d.question,
        mode=d.mode,
        model=d.model,
        sub_model=d.sub_model,
        limits=d.limits,
        contexts=list(d.contexts),
        command=d.command,
        origin=d.origin,
        objects=list(d.objects),
    )
    s.turn_order.append(tid)
    for context in d.contexts:
        s.contexts[context.sha256] = context


@_on(ev.TurnStarted)
def _started(_s: Workbench, _e: ev.Event, _d: ev.TurnStarted) -> None:
    """Known, and nothing to show: acceptance already made the turn "running"."""


@_on(ev.TurnFinished)
def _finished(s: Workbench, e: ev.Event, d: ev.TurnFinished) -> None:
    if turn := _turn(s, e):
        turn.status, turn.finished_ts, turn.answer = d.status, e.ts, d.answer
        turn.usage, turn.limit, turn.error = d.usage, d.limit, d.error
        turn.citations = list(d.citations)
        turn.provider = d.provider or turn.provider
        turn.isolation = d.isolation or turn.isolation


@_on(ev.MessageStarted)
def _message(s: Workbench, e: ev.Event, d: ev.MessageStarted) -> None:
    s.messages[d.id] = MessageView(id=d.id, turn=e.turn or "", run=e.run)
    if run := s.runs.get(e.run or ""):
        run.messages.append(d.id)
    if (turn := _turn(s, e)) and e.depth == 0:
        turn.messages.append(d.id)


@_on(ev.ReasoningStarted)
def _reasoning(s: Workbench, e: ev.Event, d: ev.ReasoningStarted) -> None:
    s.messages[d.id] = MessageView(id=d.id, turn=e.turn or "", run=e.run)
    if run := s.runs.get(e.run or ""):
        run.reasoning.append(d.id)
    if (turn := _turn(s, e)) and e.depth == 0:
        turn.reasoning.append(d.id)


@_on(ev.MessageDelta, ev.ReasoningDelta)
def _delta(s: Workbench, _e: ev.Event, d: ev.MessageDelta | ev.ReasoningDelta) -> None:
    if message := s.messages.get(d.id):
        _grow(message, d.text)


def _grow(part: MessageView | OutputPart, more: str) -> None:
    """Add to a text in place. Python extends one that only a local variable holds; what is also held elsewhere, as by
    the row itself, is copied as a whole for each piece, and a long text would take the square of its length."""
    text, part.text = part.text, ""
    text += more
    part.text = text


@_on(ev.MessageFinished, ev.ReasoningFinished)
def _message_done(s: Workbench, _e: ev.Event, d: ev.MessageFinished | ev.ReasoningFinished) -> None:
    if message := s.messages.get(d.id):
        message.done = True


@_on(ev.RunStarted)
def _run(s: Workbench, e: ev.Event, d: ev.RunStarted) -> None:
    rid = e.run or ""
    s.runs[rid] = RunView(
        id=rid,
        turn=e.turn or "",
        parent=e.parent,
        depth=e.depth,
        kind=d.kind,
        task=d.task,
        signature=d.signature,
        model=d.model,
        path=d.path,
        contexts=list(d.contexts),
        site=d.site,
        max_iterations=d.max_iterations,
        chars=d.chars,
        started_ts=e.ts,
    )
    if turn := _turn(s, e):
        turn.runs.append(rid)
    if parent := s.runs.get(e.parent or ""):
        parent.children.append(rid)


@_on(ev.RunFinished)
def _run_done(s: Workbench, e: ev.Event, d: ev.RunFinished) -> None:
    if run := s.runs.get(e.run or ""):
        run.status, run.finished_ts, run.usage = d.status, e.ts, d.usage
        run.output, run.limit, run.error, run.replayed = d.output, d.limit, d.error, d.replayed


@_on(ev.IterationStarted)
def _iteration(s: Workbench, e: ev.Event, d: ev.IterationStarted) -> None:
    s.iterations[d.id] = IterationView(id=d.id, run=e.run or "", n=d.n, limit=d.limit)
    if run := _step(s, e, "iteration", d.id):
        run.iteration, run.max_iterations = d.n, d.limit


@_on(ev.IterationFinished)
def _iteration_done(s: Workbench, _e: ev.Event, d: ev.IterationFinished) -> None:
    if iteration := s.iterations.get(d.id):
        iteration.model_ms, iteration.sandbox_ms = d.model_ms, d.sandbox_ms


@_on(ev.CellStarted)
def _cell(s: Workbench, e: ev.Event, d: ev.CellStarted) -> None:
    s.cells[d.id] = CellView(id=d.id, run=e.run or "", iteration=d.iteration, code=d.code, started_ts=e.ts)
    _step(s, e, "cell", d.id)


@_on(ev.CellOutput)
def _cell_output(s: Workbench, _e: ev.Event, d: ev.CellOutput) -> None:
    if cell := s.cells.get(d.id):
        if cell.output and cell.output[-1].stream == d.stream:
            _grow(cell.output[-1], d.text)
        else:
            cell.output.append(OutputPart(stream=d.stream, text=d.text))


@_on(ev.CellFinished)
def _cell_done(s: Workbench, _e: ev.Event, d: ev.CellFinished) -> None:
    if cell := s.cells.get(d.id):
        cell.status, cell.ms, cell.output_chars, cell.shown = d.status, d.ms, d.output_chars, d.shown
        cell.value, cell.error, cell.truncated = d.value, d.error, d.truncated
        cell.changed, cell.batched = list(d.changed), d.batched


@_on(ev.CallStarted)
def _call(s: Workbench, e: ev.Event, d: ev.CallStarted) -> None:
    s.calls[d.id] = CallView(
        id=d.id, run=e.run or "", role=d.role, model=d.model, request=d.request, prompt=d.prompt, shared=d.shared
    )
    _step(s, e, "call", d.id)


@_on(ev.CallFinished)
def _call_done(s: Workbench, e: ev.Event, d: ev.CallFinished) -> None:
    call = s.calls.get(d.id)
    if not call:
        return
    call.status, call.ms = d.status, d.ms
    call.prompt_tokens, call.completion_tokens, call.cost_usd = d.prompt_tokens, d.completion_tokens, d.cost_usd
    call.cached, call.replayed, call.response, call.error = d.cached, d.replayed, d.response, d.error
    call.cached_tokens, call.shared, call.queued_ms = d.cached_tokens, d.shared, d.queued_ms
    if run := s.runs.get(e.run or ""):
        run.usage = _add(run.usage, d)


def _add(used: ev.Usage, more: ev.CallFinished) -> ev.Usage:
    known = used.cost_usd if used.calls else 0.0
    return ev.Usage(
        calls=used.calls + more.calls,
        prompt_tokens=used.prompt_tokens + more.prompt_tokens,
        completion_tokens=used.completion_tokens + more.completion_tokens,
        cached_tokens=used.cached_tokens + more.cached_tokens,
        cost_usd=None if known is None or more.cost_usd is None else known + more.cost_usd,
        wall_s=used.wall_s,
    )


@_on(ev.ToolStarted)
def _tool(s: Workbench, e: ev.Event, d: ev.ToolStarted) -> None:
    s.tools[d.id] = ToolView(id=d.id, run=e.run or "", name=d.name, arguments=d.arguments, cell=d.cell)
    _step(s, e, "tool", d.id)


@_on(ev.ToolFinished)
def _tool_done(s: Workbench, _e: ev.Event, d: ev.ToolFinished) -> None:
    if tool := s.tools.get(d.id):
        tool.status, tool.ms, tool.result, tool.error = d.status, d.ms, d.result, d.error
        tool.replayed = d.replayed


@_on(ev.ContextAdded)
def _context(s: Workbench, _e: ev.Event, d: ev.ContextAdded) -> None:
    s.contexts[d.context.sha256] = d.context


@_on(ev.ContextRead)
def _context_read(s: Workbench, e: ev.Event, d: ev.ContextRead) -> None:
    if run := s.runs.get(e.run or ""):
        run.reads[d.sha256] = merged([*run.reads.get(d.sha256, ()), *d.spans])


def merged(spans: Iterable[ev.ReadSpan]) -> list[ev.ReadSpan]:
    """The same characters in order, as few spans as can be: those that touch become one."""
    out: list[ev.ReadSpan] = []
    for span in sorted(spans, key=lambda span: (span.start, span.end)):
        if out and span.start <= out[-1].end:
            out[-1] = ev.ReadSpan(start=out[-1].start, end=max(out[-1].end, span.end))
        else:
            out.append(span)
    return out


@_on(ev.ArtifactPublished)
def _artifact(s: Workbench, e: ev.Event, d: ev.ArtifactPublished) -> None:
    s.artifacts[d.id] = ArtifactView(
        id=d.id,
        turn=e.turn or "",
        run=e.run,
        ts=e.ts,
        name=d.name,
        version=d.version,
        sha256=d.sha256,
        bytes=d.bytes,
        kind=d.kind,
        cell=d.cell,
    )
    _step(s, e, "artifact", d.id)


@_on(ev.MemoryChanged)
def _memory(s: Workbench, e: ev.Event, d: ev.MemoryChanged) -> None:
    if d.after is None:
        s.memory.pop(d.block, None)
    else:
        s.memory[d.block] = d.after
    s.memory_edits.append(MemoryEdit(seq=e.seq, ts=e.ts, block=d.block, before=d.before, after=d.after, who=d.who))


@_on(ev.HistoryCompacted)
def _compacted(s: Workbench, e: ev.Event, d: ev.HistoryCompacted) -> None:
    if turn := _turn(s, e):
        message = f"{d.dropped} older steps left the model's view: {d.before_chars} -> {d.after_chars} characters"
        turn.notices.append(
            Notice(level="info", code="history.compacted", message=message, where=None, run=e.run, seq=e.seq)
        )


@_on(ev.RunRefused)
def _refused(_s: Workbench, _e: ev.Event, _d: ev.RunRefused) -> None:
    """Known, and nothing to show: the code that asked has it as a value, and the limit is told by itself."""


@_on(ev.ToolsOffered)
def _offered(_s: Workbench, _e: ev.Event, _d: ev.ToolsOffered) -> None:
    """Known, and nothing to show: what is missing is said in warnings."""


@_on(ev.ApprovalRequested)
def _asked(s: Workbench, e: ev.Event, d: ev.ApprovalRequested) -> None:
    s.approvals[d.id] = ApprovalView(
        id=d.id,
        turn=e.turn or "",
        run=e.run,
        ts=e.ts,
        kind=d.kind,
        question=d.question,
        choices=list(d.choices),
        detail=d.detail,
        deadline=d.deadline,
        otherwise=d.otherwise,
        unit=d.unit,
    )
    if run := _step(s, e, "approval", d.id):
        run.waiting = d.id


@_on(ev.ApprovalResolved)
def _answered(s: Workbench, e: ev.Event, d: ev.ApprovalResolved) -> None:
    if approval := s.approvals.get(d.id):
        approval.status, approval.answer, approval.who = d.status, d.answer, d.who
    if (run := s.runs.get(e.run or "")) and run.waiting == d.id:
        run.waiting = None


@_on(ev.SandboxRequested)
def _sandbox(s: Workbench, e: ev.Event, d: ev.SandboxRequested) -> None:
    s.sandboxes[d.id] = SandboxView(id=d.id, run=e.run, provider=d.provider)


@_on(ev.SandboxReady)
def _sandbox_ready(s: Workbench, e: ev.Event, d: ev.SandboxReady) -> None:
    if box := s.sandboxes.get(d.id):
        box.sandbox, box.provider, box.isolation, box.ms, box.state = d.sandbox, d.provider, d.isolation, d.ms, "ready"
    if run := s.runs.get(e.run or ""):
        run.sandbox = d.id


@_on(ev.SandboxLost)
def _sandbox_lost(s: Workbench, _e: ev.Event, d: ev.SandboxLost) -> None:
    if box := s.sandboxes.get(d.id):
        box.state = "lost"


@_on(ev.SandboxReleased)
def _sandbox_released(s: Workbench, _e: ev.Event, d: ev.SandboxReleased) -> None:
    if box := s.sandboxes.get(d.id):
        box.state = "released"


def _budget_of(turn: TurnView) -> BudgetView:
    if turn.budget is None:
        turn.budget = BudgetView(spent=ev.Usage(), reserved_calls=0, limits=turn.limits)
    return turn.budget


@_on(ev.BudgetUpdated)
def _budget(s: Workbench, e: ev.Event, d: ev.BudgetUpdated) -> None:
    if turn := _turn(s, e):
        budget = _budget_of(turn)
        budget.spent, budget.reserved_calls, budget.limits = d.spent, d.reserved_calls, d.limits
        budget.children, budget.live_sandboxes = d.children, d.live_sandboxes


@_on(ev.BudgetWarned)
def _budget_warned(s: Workbench, e: ev.Event, d: ev.BudgetWarned) -> None:
    if turn := _turn(s, e):
        budget = _budget_of(turn)
        if d.unit not in budget.warned:
            budget.warned.append(d.unit)


@_on(ev.BudgetExhausted)
def _budget_exhausted(s: Workbench, e: ev.Event, d: ev.BudgetExhausted) -> None:
    if turn := _turn(s, e):
        _budget_of(turn).exhausted = d.unit


@_on(ev.Warning, ev.Error)
def _notice(s: Workbench, e: ev.Event, d: ev.Warning | ev.Error) -> None:
    if turn := _turn(s, e):
        level: Literal["warning", "error"] = "error" if isinstance(d, ev.Error) else "warning"
        turn.notices.append(Notice(level=level, code=d.code, message=d.message, where=d.where, run=e.run, seq=e.seq))
