"""Changes of state of sandboxes, told to whoever listens, in the order in which they happen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fleet_rlm.sandboxd.models import State

if TYPE_CHECKING:
    from fleet_rlm.sandboxd.sandboxes import Sandbox


@dataclass(frozen=True, slots=True)
class Change:
    """A sandbox that is in another state than before; `before` is None for a new one."""

    sandbox: Sandbox
    before: State | None


class Feed:
    """Listeners are called at once, on the event loop: they look at the sandbox as it is now, and never wait."""

    def __init__(self) -> None:
        self._listeners: list[Callable[[Change], None]] = []

    def publish(self, change: Change) -> None:
        """Tell every listener."""
        for listener in tuple(self._listeners):
            listener(change)

    def add(self, listener: Callable[[Change], None]) -> None:
        """Tell this one from now on."""
        self._listeners.append(listener)

    def remove(self, listener: Callable[[Change], None]) -> None:
        """Tell it no more."""
        self._listeners.remove(listener)
