"""Identifiers: a short prefix that names the kind, and a UUIDv7-like body that sorts by time."""

from __future__ import annotations

import base64
import functools
import os
import threading
import time

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_CROCKFORD = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", _ALPHABET)
_TIME_CHARS, _CHANCE_CHARS = 10, 16
_FETCHED = 4000
"""Random bytes for 400 ids; of base 32 five make eight characters."""


class _Chance:
    """The system's random bits in base 32, fetched for many ids at once. A fork fetches its own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._text = ""
        self._at = 0
        self._owner = 0

    def take(self) -> str:
        """Those of one id."""
        with self._lock:
            at = self._at
            if at == len(self._text) or self._owner != os.getpid():
                self._text = base64.b32encode(os.urandom(_FETCHED)).decode().translate(_CROCKFORD)
                self._owner, at = os.getpid(), 0
            self._at = at + _CHANCE_CHARS
            return self._text[at : self._at]


_chance = _Chance()


def new_id(prefix: str) -> str:
    """A fresh id such as `trn_01k9x...`: 48 bits of milliseconds, 80 random bits, Crockford base 32."""
    return f"{prefix}_{_moment(time.time_ns() // 1_000_000)}{_chance.take()}"


@functools.lru_cache(maxsize=2)
def _moment(ms: int) -> str:
    return "".join([_ALPHABET[ms >> shift & 31] for shift in range(5 * (_TIME_CHARS - 1), -1, -5)])
