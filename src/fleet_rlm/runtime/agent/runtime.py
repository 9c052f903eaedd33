"""`AgentRuntime`: works one turn off, from the question to the answer.

Three modes: `auto` starts the chat agent, which answers or delegates; `rlm` makes the recursive engine itself the root
run; `direct` puts the documents into one prompt. Whatever happens, the root run and its `run.finished` are written and
an `Answer` comes back; only a defect of ours escapes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import dspy
from dspy.utils.exceptions import AdapterParseError, LMError

from fleet_rlm.errors import FleetError, InvalidInput, TreeStopped
from fleet_rlm.runtime.agent.agent import MAX_STEPS, FleetAgent
from fleet_rlm.runtime.agent.compaction import Compacted, Fitting
from fleet_rlm.runtime.agent.history import PastTurn, history, plain_history
from fleet_rlm.runtime.agent.memory import shown
from fleet_rlm.runtime.agent.signatures import Chat, Direct, Reply, Talk, hinted, with_memory
from fleet_rlm.runtime.agent.toolset import AgentKit, Toolset
from fleet_rlm.runtime.content.values import context_spec
from fleet_rlm.runtime.execution import events as ev
from fleet_rlm.runtime.execution.ids import new_id
from fleet_rlm.runtime.execution.observer import SCOPE, RunScope, entered
from fleet_rlm.runtime.execution.tree import TurnTree
from fleet_rlm.runtime.models.adapters import reply_of
from fleet_rlm.runtime.models.visible import plain_answer
from fleet_rlm.runtime.tools.delegation import AgentDelegation, ObservedTools, told
from fleet_rlm.runtime.tools.documents import describe
from fleet_rlm.runtime.tools.rlm_delegate import Outcome, Task, run_rlm

DIRECT_CHARS = 400_000
"""Documents up to this size may go into one prompt (about 100,000 tokens); more is for the other modes."""


@dataclass(frozen=True, slots=True)
class Answer:
    """How the root run ended."""

    status: ev.TurnStatus
    text: str | None
    limit: ev.Unit | None = None
    error: ev.ErrorInfo | None = None


class AgentRuntime:
    """Runs turns on a tree. One instance per turn.

    Args:
        past: earlier turns of the session, oldest first.
        kit: the agent's tools, its memory and how it asks for permission; None: every tool, nothing to remember.
    """

    def __init__(self, tree: TurnTree, *, past: Sequence[PastTurn] = (), kit: AgentKit | None = None) -> None:
        self._tree = tree
        self._kit = kit or AgentKit()
        self._past = list(past)

    def run_turn(self, question: str, refs: Sequence[ev.ContextRef], mode: ev.Mode) -> Answer:
        """Answer `question` over the contexts. Blocks until the whole tree has ended."""
        self._tree.refs.update({ref.sha256: ref for ref in refs})
        self._tree.budget.start_clock()
        try:
            if mode == "rlm":
                return self._recursive(question, refs)
            return self._root(question, refs, mode)
        except TreeStopped as stop:
            return self._stopped(stop)
        finally:
            self._tree.budget.close()

    def _recursive(self, question: str, refs: Sequence[ev.ContextRef]) -> Answer:
        lease = self._tree.budget.root()
        outcome = run_rlm(self._tree, Task(question, context_spec(refs)), parent=None, lease=lease)
        return self._answer(outcome)

    def _root(self, question: str, refs: Sequence[ev.ContextRef], mode: ev.Mode) -> Answer:
        """The root run of the modes in which a plain model speaks first."""
        tree = self._tree
        scope = RunScope(
            id=new_id("run"), lease=tree.budget.root(), contexts=frozenset(ref.sha256 for ref in refs), streams=True
        )
        started = ev.RunStarted(
            kind="agent" if mode == "auto" else "direct",
            task=tree.observer.clean(question)[:2000],
            signature="question, documents -> answer",
            model=tree.root_lm.name,
            contexts=list(refs),
            max_iterations=MAX_STEPS if mode == "auto" else None,
        )
        tree.opened(scope)
        tree.observer.run_started(scope, started)
        outcome = Outcome("cancelled")
        try:
            with entered(scope), tree.settings(0):
                outcome = self._speak(question, refs, mode)
            if scope.failed is not None:
                outcome = Outcome("failed", error=scope.failed)
        except TreeStopped as stop:
            answer = self._stopped(stop)
            outcome = Outcome(answer.status, limit=answer.limit)
            raise
        finally:
            scope.unwind()
            scope.lease.close()
            tree.closed(scope)
            self._finish_root(scope, outcome)
        return self._answer(outcome)

    def _finish_root(self, scope: RunScope, outcome: Outcome) -> None:
        finished = ev.RunFinished(
            status=outcome.status,
            usage=scope.lease.usage(),
            output=None if outcome.value is None else self._tree.observer.text(str(outcome.value)),
            limit=outcome.limit,
            error=outcome.error,
        )
        self._tree.observer.emit(finished, scope)

    def _chat(self, question: str, refs: Sequence[ev.ContextRef]) -> Outcome:
        with Toolset(self._tree, SCOPE.get(), refs, self._kit) as tools:
            return self._chat_with(tools, question, described=bool(refs))

    def _chat_with(self, tools: Toolset, question: str, *, described: bool) -> Outcome:
        signature, inputs = self._remembering(Chat if described else Talk, question=question)
        if described:
            inputs["documents"] = describe(tools.documents.refs)
        offered = tools.tools()
        agent = FleetAgent(
            offered,
            signature=hinted(signature, tools.hints()),
            runner=ObservedTools(self._tree, tools.seconds, asking=tools.foreign, attach=tools.documents.attach),
            fitting=self._fitting(),
        )
        try:
            prediction = agent(**inputs, history=history(self._past))
        except TreeStopped as stop:
            if stop.reason != "limit" or self._tree.budget.stopped.done():
                raise
            return self._cut_short(tools.delegation, stop)
        except (LMError, AdapterParseError, ValueError) as error:
            return Outcome("failed", error=self._info(error))
        partial = next((o for o in tools.delegation.outcomes if o.status == "limit"), None)
        if partial is not None:
            return Outcome("limit", value=prediction.answer, limit=partial.limit)
        return Outcome("ok", value=prediction.answer)

    def _cut_short(self, delegation: AgentDelegation, stop: TreeStopped) -> Outcome:
        """No call is left for the agent's own words: what was delegated is the answer, as far as it came."""
        results = [told(outcome) for outcome in delegation.outcomes]
        text = "\n\n".join(results) if results else None
        return Outcome("limit", value=text, limit=stop.limit)  # pyright: ignore[reportArgumentType]

    def _speak(self, question: str, refs: Sequence[ev.ContextRef], mode: ev.Mode) -> Outcome:
        if mode == "direct":
            signature, inputs = self._remembering(Direct, question=question)
            return self._predict(signature, **inputs, documents=self._documents(refs))
        if refs or self._tree.root_lm.supports_function_calling:
            return self._chat(question, refs)
        # Without documents there is little to delegate, and a model that cannot call tools, given some, calls them
        # for everything it could simply say.
        signature, inputs = self._remembering(Reply, question=question)
        return self._predict(signature, **inputs, history=plain_history(self._past))

    def _fitting(self) -> Fitting:
        """Keeps a history within the root model's window and tells when something left it."""
        scope = SCOPE.get()

        def tell(done: Compacted) -> None:
            event = ev.HistoryCompacted(
                dropped=done.dropped, before_chars=done.before_chars, after_chars=done.after_chars
            )
            self._tree.observer.emit(event, scope)

        return Fitting(self._kit.window, tell)

    def _remembering(self, signature: Any, **inputs: str) -> tuple[Any, dict[str, str]]:
        """Signature and inputs with the session's core memory, where there is any."""
        memory = self._kit.memory
        before = self._tree.replay.memory_seq if self._tree.replay is not None else None
        text = shown(memory.saved(before)) if memory is not None else ""
        return (with_memory(signature), {"memory": text, **inputs}) if text else (signature, inputs)

    def _predict(self, signature: Any, **inputs: Any) -> Outcome:
        """One call of the root model; a reply without field markers is taken as the answer that it is."""
        try:
            prediction = self._fitting().call(lambda: dspy.Predict(signature)(**inputs), inputs.get("history"))
        except TreeStopped as stop:
            if stop.reason != "limit" or self._tree.budget.stopped.done():
                raise
            return Outcome("limit", limit=stop.limit)  # pyright: ignore[reportArgumentType]
        except AdapterParseError as error:
            reply = reply_of(error)
            return Outcome("ok", value=plain_answer(reply)) if reply else Outcome("failed", error=self._info(error))
        except LMError as error:
            return Outcome("failed", error=self._info(error))
        return Outcome("ok", value=prediction.answer)

    def _documents(self, refs: Sequence[ev.ContextRef]) -> str:
        if not refs:
            return "(none)"
        for ref in refs:
            self._tree.coverage.note(SCOPE.get(), ref.sha256, [(0, ref.chars)])
        parts = [f"=== {ref.name} ===\n{self._tree.contexts.read(ref.sha256, 0, ref.chars)}" for ref in refs]
        return "\n\n".join(parts)

    def _answer(self, outcome: Outcome) -> Answer:
        """The root run's outcome as the turn's, with the limit named when any run of the tree met one."""
        if outcome.status not in ("ok", "limit"):
            return Answer(outcome.status, None, outcome.limit, outcome.error)
        text = _as_text(outcome.value)
        unit = outcome.limit or self._tree.budget.exhausted
        if unit is None:
            return Answer("ok", text)
        return Answer("limit", partial_text(text, unit), unit)

    def _stopped(self, stop: TreeStopped) -> Answer:
        if stop.reason == "cancelled":
            return Answer("cancelled", None)
        unit: ev.Unit = stop.limit or "calls"  # pyright: ignore[reportAssignmentType]
        return Answer("limit", partial_text(None, unit), unit)

    def _info(self, error: Exception) -> ev.ErrorInfo:
        mapped: FleetError = self._tree.root_lm.failure(error)
        message = self._tree.observer.clean(mapped.message)
        return ev.ErrorInfo(code=mapped.code, message=message, hint=mapped.hint, retryable=mapped.retryable)


def check_direct(refs: Sequence[ev.ContextRef]) -> None:
    """Errors: InvalidInput when the documents do not fit one prompt."""
    total = sum(ref.chars for ref in refs)
    if total > DIRECT_CHARS:
        raise InvalidInput(
            f"the documents have {total:,} characters, too many for one prompt ({DIRECT_CHARS:,})",
            hint="use mode auto or rlm",
        )


def partial_text(text: str | None, unit: ev.Unit) -> str:
    """A partial answer that says what cut it short."""
    note = f"Partial answer: the {unit} limit was reached."
    return f"{note}\n\n{text}" if text else f"{note} Nothing was found before that."


def _as_text(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, indent=2, default=str)
