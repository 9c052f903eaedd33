"""The engine's own costs: set-up, iterations, sub-calls, large contexts, tear-down."""

from __future__ import annotations

import functools
import statistics
import time
from collections.abc import Callable
from typing import Any

import dspy

from bench import peer, rlms
from bench.measure import Row, gaps_ms, median_ms, seconds
from bench.ours import Ours
from bench.scripted import cells, one_cell, scripted
from fleet_rlm.runtime.factory import Workspace

TIMES = 9
ITERATIONS = 18
SUBMIT = "SUBMIT(answer='done')"
BATCH = 1_000
BATCH_DELAY_S = 0.05
BATCHES = 5
WIDE = 256
SERIAL = 200
LOOPS = 7
CONTEXT_MB = 100


def set_up(ours: Ours) -> list[Row]:
    """From the request to the first model call: turn, sandbox, Python in it, DSPy's facade."""

    def first_call(ask: Callable[[Any], object], before: Callable[[], None] = lambda: None) -> float:
        before()
        lm, engine = scripted(one_cell(SUBMIT))
        began = time.perf_counter()
        ask(lm)
        return engine.moments[0] - began

    first_call(ours.ask)
    warm = median_ms(lambda: first_call(ours.ask, ours.settle), TIMES)
    with ours.fresh("cold") as place:
        cold = first_call(lambda lm: ours.ask(lm, workspace=place)) * 1000
    theirs = median_ms(lambda: first_call(peer.ask), TIMES)
    return [
        Row("set-up to first call, warm", "ms", warm, 15, theirs),
        Row("set-up to first call, cold", "ms", cold, 150, theirs),
    ]


def iteration(ours: Ours) -> list[Row]:
    """What an iteration costs when model and code cost nothing; the first few, still warming, are left out."""

    def gaps(ask: Callable[[Any], object]) -> list[float]:
        lm, engine = scripted(cells("x = 1", ITERATIONS))
        ask(lm)
        return gaps_ms(engine.moments)[3:]

    def median_gap(ask: Callable[[Any], object]) -> float:
        return statistics.median(gap for _ in range(LOOPS) for gap in gaps(ask))

    for ask in (ours.ask, peer.ask):
        gaps(ask)
    theirs = rlms.measured("iteration", calls=ITERATIONS, delay_s=0.0)
    ours.settle()
    return [Row("engine overhead per iteration", "ms", median_gap(ours.ask), 1.5, median_gap(peer.ask), rlms=theirs)]


def batched(ours: Ours) -> list[Row]:
    """A thousand sub-calls of one cell; timed in the cell. All differ: what is asked twice at once is sent once.

    Ours is the median of a few, each begun when it is quiet: a batch of half a second meets whatever else the machine
    does. The peers' take seconds.
    """
    code = (
        "import time\nbegan = time.perf_counter()\n"
        f"got = llm_query_batched(['p%d' % i for i in range({BATCH})])\n"
        "took = time.perf_counter() - began\nSUBMIT(answer=str(took) if all(got) else 'failed')"
    )

    def run(ask: Callable[..., Any], delay_s: float) -> float:
        sub, _ = scripted(lambda _prompt: "ok", delay_s)
        return float(ask(scripted(one_cell(code))[0], sub_lm=sub).answer)

    def quiet_run(ask: Callable[..., Any], place: Workspace, delay_s: float) -> float:
        ours.settle(place)
        return run(ask, delay_s)

    def row(place: Workspace, how: str, delay_s: float, target: float | None) -> Row:
        ask = functools.partial(ours.ask, workspace=place)
        name = f"{BATCH:,} batched sub-calls of {delay_s * 1000:.0f} ms{how}"
        mine = statistics.median(quiet_run(ask, place, delay_s) for _ in range(BATCHES))
        theirs = rlms.measured("batched", calls=BATCH, delay_s=delay_s)
        return Row(name, "s", mine, target, run(peer.ask, delay_s), rlms=theirs)

    with ours.fresh("wide", {"FLEET_CALL_WIDTH": str(WIDE)}) as place:
        run(functools.partial(ours.ask, workspace=place), 0.0)  # the first turn also connects it to its server
        return [
            row(ours.workspace, " at 64", BATCH_DELAY_S, 1.0),
            row(place, f" at {WIDE}", BATCH_DELAY_S, 0.4),
            row(ours.workspace, "", 0.0, None),
        ]


def serial(ours: Ours) -> list[Row]:
    """One sub-call after the other; the median of a few loops."""
    code = (
        "import time\nllm_query('p')\nbegan = time.perf_counter()\n"
        f"for _ in range({SERIAL}):\n    llm_query('p')\n"
        f"SUBMIT(answer=str((time.perf_counter() - began) / {SERIAL} * 1000))"
    )

    def once(ask: Callable[..., Any]) -> float:
        sub, _ = scripted(lambda _prompt: "ok")
        return float(ask(scripted(one_cell(code))[0], sub_lm=sub).answer)

    def run(ask: Callable[..., Any]) -> float:
        return statistics.median(once(ask) for _ in range(LOOPS))

    theirs = rlms.measured("serial", calls=SERIAL, delay_s=0.0)
    once(ours.ask)
    ours.settle()
    return [Row("serial llm_query, 0 ms", "ms", run(ours.ask), 0.4, run(peer.ask), rlms=theirs)]


def context(ours: Ours) -> list[Row]:
    """A context of 100 MB: what the first cell that touches it costs, then each further iteration."""
    line = "a line of the large context, and then the next one\n"
    text = (line * (CONTEXT_MB * 1_000_000 // len(line) + 1))[: CONTEXT_MB * 1_000_000]
    ref = ours.workspace.contexts.add_text("large.txt", text)

    def gaps(ask: Callable[[Any], object], code: str = "n = len(context)") -> list[float]:
        lm, engine = scripted(cells(code, 8))
        ask(lm)
        return gaps_ms(engine.moments)

    def extra(ask: Callable[[Any], object], with_context: list[float]) -> float:
        return max(0.0, statistics.median(with_context[3:]) - statistics.median(gaps(ask, "n = 1")[3:]))

    brought = seconds(lambda: ours.ask(scripted(one_cell(SUBMIT))[0], contexts=[ref]))
    mine = gaps(lambda lm: ours.ask(lm, contexts=[ref]))
    theirs = gaps(lambda lm: peer.ask(lm, context=text))
    return [
        Row(f"{CONTEXT_MB} MB context: first turn, which brings it to the server", "s", brought),
        Row(f"{CONTEXT_MB} MB context: first cell that reads it", "s", mine[0] / 1000, 0.3, theirs[0] / 1000),
        Row(
            f"{CONTEXT_MB} MB context: added to each further iteration",
            "ms",
            extra(ours.ask, mine),
            1,
            extra(peer.ask, theirs),
        ),
    ]


def tear_down(ours: Ours) -> list[Row]:
    """What the caller waits for at the end of a session."""

    def end(interpreter: Any) -> float:
        interpreter.start()
        interpreter.execute("1")
        return seconds(interpreter.shutdown)

    mine = median_ms(lambda: end(ours.interpreter()), TIMES)
    theirs = median_ms(lambda: end(dspy.LocalInterpreter()), TIMES)
    return [Row("tear-down, for the caller", "ms", mine, 10, theirs)]
