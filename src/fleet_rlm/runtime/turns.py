"""One turn from its acceptance to its end: wires the tree, runs the agent, writes the last events.

Importing this module imports DSPy (two to three seconds), so the factory loads it in the background.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

from fleet_rlm.errors import FleetError, InternalError, ModelError, TreeStopped
from fleet_rlm.integrations.daytona.runtime import SandboxRuntime
from fleet_rlm.integrations.mcp.client import McpClients
from fleet_rlm.runtime.agent.runtime import AgentRuntime, Answer, PastTurn, check_direct
from fleet_rlm.runtime.agent.toolset import AgentKit
from fleet_rlm.runtime.agent.verify import verify
from fleet_rlm.runtime.config_values import VariableMode
from fleet_rlm.runtime.content.blobs import BlobStore
from fleet_rlm.runtime.content.citations import find_citations
from fleet_rlm.runtime.content.contexts import ContextStore
from fleet_rlm.runtime.execution import events as ev
from fleet_rlm.runtime.execution.budget import TreeBudget
from fleet_rlm.runtime.execution.executor import CancelFlag
from fleet_rlm.runtime.execution.ids import new_id
from fleet_rlm.runtime.execution.journal import Journal
from fleet_rlm.runtime.execution.observer import TurnObserver
from fleet_rlm.runtime.execution.replay import Plan, Replay
from fleet_rlm.runtime.execution.requests import AtLimit, SandboxInfo, TurnRequest, TurnResult
from fleet_rlm.runtime.execution.scheduler import CALL_WIDTH, Scheduler
from fleet_rlm.runtime.execution.tree import TurnTree
from fleet_rlm.runtime.models.binding import BoundModel, Models, bind, check_price
from fleet_rlm.runtime.models.choice import ModelChoice
from fleet_rlm.runtime.models.failures import as_model_error, was_cut
from fleet_rlm.runtime.models.metered import MeteredLM
from fleet_rlm.runtime.models.recording import CallReplay
from fleet_rlm.runtime.models.registry import ModelRegistry
from fleet_rlm.runtime.models.spec import ModelSpec
from fleet_rlm.runtime.models.streaming import SHOWN_CHARS
from fleet_rlm.runtime.models.wording import whole_characters
from fleet_rlm.runtime.policy import Policy
from fleet_rlm.runtime.redaction import Redactor
from fleet_rlm.runtime.tools.memory import turn_memory
from fleet_rlm.runtime.tools.raised import from_info

DELTA_CHARS = 2_000
log = logging.getLogger(__name__)


class TurnRunner:
    """Runs turns with the services of one workspace."""

    def __init__(
        self,
        *,
        journal: Journal,
        blobs: BlobStore,
        contexts: ContextStore,
        sandboxes: SandboxRuntime,
        redact: Redactor,
        kit: AgentKit | None = None,
        call_width: int = CALL_WIDTH,
        variable_mode: VariableMode = "auto",
        at_limit: AtLimit = "finish",
        policy: Policy | None = None,
    ) -> None:
        self._variable_mode: VariableMode = variable_mode
        self._policy = policy or Policy()
        self._journal = journal
        self._blobs = blobs
        self._contexts = contexts
        self._sandboxes = sandboxes
        self._redact = redact
        self._kit = kit or AgentKit()
        self._call_width = call_width
        self._at_limit: AtLimit = at_limit

    def bind(self, request: TurnRequest, registry: ModelRegistry, default_sub: str | None) -> Models:
        """The models of a request. Errors: those of `binding.bind`, and TooLarge where the mode cannot take it."""
        models = bind(request, registry, default_sub)
        if request.mode == "direct":
            check_direct(request.contexts)
        return models

    def run(
        self,
        sid: str,
        turn: str,
        request: TurnRequest,
        models: Models,
        past: list[PastTurn],
        cancel: CancelFlag,
        plan: Plan | None = None,
        mcp: McpClients | None = None,
    ) -> TurnResult:
        """Work the turn off, with a plan over a journal. A failure of the turn is in the result, never raised."""
        hide = self._redact.also(models.secrets())
        observer = TurnObserver(self._journal, self._blobs, sid=sid, turn=turn, redact=hide, settled=hide.settled)
        tree = self._tree(request, models, observer, plan)
        cancel.arm(tree)
        observer.emit_all(
            [ev.TurnStarted(), *_weak(models, request), *(ev.ContextAdded(context=ref) for ref in request.contexts)],
            None,
        )
        try:
            kit = replace(
                self._kit,
                memory=turn_memory(tree, self._journal),
                mcp=mcp or self._kit.mcp,
                window=models.root.spec.context_window if models.root.spec is not None else None,
            )
            agent = AgentRuntime(tree, past=past, kit=kit)
            answer = agent.run_turn(request.question, request.contexts, request.mode)
        except FleetError as error:
            answer = Answer("failed", None, error=_info(error, hide))
        except Exception as error:  # supervisor: a defect of ours still ends the turn honestly
            log.exception("turn %s failed inside the engine", turn)
            answer = Answer("failed", None, error=_info(InternalError(f"{type(error).__name__}: {error}"), hide))
        if tree.replay is not None and tree.replay.missing is not None:
            answer = Answer("failed", None, error=tree.replay.missing)
        return self._finish(tree, request, models, answer)

    def _tree(self, request: TurnRequest, models: Models, observer: TurnObserver, plan: Plan | None) -> TurnTree:
        sid, turn = observer.sid, observer.turn

        def warn(unit: ev.Unit, fraction: float) -> None:
            observer.emit(ev.BudgetWarned(unit=unit, fraction=fraction))

        budget = TreeBudget(
            request.limits or ev.Limits(),
            root_is_agent=request.mode != "rlm",
            on_warn=None if plan is not None and plan.kind == "replay" else warn,
            on_exhausted=lambda unit: observer.emit(ev.BudgetExhausted(unit=unit)),
        )
        scheduler = Scheduler(budget, turn=turn, call_width=self._call_width)

        replay = Replay(plan, budget, observer, self._blobs.text) if plan is not None else None
        wired = _wired(models, budget, scheduler, observer, replay)
        return TurnTree(
            sid=sid,
            turn=turn,
            budget=budget,
            scheduler=scheduler,
            observer=observer,
            root_lm=wired.root,
            sub_lm=wired.sub,
            models=wired.choice,
            judge_lm=wired.judge,
            sandboxes=self._sandboxes,
            contexts=self._contexts,
            blobs=self._blobs,
            published=lambda: self._journal.artifacts(sid),
            variable_mode=self._variable_mode,
            at_limit=request.at_limit or self._at_limit,
            unpriced=wired.unpriced,
            replay=replay,
            policy=self._policy,
            attended=request.attended,
        )

    def _finish(self, tree: TurnTree, request: TurnRequest, models: Models, answer: Answer) -> TurnResult:
        observer = tree.observer
        if tree.replay is not None:
            tree.replay.turn_over()
        text = None if answer.text is None else observer.clean(whole_characters(answer.text))
        answer = replace(answer, text=text)
        citations = find_citations(text, request.contexts, self._contexts) if text else []
        answer = _checked(tree, request, answer, citations)
        shown = (text or "")[:SHOWN_CHARS]
        if shown and shown.strip() != whole_characters(observer.streamed or "").strip():
            observer.emit_all(_message(shown), None)
        observer.budget(tree.budget, now=True)
        finished = ev.TurnFinished(
            status=answer.status,
            answer=text,
            usage=tree.budget.usage(),
            runs=observer.runs,
            max_depth_reached=observer.max_depth,
            limit=answer.limit,
            error=answer.error,
            citations=citations,
            isolation=tree.isolation,
            provider=tree.provider,
            before=tree.replay.paid_before() if tree.replay is not None else None,
        )
        observer.emit_end(finished)
        tree.sandboxes.turn_over(tree.turn)  # whatever is left: every interpreter has given its sandbox back
        return TurnResult(
            session=tree.sid,
            turn=tree.turn,
            status=finished.status,
            answer=text,
            limit=finished.limit,
            error=finished.error,
            usage=finished.usage,
            runs=finished.runs,
            max_depth_reached=finished.max_depth_reached,
            citations=tuple(citations),
            artifacts=tree.artifacts.of_turn(),
            coverage=tree.coverage.of_turn(),
            sandbox=SandboxInfo(tree.provider, tree.isolation),
            model=models.root.name,
        )


@dataclass(frozen=True, slots=True)
class _Wired:
    """The metered models of a turn. `unpriced` grows with the models that its code names."""

    root: MeteredLM
    sub: MeteredLM
    judge: MeteredLM | None
    choice: ModelChoice
    unpriced: list[str]


def _wired(
    models: Models, budget: TreeBudget, scheduler: Scheduler, observer: TurnObserver, replay: Replay | None
) -> _Wired:
    calls = CallReplay(replay, observer) if replay is not None else None

    def metered(model: BoundModel, role: ev.CallRole) -> MeteredLM:
        return MeteredLM(
            model.lm,
            role=role,
            tree=budget,
            scheduler=scheduler,
            observer=observer,
            failure=lambda error: _model_error(error, model, observer.clean),
            name=model.name,
            price=model.price,
            cut=_cut_by(model.spec),
            replay=calls,
        )

    make = models.named
    unpriced = [model.name for model in (models.root, models.sub, models.judge) if model and not model.priced]

    def named(name: str) -> MeteredLM:
        model = make(name) if make is not None else models.sub
        check_price(model, budget.limits)
        if not model.priced:  # from now on no cost limit can be set
            unpriced.append(model.name)
        return metered(model, "sub")

    root, sub = metered(models.root, "root"), metered(models.sub, "sub")
    judge = metered(models.judge, "judge") if models.judge is not None else None
    choice = ModelChoice(root=root, sub=sub, allowed=models.allowed if make is not None else (), make=named)
    return _Wired(root, sub, judge, choice, unpriced)


def _checked(tree: TurnTree, request: TurnRequest, answer: Answer, cited: list[ev.Citation]) -> Answer:
    """Let the judge look at a whole answer, where the settings say so."""
    if tree.judge_lm is None or answer.status != "ok" or not answer.text:
        return answer
    try:
        verify(tree, tree.judge_lm, request.question, answer.text, cited)
    except TreeStopped:
        return replace(answer, status="cancelled")
    return answer


def _weak(models: Models, request: TurnRequest) -> list[ev.EventData]:
    """A plain word about models that are likely too weak for what they are about to do."""
    if request.mode == "direct":
        return []
    weak = {m.name: m.spec.weak for m in (models.root, models.sub) if m.spec is not None and m.spec.weak is not None}
    return [
        ev.Warning(code="model.weak", message=f"{name} is likely too weak for agents: {why}")
        for name, why in weak.items()
    ]


def _cut_by(spec: ModelSpec | None) -> Callable[[int, int], bool] | None:
    """Only servers of a person's own cut prompts; a hosted model refuses them."""
    if spec is None or spec.api_base is None:
        return None
    return lambda chars, tokens: was_cut(chars, tokens, spec.context_window)


def _model_error(error: BaseException, model: BoundModel, clean: Callable[[str], str]) -> ModelError:
    told: object = getattr(error, "told", None)  # by a journal
    if isinstance(told, ev.ErrorInfo) and isinstance(again := from_info(told), ModelError):
        return again
    spec = model.spec or ModelSpec(model=model.name, wire_model=model.name, label=model.name, source="argument")
    return as_model_error(error, spec, clean)


def _info(error: FleetError, redact: Callable[[str], str]) -> ev.ErrorInfo:
    message = redact(whole_characters(error.message))
    return ev.ErrorInfo(code=error.code, message=message, hint=error.hint, retryable=error.retryable)


def _message(text: str) -> list[ev.EventData]:
    """What is shown of the answer, as a message: started, its text in pieces, finished with length and hash."""
    message = new_id("msg")
    pieces = [text[start : start + DELTA_CHARS] for start in range(0, len(text), DELTA_CHARS)]
    digest = hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()
    return [
        ev.MessageStarted(id=message),
        *(ev.MessageDelta(id=message, text=piece) for piece in pieces),
        ev.MessageFinished(id=message, length=len(text), sha256=digest),
    ]
