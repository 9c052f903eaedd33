"""Who gets the next free place: fair between turns, urgent before the rest, fair between the branches of a tree.

A waiter says where it stands: its turn, its urgency (0 first) and the path of runs from the root down to the one that
asks. Turns come first, so that a busy turn cannot keep another's root call waiting. Inside a turn the urgent go first:
what a whole tree waits for is worth more than one of a thousand sub-calls. Then the tree is descended, at every node
into the branch that has least in flight, so that a run with a thousand calls and one with five get the same share.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

URGENCIES = 3


class Waiting(Protocol):
    """What the queue must know of a waiter."""

    @property
    def turn(self) -> str: ...
    @property
    def urgency(self) -> int: ...
    @property
    def path(self) -> tuple[str, ...]: ...


W = TypeVar("W", bound=Waiting)


@dataclass(slots=True)
class _Node(Generic[W]):
    """A branch: who waits in it, and how much of it is in flight."""

    waiting: int = 0
    in_flight: int = 0
    served: int = 0
    own: deque[W] = field(default_factory=deque[W])
    own_in_flight: int = 0
    own_served: int = 0
    below: dict[str, _Node[W]] = field(default_factory=dict[str, "_Node[W]"])


class FairQueue(Generic[W]):
    """Not thread-safe: its owner has a lock. `pop` and `started` count a place as in flight, `ended` frees it."""

    def __init__(self) -> None:
        self._turns: dict[str, list[_Node[W]]] = {}
        self._flying: dict[W, list[_Node[W]]] = {}  # in flight, with its nodes
        self._tick = 0
        self.waiting = 0

    def push(self, waiter: W) -> None:
        """Wait at the end of one's own branch."""
        nodes = self._nodes(waiter)
        for node in nodes:
            node.waiting += 1
        nodes[-1].own.append(waiter)
        self.waiting += 1

    def remove(self, waiter: W) -> None:
        """Stop waiting. Only for one that waits."""
        nodes = self._nodes(waiter)
        nodes[-1].own.remove(waiter)
        for node in nodes:
            node.waiting -= 1
        self.waiting -= 1
        self._forget(waiter, nodes)

    def pop(self) -> W | None:
        """The next in order, now in flight; None when nobody waits."""
        if not self.waiting:
            return None
        roots = min((t for t in self._turns.values() if _waiting(t)), key=_share)
        node = next(root for root in roots if root.waiting)
        while True:
            branches = [child for child in node.below.values() if child.waiting]
            best = min(branches, key=lambda child: (child.in_flight, child.served)) if branches else None
            if best is None or (node.own and (node.own_in_flight, node.own_served) <= (best.in_flight, best.served)):
                break
            node = best
        waiter = node.own[0]
        node.own.popleft()
        for each in self._nodes(waiter):
            each.waiting -= 1
        self.waiting -= 1
        self.started(waiter)
        return waiter

    def started(self, waiter: W) -> None:
        """In flight without having waited."""
        self._tick += 1
        nodes = self._nodes(waiter)
        for node in nodes:
            node.in_flight += 1
            node.served = self._tick
        nodes[-1].own_in_flight += 1
        nodes[-1].own_served = self._tick
        self._flying[waiter] = nodes

    def ended(self, waiter: W) -> None:
        """No longer in flight."""
        nodes = self._flying.pop(waiter)
        nodes[-1].own_in_flight -= 1
        for node in nodes:
            node.in_flight -= 1
        self._forget(waiter, nodes)

    def _nodes(self, waiter: W) -> list[_Node[W]]:
        """The nodes from the turn's root of this urgency down to the waiter's own; made where they are missing."""
        roots = self._turns.get(waiter.turn)
        if roots is None:
            roots = self._turns[waiter.turn] = [_Node() for _ in range(URGENCIES)]
        node = roots[waiter.urgency]
        nodes = [node]
        for step in waiter.path:
            below = node.below.get(step)
            if below is None:
                below = node.below[step] = _Node()
            node = below
            nodes.append(node)
        return nodes

    def _forget(self, waiter: W, nodes: list[_Node[W]]) -> None:
        """Drop the branches in which nothing is left."""
        if nodes[-1].waiting or nodes[-1].in_flight:
            return
        for above, step, node in zip(nodes[-2::-1], reversed(waiter.path), nodes[:0:-1], strict=True):
            if node.waiting or node.in_flight:
                return
            del above.below[step]
        if all(not root.waiting and not root.in_flight for root in self._turns[waiter.turn]):
            del self._turns[waiter.turn]


def _waiting(roots: list[_Node[W]]) -> bool:
    return any(root.waiting for root in roots)


def _share(roots: list[_Node[W]]) -> tuple[int, int]:
    return sum(root.in_flight for root in roots), max(root.served for root in roots)
