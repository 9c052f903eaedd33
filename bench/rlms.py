"""The other peer: `rlms`, whose REPL is its own process; measured by `rlms_side.py` in `.venv-bench`."""

from __future__ import annotations

import functools
import subprocess
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
PYTHON = FOLDER.parent / ".venv-bench" / "bin" / "python"
LONGEST_S = 120.0


@functools.cache
def version() -> str | None:
    """The version that is installed beside us; None when it is not there."""
    code = "import importlib.metadata; print(importlib.metadata.version('rlms'))"
    return _run("-c", code) if PYTHON.exists() else None


def measured(what: str, *, calls: int, delay_s: float) -> float | None:
    """Its time for this, in the unit of the row; None when it is not installed or fails at it."""
    if version() is None:
        return None
    told = _run(str(FOLDER / "rlms_side.py"), what, str(calls), str(delay_s))
    return None if told is None else float(told)


def _run(*command: str) -> str | None:
    try:
        done = subprocess.run([PYTHON, *command], capture_output=True, text=True, timeout=LONGEST_S, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        said = str(getattr(error, "stderr", "") or error).strip()
        print(f"rlms: not measured: {said.splitlines()[-1]}")
        return None
    return done.stdout.strip().splitlines()[-1]
