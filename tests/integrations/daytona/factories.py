"""Interpreter factories by the kind of sandbox that they use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dspy
import pytest

from fleet_rlm.integrations.daytona.interpreter import DaytonaInterpreter

Factory = Callable[..., Any]
# dspy.LocalInterpreter; ours on the jailed local server, by each channel, without and with faults on purpose.
KINDS = ["local", "sandboxd", "terminal", "session", "strict", "strict-session"]
SOURCES = {
    "sandboxd": "runtime",
    "terminal": "terminal_runtime",
    "session": "session_runtime",
    "strict": "strict_runtime",
    "strict-session": "strict_session_runtime",
}


def make_factory(kind: str, request: pytest.FixtureRequest) -> Factory:
    """A zero-argument factory of this kind; the source of its sandboxes lives as long as the test session."""
    if kind == "local":
        return dspy.LocalInterpreter
    source = request.getfixturevalue(SOURCES[kind])

    def factory(**options: Any) -> DaytonaInterpreter:
        return DaytonaInterpreter(runtime=source, **options)

    factory.execution_instructions = DaytonaInterpreter.execution_instructions  # type: ignore[attr-defined]
    return factory
