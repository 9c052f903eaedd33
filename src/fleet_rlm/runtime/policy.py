"""The narrow hosted-policy layer: what a person is asked first, and what no request may exceed.

`Policy` is what the settings say (table `policy`); `PolicyGate` applies it to one turn and remembers its decisions.
Who acts asks the gate before: the agent's tools (each call, by name), the web tool (each host), `run_rlm` (each child
at or below a depth), the metered model (each further amount of money).

    rule says nothing ──> allowed
    rule matches ──> asked, one question at a time for the same thing
                       allow once           this one; the next is asked again
                       allow for this turn  this and all alike of the turn
                       deny                 neither this nor any alike of the turn
                     nobody answers in time: `otherwise`, for the rest of the turn
"""

from __future__ import annotations

import fnmatch
import re
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal

from fleet_rlm.errors import Denied, InvalidInput, TreeStopped
from fleet_rlm.runtime.content.addresses import NAMES_ADDRESS, alike, normal_host, normal_pattern
from fleet_rlm.runtime.execution import events as ev

if TYPE_CHECKING:
    from fleet_rlm.runtime.execution.approvals import Approvals
    from fleet_rlm.runtime.execution.budget import TreeBudget
    from fleet_rlm.runtime.execution.observer import RunScope
    from fleet_rlm.runtime.execution.spending import Money

Otherwise = Literal["allow", "deny"]

ONCE: Final = "allow once"
ALWAYS: Final = "allow for this turn"
DENY: Final = "deny"
CHOICES: Final = (ONCE, ALWAYS, DENY)
DEEPEST: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What the settings say. Units: US dollars, seconds; depths as the tree shows them (0 is the root run).

    `ask_tools`, `ask_hosts`, `allowed_hosts` are patterns with `*`; hosts are compared in their normal form, in which
    both lists are kept. `ask_seconds` 0: nobody is there, the rule decides at once. `ask_user`: models may put
    questions to the person. `max_depth`: no turn may have a larger depth limit.
    """

    ask_tools: tuple[str, ...] = ()
    ask_hosts: tuple[str, ...] = ("*",)
    allowed_hosts: tuple[str, ...] = ()
    ask_cost_usd: float | None = None
    ask_depth: int | None = None
    ask_seconds: float = 600.0
    otherwise: Otherwise = "deny"
    ask_user: bool = True
    max_depth: int = DEEPEST

    def __post_init__(self) -> None:
        for name in ("ask_hosts", "allowed_hosts"):
            object.__setattr__(self, name, tuple(normal_pattern(pattern) for pattern in getattr(self, name)))

    def alone(self) -> Policy:
        """The same where nobody is there to be asked: the rule decides at once."""
        return replace(self, ask_seconds=0.0)

    def asks_tool(self, name: str) -> bool:
        """Whether a person is asked before this tool is used."""
        return _matches(name, self.ask_tools)

    def asks_host(self, host: str) -> bool:
        """Whether a person is asked before anything is fetched from this host."""
        host = normal_host(host)
        return _matches(host, self.ask_hosts) and not _matches(host, self.allowed_hosts)

    def asked_address(self, host: str, addresses: Sequence[str]) -> str | None:
        """The address of this host that a person is asked about, where only the address is named and not the host."""
        host, named = normal_host(host), tuple(filter(NAMES_ADDRESS.fullmatch, self.ask_hosts))
        if _matches(host, self.ask_hosts) or _matches(host, self.allowed_hosts):
            return None
        forms = [(address, form) for address in addresses for form in sorted(alike(address))]
        return next((a for a, form in forms if _matches(form, named) and not _matches(form, self.allowed_hosts)), None)

    def check_limits(self, limits: ev.Limits) -> ev.Limits:
        """Errors: InvalidInput for limits that no turn may have."""
        if limits.depth > self.max_depth:
            raise InvalidInput(
                f"a depth of {limits.depth} is more than the policy allows ({self.max_depth})",
                hint="ask for less, or raise policy.max_depth (FLEET_POLICY_MAX_DEPTH)",
            )
        return limits


def _cost_question(money: Money) -> str:
    known = [f"${money.spent / 1e6:.4f}"] if money.spent or not money.unknown else []
    told = " and ".join([*known, *([_UNKNOWN] if money.unknown else [])])
    more = f", and ${money.at_risk / 1e6:.4f} more at most by calls that did not tell it" if money.at_risk else ""
    return f"This turn has cost {told}{more}. May it go on?"


_UNKNOWN: Final = "an unknown amount"
_COST: Final = re.compile(r"has cost \$(\d+\.\d+)")


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


class PolicyGate:
    """The policy over one turn. Thread-safe; `scope` says which run is asking.

    `allowed_costs`: what a person answered about the money of this turn before it was resumed.
    """

    def __init__(
        self,
        policy: Policy,
        approvals: Approvals,
        budget: TreeBudget,
        scope: Callable[[], RunScope],
        *,
        allowed_costs: Sequence[tuple[str, str]] = (),
    ) -> None:
        self.policy = policy
        self._approvals = approvals
        self._budget = budget
        self._scope = scope
        self._lock = threading.Lock()
        self._decided: dict[tuple[str, str], bool] = {}
        self._asking: dict[tuple[str, str], Future[None]] = {}
        self._step = None if policy.ask_cost_usd is None else round(policy.ask_cost_usd * 1e6)
        self._paid: tuple[int | None, bool] = (None, False)
        """Up to how many micro-dollars nobody is asked (None: never), and whether calls of unknown cost may go on."""
        if self._step is not None:
            self._set_paid(self._step, unknown=False)
        for question, answer in allowed_costs:
            self._allow_cost(question, answer)

    def tool(self, name: str, detail: str | None = None, *, ask: bool = False) -> None:
        """Before a tool of the agent is used; `detail` is what a person may read first. Errors: Denied.

        `ask`: it is never used unasked, whatever the policy names.
        """
        if ask or self.policy.asks_tool(name):
            self._require("tool", name, f"May the tool {name} be used?", detail)

    def host(self, host: str, addresses: Sequence[str] = (), detail: str | None = None) -> None:
        """Before something is fetched from a host, and again when its addresses are known. Errors: Denied."""
        if addresses:
            asked = self.policy.asked_address(host, addresses)
            if asked is not None:
                question = f"May something be fetched from {asked}, where {host} leads?"
                self._require("host", asked, question, detail)
        elif self.policy.asks_host(host):
            self._require("host", host.lower(), f"May something be fetched from {host}?", detail)

    def depth(self, depth: int, task: str) -> None:
        """Before a child run is opened at this depth of the tree. Errors: Denied."""
        if self.policy.ask_depth is not None and depth >= self.policy.ask_depth:
            self._require("depth", str(depth), f"May a child run be opened at depth {depth}?", task)

    def cost(self, ahead: bool = False) -> None:
        """Before a call is made. The amount of the policy is asked for again when as much has been spent once more, and
        once where of some calls nothing is known. One that its code has not come to (`ahead`) is refused in place of a
        question.

        Errors: TreeStopped("limit", "cost") when a person, or the rule, lets no more be spent.
        """
        up_to, unknown = paid = self._paid
        if self._step is None or up_to is None:
            return
        money = self._budget.snapshot().money
        if money.at_most < up_to and (unknown or not money.unknown):
            return
        if ahead:
            raise TreeStopped("limit", "cost")
        if not self._allowed("cost", str(paid), _cost_question(money), None):
            self._budget.note_exhausted("cost")
            raise TreeStopped("limit", "cost")
        with self._lock:
            if self._paid == paid:
                more = max(up_to, money.at_most + max(self._step, 1))
                self._set_paid(more, unknown=unknown or money.unknown)

    def _set_paid(self, up_to: int | None, *, unknown: bool) -> None:
        self._paid = up_to, unknown
        self._budget.asks_from = up_to
        self._budget.look_again()

    def _allow_cost(self, question: str, answer: str) -> None:
        """An earlier answer goes as far as it would have gone then."""
        (up_to, unknown), found = self._paid, _COST.search(question)
        if self._step is None or up_to is None or answer not in (ONCE, ALWAYS):
            return
        if answer == ALWAYS:
            self._set_paid(None, unknown=True)
        else:
            spent = round(float(found[1]) * 1e6) if found is not None else 0
            self._set_paid(max(up_to, spent + self._step), unknown=unknown or _UNKNOWN in question)

    def _require(self, kind: ev.ApprovalKind, what: str, question: str, detail: str | None) -> None:
        if not self._allowed(kind, what, question, detail):
            raise Denied(f"{what!r} was not allowed ({kind})", hint="go on without it")

    def _allowed(self, kind: ev.ApprovalKind, what: str, question: str, detail: str | None) -> bool:
        key, scope = (kind, what), self._scope()
        while True:
            with self._lock:
                decided = self._decided.get(key)
                other = self._asking.get(key)
                if decided is None and other is None:
                    mine = self._asking[key] = Future()
                    break
            if decided is not None:
                return decided
            assert other is not None
            scope.stop.race(other)  # the same question is put once; whoever waits looks again
            scope.stop.check()
        try:
            return self._ask(key, scope, kind, question, detail)
        finally:
            with self._lock:
                del self._asking[key]
            mine.set_result(None)

    def _ask(
        self, key: tuple[str, str], scope: RunScope, kind: ev.ApprovalKind, question: str, detail: str | None
    ) -> bool:
        rule = ALWAYS if self.policy.otherwise == "allow" else DENY
        try:
            answer = self._approvals.ask(
                scope,
                kind=kind,
                question=question,
                choices=CHOICES,
                detail=detail,
                seconds=self.policy.ask_seconds,
                otherwise=rule,
            )
        except InvalidInput:  # it has asked too often
            answer = rule
        with self._lock:
            if answer != ONCE or kind == "cost":  # an amount is no single act: its answer is for all calls that meet it
                self._decided[key] = answer != DENY
            if answer == ALWAYS and kind == "cost":
                self._set_paid(None, unknown=True)
        return answer != DENY
