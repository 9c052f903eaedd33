"""What model-written code finds in a sandbox: one table, from which its instructions are generated.

The guest's own functions are described by their signature and first docstring line in the worker; whoever
offers host tools adds entries of their own.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from fleet_rlm.integrations.daytona.worker.slices import Helpers
from fleet_rlm.integrations.daytona.worker.values import Failure

_HANDLES = "__fleet_takes_handles__"
F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Offer:
    """One name that model-written code can use. `help` is one line."""

    name: str
    signature: str
    help: str
    side: Literal["guest", "host"]


def offer_of(function: Callable[..., Any], side: Literal["guest", "host"], name: str | None = None) -> Offer:
    """The entry of a function, from its signature (without types and `self`) and its first docstring line."""
    parameters = [
        parameter.replace(annotation=inspect.Parameter.empty)
        for parameter in inspect.signature(function).parameters.values()
        if parameter.name != "self"
    ]
    signature = str(inspect.Signature(parameters))
    help_line = (inspect.getdoc(function) or "").partition("\n")[0]
    return Offer(name or function.__name__, signature, help_line, side)


GUEST_OFFERS: tuple[Offer, ...] = (
    offer_of(Helpers.chunks, "guest"),
    offer_of(Helpers.grep, "guest"),
    offer_of(Helpers.context_info, "guest"),
    Offer("Failure", "", (Failure.__doc__ or "").partition("\n")[0], "guest"),
)

ENVIRONMENT = (
    "Code runs as Python in an isolated sandbox without network, in one persistent session: variables, imports and "
    "functions stay. You see what a cell prints and the value of its last expression. Context variables are "
    "strings (or lists and dictionaries of strings) whose pieces know their place: piece.path, piece.line."
)


def instructions(offers: Iterable[Offer] = GUEST_OFFERS) -> str:
    """The text for the model: the environment, then each name with its one line."""
    lines = [f"- `{offer.name}{offer.signature}` - {offer.help}" for offer in offers]
    return "\n".join([ENVIRONMENT, *lines])


def takes_handles(function: F) -> F:
    """Mark a host tool: Slices in its arguments arrive as `{"$slice": [sha256, start, end]}`, not as text."""
    setattr(function, _HANDLES, True)
    return function


def wants_handles(function: Callable[..., Any]) -> bool:
    """Whether `takes_handles` marked this tool (wrappers that copy `__dict__` keep the mark)."""
    return bool(getattr(function, _HANDLES, False))
