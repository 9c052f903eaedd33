"""What a finished turn becomes: the answer or one JSON object on stdout, a line on stderr, an exit status."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

import msgspec

from fleet_rlm.cli.failures import CANCELLED, LIMIT, report_info
from fleet_rlm.cli.plain import clock, count, printable

if TYPE_CHECKING:
    from fleet_rlm.runtime.execution.requests import TurnResult

_LIMIT_WORDS: Final = {
    "calls": "the limit on calls",
    "tokens": "the limit on tokens",
    "cost": "the limit on cost",
    "wall": "the time limit",
    "depth": "the limit on depth",
    "children": "the limit on child runs",
    "sandboxes": "the limit on sandboxes",
    "iterations": "the limit on steps",
}


def as_json(result: TurnResult) -> dict[str, Any]:
    """The object of `--json`; its shape is a contract (contracts.md, "Command line")."""
    usage = result.usage
    return {
        "session": result.session,
        "turn": result.turn,
        "status": result.status,
        "answer": result.answer,
        # Nothing publishes artifacts yet; the key is part of the contract.
        "artifacts": [],
        "usage": {
            "calls": usage.calls,
            "prompt_tokens": usage.prompt_tokens,
            "completion_tokens": usage.completion_tokens,
            "cost_usd": usage.cost_usd,
            "wall_s": usage.wall_s,
        },
        "runs": result.runs,
        "max_depth_reached": result.max_depth_reached,
        "limit": result.limit,
        "sandbox": {"provider": result.sandbox.provider, "isolation": result.sandbox.isolation},
        "model": result.model,
        "citations": msgspec.to_builtins(result.citations),
        "error": msgspec.to_builtins(result.error),
    }


def print_answer(result: TurnResult, *, as_object: bool) -> None:
    """To stdout. On a terminal control characters of the answer are replaced; a pipe gets it as it is."""
    if as_object:
        sys.stdout.write(msgspec.json.encode(as_json(result)).decode() + "\n")
    elif result.answer is not None:
        answer = printable(result.answer) if sys.stdout.isatty() else result.answer
        sys.stdout.write(answer.rstrip("\n") + "\n")
    sys.stdout.flush()


def closing_line(result: TurnResult) -> str:
    """`9 runs, depth 1 · 24 calls · 12,400 tokens · 4.2 s · demo/search · session s_…`."""
    usage = result.usage
    parts = [
        f"{count(result.runs, 'run')}, depth {result.max_depth_reached}",
        count(usage.calls, "call"),
        count(usage.prompt_tokens + usage.completion_tokens, "token"),
        *([f"${usage.cost_usd:.4f}"] if usage.cost_usd else []),
        clock(usage.wall_s),
        result.model,
        f"session {result.session}",
    ]
    return " · ".join(parts)


def conclude(result: TurnResult) -> int:
    """Say on stderr why a turn did not simply succeed, and return the exit status."""
    match result.status:
        case "ok":
            return 0
        case "limit":
            words = _LIMIT_WORDS.get(result.limit or "", "a limit")
            print(f"{words} was reached; the answer is partial", file=sys.stderr)
            return LIMIT
        case "cancelled":
            print("cancelled" + ("; what was reached is above" if result.answer else ""), file=sys.stderr)
            return CANCELLED
        case _:
            if result.error is not None:
                return report_info(result.error)
            print(
                f"error: the turn ended as {result.status} (see `fleet sessions show {result.session}`)",
                file=sys.stderr,
            )
            return 1
