"""What was spent, what is promised, and what a run and everything below it may still use: the accounts of a budget.

An account belongs to the tree or to one run of it, and counts everything below. A reservation is entered in the
account of the run that asks and in all above it, so that none of their limits can be exceeded. Not thread-safe: the
budget that owns the accounts has the lock.

A call whose price or whose tokens stay unknown (it was abandoned, it failed when the server may have worked for it
already, or the server did not tell) is shown as unknown, and what was reserved for it goes on counting against the
limits as `at_risk`; so does what was reserved for each such try of a call that is made once more.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec

from fleet_rlm.errors import InvalidInput
from fleet_rlm.runtime.execution.events import Limits, Unit, Usage


class LimitReached(Exception):
    """A child run cannot be opened: `unit` is used up. Its parent goes on and gets a failure value.

    `own`: it is the parent's own share that is used up, and not a limit of the tree.
    """

    def __init__(self, unit: Unit, message: str, *, own: bool = False) -> None:
        super().__init__(message)
        self.unit: Unit = unit
        self.own = own


class Cost(msgspec.Struct, frozen=True):
    """What one call used. Units: tokens (`cached_tokens` of the prompt); micro-dollars (None = price unknown)."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    micro_usd: int | None = None

    @property
    def tokens(self) -> int:
        """Of prompt and completion."""
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """What a run with everything below it may use at most, besides the limits above it. None: no limit of its own."""

    calls: int | None = None
    tokens: int | None = None
    cost_usd: float | None = None

    @staticmethod
    def of(limits: Limits) -> Share:
        """What of a turn's limits its accounts keep."""
        return Share(calls=limits.calls, tokens=limits.tokens, cost_usd=limits.cost_usd)

    @property
    def bounds_answers(self) -> bool:
        """Whether the length of an answer matters to it."""
        return self.tokens is not None or self.cost_usd is not None

    @property
    def micro_usd(self) -> int | None:
        """The money in micro-dollars."""
        return None if self.cost_usd is None else math.floor(round(self.cost_usd * 1e6, 6))


@dataclass(slots=True)
class Spent:
    """The sum of what calls used."""

    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    micro_usd: int = 0
    unpriced: int = 0

    @property
    def tokens(self) -> int:
        """Of prompts and completions."""
        return self.prompt_tokens + self.completion_tokens

    def add(self, cost: Cost, *, calls: int = 1) -> None:
        """One more call (or `calls` of them, with what they used together)."""
        self.calls += calls
        self.prompt_tokens += cost.prompt_tokens
        self.completion_tokens += cost.completion_tokens
        self.cached_tokens += cost.cached_tokens
        if cost.micro_usd is None:
            self.unpriced += 1
        else:
            self.micro_usd += cost.micro_usd

    def usage(self, wall_s: float) -> Usage:
        """As it is told; the cost is None where the price of any call is unknown."""
        return Usage(
            calls=self.calls,
            prompt_tokens=self.prompt_tokens,
            completion_tokens=self.completion_tokens,
            cached_tokens=self.cached_tokens,
            cost_usd=self.micro_usd / 1e6 if self.unpriced == 0 else None,
            wall_s=round(wall_s, 3),
        )


@dataclass(frozen=True, slots=True)
class Money:
    """What calls may have cost, in micro-dollars: `spent` is known, `at_risk` may have come to it. `unknown`: of a call
    among them nothing is known."""

    spent: int
    at_risk: int
    unknown: bool

    @property
    def at_most(self) -> int:
        """As far as anything is known."""
        return self.spent + self.at_risk


@dataclass(slots=True)
class Seen:
    """What calls of an unknown price have cost at most, by which others are promised. `largest` None: none was seen."""

    largest: int | None = None
    per_token: float = 0.0

    def note(self, cost: Cost) -> None:
        """One more is over. A call that failed, or that is known to be free, says nothing of what others cost."""
        if cost.micro_usd or (cost.micro_usd == 0 and cost.tokens):
            self.largest = max(self.largest or 0, cost.micro_usd)
            self.per_token = max(self.per_token, cost.micro_usd / max(cost.tokens, 1))

    def promise(self, tokens: int) -> int:
        """Micro-dollars for a call of so many tokens: no less than any has cost, in all and for each token."""
        return max(self.largest or 0, math.ceil(self.per_token * tokens))


@dataclass(slots=True)
class Account:
    """Limits, spending and promises of one run, or of the whole tree when there is no `above`."""

    above: Account | None = None
    limits: Share = Share()
    spent: Spent = field(default_factory=Spent)
    in_flight: int = 0
    held: int = 0
    reserved_tokens: int = 0
    reserved_micro: int = 0
    tokens_at_risk: int = 0
    micro_at_risk: int = 0
    calls_at_risk: int = 0
    _all_above: tuple[Account, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self._all_above = () if self.above is None else self.above.line()

    def line(self) -> tuple[Account, ...]:
        """This account and all above it."""
        return (self, *self._all_above)

    @property
    def tokens(self) -> int:
        """Spent, promised, or possibly spent."""
        return self.spent.tokens + self.reserved_tokens + self.tokens_at_risk

    @property
    def micro_usd(self) -> int:
        """Spent, promised, or possibly spent."""
        return self.spent.micro_usd + self.reserved_micro + self.micro_at_risk

    def money(self) -> Money:
        """What is spent, or possibly spent. What was promised for a call is the most that it cost."""
        return Money(self.spent.micro_usd, self.micro_at_risk, unknown=self.spent.unpriced > self.calls_at_risk)

    @property
    def free_calls(self) -> int | None:
        """Calls that are neither made nor promised nor held back; None: no limit."""
        limit = self.limits.calls
        return None if limit is None else limit - self.spent.calls - self.in_flight - self.held

    @property
    def left_tokens(self) -> int | None:
        """None: no limit."""
        return None if self.limits.tokens is None else max(0, self.limits.tokens - self.tokens)

    @property
    def left_micro(self) -> int | None:
        """None: no limit."""
        limit = self.limits.micro_usd
        return None if limit is None else max(0, limit - self.micro_usd)

    def refuses(self, tokens: int, micro_usd: int) -> Unit | None:
        """The unit of which there is not enough for one more call of this size, or None."""
        if self.limits.calls is None and not self.limits.bounds_answers:
            return None
        free, left_tokens, left_micro = self.free_calls, self.left_tokens, self.left_micro
        if free is not None and free < 1:
            return "calls"
        if left_tokens is not None and tokens > left_tokens:
            return "tokens"
        if left_micro is not None and micro_usd > left_micro:
            return "cost"
        return None

    def may_fit(self, unit: Unit, tokens: int, micro_usd: int) -> bool:
        """Whether a call that this unit refuses would fit, here and above, if what is under way used nothing.

        Never of calls: one that is under way is made, and its place does not come back.
        """
        if unit == "tokens":
            left = [(each.limits.tokens, each.tokens - each.reserved_tokens + tokens) for each in self.line()]
        elif unit == "cost":
            left = [(each.limits.micro_usd, each.micro_usd - each.reserved_micro + micro_usd) for each in self.line()]
        else:
            return False
        return all(limit is None or needed <= limit for limit, needed in left)

    def reserve(self, tokens: int, micro_usd: int) -> None:
        """Promise one call, here and above."""
        for account in self.line():
            account.in_flight += 1
            account.reserved_tokens += tokens
            account.reserved_micro += micro_usd

    def give_back(self, tokens: int, micro_usd: int) -> None:
        """Take a promise back."""
        for account in self.line():
            account.in_flight -= 1
            account.reserved_tokens -= tokens
            account.reserved_micro -= micro_usd

    def hold(self, by: int) -> None:
        """Hold one call more or one fewer back."""
        for account in self.line():
            account.held += by

    def settle(self, tokens: int, micro_usd: int, cost: Cost) -> None:
        """Turn a promise of this size into spending."""
        self.give_back(tokens, micro_usd)
        self.add_try(tokens, micro_usd, cost)

    def add_try(self, tokens: int, micro_usd: int, cost: Cost) -> None:
        """One request was sent, for which so much was promised: what it does not tell goes on counting."""
        untold = cost.micro_usd is None and not cost.prompt_tokens and not cost.completion_tokens
        for account in self.line():
            account.spent.add(cost)
            if cost.micro_usd is None:
                account.micro_at_risk += micro_usd
                account.calls_at_risk += micro_usd > 0
            if untold:
                account.tokens_at_risk += tokens

    def check_room(self, limits: Limits, *, elapsed_s: float, children: int) -> None:
        """Errors: InvalidInput when a limit lies below what is spent or promised already."""
        floors: list[tuple[str, float | None, float, str]] = [
            ("calls", limits.calls, self.spent.calls + self.in_flight, "{:,.0f} calls are made or under way"),
            ("tokens", limits.tokens, self.tokens, "{:,.0f} tokens are used or promised"),
            ("cost", limits.cost_usd, self.micro_usd / 1e6, "${:.6g} are spent or promised"),
            ("time", limits.wall_s, elapsed_s, "{:.1f} seconds have passed"),
            ("children", limits.children, children, "{:,.0f} child runs were opened"),
        ]
        for what, limit, floor, words in floors:
            if limit is not None and limit < floor:
                raise InvalidInput(f"the {what} limit cannot be {limit:g}: {words.format(floor)} already")


def least(amounts: Iterable[int | None]) -> int | None:
    """The least of the limits that there are, or None."""
    return min((amount for amount in amounts if amount is not None), default=None)
