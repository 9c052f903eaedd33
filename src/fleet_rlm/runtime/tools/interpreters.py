"""The REPL of a run, and those of the sub-agents that model-written code builds inside it."""

from __future__ import annotations

from fleet_rlm.integrations.daytona.interpreter import DaytonaInterpreter
from fleet_rlm.runtime.execution import events as ev
from fleet_rlm.runtime.execution.cells import CellRecorder
from fleet_rlm.runtime.execution.ids import new_id
from fleet_rlm.runtime.execution.observer import SCOPE, RunScope
from fleet_rlm.runtime.execution.paths import Places
from fleet_rlm.runtime.execution.tree import TurnTree
from fleet_rlm.runtime.models.asked import RLM_ASKED
from fleet_rlm.runtime.models.builders import output_chars

SUB_AGENT = "sub-agent"


class InterpreterFactory:
    """What a run's RLM calls for its REPL.

    The first interpreter is the run's own. Any further one belongs to a sub-agent that model-written code built with
    DSPy's own `dspy.RLM`: it becomes a child run of its own, under the same limits, until its interpreter shuts down.
    """

    execution_instructions = DaytonaInterpreter.execution_instructions

    def __init__(self, tree: TurnTree, scope: RunScope, recorder: CellRecorder) -> None:
        self._tree = tree
        self._scope = scope
        self._recorder = recorder
        self._first = True

    def __call__(self) -> DaytonaInterpreter:
        if self._first:
            self._first = False
            return self._tree.interpreter(self._scope, self._recorder)
        return self._sub_agent()

    def _sub_agent(self) -> DaytonaInterpreter:
        tree = self._tree
        parent = SCOPE.get()  # the run whose code asks: this one, or a sub-agent below it
        places = parent.places
        tree.gate.depth(parent.depth + 1, SUB_AGENT)
        path = self._path(places)
        scope = RunScope(id=new_id("run"), lease=parent.lease.child(), path=path, parent=parent)
        gate, level = tree.scheduler.sandboxes, tree.budget.level(scope.depth)
        try:
            gate.take(level, scope.stop)
        except BaseException:
            scope.unwind()
            scope.lease.close()
            tree.closed(scope)
            raise
        site = ev.CallSite(cell=parent.cell, function="dspy.RLM")
        tree.opened(scope)
        tree.observer.run_started(
            scope,
            ev.RunStarted(kind="rlm", task=SUB_AGENT, signature="dspy.RLM", model=tree.sub_lm.name, site=site),
        )
        parent.part_opened()
        # The sub-agent's calls are made in this same context until it shuts its interpreter down.
        token = SCOPE.set(scope)

        def closed() -> None:
            SCOPE.reset(token)
            gate.give_back(level)
            status, limit = _status_of(scope)
            error = scope.stop.error
            scope.unwind()
            scope.lease.close()
            tree.closed(scope)
            usage = scope.lease.usage()
            tree.observer.emit(ev.RunFinished(status=status, usage=usage, limit=limit, error=error), scope)
            parent.part_closed()

        recorder = CellRecorder(
            tree.observer,
            scope,
            shown_chars=output_chars(variables=False),
            begins=None if tree.replay is None else tree.replay.stops.soon,
            ends=None if tree.replay is None else tree.replay.tell_so_far,
            over=None if tree.replay is None else tree.replay.stops.cell_over,
        )
        try:
            return tree.interpreter(scope, recorder, on_closed=closed)
        except BaseException:  # no interpreter, so no shutdown that would close the run
            closed()
            raise

    def _path(self, places: Places) -> str:
        path, replay = places.child(places.branch("dspy.RLM", RLM_ASKED.get())), self._tree.replay
        if replay is None or replay.knows(path):
            return path
        older = places.child(places.branch("dspy.RLM", None))  # journals that name them by their order alone
        return older if replay.knows(older) else path


def _status_of(scope: RunScope) -> tuple[ev.RunStatus, ev.Unit | None]:
    """How a sub-agent ended that has no outcome of its own."""
    if not scope.stop.done:
        return ("ok", None) if scope.refused is None else ("limit", scope.refused)  # pyright: ignore[reportReturnType]
    reason = scope.stop.future.result()
    return ("cancelled", None) if reason.reason == "cancelled" else ("limit", reason.limit)  # pyright: ignore[reportReturnType]
