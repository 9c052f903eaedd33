"""A run's part of the tree's budget, and the promise of one call. All of it changes under the budget's one lock."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from fleet_rlm.errors import TreeStopped
from fleet_rlm.runtime.execution.events import Limits, Usage
from fleet_rlm.runtime.execution.spending import Account, Cost, Money, Share, least

if TYPE_CHECKING:
    from fleet_rlm.runtime.execution.budget import TreeBudget

ROOM_AHEAD = 2
"""For each call that is asked ahead so many must be free."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What is spent, promised and left in every unit. `left_*` is None where there is no limit."""

    spent: Usage
    money: Money
    reserved_calls: int
    held_calls: int
    limits: Limits
    children: int
    left_calls: int | None
    left_tokens: int | None
    left_cost_usd: float | None
    left_wall_s: float | None


class Size(msgspec.Struct, frozen=True):
    """How large a call may become. `micro_usd` None: price unknown. `answer`: bound on the tokens of its answer."""

    tokens: int = 0
    micro_usd: int | None = None
    answer: int | None = None


@dataclass(slots=True)
class Lease:
    """What one run and everything below it use; `held`: one call is held back for its last word. `ahead`: so many calls
    are under way that its code has not asked for yet."""

    tree: TreeBudget
    account: Account
    depth: int
    held: bool
    ahead: int = 0
    opened: float = field(default_factory=time.monotonic)

    def child(self, share: Share | None = None) -> Lease:
        """Open a lease for a child run, with limits of its own where `share` says so.

        Errors: LimitReached when depth, children, calls or time do not allow one more; TreeStopped when all is over.
        """
        return self.tree.open_child(self, share)

    def reserve(
        self,
        *,
        tokens: int = 0,
        micro_usd: int | None = None,
        final: bool = False,
        sizes: Sequence[Size] = (),
        with_it: int = 0,
        stop: Future[TreeStopped] | None = None,
        ahead: bool = False,
    ) -> Reservation:
        """Reserve one call and at most `tokens` tokens before it is sent; `sizes`: the largest of these that fits.

        `final=True` uses the call that this run held back. `with_it`: so many are reserved for the same request.
        `ahead`: the run's code has not come so far; then nobody waits or is asked, and a limit that refuses it, or is
        near, is not met: the code meets it when and if it comes there.
        Errors: TreeStopped("limit", unit) when a limit is reached (nothing was spent), TreeStopped("cancelled"), also
        of the run alone whose `stop` it is.
        """
        sizes = sizes or (Size(tokens, micro_usd),)
        return self.tree.admit(self, sizes, final=final, with_it=with_it, stop=stop, ahead=ahead)

    @property
    def room_ahead(self) -> bool:
        """Whether its limits are far enough to ask one more ahead: its code is to come as far as it would have."""
        free = least(each.free_calls for each in self.account.line())
        return free is None or free >= ROOM_AHEAD * (self.ahead + 1)

    def close(self) -> None:
        """Give back what was held for this run's final answer. Idempotent."""
        self.tree.release_hold(self)

    def usage(self) -> Usage:
        """What this run and everything below it used."""
        return self.account.spent.usage(time.monotonic() - self.opened)

    def left(self) -> Snapshot:
        """What this run may still use: the least of its own limits and those above."""
        return self.tree.look(self)


@dataclass(slots=True)
class Reservation:
    """A promise for one call. Settle it with what was used, or refund it when nothing was sent. Once only."""

    tree: TreeBudget
    lease: Lease
    size: Size
    micro_usd: int
    ahead: bool = False
    done: bool = False

    def __post_init__(self) -> None:
        self.lease.ahead += self.ahead

    def end(self) -> None:
        """It is promised no more (the budget's lock is held)."""
        self.done = True
        self.lease.ahead -= self.ahead

    def settle(self, cost: Cost) -> None:
        """The call was made and used `cost`."""
        self.tree.account(self, cost)

    def again(self, cost: Cost) -> bool:
        """One try failed and counts as a call; keep what is reserved for another. False: there is not enough left.

        Where its cost is unknown, what it was promised counts on beside what is promised for the next.
        """
        return self.tree.take_again(self, cost)

    def refund(self) -> None:
        """The call was never made."""
        self.tree.give_back(self)


def again(reason: TreeStopped) -> TreeStopped:
    """The same to raise once more: each thread that it ends has a traceback of its own."""
    return TreeStopped(reason.reason, reason.limit)
