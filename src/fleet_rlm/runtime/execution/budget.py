"""One budget over the whole tree of a turn.

Nothing is spent that was not reserved first. Every run of the tree opens a `Lease`; every language-model call takes a
`Reservation` from its run's lease and settles it with what it really used. Under any parallelism
`spent + reserved + held back <= limit` holds for calls and tokens, because all of it changes under one lock.

**Held back.** While a call limit is set, each open run holds one call back for its final answer, so that a run that
reaches the limit can still say what it found. A child is opened only when at least two calls are free: one to work
with and one to hold. Of the wall time, `HELD_BACK_FRACTION` (at most `HELD_BACK_S`) is kept for final answers: after
the soft deadline only those are admitted, at the hard deadline the tree is stopped.

**Money.** A price may be unknown; then cost is unknown, never zero, and a cost limit admits one call at a time until
the first cost is seen, after which the largest cost seen so far is reserved for each call.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Generator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field

from fleet_rlm.errors import TreeStopped
from fleet_rlm.runtime.execution.events import Limits, Unit, Usage

HELD_BACK_FRACTION = 0.1
HELD_BACK_S = 5.0
WARN_AT = (0.7, 0.9)


class LimitReached(Exception):
    """A child run cannot be opened: `unit` is used up. Its parent goes on and gets a failure value."""

    def __init__(self, unit: Unit, message: str) -> None:
        super().__init__(message)
        self.unit: Unit = unit


@dataclass(frozen=True, slots=True)
class Cost:
    """What one call used. Units: tokens (`cached_tokens` of the prompt); micro-dollars (None = price unknown)."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    micro_usd: int | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What is spent, promised and left in every unit. `left_*` is None where there is no limit."""

    spent: Usage
    reserved_calls: int
    held_calls: int
    limits: Limits
    children: int
    left_calls: int | None
    left_tokens: int | None
    left_cost_usd: float | None
    left_wall_s: float | None


@dataclass(slots=True)
class _Spent:
    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    micro_usd: int = 0
    unpriced: int = 0

    def add(self, cost: Cost) -> None:
        self.calls += 1
        self.prompt_tokens += cost.prompt_tokens
        self.completion_tokens += cost.completion_tokens
        self.cached_tokens += cost.cached_tokens
        if cost.micro_usd is None:
            self.unpriced += 1
        else:
            self.micro_usd += cost.micro_usd

    def usage(self, wall_s: float) -> Usage:
        known = self.unpriced == 0
        return Usage(
            calls=self.calls,
            prompt_tokens=self.prompt_tokens,
            completion_tokens=self.completion_tokens,
            cached_tokens=self.cached_tokens,
            cost_usd=self.micro_usd / 1e6 if known else None,
            wall_s=round(wall_s, 3),
        )


class TreeBudget:
    """The limits of a turn and what its whole tree has used. Thread-safe.

    `root_is_agent`: the root run is the chat agent, which is no level of the recursion.
    `stopped` is resolved once, with the TreeStopped that ends the tree; waits race against it.
    `on_warn(unit, fraction)` and `on_exhausted(unit)` are called at most once per unit and threshold, outside the lock.
    """

    def __init__(
        self,
        limits: Limits,
        *,
        root_is_agent: bool = False,
        clock: Callable[[], float] = time.monotonic,
        on_warn: Callable[[Unit, float], None] | None = None,
        on_exhausted: Callable[[Unit], None] | None = None,
    ) -> None:
        self.limits = limits
        self._first_level = 1 if root_is_agent else 0
        self.stopped: Future[TreeStopped] = Future()
        self._clock = clock
        self._started = clock()
        self._on_warn = on_warn
        self._on_exhausted = on_exhausted
        self._changed = threading.Condition()
        self._spent = _Spent()
        self._in_flight = 0
        self._reserved_tokens = 0
        self._reserved_micro = 0
        self._held = 0
        self._largest_micro: int | None = None
        self._children = 0
        self._warned: set[tuple[Unit, float]] = set()
        self._exhausted: dict[Unit, None] = {}
        self._timer: threading.Timer | None = None
        self._pauses = 0
        self._paused_at = 0.0
        self._paused_s = 0.0
        self._ticking = False

    # -- life ---------------------------------------------------------------------------------------------------

    def start_clock(self) -> None:
        """Begin to count wall time; at the hard deadline the tree is stopped from a timer thread."""
        with self._changed:
            self._started = self._clock()
            self._paused_s = 0.0
            self._ticking = True
            self._set_timer()

    @contextmanager
    def paused(self) -> Generator[None]:
        """Wall time stands still inside: a person is waited for. Several may wait at once."""
        with self._changed:
            self._pauses += 1
            if self._pauses == 1:
                self._paused_at = self._clock()
                self._set_timer()
        try:
            yield
        finally:
            with self._changed:
                self._pauses -= 1
                if self._pauses == 0:
                    self._paused_s += self._clock() - self._paused_at
                    self._set_timer()

    def _elapsed(self) -> float:
        """Wall seconds that count (caller holds the lock, or reads a moment's value)."""
        now = self._paused_at if self._pauses else self._clock()
        return now - self._started - self._paused_s

    def _set_timer(self) -> None:
        """One timer towards the hard deadline, none while the clock stands still (caller holds the lock)."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.limits.wall_s is not None and not self._pauses and self._ticking:
            self._timer = threading.Timer(max(0.0, self.limits.wall_s - self._elapsed()), self._hard_deadline)
            self._timer.daemon = True
            self._timer.start()

    def close(self) -> None:
        """Forget the deadline timer."""
        with self._changed:
            self._ticking = False
            self._set_timer()

    def stop(self, reason: TreeStopped) -> None:
        """End the tree: every later reservation and every wait raises `reason`. The first reason stays."""
        with self._changed:
            if not self.stopped.done():
                self.stopped.set_result(reason)
            self._changed.notify_all()

    def check(self) -> None:
        """Raise TreeStopped when the tree is over."""
        if self.stopped.done():
            reason = self.stopped.result()
            raise TreeStopped(reason.reason, reason.limit)

    def root(self) -> Lease:
        """The lease of the root run."""
        return self.open_lease(depth=0, parent=None)

    def level(self, depth: int) -> int:
        """The recursion level of an RLM run at tree depth `depth`: 0 for the first RLM; the agent has none.

        With a depth limit D (the paper's convention) a run at level L may open RLM children while L + 1 < D and make
        plain sub-calls while L < D.
        """
        return depth - self._first_level

    @property
    def deepest_level(self) -> int:
        """The deepest level of the recursion that can have a sandbox: each level above it, the agent's own included,
        may hold one that waits."""
        return max(0, min(self.limits.depth - 1, self.limits.sandboxes - 1 - self._first_level))

    @property
    def exhausted(self) -> Unit | None:
        """The first limit that was reached anywhere in the tree."""
        with self._changed:
            return next(iter(self._exhausted), None)

    def usage(self) -> Usage:
        """What the whole tree has spent."""
        with self._changed:
            return self._spent.usage(self._elapsed())

    def snapshot(self) -> Snapshot:
        """All counters at one moment."""
        with self._changed:
            wall = self._elapsed()
            lim, used = self.limits, self._spent
            tokens = used.prompt_tokens + used.completion_tokens + self._reserved_tokens
            return Snapshot(
                spent=used.usage(wall),
                reserved_calls=self._in_flight,
                held_calls=self._held,
                limits=lim,
                children=self._children,
                left_calls=self._free_calls(),
                left_tokens=None if lim.tokens is None else max(0, lim.tokens - tokens),
                left_cost_usd=None
                if lim.cost_usd is None
                else max(0.0, lim.cost_usd - (used.micro_usd + self._reserved_micro) / 1e6),
                left_wall_s=None if lim.wall_s is None else max(0.0, lim.wall_s - wall),
            )

    def note_exhausted(self, unit: Unit) -> None:
        """Record that a limit was reached (also by those who keep limits of their own, such as iterations)."""
        with self._changed:
            new = unit not in self._exhausted
            self._exhausted[unit] = None
        if new and self._on_exhausted is not None:
            self._on_exhausted(unit)

    # -- inside ---------------------------------------------------------------------------------------------------

    def _hard_deadline(self) -> None:
        with self._changed:
            if self._pauses or not self._ticking:  # it fired while a pause began; the end of the pause sets another
                return
        self.note_exhausted("wall")
        self.stop(TreeStopped("limit", "wall"))

    def _free_calls(self) -> int | None:
        if self.limits.calls is None:
            return None
        return self.limits.calls - self._spent.calls - self._in_flight - self._held

    def open_lease(self, *, depth: int, parent: Lease | None) -> Lease:
        """A lease at `depth`; the root's has no parent. Used by Lease.child, with its errors."""
        lim = self.limits
        with self._changed:
            if parent is not None:
                if self.level(depth) > max(lim.depth - 1, 0):
                    raise LimitReached("depth", f"the depth limit of {lim.depth} is reached")
                if self.level(depth) > self.deepest_level:
                    raise LimitReached(
                        "sandboxes", f"the limit of {lim.sandboxes} live sandboxes leaves none for this depth"
                    )
                if lim.children is not None and self._children >= lim.children:
                    raise LimitReached("children", f"the limit of {lim.children} child runs is reached")
                free = self._free_calls()
                if free is not None and free < 2:
                    raise LimitReached("calls", f"the limit of {lim.calls} calls is reached")
                if self._past_soft_deadline():
                    raise LimitReached("wall", f"the time limit of {lim.wall_s:g} s is reached")
                self._children += 1
            held = lim.calls is not None and self._free_calls() != 0
            if held:
                self._held += 1
        return Lease(self, depth=depth, held=held)

    def _past_soft_deadline(self) -> bool:
        wall = self.limits.wall_s
        if wall is None:
            return False
        return self._elapsed() >= wall - min(HELD_BACK_S, wall * HELD_BACK_FRACTION)

    def _full(self, *, tokens: int, micro: int, final: bool) -> Unit | None:
        """The unit that refuses this call now, or None."""
        lim, used = self.limits, self._spent
        free = self._free_calls()
        if free is not None and free < 1:
            return "calls"
        all_tokens = used.prompt_tokens + used.completion_tokens + self._reserved_tokens + tokens
        if lim.tokens is not None and all_tokens > lim.tokens:
            return "tokens"
        all_micro = used.micro_usd + self._reserved_micro + micro
        if lim.cost_usd is not None and all_micro > math.floor(lim.cost_usd * 1e6):
            return "cost"
        if not final and self._past_soft_deadline():
            return "wall"
        return None

    def _await_price(self) -> None:
        """With a cost limit and no cost seen yet, one call at a time goes ahead (caller holds the lock)."""
        while (
            self.limits.cost_usd is not None
            and self._largest_micro is None
            and self._in_flight > 0
            and not self.stopped.done()
        ):
            self._changed.wait()

    def admit(self, lease: Lease, *, tokens: int, micro_usd: int | None, final: bool) -> Reservation:
        """Reserve one call for the lease. Used by Lease.reserve, with its errors."""
        self.check()
        with self._changed:
            if micro_usd is None:
                self._await_price()
            micro = micro_usd if micro_usd is not None else (self._largest_micro or 0)
            if final and lease.held:  # the held-back call becomes free for this one reservation
                lease.held = False
                self._held -= 1
            unit = self._full(tokens=tokens, micro=micro, final=final)
            if unit is None:
                self._in_flight += 1
                self._reserved_tokens += tokens
                self._reserved_micro += micro
        self.check()
        if unit is not None:
            self.note_exhausted(unit)
            raise TreeStopped("limit", unit)
        return Reservation(self, lease, tokens, micro)

    def release_hold(self, lease: Lease) -> None:
        """Free the call that the lease holds back. Used by Lease.close."""
        with self._changed:
            if lease.held:
                lease.held = False
                self._held -= 1
                self._changed.notify_all()

    def account(self, reservation: Reservation, cost: Cost) -> None:
        """Turn a reservation into spending. Used by Reservation.settle."""
        with self._changed:
            self._in_flight -= 1
            self._reserved_tokens -= reservation.tokens
            self._reserved_micro -= reservation.micro_usd
            self._spent.add(cost)
            reservation.lease.spent.add(cost)
            if cost.micro_usd is not None:
                self._largest_micro = max(self._largest_micro or 0, cost.micro_usd)
            warnings = self._new_warnings()
            self._changed.notify_all()
        if self._on_warn is not None:
            for unit, fraction in warnings:
                self._on_warn(unit, fraction)

    def take_again(self, reservation: Reservation) -> bool:
        """Count the try that failed, and keep the reservation for another. Used by Reservation.again."""
        with self._changed:
            free = self._free_calls()
            if (free is not None and free < 1) or self._past_soft_deadline():
                return False
            self._spent.add(Cost(micro_usd=0))
            reservation.lease.spent.add(Cost(micro_usd=0))
            return True

    def give_back(self, reservation: Reservation) -> None:
        """Free a reservation. Used by Reservation.refund."""
        with self._changed:
            self._in_flight -= 1
            self._reserved_tokens -= reservation.tokens
            self._reserved_micro -= reservation.micro_usd
            self._changed.notify_all()

    def _new_warnings(self) -> list[tuple[Unit, float]]:
        lim, used = self.limits, self._spent
        shares: list[tuple[Unit, float]] = []
        if lim.calls:
            shares.append(("calls", used.calls / lim.calls))
        if lim.tokens:
            shares.append(("tokens", (used.prompt_tokens + used.completion_tokens) / lim.tokens))
        if lim.cost_usd:
            shares.append(("cost", used.micro_usd / 1e6 / lim.cost_usd))
        if lim.wall_s:
            shares.append(("wall", (self._elapsed()) / lim.wall_s))
        new: list[tuple[Unit, float]] = [
            (unit, mark)
            for unit, share in shares
            for mark in WARN_AT
            if share >= mark and (unit, mark) not in self._warned
        ]
        self._warned.update(new)
        return new


@dataclass(slots=True)
class Lease:
    """One run's part of the tree's budget. `spent` is what this run itself used; `total()` adds its children."""

    tree: TreeBudget
    depth: int
    held: bool
    spent: _Spent = field(default_factory=_Spent)
    children: list[Lease] = field(default_factory=list["Lease"])
    opened: float = field(default_factory=time.monotonic)

    def child(self) -> Lease:
        """Open a lease for a child run.

        Errors: LimitReached when depth, children, calls or time do not allow one more; TreeStopped when all is over.
        """
        self.tree.check()
        lease = self.tree.open_lease(depth=self.depth + 1, parent=self)
        self.children.append(lease)
        return lease

    def reserve(self, *, tokens: int = 0, micro_usd: int | None = None, final: bool = False) -> Reservation:
        """Reserve one call and at most `tokens` tokens before it is sent.

        `final=True` uses the call that this run held back. Errors: TreeStopped("limit", unit) when a limit is reached
        (nothing was spent), TreeStopped("cancelled").
        """
        return self.tree.admit(self, tokens=tokens, micro_usd=micro_usd, final=final)

    def close(self) -> None:
        """Give back what was held for this run's final answer. Idempotent."""
        self.tree.release_hold(self)

    def usage(self) -> Usage:
        """What this run and everything below it used."""
        total = _Spent()
        stack: list[Lease] = [self]
        while stack:
            lease = stack.pop()
            total.calls += lease.spent.calls
            total.prompt_tokens += lease.spent.prompt_tokens
            total.completion_tokens += lease.spent.completion_tokens
            total.cached_tokens += lease.spent.cached_tokens
            total.micro_usd += lease.spent.micro_usd
            total.unpriced += lease.spent.unpriced
            stack.extend(lease.children)
        return total.usage(time.monotonic() - self.opened)


@dataclass(slots=True)
class Reservation:
    """A promise for one call. Settle it with what was used, or refund it when nothing was sent. Once only."""

    tree: TreeBudget
    lease: Lease
    tokens: int
    micro_usd: int
    done: bool = False

    def settle(self, cost: Cost) -> None:
        """The call was made and used `cost`."""
        if not self.done:
            self.done = True
            self.tree.account(self, cost)

    def again(self) -> bool:
        """One try was made in vain and counts as a call; keep what is reserved for another. False: none is left."""
        return not self.done and self.tree.take_again(self)

    def refund(self) -> None:
        """The call was never made."""
        if not self.done:
            self.done = True
            self.tree.give_back(self)
