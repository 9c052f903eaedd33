"""The agent's side of recursion: `delegate` and `delegate_batched`, and how the agent's tools are run and shown."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from dspy.adapters.types.tool import ToolCalls

from fleet_rlm.runtime.agent.agent import run_one
from fleet_rlm.runtime.content.values import context_spec
from fleet_rlm.runtime.execution import events as ev
from fleet_rlm.runtime.execution.batch import LetGo
from fleet_rlm.runtime.execution.observer import SCOPE
from fleet_rlm.runtime.execution.paths import tool_place
from fleet_rlm.runtime.execution.record import EDITS_MEMORY
from fleet_rlm.runtime.execution.tree import TurnTree
from fleet_rlm.runtime.tools.bounds import timed
from fleet_rlm.runtime.tools.documents import Documents
from fleet_rlm.runtime.tools.recorded import observed
from fleet_rlm.runtime.tools.rlm_delegate import Outcome, Task, run_rlm

TOOL_WIDTH = 8
UNTIMED = MappingProxyType({"submit": None, "delegate": None, "delegate_batched": None})
"""A delegated task has the limits of its turn."""


class AgentDelegation:
    """The agent's delegation tools. `outcomes` keeps what came back, for an agent that is cut short."""

    def __init__(self, tree: TurnTree, documents: Documents) -> None:
        self._tree = tree
        self._documents = documents
        self.outcomes: list[Outcome] = []

    def tools(self, *, growing: bool = False) -> list[Callable[..., Any]]:
        """What the agent is offered: where no document is or will come (`growing`), there is only one thing to say."""
        if self._documents.refs or growing:
            return [self.delegate, self.delegate_batched]

        def delegate(task: str) -> str:
            """Have Python code run in a sandbox without internet: for calculations and work on data only."""
            return self.delegate(task)

        return [delegate]

    def delegate(self, task: str, documents: list[str] | str | None = None) -> str:
        """Give a task to a recursive worker with a Python sandbox that reads the named documents (default: all)."""
        branch = SCOPE.get().places.branch("delegate", [task, documents])
        return self._run(task, documents, ev.CallSite(cell=None, function="delegate"), branch)

    def delegate_batched(self, tasks: list[str], documents: list[str] | str | None = None) -> list[str]:
        """Give several independent tasks to recursive workers side by side; results in the same order."""
        name, of = "delegate_batched", len(tasks)
        branch = SCOPE.get().places.branch(name, [tasks, documents])

        def one(item: tuple[int, str], _: LetGo | None) -> str:
            site = ev.CallSite(cell=None, function=name, index=item[0], of=of)
            return self._run(item[1], documents, site, f"{branch}[{item[0]}]")

        return self._tree.scheduler.map(one, list(enumerate(tasks)), scope=SCOPE.get(), width=TOOL_WIDTH)

    def _run(self, task: str, documents: list[str] | str | None, site: ev.CallSite, branch: str) -> str:
        names = [documents] if isinstance(documents, str) else documents
        there = self._documents.refs
        chosen = {name: self._documents.named(name) for name in names} if names and there else dict(there)
        spec = context_spec(list(chosen.values()))
        if len(chosen) > 1:
            spec = {name: {"$context": ref.sha256} for name, ref in chosen.items()}
        outcome = run_rlm(self._tree, Task(task, spec, None, site, branch), parent=SCOPE.get())
        self.outcomes.append(outcome)
        return told(outcome)


def told(outcome: Outcome) -> str:
    """An outcome in words for the agent."""
    if outcome.status == "ok":
        return str(outcome.value)
    if outcome.status == "limit" and outcome.value is not None:
        return f"(partial: the {outcome.limit} limit was reached) {outcome.value}"
    why = outcome.error.message if outcome.error else f"the {outcome.limit} limit was reached"
    return f"(no result: {why})"


def _jobs(calls: Sequence[ToolCalls.ToolCall]) -> list[list[tuple[int, ToolCalls.ToolCall]]]:
    """What may run side by side. Memory is written in the order in which the model said it: the text depends on it."""
    written = [(index, call) for index, call in enumerate(calls) if call.name in EDITS_MEMORY]
    others = [[(index, call)] for index, call in enumerate(calls) if call.name not in EDITS_MEMORY]
    return [*others, written] if written else others


class ObservedTools:
    """Runs the tool calls of one agent step side by side and shows each as an event.

    `asking`: tools that ask for themselves each time, whatever the policy names.
    """

    def __init__(
        self,
        tree: TurnTree,
        seconds: Mapping[str, float | None] = MappingProxyType({}),
        *,
        asking: Collection[str] = (),
        attach: Callable[[ev.ContextRef], str] | None = None,
    ) -> None:
        self._tree = tree
        self._asking = asking
        self._attach = attach
        self._seconds = {**UNTIMED, **seconds}

    def run(
        self, calls: Sequence[ToolCalls.ToolCall], invoke: Callable[[ToolCalls.ToolCall], Any]
    ) -> list[tuple[Any, bool]]:
        invoke = timed(invoke, self._seconds)
        scope = SCOPE.get()
        step = scope.places.next_step()

        results: dict[int, tuple[Any, bool]] = {}

        def work(job: list[tuple[int, ToolCalls.ToolCall]], _: LetGo | None) -> None:
            for index, call in job:
                with tool_place(scope.path, step, index):
                    results[index] = self._one(call, invoke)

        self._tree.scheduler.map(work, _jobs(calls), scope=scope, width=TOOL_WIDTH)
        return [results[index] for index in range(len(calls))]

    def _allowed(self, call: ToolCalls.ToolCall, invoke: Callable[[ToolCalls.ToolCall], Any]) -> Any:
        if call.name not in self._asking:
            self._tree.gate.tool(call.name, json.dumps(call.args or {}, ensure_ascii=False, default=str))
        return invoke(call)

    def _one(self, call: ToolCalls.ToolCall, invoke: Callable[[ToolCalls.ToolCall], Any]) -> tuple[Any, bool]:
        if call.name == "submit":  # the answer itself, shown as the turn's message
            return run_one(call, invoke)
        return observed(
            self._tree,
            call.name,
            call.args or {},
            lambda: run_one(call, lambda asked: self._allowed(asked, invoke)),
            attach=self._attach,
        )
