"""Identical calls in flight are made once.

The scope is a turn, and only requests that ask for no chance (temperature 0 or not given). Calls ahead of a loop stay
alone: as written, those of one loop were never in flight together. The first one flies; those that come while it does
wait for its answer. A joined call is no request: it is charged nothing, and its journal entry names the call whose
answer it got. When the first one ends without an answer or an error of the provider (its run was stopped, its limit was
reached), one of those that waited flies in its place.
"""

from __future__ import annotations

import threading
from collections.abc import Hashable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any


@dataclass(slots=True, eq=False)
class Flight:
    """One request in flight. `landed`: its outputs, the provider's error, or None when it was called off; only for
    those that joined it."""

    key: Hashable
    call: str
    landed: Future[Any] | None = None
    called_off: bool = False


class Flights:
    """The requests of one turn that are in flight."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._flying: dict[Hashable, Flight] = {}

    def board(self, key: Hashable, call: str) -> tuple[Flight, Future[Any] | None]:
        """The flight for this request: one's own, or another's with its outcome to wait for (see `Flight.landed`)."""
        with self._lock:
            flight = self._flying.get(key)
            if flight is None:
                flight = self._flying[key] = Flight(key, call)
            elif flight.landed is None:
                flight.landed = Future()
            return flight, flight.landed

    def land(self, flight: Flight, outputs: Any = None, error: Exception | None = None) -> None:
        """The first one has its answer, or the provider's error."""
        landed = self._end(flight)
        if landed is None:
            return
        if error is not None:
            landed.set_exception(error)
        else:
            landed.set_result(outputs)

    def call_off(self, flight: Flight) -> None:
        """The first one ended without either."""
        flight.called_off = True
        landed = self._end(flight)
        if landed is not None:
            landed.set_result(None)

    def _end(self, flight: Flight) -> Future[Any] | None:
        """Nobody joins it from now on."""
        with self._lock:
            self._flying.pop(flight.key, None)
            return flight.landed


def may_share(kwargs: Mapping[str, Any], defaults: Mapping[str, Any]) -> bool:
    """Whether a request asks for no chance. Numbers: temperature 0 and none given count as that."""
    temperature = kwargs.get("temperature", defaults.get("temperature"))
    return not temperature
