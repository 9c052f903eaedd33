"""Failures as one line for a person, and exit statuses."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import typer

from fleet_rlm.cli.plain import one_line
from fleet_rlm.errors import FleetError, InternalError

if TYPE_CHECKING:
    from fleet_rlm.runtime.execution.events import ErrorInfo

BAD_USAGE: Final = 2
LIMIT: Final = 3
CANCELLED: Final = 130


def report(error: FleetError) -> int:
    """Say what was wrong and what to do; return the class's exit status."""
    _say(error.message, error.hint)
    return error.exit_status


def report_info(error: ErrorInfo) -> int:
    """The same for a failure that came as an event; its code names the class."""
    _say(error.message, error.hint)
    return exit_status(error.code)


def report_usage(error: typer.TyperException) -> int:
    """A wrong option or argument, in the same form as every other failure."""
    context = getattr(error, "ctx", None)
    path = getattr(context, "command_path", "fleet")
    _say(error.format_message().rstrip("."), f"see `{path} --help`")
    return BAD_USAGE


def report_defect(error: Exception) -> int:
    """An exception that nobody expected: its traceback goes to a private file, its name to the person."""
    import tempfile

    options: Any = {"encoding": "utf-8", "errors": "backslashreplace", "delete": False}
    with tempfile.NamedTemporaryFile("w", prefix="fleet-error-", suffix=".txt", **options) as file:
        traceback.print_exception(error, file=file)
    _say(f"unexpected {type(error).__name__}: {error}", f"a defect of ours; please report it with {file.name}")
    return InternalError.exit_status


def exit_status(code: str) -> int:
    """The exit status of the error class with this code; 1 for a code of a later version."""
    return next((kind.exit_status for kind in _classes(FleetError) if kind.code == code), 1)


def _classes(kind: type[FleetError]) -> Iterator[type[FleetError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from _classes(child)


def _say(message: str, hint: str | None) -> None:
    print(f"error: {one_line(message)}" + (f" ({one_line(hint)})" if hint else ""), file=sys.stderr)
