"""Everything that the runs of one turn share: budget, gates, models, sandboxes, events."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import dspy
import msgspec

from fleet_rlm.errors import InvalidInput, TreeStopped
from fleet_rlm.integrations.daytona.interpreter import DaytonaInterpreter
from fleet_rlm.integrations.daytona.runtime import SandboxRuntime
from fleet_rlm.runtime.config_values import VariableMode
from fleet_rlm.runtime.content.contexts import ContextStore
from fleet_rlm.runtime.execution import events as ev
from fleet_rlm.runtime.execution.approvals import Approvals
from fleet_rlm.runtime.execution.artifacts import ArtifactShelf, Blobs
from fleet_rlm.runtime.execution.at_limit import LimitQuestions
from fleet_rlm.runtime.execution.budget import TreeBudget
from fleet_rlm.runtime.execution.cells import CellRecorder
from fleet_rlm.runtime.execution.coverage import Coverage
from fleet_rlm.runtime.execution.last_moments import LastMoments
from fleet_rlm.runtime.execution.losses import adopted
from fleet_rlm.runtime.execution.observer import SCOPE, RunScope, TurnObserver
from fleet_rlm.runtime.execution.replay import Replay
from fleet_rlm.runtime.execution.requests import AtLimit
from fleet_rlm.runtime.execution.run_interpreter import RunInterpreter
from fleet_rlm.runtime.execution.scheduler import Scheduler
from fleet_rlm.runtime.models.adapters import adapter_for
from fleet_rlm.runtime.models.choice import ModelChoice
from fleet_rlm.runtime.models.metered import MeteredLM
from fleet_rlm.runtime.policy import Policy, PolicyGate


@dataclass(slots=True)
class TurnTree:
    """The shared services of one turn.

    `published` gives the session's artifacts before this turn; `asks_person`: code may put questions to a person.
    `at_limit`: what happens at a limit; `unpriced`: the names of models whose price is unknown; it grows.
    `replay`: what a journal knows, when the turn is run again. `attended`: see `TurnRequest`; None: as the policy says.
    """

    sid: str
    turn: str
    budget: TreeBudget
    scheduler: Scheduler
    observer: TurnObserver
    root_lm: MeteredLM
    sub_lm: MeteredLM
    sandboxes: SandboxRuntime
    contexts: ContextStore
    blobs: Blobs
    models: ModelChoice
    judge_lm: MeteredLM | None = None
    replay: Replay | None = None
    policy: Policy = field(default_factory=Policy)
    attended: bool | None = None
    refs: dict[str, ev.ContextRef] = field(default_factory=dict[str, ev.ContextRef])
    at_limit: AtLimit = "finish"
    unpriced: list[str] = field(default_factory=list[str])
    isolation: str | None = None
    provider: str | None = None
    published: Callable[[], Iterable[ev.ArtifactPublished]] = tuple
    variable_mode: VariableMode = "auto"
    approvals: Approvals = field(init=False)
    artifacts: ArtifactShelf = field(init=False)
    coverage: Coverage = field(init=False)
    _questions: LimitQuestions = field(init=False)
    _moments: LastMoments = field(init=False)
    gate: PolicyGate = field(init=False)
    _runs: dict[str, RunScope] = field(default_factory=dict[str, RunScope])
    _staged: set[str] = field(default_factory=set[str])
    _staging: threading.Lock = field(default_factory=threading.Lock)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _setting: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        before = {} if self.replay is None else self.replay.published()
        self.artifacts = ArtifactShelf(self.observer, self.blobs, self.published, before)
        self.coverage = Coverage(self.observer, self.refs)
        self.approvals = Approvals(self.budget, self.observer, self.replay, patience_s=self.policy.ask_seconds)
        resumed = self.replay if self.replay is not None and self.replay.kind == "resume" else None
        costs = resumed.allowed_costs() if resumed is not None else ()
        self.gate = PolicyGate(self.policy, self.approvals, self.budget, SCOPE.get, allowed_costs=costs)
        self.budget.before_call = self.gate.cost
        self._moments = LastMoments(self.budget)
        self._questions = LimitQuestions(
            self.budget, self.approvals, lambda name, value: self.set_limits({name: value})
        )
        if self.at_limit == "ask" and not (self.replay is not None and self.replay.kind == "replay"):
            self.budget.on_limit = self._questions

    @property
    def asks_person(self) -> bool:
        """Whether models may put questions to a person."""
        return self.policy.ask_user

    @property
    def person_told(self) -> bool:
        """Whether models are told that somebody may answer; whether it is so is the policy's `ask_seconds`."""
        return self.policy.ask_seconds > 0 if self.attended is None else self.attended

    def opened(self, scope: RunScope) -> None:
        """A run begins; until `closed` it can be stopped by its id."""
        with self._lock:
            self._runs[scope.id] = scope
        if self.replay is not None:
            self.replay.run_begun(scope)
        adopted(scope)

    def closed(self, scope: RunScope) -> None:
        """A run has ended. Idempotent."""
        scope.stop.leave()
        if self.replay is not None:
            self.replay.run_over(scope)
        with self._lock:
            self._runs.pop(scope.id, None)

    def cancel(self) -> None:
        """Stop everything in this turn. Returns at once; the turn's thread unwinds and writes the end."""
        self.budget.stop(TreeStopped("cancelled"))

    def cancel_run(self, run: str) -> bool:
        """Stop one run and everything below it; its parent goes on. False when no such run is under way.

        To stop the root run is to stop the turn.
        """
        with self._lock:
            scope = self._runs.get(run)
        if scope is None:
            return False
        if scope.parent is None:
            self.cancel()
        else:
            scope.stop.set(TreeStopped("cancelled"))
        return True

    def set_limits(self, changes: Mapping[str, Any]) -> ev.Limits:
        """Other limits from now on, by their names in `Limits`; what waits for more goes on at once.

        Returns all limits as they are now. Errors: InvalidInput (below what is spent or lives; more than the policy
        allows; money where a price is unknown).
        """
        if changes.get("cost_usd") is not None and self.unpriced:
            raise InvalidInput(
                f"the price of {self.unpriced[0]} is unknown, so a cost limit cannot hold",
                hint="limit calls or tokens instead",
            )
        with self._setting:  # one change after another: each begins with the limits that the last one left
            limits = self.policy.check_limits(msgspec.structs.replace(self.budget.limits, **changes))
            self.scheduler.sandboxes.change(limits, lambda: self.budget.set_limits(limits))
        self.observer.budget(self.budget, now=True)
        self._questions.limits_changed()
        self._moments.look()
        return self.budget.limits

    def answer(self, approval: str, text: str | None) -> None:
        """A person's answer to a question of this turn. Errors: those of `Approvals.answer`."""
        self.approvals.answer(approval, text)

    def interpreter(
        self, scope: RunScope, recorder: CellRecorder, *, on_closed: Callable[[], None] | None = None
    ) -> DaytonaInterpreter:
        """A fresh interpreter for a run; it ends with the run. `on_closed` is called once, after its shutdown."""
        if self.replay is not None:
            self.replay.check_begins(scope)
        there = self.sandboxes.begin()
        scope.stop.race(there)  # a server that only starts goes on doing so for the next turn
        scope.stop.check()
        there.result()  # raises where no sandbox can be had, before a model is paid for nothing
        self._stage(scope)
        made = RunInterpreter(
            scope.stop,
            lambda: self._ended(recorder, on_closed),
            run=scope.id,
            loss=None if self.replay is None else partial(self.replay.loss, scope, lambda: recorder.computes),
            runtime=self.sandboxes,
            contexts=sorted(scope.contexts),
            labels={"fleet.session": self.sid, "fleet.turn": self.turn, "fleet.run": scope.id},
            listener=recorder,
            restarts=1,  # a lost sandbox costs a run its variables, not the run
        )
        self._moments.watch(scope, recorder, made)
        return made

    def _ended(self, recorder: CellRecorder, on_closed: Callable[[], None] | None) -> None:
        self._moments.forget(recorder)
        with self._lock:
            self.isolation = recorder.isolation or self.isolation
            self.provider = recorder.provider or self.provider
        if on_closed is not None:
            on_closed()

    def limits_of(self, scope: RunScope) -> ev.Limits:
        """Those that say what a run may do: as they are; for one that runs again, as they were when it first began."""
        begun = None if self.replay is None else self.replay.limits_of(scope.path)
        return begun or self.budget.limits

    def lm_for(self, depth: int) -> MeteredLM:
        """The model that drives a run at tree depth `depth`: the root model for the agent and the first RLM."""
        return self.root_lm if self.budget.level(depth) <= 0 else self.sub_lm

    def settings(self, depth: int, lm: MeteredLM | None = None) -> AbstractContextManager[None]:
        """The DSPy settings under which a run at `depth` works, with `lm` in place of the depth's own model."""
        lm = lm or self.lm_for(depth)
        return dspy.context(
            lm=lm,
            adapter=adapter_for(lm),
            trace=None,
            disable_history=False,  # usage reaches the metered LM through the history hook
            callbacks=[],
        )

    def _stage(self, scope: RunScope) -> None:
        """Bring the run's contexts to where its sandbox will mount them; each once per server, whoever is first."""
        for sha256 in sorted(scope.contexts):
            with self._staging:
                if sha256 not in self._staged:
                    data, index = self.contexts.data_path(sha256), self.contexts.index_path(sha256)
                    self.sandboxes.stage_context(sha256, data, index)
                    self._staged.add(sha256)
