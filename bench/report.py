"""The table, on the terminal and in docs/performance.md."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
from collections.abc import Sequence
from pathlib import Path

from bench import rlms
from bench.measure import Row

HEAD = ("measure", "ours", "target", "", "dspy.RLM, LocalInterpreter", "ratio", "rlms, local REPL")

EXPLAINED = """\
Written by `make bench WRITE=1`; `python -m bench NAME...` measures a part, `python -m bench --list` names the parts.

*Ours* is the whole product: a turn with its journal, each run's code in its own jailed sandbox behind the local
Daytona-compatible server. *dspy.RLM, LocalInterpreter* is DSPy's own engine with its unisolated subprocess, measured
in the same run with the same scripted models and cells, where it has the thing at all. *Ratio* is how many times
better ours is. *rlms, local REPL* runs the model's code in its own process, without isolation of any kind, and its
children share what they print; measured in the same run too, with its defaults but for the width of the fan-out.
Models are scripted: they answer at once, or after the stated time.

Sandboxes are made and begun ahead (docs/daytona.md, docs/sandboxd.md). *The first time in a while* starts with those
that wait while nobody uses one, as a person's first question does; *again* with as many as were wanted before; *right
after the start*, which a person cannot be quick enough for, with almost none.

This machine's pace changes by half and more from one hour to the next, and the peers' columns with it. The targets were
set where the peer's serial `llm_query` took 0.5 ms; where a row misses, read what it takes here. *DSPy alone* says what
DSPy's own part takes in the same run, below which nothing that is built on it can come.
"""


def machine() -> str:
    """Where this was measured, in one line."""
    model = next(
        (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")),
        platform.machine(),
    )
    memory = next((int(line.split()[1]) >> 20 for line in _lines("/proc/meminfo") if line.startswith("MemTotal")), 0)
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    return (
        f"{os.cpu_count()} x {model}, {memory} GB, {platform.system()} {platform.release()}, "
        f"Python {platform.python_version()}, load before {load}"
    )


def versions() -> str:
    """What was measured against what."""
    names = ("fleet-rlm", "dspy", "daytona")
    known = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)
    return f"{known}, rlms {rlms.version() or '(could not be installed here: its column is empty)'}"


def today() -> str:
    """The date, UTC."""
    return datetime.datetime.now(datetime.UTC).date().isoformat()


def cells(row: Row) -> tuple[str, ...]:
    """A row as texts."""
    bound = "" if row.target is None else f"{'>=' if row.at_least else '<='} {number(row.target)} {row.unit}"
    verdict = {None: "", True: "ok", False: "NOT OK"}[row.ok]
    peer = "" if row.peer is None else f"{number(row.peer)} {row.unit}"
    ratio = "" if row.ratio is None else f"{number(row.ratio)}x"
    theirs = "" if row.rlms is None else f"{number(row.rlms)} {row.unit}"
    ours = "" if row.ours is None else f"{number(row.ours)} {row.unit}"
    return row.name, ours, bound, verdict, peer, ratio, theirs


def number(value: float) -> str:
    """Three digits that mean something."""
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.3g}"


def plain(row: Row) -> str:
    """One line for the terminal."""
    name, ours, bound, verdict, peer, ratio, rlms_ = cells(row)
    return f"{name:<64}{ours:>12}  {bound:<12}{verdict:<8}{peer:>12}{ratio:>8}{rlms_:>12}"


def page(rows: Sequence[Row], where: str) -> str:
    """docs/performance.md."""
    lines = ["# Performance", "", EXPLAINED, f"{today()}, {where}; {versions()}.", ""]
    lines += ["| " + " | ".join(HEAD) + " |", "|---|--:|---|---|--:|--:|--:|"]
    lines += ["| " + " | ".join(cells(row)) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []
