"""The REPL of one run: it starts while the model is asked for the first cell, and it ends with its run."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from contextvars import copy_context
from typing import Any

from dspy.primitives.code_interpreter import CodeInterpreterError

from fleet_rlm.errors import TreeStopped
from fleet_rlm.integrations.daytona.interpreter import DaytonaInterpreter
from fleet_rlm.integrations.daytona.request import is_internal
from fleet_rlm.integrations.daytona.threads import DaemonThreads
from fleet_rlm.runtime.execution.losses import CELL, CellWork, Loss
from fleet_rlm.runtime.execution.stops import Stop

GRACE_S = 0.3
"""After SIGINT a stopped run's cell has so long to end: what it assigned is kept. Then its sandbox is deleted."""
TOLD_S = 5.0
"""How long the end of a run waits for what a start or a kill in the background still has to tell."""

SUB_AGENT_STOPPED = "this sub-agent was stopped by a person"

_threads = DaemonThreads("fleet-repl")


class RunInterpreter(DaytonaInterpreter):
    """An interpreter under a run's stop: interrupted, then killed, when the run or what is above it is stopped.

    `ended` is called once, after the shutdown. `run` is the id of its run. `loss` tells of code that is about to run
    whether the sandbox is to be lost with it, where a turn is run again.
    """

    def __init__(
        self,
        stop: Stop,
        ended: Callable[[], None],
        *,
        run: str,
        loss: Callable[[str], Loss | None] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self._stop = stop
        self._run_id = run
        self._loss = loss
        self._work: CellWork | None = None
        self._when_ended: Callable[[], None] | None = ended
        self._begun: Future[None] | None = None
        self._over = threading.Event()
        self._ending = threading.Lock()
        self._killed: Future[None] | None = None
        stop.future.add_done_callback(lambda _: self._end_soon())

    def start(self) -> None:
        """Begin, and return; the first cell waits for the sandbox and raises what its start raised."""
        if self._begun is None:
            self._begun = Future()
            context, begun = copy_context(), self._begun
            _threads.run(lambda: context.run(self._start_for, begun))

    def execute(self, code: str, variables: dict[str, Any] | None = None) -> Any:
        """One cell. Errors: those of DaytonaInterpreter; TreeStopped when the run is stopped while it starts."""
        self.start()
        assert self._begun is not None
        if not self._begun.done():
            self._stop.race(self._begun)
        self._stop.check()
        self._begun.result()
        self._work = work = CellWork(self._run_id, self._loses(code, variables or {}))
        token = CELL.set(work)
        try:
            return super().execute(code, variables)
        except CodeInterpreterError:
            self._stop.check()  # killed with its run: that is no fault of the sandbox
            raise
        finally:
            CELL.reset(token)
            if work.loss is not None:
                work.loss.over.set()

    def invoke_tool(self, tool_name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
        """As DaytonaInterpreter does. Where only a sub-agent that the code built is stopped, the code gets an error."""
        try:
            return super().invoke_tool(tool_name, args, kwargs)
        except TreeStopped as stop:
            if stop.reason != "cancelled" or self._stop.reason is not None:
                raise
            raise RuntimeError(SUB_AGENT_STOPPED) from stop

    def shutdown(self) -> None:
        """End it. Idempotent, also for two at once: the second returns when it has ended."""
        with self._ending:
            if self._when_ended is None:
                return
            if self._stop.future.done():
                self.kill()  # who was stopped is gone at once; others may wait for a better moment
            super().shutdown()
            self._over.set()
            told = [future for future in (self._begun, self._killed) if future is not None]
            wait(told, TOLD_S)  # what they tell of the sandbox comes before the end of the run
            ended, self._when_ended = self._when_ended, None
            ended()

    def _loses(self, code: str, given: dict[str, Any]) -> Loss | None:
        """The loss that waits for a cell, begun. None: there is none, or it has come."""
        loss = None if self._loss is None or is_internal(code, given) else self._loss(code)
        if loss is None:
            return None
        if loss.final:
            self._restarts = 0
        loss.lose = self.doom(loss.reason)
        if not loss.inside:
            loss.lose()
            return None
        _threads.run(loss.watch)
        return loss

    def _on_lost(self, reason: str) -> None:
        """Then nothing more is begun for the cell: the thread that runs it has been told."""
        super()._on_lost(reason)
        if self._work is not None:
            self._work.lose()

    def _start_for(self, begun: Future[None]) -> None:
        try:
            super().start()
        except BaseException as error:  # noqa: BLE001 - handed to the thread that runs the first cell
            begun.set_exception(error)
        else:
            begun.set_result(None)

    def _end_soon(self) -> None:
        if not self._over.is_set():
            self._killed = Future()
            _threads.run(self._interrupt_then_kill)

    def _interrupt_then_kill(self) -> None:
        assert self._killed is not None
        try:
            self.interrupt()
            if not self._over.wait(GRACE_S):
                self.kill()
        finally:
            self._killed.set_result(None)
