"""Everything that the runs of one turn share: budget, gates, models, sandboxes, events."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from contextlib import AbstractContextManager
from contextvars import copy_context
from dataclasses import dataclass, field
from typing import Any

import dspy

from fleet_rlm.errors import ModelError, TreeStopped
from fleet_rlm.integrations.daytona.interpreter import DaytonaInterpreter
from fleet_rlm.integrations.daytona.runtime import SandboxRuntime
from fleet_rlm.integrations.daytona.threads import DaemonThreads
from fleet_rlm.runtime.content.contexts import ContextStore
from fleet_rlm.runtime.execution import events as ev
from fleet_rlm.runtime.execution.approvals import Approvals
from fleet_rlm.runtime.execution.budget import TreeBudget
from fleet_rlm.runtime.execution.cells import CellRecorder
from fleet_rlm.runtime.execution.observer import RunScope, TurnObserver
from fleet_rlm.runtime.execution.scheduler import Scheduler
from fleet_rlm.runtime.models.adapters import adapter_for
from fleet_rlm.runtime.models.metered import MeteredLM

KILL_S = 5.0


@dataclass(slots=True)
class TurnTree:
    """The shared services of one turn. `failure` maps whatever a provider raised to one of our ModelErrors."""

    sid: str
    turn: str
    budget: TreeBudget
    scheduler: Scheduler
    observer: TurnObserver
    root_lm: MeteredLM
    sub_lm: MeteredLM
    sandboxes: SandboxRuntime
    contexts: ContextStore
    failure: Callable[[BaseException], ModelError]
    refs: dict[str, ev.ContextRef] = field(default_factory=dict[str, ev.ContextRef])
    isolation: str | None = None
    provider: str | None = None
    approvals: Approvals = field(init=False)
    _live: set[DaytonaInterpreter] = field(default_factory=set[DaytonaInterpreter])
    _staged: set[str] = field(default_factory=set[str])
    _staging: threading.Lock = field(default_factory=threading.Lock)
    _killers: dict[DaytonaInterpreter, threading.Thread] = field(
        default_factory=dict[DaytonaInterpreter, threading.Thread]
    )
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.approvals = Approvals(self.budget, self.observer)
        # The end of the tree reaches into running cells: their interpreters are killed, children first or not,
        # and the threads that wait for them unwind by themselves.
        self.budget.stopped.add_done_callback(lambda _: self._kill_live())

    def cancel(self) -> None:
        """Stop everything in this turn. Returns at once; the turn's thread unwinds and writes the end."""
        self.budget.stop(TreeStopped("cancelled"))

    def answer(self, approval: str, text: str) -> None:
        """A person's answer to a question of this turn. Errors: those of `Approvals.answer`."""
        self.approvals.answer(approval, text)

    def interpreter(
        self, scope: RunScope, recorder: CellRecorder, *, on_closed: Callable[[], None] | None = None
    ) -> DaytonaInterpreter:
        """A fresh interpreter for a run; it dies with the tree. `on_closed` is called once, after its shutdown."""
        self.budget.check()
        _ = self.sandboxes.settings  # raises where no sandbox can be had, before a model is paid for nothing
        self._stage(scope)
        interpreter = _ScopedInterpreter(
            lambda ended: self._forget(ended, recorder, on_closed),
            runtime=self.sandboxes,
            contexts=sorted(scope.contexts),
            labels={"fleet.session": self.sid, "fleet.turn": self.turn, "fleet.run": scope.id},
            listener=recorder,
            restarts=1,  # a lost sandbox costs a run its variables, not the run
        )
        with self._lock:
            self._live.add(interpreter)
        if self.budget.stopped.done():  # stopped between the check and the registration
            interpreter.kill()
        return interpreter

    def _forget(
        self, interpreter: DaytonaInterpreter, recorder: CellRecorder, on_closed: Callable[[], None] | None
    ) -> None:
        with self._lock:
            if interpreter not in self._live:  # shutdown is idempotent
                return
            self._live.discard(interpreter)
            killer = self._killers.get(interpreter)
            self.isolation = recorder.isolation or self.isolation
            self.provider = recorder.provider or self.provider
        if killer is not None and killer.ident is not None:
            killer.join(KILL_S)  # what it tells of the sandbox comes before the end of the run
        if on_closed is not None:
            on_closed()

    def lm_for(self, depth: int) -> MeteredLM:
        """The model that drives a run at tree depth `depth`: the root model for the agent and the first RLM."""
        return self.root_lm if self.budget.level(depth) <= 0 else self.sub_lm

    def settings(self, depth: int) -> AbstractContextManager[None]:
        """The DSPy settings under which a run at `depth` works, as a context manager."""
        lm = self.lm_for(depth)
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

    def _kill_live(self) -> None:
        with self._lock:
            for each in self._live:
                self._killers[each] = threading.Thread(target=each.kill, name="fleet-kill", daemon=True)
            killers = list(self._killers.values())
        for thread in killers:
            thread.start()


_threads = DaemonThreads("fleet-start")


class _ScopedInterpreter(DaytonaInterpreter):
    """Starts while the model is asked for the first cell, and leaves the tree's list when it shuts down."""

    def __init__(self, ended: Callable[[DaytonaInterpreter], None], **options: Any) -> None:
        super().__init__(**options)
        self._when_ended = ended
        self._begun: Future[None] | None = None

    def start(self) -> None:
        """Begin, and return; the first cell waits for the sandbox and raises what its start raised."""
        if self._begun is None:
            self._begun = Future()
            context, begun = copy_context(), self._begun
            _threads.run(lambda: context.run(self._start_for, begun))

    def _start_for(self, begun: Future[None]) -> None:
        try:
            super().start()
        except BaseException as error:  # noqa: BLE001 - handed to the thread that runs the first cell
            begun.set_exception(error)
        else:
            begun.set_result(None)

    def execute(self, code: str, variables: dict[str, Any] | None = None) -> Any:
        self.start()
        assert self._begun is not None
        self._begun.result()
        return super().execute(code, variables)

    def shutdown(self) -> None:
        super().shutdown()
        if self._begun is not None:
            wait((self._begun,), KILL_S)  # what a start in the background tells comes before the end of the run
        self._when_ended(self)
