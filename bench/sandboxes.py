"""The sandboxes themselves: start, many at once, memory, callbacks, files."""

from __future__ import annotations

import hashlib
import statistics
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import dspy

from bench.measure import Row, median_ms, seconds, together
from bench.memory import Unreadable, server_memory_mb, wait_for_spares
from bench.ours import Ours
from fleet_rlm.runtime.factory import Workspace

TIMES = 25
MANY = 64
MEASURED_FOR_MEMORY = 32
FILE_MB = 100

ROUND_TRIPS = """
import statistics, time
def once():
    began = time.perf_counter()
    echo(x=1)
    return time.perf_counter() - began
[once() for _ in range(20)]
print(statistics.median(once() for _ in range(400)) * 1000)
"""
PARALLEL = """
import time
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor(64) as pool:
    list(pool.map(lambda i: echo(x=i), range(500)))
    began = time.perf_counter()
    list(pool.map(lambda i: echo(x=i), range(6000)))
    took = time.perf_counter() - began
print(6000 / took)
"""


def start(ours: Ours) -> list[Row]:
    """From the request to the first cell's result."""

    def first_cell(make: Callable[[], Any], before: Callable[[], None] = lambda: None) -> float:
        before()
        made = make()
        took = seconds(lambda: made.execute("1 + 1"))
        made.shutdown()
        return took

    first_cell(ours.interpreter)
    warm = median_ms(lambda: first_cell(ours.interpreter, ours.settle), TIMES)
    in_a_row = median_ms(lambda: first_cell(ours.interpreter), TIMES)
    with ours.fresh("cold-sandbox") as place:
        cold = first_cell(lambda: ours.interpreter(place)) * 1000
    theirs = median_ms(lambda: first_cell(dspy.LocalInterpreter), TIMES)
    return [
        Row("sandbox from request to first cell, warm", "ms", warm, 40, theirs),
        Row("the same, one after the other without a pause", "ms", in_a_row, None, theirs),
        Row("sandbox from request to first cell, cold", "ms", cold, 150, theirs),
    ]


def many(ours: Ours) -> list[Row]:
    """64 sandboxes asked for at once, until each has run a cell: for the first time in a while, and again."""

    def all_at_once(make: Callable[[], Any], before: Callable[[], None] = lambda: None) -> float:
        before()
        made = [make() for _ in range(MANY)]
        took = together(lambda index: made[index].execute("1 + 1"), MANY)
        for each in made:
            each.shutdown()
        return took

    def used(place: Workspace) -> Callable[[], Any]:
        with ours.interpreter(place) as warm:
            warm.execute("1")
        return lambda: ours.interpreter(place)

    with ours.fresh("right-after-the-start") as place:
        none = all_at_once(used(place))
    with ours.fresh("many") as place:
        make = used(place)
        first = all_at_once(make, lambda: ours.settle(place))
        again = statistics.median([all_at_once(make, lambda: ours.settle(place)) for _ in range(3)])
    theirs = all_at_once(dspy.LocalInterpreter)
    return [
        Row(f"{MANY} sandboxes at once, the first time in a while", "s", first, 1.0, theirs),
        Row("the same again within two minutes", "s", again, 1.0, theirs),
        Row("the same right after the start, nothing begun ahead", "s", none, 1.0, theirs),
    ]


def memory(ours: Ours) -> list[Row]:
    """Proportional set size (PSS) of the server with 32 idle sandboxes that have run a cell, and without."""
    with ExitStack() as stack:
        place = stack.enter_context(ours.fresh("memory"))
        try:
            spares = wait_for_spares()
            before = server_memory_mb()
            for _ in range(MEASURED_FOR_MEMORY):
                stack.enter_context(ours.interpreter(place)).execute("x = 1")
            ours.settle(place)
            assert wait_for_spares() == spares, "the figure needs as many of those that are begun ahead"
            after = server_memory_mb()
        except Unreadable as reason:
            print(f"memory: not measured: {reason}")
            return []
        more = MEASURED_FOR_MEMORY + place.sandboxes.idle  # none was made ahead before the first was asked for
    return [Row("memory of a sandbox beyond the shared process", "MB", (after - before) / more, 10)]


def callbacks(ours: Ours) -> list[Row]:
    """Host functions called by the code: one after the other, and from 64 threads."""

    def printed(interpreter: Any, code: str) -> float:
        interpreter.tools["echo"] = lambda x: x
        try:
            return float(str(interpreter.execute(code)).strip())
        finally:
            interpreter.shutdown()

    trip, their_trip = printed(ours.interpreter(), ROUND_TRIPS), printed(dspy.LocalInterpreter(), ROUND_TRIPS)
    rate, their_rate = printed(ours.interpreter(), PARALLEL), printed(dspy.LocalInterpreter(), PARALLEL)
    return [
        Row("callback round trip, median", "ms", trip, 1.0, their_trip),
        Row("64 parallel callbacks", "/s", rate, 4000, their_rate, at_least=True),
    ]


def files(ours: Ours) -> list[Row]:
    """100 MB into a sandbox as a file, then mounted read-only by others."""
    data, index = ours.folder / "large.bin", ours.folder / "index.json"
    data.write_bytes(b"0123456789abcde\n" * (FILE_MB * 1_000_000 // 16))
    index.write_text("{}")
    name = hashlib.sha256(b"bench").hexdigest()
    small = hashlib.sha256(b"small").hexdigest()
    ours.sandboxes.stage_context(small, index, index)
    brought = seconds(lambda: ours.sandboxes.stage_context(name, data, index))

    def start_and_use(contexts: list[str]) -> None:
        with ours.interpreter(contexts=contexts) as made:
            made.execute(f"open('/contexts/{contexts[0]}/data', 'rb').read(1)")

    plain = median_ms(lambda: seconds(lambda: start_and_use([small])), TIMES)
    mounted = median_ms(lambda: seconds(lambda: start_and_use([name])), TIMES)
    return [
        Row(f"{FILE_MB} MB into a sandbox by file", "s", brought, 0.6),
        Row(
            f"{FILE_MB} MB shared read-only with one more sandbox, beside a small file",
            "ms",
            max(0.0, mounted - plain),
            5,
        ),
    ]
