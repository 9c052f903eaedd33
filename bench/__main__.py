"""`python -m bench [NAME...] [--write] [--strict] [--list]`: measure everything, or the parts named."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable
from pathlib import Path

from bench import engine, floors, program, report, sandboxes, trees
from bench.measure import Row
from bench.ours import Ours

PAGE = Path(__file__).resolve().parent.parent / "docs" / "performance.md"

PARTS: dict[str, Callable[[Ours], list[Row]]] = {
    "set-up": engine.set_up,
    "iteration": engine.iteration,
    "batched": engine.batched,
    "serial": engine.serial,
    "context": engine.context,
    "fan-out": trees.fan_out,
    "cancel": trees.cancel,
    "stall": trees.stall,
    "tear-down": engine.tear_down,
    "start": sandboxes.start,
    "many": sandboxes.many,
    "memory": sandboxes.memory,
    "callbacks": sandboxes.callbacks,
    "files": sandboxes.files,
    "fleet-run": program.fleet_run,
    "floors": floors.floors,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench", description="Speed, beside dspy.RLM where it has the thing.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(PARTS)}; all when none is named")
    parser.add_argument("--write", action="store_true", help="write docs/performance.md (needs all parts)")
    parser.add_argument("--strict", action="store_true", help="exit with status 1 when a target is missed")
    parser.add_argument("--list", action="store_true", help="name the parts and leave")
    given = parser.parse_args()
    unknown = [name for name in given.names if name not in PARTS]
    if unknown:
        parser.error(f"there is no part {unknown[0]!r}; there are {', '.join(PARTS)}")
    if given.write and given.names:
        parser.error("--write needs all parts: name none")
    if given.list:
        print(*PARTS, sep="\n")
        return 0
    where = report.machine()
    print(f"{report.today()}, {where}; {report.versions()}\n")
    rows = measure(given.names or list(PARTS))
    if given.write:
        PAGE.write_text(report.page(rows, where))
        print(f"\nwritten to {PAGE}")
    missed = [row.name for row in rows if row.ok is False]
    print(f"\n{len(rows)} measured, {len(missed)} missed their target")
    return 1 if missed and given.strict else 0


def measure(names: list[str]) -> list[Row]:
    """Measure the parts, each printed as it comes."""
    logging.disable(logging.WARNING)  # the engines' remarks on scripted models
    ours = Ours()
    rows: list[Row] = []
    try:
        for name in names:
            for row in PARTS[name](ours):
                print(report.plain(row), flush=True)
                rows.append(row)
    finally:
        ours.close()
    return rows


if __name__ == "__main__":
    sys.exit(main())
