"""One budget over the whole tree of a turn.

Nothing is spent that was not reserved first. Every run of the tree opens a `Lease`; every language-model call takes a
`Reservation` from its run's lease and settles it with what it really used. Under any parallelism
`spent + reserved + held back <= limit` holds for calls and tokens, because all of it changes under one lock. A promise
is the worst case: where tokens or money refuse a call only because of what is promised, it waits for that to be spent.

**Held back.** While a call limit is set, each open run holds one call back for its final answer, so that a run that
reaches the limit can still say what it found. Only of a limit of one call none is held: there would be nothing to say.
A child is opened only when at least two calls are free: one to work with and one to hold. Of the wall time,
`HELD_BACK_FRACTION` (at most `HELD_BACK_S`) is kept for final answers: after the soft deadline only those are
admitted, at the hard deadline the tree is stopped.

**Money.** A price may be unknown; then cost is unknown, never zero, and a cost limit admits one call at a time until
the first cost of such a call is seen, after which each is promised by the dearest seen so far (`spending.Seen`).

**Shares.** A child's lease may have limits of its own (`Share`), which hold for it and everything below it, inside
those of its parent. When they are reached it is that child that ends with a partial answer, not the tree.

**At a limit of the tree** `on_limit` may be asked before a call is refused: it blocks, and says whether to look again.
`set_limits` changes the limits at any moment; who waits for more goes on at once.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from weakref import WeakSet

from fleet_rlm.errors import TreeStopped
from fleet_rlm.runtime.execution.events import Limits, Unit, Usage
from fleet_rlm.runtime.execution.leases import Lease, Reservation, Size, Snapshot, again
from fleet_rlm.runtime.execution.marks import LIMIT_NAMES, LONGEST_WAIT_S, Marks
from fleet_rlm.runtime.execution.spending import Account, Cost, LimitReached, Seen, Share, least

HELD_BACK_FRACTION = 0.1
HELD_BACK_S = 5.0
SHORTEST_WAIT_S = 0.05
"""Time may stand still just before the soft deadline."""
ROOM_FOR_OTHERS = 4
"""A call whose answer could be shortened is promised at most one part in so many of what is left."""


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
        self._all = Account(limits=Share.of(limits))
        self.on_limit: Callable[[Unit, Limits], bool] | None = None
        self._first_level = 1 if root_is_agent else 0
        self.stopped: Future[TreeStopped] = Future()
        self._clock = clock
        self._started = clock()
        self.before_call: Callable[[bool], None] | None = None
        """Asked before each call but a final one, in the thread that wants to make it; it may wait, and raise.
        True: its code has not come so far."""
        self.asks_from: int | None = None  # micro-dollars from which on `before_call` asks a person
        self._on_warn = on_warn
        self._on_exhausted = on_exhausted
        self._lock = threading.RLock()  # a stop that is set already is heard of at once, with the lock held
        self._changed = threading.Condition(self._lock)
        self._heard_of: WeakSet[Future[TreeStopped]] = WeakSet()
        self._seen = Seen()
        self._children = 0
        self._marks = Marks(limits, self._amount)
        self._exhausted: dict[Unit, None] = {}
        self._told: set[Unit] = set()
        self._timer: threading.Timer | None = None
        self._pauses = 0
        self._paused_at = self._paused_s = 0.0
        self._ticking = False

    # -- life ---------------------------------------------------------------------------------------------------

    def start_clock(self) -> None:
        """Begin to count wall time; at the hard deadline the tree is stopped from a timer thread."""
        with self._lock:
            self._started = self._clock()
            self._paused_s = 0.0
            self._ticking = True
            self._set_timer()

    @contextmanager
    def paused(self) -> Generator[None]:
        """Wall time stands still inside: a person is waited for. Several may wait at once."""
        with self._lock:
            self._pauses += 1
            if self._pauses == 1:
                self._paused_at = self._clock()
                self._set_timer()
        try:
            yield
        finally:
            with self._lock:
                self._pauses -= 1
                if self._pauses == 0:
                    self._paused_s += self._clock() - self._paused_at
                    self._set_timer()

    def _elapsed(self) -> float:
        """Wall seconds that count (caller holds the lock, or reads a moment's value)."""
        now = self._paused_at if self._pauses else self._clock()
        return now - self._started - self._paused_s

    def _set_timer(self) -> None:
        """One timer towards the next mark or the hard deadline; none while the clock stands still (with the lock)."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.limits.wall_s is not None and not self._pauses and self._ticking:
            self._timer = threading.Timer(self._marks.next_look(self.limits.wall_s), self._tick)
            self._timer.daemon = True
            self._timer.start()

    def _tick(self) -> None:
        """A mark of the wall time, its end, or a part of the way there."""
        with self._lock:
            if self._pauses or not self._ticking:  # it fired while a pause began; the end of the pause sets another
                return
            wall = self.limits.wall_s
            over = wall is not None and self._elapsed() >= wall
            warnings = self._marks.passed_now()
            if not over:
                self._set_timer()
        self._warn(warnings)
        if over:
            self.note_exhausted("wall")
            self.stop(TreeStopped("limit", "wall"))

    def close(self) -> None:
        """Forget the deadline timer."""
        with self._lock:
            self._ticking = False
            self._set_timer()

    def stop(self, reason: TreeStopped) -> None:
        """End the tree: every later reservation and every wait raises `reason`. The first reason stays."""
        with self._lock:
            if not self.stopped.done():
                self.stopped.set_result(reason)
            self._changed.notify_all()

    def check(self) -> None:
        """Raise TreeStopped when the tree is over."""
        if self.stopped.done():
            raise again(self.stopped.result())

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
        """The deepest level that can have a sandbox: each above it, the agent's too, may hold one that waits."""
        return self.deepest_under(self.limits)

    def deepest_under(self, limits: Limits) -> int:
        """The same under other limits."""
        return max(0, min(limits.depth - 1, self.deepest_chain(limits)))

    def deepest_chain(self, limits: Limits) -> int:
        """The deepest level whose sandbox and those of all the levels above it fit the limit of sandboxes."""
        return limits.sandboxes - 1 - self._first_level

    @property
    def exhausted(self) -> Unit | None:
        """The first limit that was reached anywhere in the tree."""
        with self._lock:
            return next(iter(self._exhausted), None)

    def usage(self) -> Usage:
        """What the whole tree has spent."""
        with self._lock:
            return self._all.spent.usage(self._elapsed())

    def snapshot(self) -> Snapshot:
        """All counters at one moment."""
        with self._lock:
            return self._look(self._all)

    def look(self, lease: Lease) -> Snapshot:
        """As `snapshot`, with what is left for one run. Used by Lease.left."""
        with self._lock:
            return self._look(lease.account)

    def _look(self, account: Account) -> Snapshot:
        """Counters of the tree; what is left is the least of the account and all above it."""
        wall, lim = self._elapsed(), self.limits
        line = list(account.line())
        micro = least(each.left_micro for each in line)
        return Snapshot(
            spent=self._all.spent.usage(wall),
            money=self._all.money(),
            reserved_calls=self._all.in_flight,
            held_calls=self._all.held if lim.calls is not None else 0,
            limits=lim,
            children=self._children,
            left_calls=least(each.free_calls for each in line),
            left_tokens=least(each.left_tokens for each in line),
            left_cost_usd=None if micro is None else micro / 1e6,
            left_wall_s=None if lim.wall_s is None else max(0.0, lim.wall_s - wall),
        )

    def note_exhausted(self, unit: Unit) -> None:
        """Record that a limit was reached (also by those who keep limits of their own, such as iterations)."""
        with self._lock:
            new = unit not in self._told
            self._told.add(unit)
            self._exhausted[unit] = None
        if new and self._on_exhausted is not None:
            self._on_exhausted(unit)

    def set_limits(self, limits: Limits, *, again: bool = False) -> None:
        """Other limits from now on; timers follow, and who waits for more goes on at once.

        Errors: InvalidInput when one lies below what is spent or promised already; then nothing changes. `again`: a
        journal says that they held here, and nothing is asked.
        """
        with self._lock:
            if not again:
                self._all.check_room(limits, elapsed_s=self._elapsed(), children=self._children)
            before, self.limits = self.limits, limits
            self._all.limits = Share.of(limits)
            changed = {unit for unit, name in LIMIT_NAMES.items() if getattr(before, name) != getattr(limits, name)}
            self._told -= changed
            self._marks.move(limits)
            self._set_timer()
            self._changed.notify_all()

    # -- inside ---------------------------------------------------------------------------------------------------

    def open_child(self, parent: Lease, share: Share | None) -> Lease:
        """Used by Lease.child, with its errors. At a limit of the tree that may grow, it asks first."""
        while True:
            self.check()
            seen = self.limits
            try:
                return self.open_lease(depth=parent.depth + 1, parent=parent, share=share)
            except LimitReached as refused:
                grows = not refused.own and refused.unit in LIMIT_NAMES
                if not grows or self.on_limit is None or not self.on_limit(refused.unit, seen):
                    raise

    def carry(self, paid: Iterable[Cost]) -> None:
        """Count what earlier turns spent for this one, before anything runs."""
        with self._lock:
            for cost in paid:
                self._all.spent.add(cost)

    def count_children(self, opened: int) -> None:
        """So many child runs were opened in an earlier turn, below a run that is not worked off again."""
        with self._lock:
            self._children += opened
            warnings = self._marks.passed_now()
        self._warn(warnings)

    def credit(self, lease: Lease, cost: Cost, *, calls: int = 1, counted: bool) -> None:
        """Charge a run with calls whose answers came from a journal; `counted`: `carry` counted them for the tree."""
        with self._lock:
            for account in lease.account.line():
                if account is not self._all or not counted:
                    account.spent.add(cost, calls=calls)
            warnings = self._marks.passed_now()
        self._warn(warnings)

    def open_lease(self, *, depth: int, parent: Lease | None, share: Share | None = None, again: bool = False) -> Lease:
        """A lease at `depth`; the root's has no parent. Used by Lease.child, with its errors."""
        with self._lock:
            if parent is not None:
                if not again:  # else a journal has it open already: no limit is asked
                    self._check_child(depth, parent.account)
                self._children += 1
            account = Account(above=self._all if parent is None else parent.account, limits=share or Share())
            free = least(each.free_calls for each in account.line())
            only = parent is None and free == 1 and not self._all.spent.calls  # there is nothing to sum up yet
            held = (free is None or free > 0) and not only  # below 0 after calls of a journal
            if held:
                account.hold(1)
            warnings = self._marks.passed_now()
        self._warn(warnings)
        return Lease(self, account, depth=depth, held=held)

    def _check_child(self, depth: int, account: Account) -> None:
        """Whether one more child may be opened below the run of `account` (caller holds the lock)."""
        lim = self.limits
        if self.level(depth) > max(lim.depth - 1, 0):
            raise LimitReached("depth", f"the depth limit of {lim.depth} is reached")
        if self.level(depth) > self.deepest_level:
            raise LimitReached("sandboxes", f"the limit of {lim.sandboxes} live sandboxes leaves none for this depth")
        if lim.children is not None and self._children >= lim.children:
            raise LimitReached("children", f"the limit of {lim.children} child runs is reached")
        for each in account.line():
            if each.free_calls is not None and each.free_calls < 2:
                own = each is not self._all
                raise LimitReached("calls", f"the limit of {each.limits.calls} calls is reached", own=own)
        if self._past_soft_deadline():
            raise LimitReached("wall", f"the time limit of {lim.wall_s:g} s is reached")

    def _until_soft_deadline(self) -> float | None:
        wall = self.limits.wall_s
        return None if wall is None else wall - min(HELD_BACK_S, wall * HELD_BACK_FRACTION) - self._elapsed()

    def _past_soft_deadline(self) -> bool:
        left = self._until_soft_deadline()
        return left is not None and left <= 0

    def _refused_by(self, lease: Lease, size: Size, *, final: bool, ahead: bool) -> tuple[Unit, Account] | None:
        """The unit that refuses this call now and whose limit it is, or None (caller holds the lock)."""
        for account in lease.account.line():
            unit = account.refuses(size.tokens, self._micro(size))
            if unit is not None:
                return unit, account
        if ahead and not lease.room_ahead:
            return "calls", self._all
        if ahead and self.limits.cost_usd is not None and size.micro_usd is None and self._seen.largest is None:
            return "cost", self._all
        return ("wall", self._all) if not final and self._past_soft_deadline() else None

    def _micro(self, size: Size) -> int:
        return size.micro_usd if size.micro_usd is not None else self._seen.promise(size.tokens)

    def _chosen(self, lease: Lease, sizes: Sequence[Size]) -> Size:
        """The first size that leaves room for others, or the last (caller holds the lock)."""
        if len(sizes) == 1 or not any(each.limits.bounds_answers for each in lease.account.line()):
            return sizes[0]
        tokens = least(each.left_tokens for each in lease.account.line())
        micro = least(each.left_micro for each in lease.account.line())
        for size in sizes[:-1]:
            roomy = tokens is None or size.tokens * ROOM_FOR_OTHERS <= tokens
            if roomy and (micro is None or self._micro(size) * ROOM_FOR_OTHERS <= micro):
                return size
        return sizes[-1]

    def _await_price(self, sizes: Sequence[Size], with_it: int, stop: Future[TreeStopped] | None) -> None:
        """With a cost limit and no cost seen yet, one request at a time goes ahead (caller holds the lock)."""

        def free() -> bool:
            alone = self.limits.cost_usd is None or self._all.in_flight <= with_it
            over = self.stopped.done() or (stop is not None and stop.done())
            return alone or over or self._seen.largest is not None

        if any(size.micro_usd is None for size in sizes) and not free():
            self._hear_of(stop)
            self._changed.wait_for(free)

    def _await_room(self, stop: Future[TreeStopped] | None, *, final: bool) -> None:
        """Until something changes: what a call under way was promised comes back when it ends (with the lock)."""
        self._hear_of(stop)
        left = None if final else self._until_soft_deadline()
        self._changed.wait(None if left is None else min(max(left, SHORTEST_WAIT_S), LONGEST_WAIT_S))

    def _hear_of(self, stop: Future[TreeStopped] | None) -> None:
        """Wake who waits here when `stop` is set (with the lock)."""
        if stop is not None and stop not in self._heard_of:
            self._heard_of.add(stop)
            stop.add_done_callback(lambda _: self.look_again())

    def look_again(self) -> None:
        """Who waits for something looks whether it is there."""
        with self._lock:
            self._changed.notify_all()

    def admit(
        self,
        lease: Lease,
        sizes: Sequence[Size],
        *,
        final: bool,
        with_it: int = 0,
        stop: Future[TreeStopped] | None = None,
        ahead: bool = False,
    ) -> Reservation:
        """Reserve one call for the lease. Used by Lease.reserve, with its errors.

        Who waits for promises holds nothing that those under way need: with a part of what it takes (`with_it`) a
        request is refused at once.
        """
        while True:
            self.check()
            if self.before_call is not None and not final:
                self.before_call(ahead)
            with self._lock:
                self._await_price(() if ahead else sizes, with_it, stop)
                if stop is not None and stop.done():
                    raise again(stop.result())
                if final:  # the held-back call becomes free for this one reservation
                    self.release_hold(lease)
                size = self._chosen(lease, sizes)
                refused, seen = self._refused_by(lease, size, final=final, ahead=ahead), self.limits
                if refused is None and not final and not with_it and self._asked_first(stop, ahead=ahead):
                    continue
                if refused is None:
                    micro = self._micro(size)
                    lease.account.reserve(size.tokens, micro)
                    return Reservation(self, lease, size, micro, ahead)
                unit, account = refused
                if ahead:  # its loop meets this itself, when and if it comes there
                    raise TreeStopped("limit", unit)
                if not with_it and lease.account.may_fit(unit, size.tokens, self._micro(size)):
                    if final or not self._past_soft_deadline():
                        self._await_room(stop, final=final)
                        continue
                    unit, account = "wall", self._all
            self.check()
            if account is not self._all:  # its own share: its own end
                raise TreeStopped("limit", unit)
            if final or self.on_limit is None or not self.on_limit(unit, seen):
                self.note_exhausted(unit)
                raise TreeStopped("limit", unit)

    def _asked_first(self, stop: Future[TreeStopped] | None, *, ahead: bool) -> bool:
        """Whether a person is to be asked before a call; where only promises reach so far, it waits (with the lock)."""
        if self.before_call is None or self.asks_from is None or self._all.micro_usd < self.asks_from:
            return False
        if ahead:
            raise TreeStopped("limit", "cost")
        if self._all.money().at_most < self.asks_from:
            self._await_room(stop, final=False)
        return True

    def release_hold(self, lease: Lease) -> None:
        """Free the call that the lease holds back, if it does still. Used by Lease.close."""
        with self._lock:
            if lease.held:
                lease.held = False
                lease.account.hold(-1)
                self._changed.notify_all()

    def account(self, reservation: Reservation, cost: Cost) -> None:
        """Turn a reservation into spending. Used by Reservation.settle."""
        with self._lock:
            if reservation.done:
                return
            reservation.end()
            reservation.lease.account.settle(reservation.size.tokens, reservation.micro_usd, cost)
            if reservation.size.micro_usd is None:
                self._seen.note(cost)
            warnings = self._marks.passed_now()
            self._changed.notify_all()
        self._warn(warnings)

    def take_again(self, reservation: Reservation, cost: Cost) -> bool:
        """Count the try that failed, and keep the reservation for another. Used by Reservation.again."""
        promise = reservation.size.tokens, reservation.micro_usd
        account, more = reservation.lease.account, promise if cost.micro_usd is None else (0, 0)
        with self._lock:
            if reservation.done or self._past_soft_deadline() or any(each.refuses(*more) for each in account.line()):
                return False
            account.add_try(*promise, cost)
            return True

    def give_back(self, reservation: Reservation) -> None:
        """Free a reservation. Used by Reservation.refund."""
        with self._lock:
            if reservation.done:
                return
            reservation.end()
            reservation.lease.account.give_back(reservation.size.tokens, reservation.micro_usd)
            self._changed.notify_all()

    def _amount(self, unit: Unit) -> float:
        """What is used of a unit that runs out (caller holds the lock)."""
        if unit == "calls":
            return self._all.spent.calls
        if unit == "tokens":
            return self._all.spent.tokens
        if unit == "cost":
            return self._all.spent.micro_usd / 1e6
        return self._children if unit == "children" else self._elapsed()

    def _warn(self, warnings: list[tuple[Unit, float]]) -> None:
        if self._on_warn is not None:
            for unit, fraction in warnings:
                self._on_warn(unit, fraction)
