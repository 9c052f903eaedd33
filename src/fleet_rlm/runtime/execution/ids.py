"""Identifiers: a short prefix that names the kind, and a UUIDv7-like body that sorts by time."""

from __future__ import annotations

import os
import threading
import time

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_PAIRS = [first + second for first in _ALPHABET for second in _ALPHABET]


class _Chance:
    """The system's random bits, fetched for many ids at once. A fork fetches its own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._left = b""
        self._owner = 0

    def bits(self, number: int) -> int:
        """So many of them, a multiple of 8."""
        size = number // 8
        with self._lock:
            if len(self._left) < size or self._owner != os.getpid():
                self._left, self._owner = os.urandom(4096), os.getpid()
            taken, self._left = self._left[-size:], self._left[:-size]
        return int.from_bytes(taken, "big")


_chance = _Chance()


def new_id(prefix: str) -> str:
    """A fresh id such as `trn_01k9x...`: 48 bits of milliseconds, 80 random bits, Crockford base 32."""
    value = (time.time_ns() // 1_000_000 << 80) | _chance.bits(80)
    return f"{prefix}_{''.join([_PAIRS[value >> shift & 1023] for shift in range(120, -10, -10)])}"
