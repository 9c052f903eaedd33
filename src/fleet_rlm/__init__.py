"""Recursive language-model tasks on DSPy and Daytona sandboxes: the public Python API.

    import fleet_rlm
    result = fleet_rlm.run("Which host failed first?", context=[Path("a.log")], lm="openai/gpt-5-mini")

Importing this module is quick; what needs DSPy is loaded when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fleet_rlm.errors import FleetError
    from fleet_rlm.integrations.daytona.interpreter import DaytonaInterpreter
    from fleet_rlm.library import Budget, RunResult, Session, Url, arun, replay, resume, run, stream
    from fleet_rlm.runtime.agent.agent import FleetAgent
    from fleet_rlm.runtime.agent.runtime import AgentRuntime
    from fleet_rlm.runtime.models.builders import build_recursive_subquery_rlm

_HOMES = {
    "AgentRuntime": "fleet_rlm.runtime.agent.runtime",
    "Budget": "fleet_rlm.library",
    "DaytonaInterpreter": "fleet_rlm.integrations.daytona.interpreter",
    "FleetAgent": "fleet_rlm.runtime.agent.agent",
    "FleetError": "fleet_rlm.errors",
    "RunResult": "fleet_rlm.library",
    "Session": "fleet_rlm.library",
    "Url": "fleet_rlm.library",
    "arun": "fleet_rlm.library",
    "build_recursive_subquery_rlm": "fleet_rlm.runtime.models.builders",
    "replay": "fleet_rlm.library",
    "resume": "fleet_rlm.library",
    "run": "fleet_rlm.library",
    "stream": "fleet_rlm.library",
}

__all__ = [
    "AgentRuntime",
    "Budget",
    "DaytonaInterpreter",
    "FleetAgent",
    "FleetError",
    "RunResult",
    "Session",
    "Url",
    "arun",
    "build_recursive_subquery_rlm",
    "replay",
    "resume",
    "run",
    "stream",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'fleet_rlm' has no attribute {name!r}")
    return getattr(importlib.import_module(home), name)


def __dir__() -> list[str]:
    return sorted(__all__)
