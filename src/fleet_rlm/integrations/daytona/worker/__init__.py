"""The program that runs in the sandbox, shipped as one standard-library Python source.

The files here are ordinary modules (the host imports some of them). `worker_source` joins them in order of
dependence, without their imports of each other.
"""

import functools
import hashlib
import re
from pathlib import Path

_PARTS = (
    "frames", "values", "reads", "slices", "files", "calls", "tally", "outputs", "twice", "effects", "ahead", "readers",
    "checkpoint", "repl", "main",
)  # fmt: skip
_INTERNAL_IMPORT = re.compile(r"^from \.\w+ import (?:\([^)]*\)|[^\n]*)\n", re.MULTILINE)
_FUTURE = "from __future__ import annotations\n"


@functools.cache
def worker_source() -> bytes:
    """The worker as one file; the same bytes for the same release."""
    folder = Path(__file__).parent
    parts = [_FUTURE]
    for name in _PARTS:
        text = (folder / f"{name}.py").read_text(encoding="utf-8")
        parts.append(_INTERNAL_IMPORT.sub("", text.replace(_FUTURE, "")))
    return "\n".join(parts).encode()


@functools.cache
def worker_sha256() -> str:
    """Names the source to a server that has it compiled already."""
    return hashlib.sha256(worker_source()).hexdigest()
