"""What a finished turn becomes: the answer or one JSON object on stdout, a line on stderr, an exit status."""

from __future__ import annotations

import sys
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any, Final

import msgspec

from fleet_rlm.cli.failures import CANCELLED, LIMIT, report_info
from fleet_rlm.cli.plain import clock, count, printable
from fleet_rlm.errors import FleetError, InvalidInput
from fleet_rlm.runtime.config import expanded

if TYPE_CHECKING:
    from pathlib import Path

    from fleet_rlm.runtime.content.blobs import BlobStore
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
        "artifacts": msgspec.to_builtins(result.artifacts),
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
        "coverage": [
            {"context": each.name, "sha256": each.sha256, "read": each.read, "chars": each.chars}
            for each in result.coverage
        ],
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
        *([_read(result)] if result.coverage else []),
        *([count(len(result.artifacts), "artifact")] if result.artifacts else []),
        result.model,
        f"session {result.session}",
    ]
    return " · ".join(parts)


def _read(result: TurnResult) -> str:
    """How much of the contexts was read: of one, or of all together."""
    read, chars = sum(each.read for each in result.coverage), sum(each.chars for each in result.coverage)
    percent = 100 * read / chars if chars else 100.0
    shown = f"{percent:.0f}" if percent >= 1 or not read else "<1"
    return f"{shown} % of the {'context' if len(result.coverage) == 1 else 'contexts'} read"


def artifact_folder(folder: Path | None) -> Path | None:
    """The folder of `--artifacts`, made before anything is paid for. Errors: InvalidInput."""
    if folder is None:
        return None
    folder = expanded(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        raise InvalidInput(
            f"cannot write artifacts to {folder}: {error.strerror or error}", hint="name another folder for --artifacts"
        ) from None


def save_artifacts(result: TurnResult, blobs: BlobStore, folder: Path) -> tuple[list[Path], str | None]:
    """Write what the turn published into a folder, of each name the newest version: what was written, and a fault."""
    newest = {artifact.name: artifact for artifact in result.artifacts}
    written: list[Path] = []
    fault: str | None = None
    for name, artifact in newest.items():
        try:
            (folder / name).write_bytes(blobs.read(f"blob_{artifact.sha256}"))
            written.append(folder / name)
        except (OSError, FleetError) as error:
            said = error.strerror or str(error) if isinstance(error, OSError) else error.message
            fault = fault or f"cannot save the artifact {name} in {folder}: {said}"
    return written, fault


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
