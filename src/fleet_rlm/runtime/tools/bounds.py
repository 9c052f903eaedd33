"""Bounds on what the agent's tools give and take: characters of a result, seconds of a call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextvars import copy_context
from typing import Any, Final

from dspy.adapters.types.tool import ToolCalls

from fleet_rlm.errors import DependencyError
from fleet_rlm.integrations.daytona.threads import DaemonThreads
from fleet_rlm.runtime.execution.observer import SCOPE

RESULT_CHARS: Final = 20_000
"""What one tool call puts into the agent's prompt at most (about 5,000 tokens)."""
TOOL_S: Final = 180.0
_threads = DaemonThreads("fleet-tool")

Invoke = Callable[[ToolCalls.ToolCall], Any]


class ToolTimeout(DependencyError):
    """A tool gave nothing within its time. What it does may still go on."""

    code = "tool_timeout"
    retryable = True


def cut(text: str, chars: int) -> str:
    """Beginning and end of a text that is longer than `chars`, with how much is missing between them."""
    if len(text) <= chars:
        return text
    head = chars * 2 // 3
    tail = chars - head
    return f"{text[:head]}\n[... {len(text) - chars:,} characters left out ...]\n{text[-tail:]}"


def timed(invoke: Invoke, seconds: Mapping[str, float | None]) -> Invoke:
    """The same with a bound in seconds for each tool (None: its run's own limits have to do).

    The call runs in a thread of its own, so that neither a slow tool nor a deaf one keeps the run from being stopped.
    Errors: ToolTimeout, and TreeStopped when the run is stopped meanwhile.
    """

    def bounded(call: ToolCalls.ToolCall) -> Any:
        limit = seconds.get(call.name, TOOL_S)
        if limit is None:
            return invoke(call)
        done: Future[Any] = Future()
        context = copy_context()

        def work() -> None:
            try:
                done.set_result(context.run(invoke, call))
            except BaseException as error:  # noqa: BLE001 - handed to the waiting thread, which raises it
                done.set_exception(error)

        _threads.run(work)
        stop = SCOPE.get().stop
        if not stop.race(done, limit):
            raise ToolTimeout(f"no result within {limit:g} s", hint="ask for less at once")
        if not done.done():
            stop.check()
        return done.result()

    return bounded
