"""What a run tells the tree about its iterations, and the sub-calls that it offers to its code."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, cast

from dspy.utils.exceptions import LMError

from fleet_rlm.errors import FleetError, InvalidInput, TreeStopped
from fleet_rlm.integrations.daytona.offer import offered
from fleet_rlm.integrations.daytona.session import LET_GO
from fleet_rlm.runtime.execution import events as ev
from fleet_rlm.runtime.execution.batch import LetGo
from fleet_rlm.runtime.execution.ids import new_id
from fleet_rlm.runtime.execution.marks import WARN_AT
from fleet_rlm.runtime.execution.observer import SCOPE, RunScope
from fleet_rlm.runtime.execution.paths import CALL_PLACE, PASSING
from fleet_rlm.runtime.execution.tree import TurnTree
from fleet_rlm.runtime.models.metered import MeteredLM
from fleet_rlm.runtime.models.repair import Repair
from fleet_rlm.runtime.models.repl_history import Shortened
from fleet_rlm.runtime.models.wording import output_text
from fleet_rlm.runtime.tools.mending import Mender

TASK_CHARS = 1_000
MAX_BATCH = 10_000


class TurnRunHooks:
    """The `RunHooks` of a run inside a turn."""

    def __init__(self, tree: TurnTree, scope: RunScope, task: str) -> None:
        self._tree = tree
        self._task = task if len(task) <= TASK_CHARS else f"{task[:TASK_CHARS]} ... (the whole is in `task`)"
        self._scope = scope
        self._mender = Mender(tree, scope)
        self._iteration: list[tuple[str, int]] = []
        self._began = 0.0
        self._sandbox_before = 0.0

    def iteration_started(self, n: int, limit: int) -> None:
        self._scope.stop.check()
        self._scope.iteration = n
        id = new_id("itr")
        self._iteration.append((id, n))
        self._began = time.perf_counter()
        self._sandbox_before = self._scope.sandbox_ms
        self._tree.observer.emit(ev.IterationStarted(id=id, n=n, limit=limit), self._scope)

    def iteration_finished(self) -> None:
        try:
            id, n = self._iteration.pop()  # once, whoever comes first
        except IndexError:
            return
        whole = (time.perf_counter() - self._began) * 1000
        sandbox = self._scope.sandbox_ms - self._sandbox_before
        self._tree.observer.emit(
            ev.IterationFinished(
                id=id, n=n, model_ms=round(max(0.0, whole - sandbox), 3), sandbox_ms=round(sandbox, 3)
            ),
            self._scope,
        )

    def steps_shortened(self, shortened: Shortened) -> None:
        told = ev.HistoryCompacted(
            dropped=shortened.steps, before_chars=shortened.before_chars, after_chars=shortened.after_chars
        )
        self._tree.observer.emit(told, self._scope)

    def turn_note(self) -> str:
        """The task again, which else stands among the variables only, and from 70 % of a limit on what is left."""
        left = self._left()
        named = ", ".join(self._tree.models.named)
        models = f'\nSub-calls take model="root", "sub" or one of {named}.' if named else ""
        said = f"\nBudget: {left}" if left else ""
        PASSING.set(said)
        return f"Your task: {self._task}{models}{said}"

    def _left(self) -> str:
        state = self._scope.lease.left()
        lim, notes = state.limits, list[str]()
        if lim.calls and state.spent.calls / lim.calls >= WARN_AT[0]:
            notes.append(f"{state.left_calls} of {lim.calls} model calls left")
        used = state.spent.prompt_tokens + state.spent.completion_tokens
        if lim.tokens and used / lim.tokens >= WARN_AT[0]:
            notes.append(f"{state.left_tokens} of {lim.tokens} tokens left")
        if lim.wall_s and state.left_wall_s is not None and state.left_wall_s / lim.wall_s <= 1 - WARN_AT[0]:
            notes.append(f"{state.left_wall_s:.0f} of {lim.wall_s:g} seconds left")
        if lim.cost_usd and state.left_cost_usd is not None and state.left_cost_usd / lim.cost_usd <= 1 - WARN_AT[0]:
            notes.append(f"${state.left_cost_usd:.2f} of ${lim.cost_usd:.2f} left")
        if lim.children and state.children / lim.children >= WARN_AT[0]:
            notes.append(f"{max(0, lim.children - state.children)} of {lim.children} child runs left")
        own = self._scope.lease.account.limits
        for left, of, unit in (
            (state.left_calls, own.calls, "model calls"),
            (state.left_tokens, own.tokens, "tokens"),
            (state.left_cost_usd, own.cost_usd, "dollars"),
        ):
            if of is not None and left is not None:
                notes.append(f"of your own share {left:g} of {of:g} {unit} left")
        return "; ".join(notes)

    def code(self, code: str) -> str:
        replay = self._tree.replay
        return code if replay is None else replay.code(self._scope, code)

    def sub_call_tools(self) -> dict[str, Callable[..., Any]]:
        """`llm_query` and `llm_query_batched`, as far as the depth limit allows plain sub-calls."""
        if self._tree.budget.level(self._scope.depth) >= self._tree.limits_of(self._scope).depth:
            return {}

        pick, sub = self._tree.models.pick, self._tree.sub_lm

        @offered
        def llm_query(prompt: str, model: str | None = None) -> str:
            return output_text(pick(model, sub).ask_here(_prompt(prompt), _let_go()))

        @offered
        def llm_query_batched(prompts: list[str], model: str | None = None) -> list[Any]:
            lm, place = pick(model, sub), CALL_PLACE.get()

            def one(item: tuple[int, Any], let_go: LetGo | None) -> Any:
                token = CALL_PLACE.set(f"{place}.{item[0]}")
                try:
                    return self._ask_or_fail(item[1], lm, let_go)
                finally:
                    CALL_PLACE.reset(token)

            return self._tree.scheduler.map(one, list(enumerate(_prompts(prompts))), scope=SCOPE.get())

        return {"llm_query": llm_query, "llm_query_batched": llm_query_batched}

    def repair(self, code: str, fault: str) -> Repair | None:
        """See Mender.mend."""
        return self._mender.mend(code, fault)

    def _ask_or_fail(self, prompt: Any, lm: MeteredLM, let_go: LetGo | None) -> Any:
        try:
            return output_text(lm.ask_here(_prompt(prompt), let_go))
        except LMError as error:
            mapped = lm.failure(error)
        except FleetError as error:  # this prompt is empty or no text
            mapped = error
        return {"$failure": {"error": mapped.code, "message": self._tree.observer.clean(mapped.message)}}


def _let_go() -> LetGo | None:
    """Ends the guest's call of this thread when its run is stopped, whatever holds the thread."""
    leave, stop = LET_GO.get(), SCOPE.get().stop
    return None if leave is None else lambda: leave(stop.reason or TreeStopped("cancelled"))


def _prompt(prompt: Any) -> str:
    if not isinstance(prompt, str) or not prompt.strip():
        raise InvalidInput("a prompt must be a text that is not empty")
    return prompt


def _prompts(prompts: Any) -> list[Any]:
    if not isinstance(prompts, list | tuple):
        raise InvalidInput("llm_query_batched takes a list of prompts", hint="for one prompt there is llm_query")
    found = list(cast("Sequence[Any]", prompts))
    if len(found) > MAX_BATCH:
        raise InvalidInput(f"{len(found)} prompts in one batch", hint=f"at most {MAX_BATCH}")
    return found
