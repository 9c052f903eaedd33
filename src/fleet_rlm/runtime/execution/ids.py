"""Identifiers: a short prefix that names the kind, and a UUIDv7-like body that sorts by time."""

from __future__ import annotations

import secrets
import time

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_PAIRS = [first + second for first in _ALPHABET for second in _ALPHABET]


def new_id(prefix: str) -> str:
    """A fresh id such as `trn_01k9x...`: 48 bits of milliseconds, 80 random bits, Crockford base 32."""
    value = (time.time_ns() // 1_000_000 << 80) | secrets.randbits(80)
    return f"{prefix}_{''.join([_PAIRS[value >> shift & 1023] for shift in range(120, -10, -10)])}"
