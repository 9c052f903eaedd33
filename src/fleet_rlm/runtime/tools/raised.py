"""What a host function raised, as it stands in `tool.finished`, and the same exception from there once more.

Model-written code sees the class and the text of an exception, so both come again.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterator

from fleet_rlm.errors import FleetError
from fleet_rlm.runtime.execution import events as ev

MESSAGE_CHARS = 4_000
"""As much of it reaches code in a sandbox."""


def as_info(error: Exception, clean: Callable[[str], str]) -> ev.ErrorInfo:
    """The exception for an event: one of ours by its code, any other by its class."""
    if isinstance(error, FleetError):
        hint = None if error.hint is None else clean(error.hint)
        message = clean(error.message)[:MESSAGE_CHARS]
        return ev.ErrorInfo(code=error.code, message=message, hint=hint, retryable=error.retryable)
    return ev.ErrorInfo(code=type(error).__name__, message=clean(str(error))[:MESSAGE_CHARS])


def from_info(info: ev.ErrorInfo | None) -> Exception:
    """The exception again: of the same class where there is one, else of one with its name."""
    if info is None:
        return RuntimeError("it failed then, and what it said is not recorded")
    ours = next((kind for kind in _kinds(FleetError) if kind.code == info.code), None)
    if ours is not None:
        return ours(info.message, hint=info.hint)
    known = getattr(builtins, info.code, None)
    if isinstance(known, type) and issubclass(known, Exception) and not issubclass(known, UnicodeError):
        return known(info.message)
    return type(info.code, (RuntimeError,), {})(info.message)


def _kinds(kind: type[FleetError]) -> Iterator[type[FleetError]]:
    """A class of our tree and all below it."""
    yield kind
    for below in kind.__subclasses__():
        yield from _kinds(below)
