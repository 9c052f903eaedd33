"""What the agent must be allowed by a person before it does it: hosts of the web, tools of other programs.

One answer holds for the rest of the turn. Without an answer in time the thing is not done.
"""

from __future__ import annotations

import threading
from typing import Final, Protocol

from fleet_rlm.errors import InvalidInput
from fleet_rlm.runtime.execution import events as ev
from fleet_rlm.runtime.execution.observer import SCOPE
from fleet_rlm.runtime.execution.tree import TurnTree

ASK_S: Final = 300.0
ALLOW: Final = "allow"
REFUSE: Final = "refuse"


class Permission(Protocol):
    """Who says whether the agent may. Each raises InvalidInput when it may not, TreeStopped when the run is stopped."""

    def host(self, host: str) -> None:
        """May a page of this host be fetched?"""
        ...

    def tool(self, name: str, detail: str) -> None:
        """May this tool be called? `detail`: its arguments, for the person to read."""
        ...


class AskThePerson:
    """Asks once for each host and each tool of the turn."""

    def __init__(self, tree: TurnTree, *, seconds: float = ASK_S) -> None:
        self._tree = tree
        self._seconds = seconds
        self._answers: dict[tuple[str, str], bool] = {}
        self._one_at_a_time = threading.Lock()

    def host(self, host: str) -> None:
        self._ask("host", host, f"May the agent open pages of {host}?", None)

    def tool(self, name: str, detail: str) -> None:
        self._ask("tool", name, f"May the agent use the tool {name} in this turn?", detail)

    def _ask(self, kind: ev.ApprovalKind, what: str, question: str, detail: str | None) -> None:
        with self._one_at_a_time:  # calls of one step run side by side, and the same question is asked once
            allowed = self._answers.get((kind, what))
            if allowed is None:
                answer = self._tree.approvals.ask(
                    SCOPE.get(),
                    kind=kind,
                    question=question,
                    choices=(ALLOW, REFUSE),
                    detail=detail,
                    seconds=self._seconds,
                    otherwise=REFUSE,
                )
                allowed = self._answers[kind, what] = answer == ALLOW
        if not allowed:
            raise InvalidInput(f"the person did not allow {what}", hint="answer without it")
