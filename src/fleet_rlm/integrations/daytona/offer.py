"""What model-written code finds in a sandbox: one table, from which its instructions are generated.

`OFFERS` has every name with its signature and its one line of help. The guest's functions are in the worker; the
host's take their help text from here by `offered`, so that the manual and the functions cannot drift apart.
docs/repl.md shows the same table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from fleet_rlm.integrations.daytona.worker.calls import FILE, HANDLES

_MODE = "__fleet_argument_mode__"
F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Offer:
    """One name that model-written code can use. `help` is one line; `when` says where the name is missing."""

    name: str
    signature: str
    help: str
    side: Literal["guest", "host"]
    when: str = ""


OFFERS: tuple[Offer, ...] = (
    Offer(
        "context_info",
        "()",
        "Name -> kind, characters, lines and files of every context variable, without loading it.",
        "guest",
    ),
    Offer(
        "chunks",
        "(text, size, overlap=0)",
        "Cut a text (or each text of a list or dict) into pieces of `size` characters that know their place.",
        "guest",
    ),
    Offer(
        "grep",
        "(pattern, text=None, ignore_case=True, limit=200)",
        "Lines that match a regular expression in a text (default: all context variables), with .path .line .text.",
        "guest",
    ),
    Offer("llm_query", "(prompt)", "Ask the sub-model one prompt; gives its text.", "host", "depth 1 and more"),
    Offer(
        "llm_query_batched",
        "(prompts)",
        "Ask the sub-model many prompts side by side, answers in order; a failed one is a Failure.",
        "host",
        "depth 1 and more",
    ),
    Offer(
        "rlm_query",
        "(task, context=None, schema=None, budget=None)",
        "Run a task in a child sandbox with its own REPL; context may be any value, best a slice of yours. `schema` "
        "(a word such as 'int' or 'list[str]', a JSON Schema, or {'name': 'str'}) types the result; `budget` "
        "({'calls': 20, 'tokens': 50000, 'cost_usd': 0.1}, each as you like) limits the child.",
        "host",
        "depth 2 and more",
    ),
    Offer(
        "rlm_query_batched",
        "(tasks, contexts=None, schema=None, budget=None)",
        "Run many tasks side by side, one child each, results in order, a failed one a Failure; `tasks` may be one "
        "text for all contexts.",
        "host",
        "depth 2 and more",
    ),
    Offer(
        "budget",
        "()",
        "What is left of the budget of the whole task, in every unit (None = no limit).",
        "host",
    ),
    Offer(
        "save_artifact",
        "(path_or_value, name=None)",
        "Give the person a file: the path of one, or text, bytes, rows (name.csv) or any JSON value (name.json).",
        "host",
    ),
    Offer(
        "ask_user",
        "(question, choices=None)",
        "Ask the person and wait for the answer; only for what neither the task nor the context can tell.",
        "host",
        "where the policy allows it",
    ),
    Offer(
        "Failure",
        "",
        "An item that could not be done: false in a condition, with `.error` (class name) and `.message`.",
        "guest",
    ),
    Offer("SUBMIT", "(...)", "End the run with its outputs, by name or in order.", "guest"),
)
BY_NAME = {offer.name: offer for offer in OFFERS}
GUEST_OFFERS = tuple(offer for offer in OFFERS if offer.side == "guest")

ENVIRONMENT = (
    "Code runs as Python in an isolated sandbox without network, in one persistent session: variables, imports and "
    "functions stay (`re`, `json` and `math` are imported). You see what a cell prints and the value of its last "
    "expression. Context variables are strings (or lists and dictionaries of strings) whose pieces know their place: "
    "piece.path, piece.line."
)


def instructions(offers: Iterable[Offer] = GUEST_OFFERS) -> str:
    """The text for the model: the environment, then each name with its one line."""
    return "\n".join([ENVIRONMENT, *(line_of(offer) for offer in offers)])


def line_of(offer: Offer) -> str:
    """One name as the model reads it."""
    return f"- `{offer.name}{offer.signature}` - {offer.help}"


def table() -> str:
    """The whole offer as Markdown, for docs/repl.md."""
    rows = [
        f"| `{offer.name}{offer.signature}` | {offer.help} | {offer.when or 'always'} |".replace("<", "&lt;")
        for offer in OFFERS
    ]
    return "\n".join(["| name | what it does | there |", "|---|---|---|", *rows])


def offered(function: F) -> F:
    """Give a host function the help text of its name. KeyError for a name that is not in the table."""
    function.__doc__ = BY_NAME[function.__name__].help
    return function


def takes_handles(function: F) -> F:
    """Mark a host tool: Slices in its arguments arrive as `{"$slice": [sha256, start, end]}`, not as text."""
    setattr(function, _MODE, HANDLES)
    return function


def takes_file(function: F) -> F:
    """Mark a host tool `(path_or_value, name)`: the first arrives as the file's or value's bytes, in base64."""
    setattr(function, _MODE, FILE)
    return function


def argument_mode(function: Callable[..., Any]) -> str:
    """How a tool takes its arguments (wrappers that copy `__dict__` keep the mark)."""
    return str(getattr(function, _MODE, ""))
