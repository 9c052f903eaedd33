"""What DSPy itself takes, in the same run: below it nothing that is built on it can come."""

from __future__ import annotations

import statistics
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import dspy
from dspy.primitives.code_interpreter import FinalOutput

from bench import peer
from bench.engine import BATCH, BATCH_DELAY_S, ITERATIONS, LOOPS, SERIAL, WIDE
from bench.measure import Row, gaps_ms, seconds
from bench.ours import Ours
from bench.scripted import cells, scripted


class _NoRepl:
    """An interpreter that runs nothing: what remains of an iteration is DSPy's own part."""

    execution_instructions = ""

    def __init__(self) -> None:
        self.tools: dict[str, Any] = {}
        self.output_fields: Any = None

    def start(self) -> None:
        """Nothing to start."""

    def shutdown(self) -> None:
        """Nothing to end."""

    def execute(self, code: str, variables: dict[str, Any] | None = None) -> Any:
        """The answer where the code submits one."""
        return FinalOutput({"answer": "done"}) if code.startswith("SUBMIT(") else ""


def floors(_ours: Ours) -> list[Row]:
    """An iteration without a REPL, a call of its LM, and many of them at once in threads of their own."""

    def gaps() -> list[float]:
        lm, engine = scripted(cells("x = 1", ITERATIONS))
        rlm = peer.module("task -> answer", interpreter_factory=_NoRepl)
        with dspy.context(lm=lm):
            rlm(task="measure")
        return gaps_ms(engine.moments)[3:]

    def calls(number: int, width: int, delay_s: float) -> float:
        lm, _ = scripted(lambda _prompt: "ok", delay_s)
        with ThreadPoolExecutor(width) as pool:
            return seconds(lambda: list(pool.map(lambda n: lm(f"p{n}"), range(number))))

    gaps(), calls(SERIAL, 1, 0.0)
    iteration = statistics.median(gap for _ in range(LOOPS) for gap in gaps())
    one = statistics.median(calls(SERIAL, 1, 0.0) for _ in range(LOOPS)) / SERIAL * 1000
    wide = calls(BATCH, WIDE, BATCH_DELAY_S)
    return [
        Row("DSPy alone: an iteration whose REPL does nothing", "ms", None, peer=iteration),
        Row("DSPy alone: a call of its LM, 0 ms", "ms", None, peer=one),
        Row(f"DSPy alone: {BATCH:,} calls of its LM of 50 ms in {WIDE} threads", "s", None, peer=wide),
    ]
