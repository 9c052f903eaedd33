"""The only door to recursion: one task, one child sandbox, one bounded RLM.

`run_rlm` opens a run under a parent (or as the root), works it off and always returns an `Outcome`; only the end of the
whole tree passes through it as TreeStopped. `RlmDelegate` is the door in its two forms: the REPL functions
`rlm_query` and `rlm_query_batched`, and the agent's tools `delegate` and `delegate_batched`.

What a run may see is what its parent saw: a context handle that the parent does not hold is refused.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import dspy
from dspy.adapters.utils import parse_value
from dspy.primitives.code_interpreter import CodeInterpreterError
from dspy.utils.exceptions import AdapterParseError, LMError

from fleet_rlm.errors import Denied, FleetError, InternalError, InvalidInput, SandboxError, TreeStopped
from fleet_rlm.integrations.daytona.offer import offered, takes_handles
from fleet_rlm.runtime.content.values import ContextInput, context_value, handles_in, input_chars, kept_handles
from fleet_rlm.runtime.execution import events as ev
from fleet_rlm.runtime.execution.budget import Cost, Lease, LimitReached
from fleet_rlm.runtime.execution.cells import CellRecorder
from fleet_rlm.runtime.execution.ids import new_id
from fleet_rlm.runtime.execution.losses import check_heard
from fleet_rlm.runtime.execution.observer import SCOPE, RunScope, entered
from fleet_rlm.runtime.execution.paths import ROOT
from fleet_rlm.runtime.execution.record import RecordedRun
from fleet_rlm.runtime.execution.run_thread import RunThread
from fleet_rlm.runtime.execution.spending import Share
from fleet_rlm.runtime.execution.tree import TurnTree
from fleet_rlm.runtime.models.answer_types import Schema, answer_type, schema_key
from fleet_rlm.runtime.models.builders import (
    build_recursive_subquery_rlm,
    output_chars,
    task_signature,
    works_in_variables,
)
from fleet_rlm.runtime.models.rlm import FORCED, BoundedRLM
from fleet_rlm.runtime.models.wording import whole_characters
from fleet_rlm.runtime.tools.interpreters import InterpreterFactory
from fleet_rlm.runtime.tools.repl_functions import ReplFunctions
from fleet_rlm.runtime.tools.run_hooks import TurnRunHooks

MAX_BATCH = 10_000
SIGNATURE_CHARS = 500
_UNFORESEEN = ev.ErrorInfo(code=InternalError.code, message="the run was ended by an error that is no outcome of a run")


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended. `value` is the typed answer; on a limit the best partial one, or None.

    `passed` is the same with handles in place of pieces of contexts, for code that may hold them.
    """

    status: ev.RunStatus
    value: Any = None
    limit: ev.Unit | None = None
    error: ev.ErrorInfo | None = None
    passed: Any = None

    def guest_value(self) -> Any:
        """What model-written code gets: the value, or a failure that is false and says why."""
        if self.status == "ok" or (self.status == "limit" and self.value is not None):
            return self.value if self.passed is None else self.passed
        if self.error is not None:
            return failure(self.error.code, self.error.message)
        return failure("limit", f"stopped by the {self.limit} limit before there was an answer")


def failure(code: str, message: str) -> dict[str, Any]:
    """A failed item as it crosses into the guest, where it becomes a `Failure`."""
    return {"$failure": {"error": code, "message": message}}


@dataclass(frozen=True, slots=True)
class Task:
    """What to run: the task, its context as JSON with handles (None: no context), the type of the answer.

    `branch` is its place in the parent run (paths.py). `model` names the model that drives it (choice.py).
    `share` limits what it may use of the parent's budget.
    """

    task: str
    context: Any = None
    schema: Schema = None
    site: ev.CallSite | None = None
    branch: str = ""
    model: str | None = None
    share: Share | None = None

    def path(self, parent: RunScope | None) -> str:
        """The path of the run that works on this."""
        return ROOT if parent is None else parent.places.child(self.branch)


def run_rlm(tree: TurnTree, task: Task, *, parent: RunScope | None, lease: Lease | None = None) -> Outcome:
    """Work one task off in its own sandbox.

    Args:
        parent: the run that asks, or None for the root; `lease` is given for the root only.
    Errors: TreeStopped when the whole tree is over, or the parent's part of it; everything else is an Outcome.
    """
    path = task.path(parent)
    contexts = frozenset(handles_in(task.context))
    task = replace(task, task=whole_characters(task.task), context=whole_characters(task.context))
    value = context_value(task.context, tree.refs, tree.contexts) if task.context is not None else None
    try:
        if parent is not None:
            tree.gate.depth(parent.depth + 1, task.task)
        lease = lease or _open_lease(tree, parent, path, task.share)
    except Denied as refused:
        return Outcome("failed", error=_info(tree, refused))
    except LimitReached as refused:
        told = ev.RunRefused(path=path, unit=refused.unit, message=str(refused), own=refused.own)
        tree.observer.emit(told, parent)
        return _refused(tree, refused)
    scope = RunScope(id=new_id("run"), lease=lease, path=path, parent=parent, contexts=contexts)
    if parent is not None:
        parent.part_opened()
    try:  # whatever happens from here on, what was taken is given back
        return _opened(tree, scope, task, value)
    finally:
        lease.close()
        tree.closed(scope)
        if parent is not None:
            parent.part_closed()


def _opened(tree: TurnTree, scope: RunScope, task: Task, value: Any) -> Outcome:
    """The run from its first event to its last."""
    parent, outcome = scope.parent, Outcome("failed", error=_UNFORESEEN)
    started = _started(tree, scope, task, value)
    known = tree.replay.whole(scope.path, started.model) if tree.replay is not None and parent is not None else None
    tree.opened(scope)
    tree.observer.run_started(scope, started)
    try:
        if known is not None:
            outcome = _from_journal(tree, scope, task, known)
            return outcome
        with entered(scope), tree.scheduler.sandbox_place(scope):
            outcome = _work(tree, scope, task, value)
        return outcome
    except LimitReached as refused:  # the limit of sandboxes was lowered while it waited for its own
        outcome = _refused(tree, refused)
        return outcome
    except TreeStopped as stop:
        outcome = _stopped(scope, stop)
        if not scope.stop.own:
            raise
        return outcome  # the cancel was of this run: its parent goes on
    finally:
        scope.unwind()
        scope.lease.close()
        tree.closed(scope)
        tree.observer.emit(_finished(tree, scope, task, outcome, replayed=known is not None), scope)
        tree.observer.budget(tree.budget)


def _refused(tree: TurnTree, refused: LimitReached) -> Outcome:
    """A run for which a limit leaves nothing."""
    if not refused.own:
        tree.budget.note_exhausted(refused.unit)
    return Outcome("limit", limit=refused.unit, error=ev.ErrorInfo(code="limit", message=str(refused)))


def _open_lease(tree: TurnTree, parent: RunScope | None, path: str, share: Share | None) -> Lease:
    if parent is None:
        raise ValueError("the root run needs a lease")
    check_heard(parent)
    return parent.lease.child(share) if tree.replay is None else tree.replay.lease(parent, path, share)


def _from_journal(tree: TurnTree, scope: RunScope, task: Task, known: RecordedRun) -> Outcome:
    """The outcome of a run that had finished before: nothing of it is done again."""
    replay = tree.replay
    assert replay is not None and known.finished is not None
    usage = known.finished.usage
    micro = None if usage.cost_usd is None else round(usage.cost_usd * 1e6)
    cost = Cost(usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens, micro_usd=micro)
    replay.credit(scope, cost, calls=usage.calls)
    kept, told = replay.kept(known)
    tree.artifacts.known(kept)
    tree.coverage.known(kept)
    tree.observer.emit_all(told, scope)
    value, passed = replay.value(known, is_text=answer_type(task.schema) is str)
    return Outcome("ok", value=value, passed=passed)


def _work(tree: TurnTree, scope: RunScope, task: Task, value: Any) -> Outcome:
    variables = works_in_variables(input_chars(task.task, value), tree.variable_mode)
    recorder = CellRecorder(
        tree.observer,
        scope,
        shown_chars=output_chars(variables),
        coverage=tree.coverage,
        begins=None if tree.replay is None else tree.replay.stops.soon,
        ends=None if tree.replay is None else tree.replay.tell_so_far,
        over=None if tree.replay is None else tree.replay.stops.cell_over,
    )
    rlm = _build(tree, scope, task, value, recorder, variables=variables)
    inputs: dict[str, Any] = {"task": task.task} if value is None else {"task": task.task, "context": value}
    lm = tree.models.pick(task.model, tree.lm_for(scope.depth))
    thread: RunThread[dspy.Prediction] = RunThread(scope.stop)
    try:
        with tree.settings(scope.depth, lm):
            prediction = thread.run(lambda: rlm.work(inputs))
    except TreeStopped as stop:
        if thread.left:
            rlm.leave()
        if scope.failed is not None:
            return Outcome("failed", error=scope.failed)
        if stop.reason != "limit" or scope.stop.done:
            raise
        return _answer_at_limit(tree, scope, rlm, task, stop)
    except (LMError, AdapterParseError) as error:
        return Outcome("failed", error=_info(tree, lm.failure(error)))
    except CodeInterpreterError as error:
        scope.stop.check()  # a cell that dies because the run was stopped is not a lost sandbox
        return Outcome("failed", error=scope.failed or _info(tree, _sandbox_error(error)))
    except FleetError as error:
        scope.stop.check()  # nor is a sandbox that was taken away while it started
        return Outcome("failed", error=_info(tree, error))
    if prediction.final_reasoning == FORCED:
        tree.budget.note_exhausted("iterations")
        return Outcome("limit", value=prediction.answer, limit="iterations")
    return Outcome("ok", value=prediction.answer, passed=_passed(tree, scope, recorder, prediction.answer))


def _passed(tree: TurnTree, scope: RunScope, recorder: CellRecorder, value: Any) -> Any:
    """The answer for the parent's code: pieces of contexts in it go by handle, so that they keep their place."""
    if not isinstance(recorder.submitted, dict):
        return None
    handles = cast("dict[str, Any]", recorder.submitted).get("answer")
    return kept_handles(value, handles, scope.contexts, tree.contexts)


def _build(
    tree: TurnTree, scope: RunScope, task: Task, value: Any, recorder: CellRecorder, *, variables: bool
) -> BoundedRLM:
    deeper = tree.budget.level(scope.depth) < tree.budget.deepest_under(tree.limits_of(scope))
    hooks = TurnRunHooks(tree, scope, task.task)
    tools: list[Callable[..., Any]] = []
    if deeper:
        door = RlmDelegate(tree)
        tools += [door.rlm_query, door.rlm_query_batched]
    tools += ReplFunctions(tree).all()
    return build_recursive_subquery_rlm(
        task_signature(with_context=value is not None, schema=task.schema, variables=variables),
        interpreter_factory=InterpreterFactory(tree, scope, recorder),
        sub_lm=tree.sub_lm,
        tools=tools,
        hooks=hooks,
        max_output_chars=output_chars(variables),
        max_llm_calls=(tree.replay.told if tree.replay is not None else tree.budget.limits).calls or 1_000,
    )


def _answer_at_limit(tree: TurnTree, scope: RunScope, rlm: BoundedRLM, task: Task, stop: TreeStopped) -> Outcome:
    """The held-back call for a best partial answer; without one, the last value of the variable `answer`."""
    unit: ev.Unit = stop.limit or "calls"  # pyright: ignore[reportAssignmentType]
    scope.final = True
    lm = tree.models.pick(task.model, tree.lm_for(scope.depth))
    try:
        with tree.settings(scope.depth, lm):
            prediction = rlm.answer_from_trajectory()
        if prediction is not None:
            return Outcome("limit", value=prediction.answer, limit=unit)
    except TreeStopped as again:
        if again.reason != "limit":
            raise
    except (LMError, AdapterParseError) as error:
        tree.observer.emit(ev.Warning(code="partial_answer", message=lm.failure(error).message, where=scope.id), scope)
    return Outcome("limit", value=typed_partial(scope.partial, task.schema), limit=unit)


def typed_partial(partial: str | None, schema: Schema) -> Any:
    """The last value of the variable `answer` as a result of this type; None when it is none."""
    if partial is None or schema is None:
        return partial
    try:
        return parse_value(partial, answer_type(schema))
    except (ValueError, TypeError):  # pydantic's error is a ValueError
        return None


def _stopped(scope: RunScope, stop: TreeStopped) -> Outcome:
    if stop.reason == "cancelled":
        return Outcome("cancelled", value=scope.partial, error=scope.stop.error)
    return Outcome("limit", value=scope.partial, limit=stop.limit)  # pyright: ignore[reportArgumentType]


def _sandbox_error(error: CodeInterpreterError) -> FleetError:
    cause = error.__cause__
    return cause if isinstance(cause, FleetError) else SandboxError(str(error).splitlines()[0])


def _info(tree: TurnTree, error: FleetError) -> ev.ErrorInfo:
    message = tree.observer.clean(error.message)
    return ev.ErrorInfo(code=error.code, message=message, hint=error.hint, retryable=error.retryable)


def _started(tree: TurnTree, scope: RunScope, task: Task, value: Any) -> ev.RunStarted:
    signature = "task, context -> answer" if value is not None else "task -> answer"
    chars = value.chars if isinstance(value, ContextInput) else len(str(value)) if value is not None else None
    return ev.RunStarted(
        kind="rlm",
        task=tree.observer.clean(task.task)[:2000],
        signature=signature + (f": {(schema_key(task.schema) or '')[:SIGNATURE_CHARS]}" if task.schema else ""),
        model=tree.models.pick(task.model, tree.lm_for(scope.depth)).name,
        contexts=[tree.refs[sha] for sha in sorted(scope.contexts)],
        site=task.site,
        chars=chars,
    )


def _finished(tree: TurnTree, scope: RunScope, task: Task, outcome: Outcome, *, replayed: bool) -> ev.RunFinished:
    value = outcome.value
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return ev.RunFinished(
        status=outcome.status,
        usage=scope.lease.usage(),
        output=None if value is None else tree.observer.text(text),
        limit=outcome.limit,
        error=outcome.error,
        replayed=replayed,
        json=None if task.schema is None or value is None else not isinstance(value, str),
        passed=None if outcome.passed is None else tree.observer.text(json.dumps(outcome.passed, ensure_ascii=False)),
    )


class RlmDelegate:
    """Recursion as functions for model-written code. All of them run in the context of the run that calls."""

    def __init__(self, tree: TurnTree) -> None:
        self._tree = tree

    @property
    def rlm_query(self) -> Callable[..., Any]:
        """The function `rlm_query` with its help text."""

        @offered
        def rlm_query(
            task: str, context: Any = None, schema: Any = None, model: str | None = None, budget: Any = None
        ) -> Any:
            answer_type(schema)
            share = share_of(budget)
            branch = SCOPE.get().places.branch("rlm_query", [task, context, schema, *([model] if model else [])])
            return self._one(Task(_text(task), context, schema, self._site("rlm_query"), branch, model, share))

        return takes_handles(rlm_query)

    @property
    def rlm_query_batched(self) -> Callable[..., Any]:
        """The function `rlm_query_batched` with its help text."""

        @offered
        def rlm_query_batched(
            tasks: Any,
            contexts: Any = None,
            schema: Any = None,
            model: str | None = None,
            budget: Any = None,
        ) -> list[Any]:
            return self._many(tasks, contexts, schema, model, share_of(budget))

        return takes_handles(rlm_query_batched)

    def _many(
        self,
        tasks: Any,
        contexts: Any,
        schema: Schema,
        model: str | None,
        share: Share | None,
    ) -> list[Any]:
        answer_type(schema)
        self._tree.models.pick(model, self._tree.sub_lm)  # else each would fail for it
        pairs = pair_up(tasks, contexts)
        cell, name, of = SCOPE.get().cell, "rlm_query_batched", len(pairs)
        branch = SCOPE.get().places.branch(name, [pairs, schema, *([model] if model else [])])
        work = [
            Task(
                task,
                context,
                schema,
                ev.CallSite(cell=cell, function=name, index=i, of=of),
                f"{branch}[{i}]",
                model,
                share,
            )
            for i, (task, context) in enumerate(pairs)
        ]
        width = self._tree.budget.limits.sandboxes
        return self._tree.scheduler.map(lambda task, _: self._one_of_many(task), work, scope=SCOPE.get(), width=width)

    def _one_of_many(self, task: Task) -> Any:
        """What is wrong with one item is its own failure, and no reason to lose the others."""
        try:
            return self._one(task)
        except InvalidInput as error:
            return failure(error.code, self._tree.observer.clean(error.message))

    def _one(self, task: Task) -> Any:
        parent = SCOPE.get()
        foreign = set(handles_in(task.context)) - parent.contexts
        if foreign:
            raise InvalidInput("this context is not yours to pass on")
        self._tree.models.pick(task.model, self._tree.sub_lm)  # refused before a sandbox is taken for it
        return run_rlm(self._tree, task, parent=parent).guest_value()

    def _site(self, function: str) -> ev.CallSite:
        return ev.CallSite(cell=SCOPE.get().cell, function=function)


def pair_up(tasks: Any, contexts: Any) -> list[tuple[str, Any]]:
    """Tasks with their contexts: a list of each, or one task for all contexts.

    Errors: InvalidInput when they are none, when the lengths differ or when there are more than MAX_BATCH.
    """
    if not isinstance(tasks, str | list | tuple):
        raise InvalidInput("rlm_query_batched takes a list of tasks", hint="or one task for a list of contexts")
    if not isinstance(contexts, list | tuple | None):
        raise InvalidInput("contexts is a list, one for each task", hint="for one context there is rlm_query")
    given = None if contexts is None else list(cast("Sequence[Any]", contexts))
    if isinstance(tasks, str):
        if given is None:
            return [(_text(tasks), None)]
        names = [_text(tasks)] * len(given)
    else:
        names = [_text(task) for task in cast("Sequence[Any]", tasks)]
    values = [None] * len(names) if given is None else given
    if len(names) != len(values):
        raise InvalidInput(
            f"{len(names)} tasks but {len(values)} contexts", hint="pass one task, or as many as contexts"
        )
    if len(names) > MAX_BATCH:
        raise InvalidInput(f"{len(names)} tasks in one batch", hint=f"at most {MAX_BATCH}")
    return list(zip(names, values, strict=True))


def share_of(budget: Any) -> Share | None:
    """A child's own limits as model-written code gives them. Errors: InvalidInput for another form."""
    if budget is None:
        return None
    hint = 'as in {"calls": 20, "tokens": 50000, "cost_usd": 0.1}'
    if not isinstance(budget, dict) or not budget or not set(budget) <= {"calls", "tokens", "cost_usd"}:
        raise InvalidInput("budget is a dict of calls, tokens and cost_usd", hint=hint)
    for name, value in budget.items():
        kinds, least = (int | float, 1e-6) if name == "cost_usd" else (int, 2 if name == "calls" else 1)
        if isinstance(value, bool) or not isinstance(value, kinds) or not least <= value <= 1e15:
            raise InvalidInput(f"the budget's {name} must be a number from {least:g} on, not {value!r:.80}", hint=hint)
    return Share(**budget)


def _text(task: Any) -> str:
    if not isinstance(task, str) or not task.strip():
        raise InvalidInput("a task must be a text that is not empty")
    return task
