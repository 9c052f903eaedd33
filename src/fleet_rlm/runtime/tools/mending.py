"""Mends an action that does not compile, within a run: shown as a tool's work, paid from the tree's budget."""

from __future__ import annotations

import json
import time

from dspy.utils.exceptions import LMError

from fleet_rlm.errors import FleetError
from fleet_rlm.runtime.execution import events as ev
from fleet_rlm.runtime.execution.ids import new_id
from fleet_rlm.runtime.execution.observer import RunScope
from fleet_rlm.runtime.execution.tree import TurnTree
from fleet_rlm.runtime.models.repair import MAX_CODE_CHARS, Repair, by_rule, from_model, request
from fleet_rlm.runtime.models.wording import output_text

TOOL = "repair_syntax"
LEFT_ALONE = 3
"""A model is not asked when fewer calls than this are left: they are worth more to the run itself."""
MODEL_MENDS = 3
"""A run whose model writes broken code again and again is told so itself after this many mends by a model."""


class Mender:
    """The repairs of one run."""

    def __init__(self, tree: TurnTree, scope: RunScope) -> None:
        self._tree = tree
        self._scope = scope
        self._asked = 0

    def mend(self, code: str, fault: str) -> Repair | None:
        """The code as it may be run, or None when the model has to see its fault. Errors: TreeStopped."""
        observer, tool, began = self._tree.observer, new_id("tol"), time.perf_counter()
        arguments = json.dumps({"fault": fault[:500]}, ensure_ascii=False)
        observer.emit(
            ev.ToolStarted(id=tool, name=TOOL, arguments=observer.text(arguments), cell=self._scope.cell), self._scope
        )
        repair: Repair | None = None
        try:
            repair = by_rule(code) or self._by_model(code, fault)
            return repair
        finally:
            ended = ev.ToolFinished(
                id=tool,
                status="failed" if repair is None else "ok",
                ms=round((time.perf_counter() - began) * 1000, 1),
                result=None if repair is None else observer.text(repair.done),
            )
            observer.emit(ended, self._scope)

    def _by_model(self, code: str, fault: str) -> Repair | None:
        budget = self._tree.budget
        left = budget.snapshot().left_calls
        if len(code) > MAX_CODE_CHARS or (left is not None and left < LEFT_ALONE) or self._asked >= MODEL_MENDS:
            return None
        if budget.level(self._scope.depth) >= self._tree.limits_of(self._scope).depth:
            return None  # no sub-calls at this depth, of whatever kind
        self._asked += 1
        try:
            return from_model(code, output_text(self._tree.sub_lm(request(code, fault))))
        except (LMError, FleetError):
            return None  # its event says why; the model mends its own code then
