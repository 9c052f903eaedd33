"""Host functions that every run offers to its code besides sub-calls and child runs: budget, files, questions."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

from fleet_rlm.integrations.daytona.offer import offered, takes_file
from fleet_rlm.runtime.execution.artifacts import from_guest
from fleet_rlm.runtime.execution.observer import SCOPE
from fleet_rlm.runtime.execution.tree import TurnTree
from fleet_rlm.runtime.tools.approval import UserQuestions
from fleet_rlm.runtime.tools.recorded import observed, recorded


class ReplFunctions:
    """The functions of one tree. They work for the run that calls them."""

    def __init__(self, tree: TurnTree) -> None:
        self._tree = tree

    def all(self) -> list[Callable[..., Any]]:
        """Those that may be offered."""
        asking = [UserQuestions(self._tree).for_code()] if self._tree.asks_person else []
        return [recorded(self._tree, self.budget()), self.save_artifact(), *asking]

    def budget(self) -> Callable[[], dict[str, Any]]:
        @offered
        def budget() -> dict[str, Any]:
            state = SCOPE.get().lease.left()
            level = self._tree.budget.level(SCOPE.get().depth)
            children = state.limits.children
            return {
                "calls_left": state.left_calls,
                "tokens_left": state.left_tokens,
                "cost_usd_left": state.left_cost_usd,
                "seconds_left": state.left_wall_s,
                "children_left": None if children is None else max(0, children - state.children),
                "depth_left": max(0, state.limits.depth - level),
                "sandboxes_left": max(0, state.limits.sandboxes - self._tree.scheduler.sandboxes.live),
            }

        return budget

    def save_artifact(self) -> Callable[..., dict[str, Any]]:
        @takes_file
        @offered
        def save_artifact(path_or_value: Any, name: str | None = None) -> dict[str, Any]:
            data, scope = from_guest(path_or_value), SCOPE.get()
            told = {"name": name, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            return observed(self._tree, "save_artifact", told, lambda: (publish(name, data), False), cell=scope.cell)[0]

        def publish(name: str | None, data: bytes) -> dict[str, Any]:
            made = self._tree.artifacts.publish(SCOPE.get(), name or "", data)
            return {"id": made.id, "name": made.name, "version": made.version, "bytes": made.bytes, "kind": made.kind}

        return save_artifact
