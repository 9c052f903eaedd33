"""The program as a person starts it: `fleet run` over a file, from process start to exit."""

from __future__ import annotations

import os
import subprocess
import sys

from bench.measure import Row, seconds
from bench.ours import Ours

FILE_MB = 20
FACT = "The vault code of the northern station is 7391.\n"


def fleet_run(ours: Ours) -> list[Row]:
    """`fleet run` with the built-in search program over 20 MB of text with a fact in it."""
    text = ours.folder / "large.txt"
    filler = "".join(f"line {number} tells of ordinary weather and of nothing else\n" for number in range(20_000))
    copies = FILE_MB * 1_000_000 // len(filler) + 1
    text.write_text(filler * (copies // 2) + FACT + filler * (copies - copies // 2))
    command = [sys.executable, "-m", "fleet_rlm.cli.main", "run", "What is the vault code of the northern station?"]
    command += ["--context", str(text), "--model", "demo/search", "--quiet"]
    environment = {**os.environ, "FLEET_HOME": str(ours.folder / "program")}

    def run() -> float:
        done: list[subprocess.CompletedProcess[str]] = []
        took = seconds(
            lambda: done.append(subprocess.run(command, env=environment, capture_output=True, text=True, check=False))
        )
        if done[0].returncode or "7391" not in done[0].stdout:
            raise RuntimeError(f"fleet run answered {done[0].stdout[:200]!r}: {done[0].stderr[:500]}")
        return took

    first = run()
    return [
        Row(f"fleet run over {FILE_MB} MB, start to exit, first time", "s", first, 10),
        Row(f"fleet run over {FILE_MB} MB, start to exit, again", "s", min(run(), run()), 10),
    ]
