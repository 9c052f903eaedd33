"""Names of a turn's contexts: each has one of its own, by which code, prompts and citations mean it."""

from __future__ import annotations

from collections.abc import Container, Sequence

import msgspec

from fleet_rlm.runtime.execution.events import ContextRef


def free_name(wanted: str, taken: Container[str]) -> str:
    """The name itself, or with the first number that makes it free: `log.txt (2)`."""
    name, number = wanted, 2
    while name in taken:
        name, number = f"{wanted} ({number})", number + 1
    return name


def distinct(refs: Sequence[ContextRef]) -> tuple[ContextRef, ...]:
    """The contexts in their order, a later one of a name that is taken under another; the same again is left out."""
    given = {ref.name for ref in refs}
    known: set[tuple[str, str]] = set()
    found: dict[str, ContextRef] = {}
    for ref in refs:
        if (ref.name, ref.sha256) in known:
            continue
        known.add((ref.name, ref.sha256))
        name = free_name(ref.name, given | found.keys()) if ref.name in found else ref.name
        found[name] = msgspec.structs.replace(ref, name=name)
    return tuple(found.values())
