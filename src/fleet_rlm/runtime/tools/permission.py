"""What the agent must be allowed before it does it. The policy of the turn says so, unless a caller brings another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from fleet_rlm.runtime.execution.tree import TurnTree


class Permission(Protocol):
    """Who says whether the agent may. Errors: Denied when it may not, TreeStopped when the run is stopped."""

    def host(self, host: str, addresses: Sequence[str]) -> None:
        """May a page of this host be fetched? Put again when its addresses are known."""
        ...

    def tool(self, name: str, detail: str) -> None:
        """May this tool be called, which is never used unasked? `detail`: its arguments, for the person to read."""
        ...


class ThePolicy:
    """The gate of the turn (policy.py), which may ask a person."""

    def __init__(self, tree: TurnTree) -> None:
        self._gate = tree.gate

    def host(self, host: str, addresses: Sequence[str]) -> None:
        self._gate.host(host, addresses)

    def tool(self, name: str, detail: str) -> None:
        self._gate.tool(name, detail, ask=True)
