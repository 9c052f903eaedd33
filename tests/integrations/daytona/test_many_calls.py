"""Code that calls host tools without end, past the worker's own limit, holds up itself alone."""

from __future__ import annotations

import threading
import time
import tracemalloc
from collections.abc import Callable

import pytest

from fleet_rlm.integrations.daytona.interpreter import DaytonaInterpreter
from fleet_rlm.integrations.daytona.session import MOST_CALL_BYTES, MOST_CALLS

CALLS = 3000
LINE = """
(control,) = [each.cell_contents for each in slow.__closure__ if hasattr(each.cell_contents, "begin")]
line = control._host or control._parent
"""
FORGED = (
    LINE
    + f"""
def message(n):
    body = b'{{"id":%d,"name":"slow","args":[%d],"kwargs":{{}}}}' % (10**6 + n, n)
    return len(body).to_bytes(4, "big") + (3).to_bytes(4, "big") + body
line.sendall(b"".join(map(message, range({CALLS}))))
"""
)
LARGE_CALLS, LARGE = 12, 20 << 20
LARGE_FORGED = (
    LINE
    + f"""
pad = b"x" * {LARGE}
for n in range({LARGE_CALLS}):
    body = b'{{"id":%d,"name":"slow","args":[%d],"kwargs":{{}},"pad":"%s"}}' % (10**6 + n, n, pad)
    line.sendall(len(body).to_bytes(4, "big") + (3).to_bytes(4, "big") + body)
    del body
"""
)

MANY_VALUES = (
    LINE
    + f"""
pad = b",".join([b"[]"] * {1 << 20})
for n in range({LARGE_CALLS}):
    body = b'{{"id":%d,"name":"slow","args":[%d,[%s]],"kwargs":{{}}}}' % (10**6 + n, n, pad)
    line.sendall(len(body).to_bytes(4, "big") + (3).to_bytes(4, "big") + body)
    del body
"""
)


def with_slow_tool(it: DaytonaInterpreter) -> tuple[list[int], threading.Event]:
    """The calls of its tool `slow` that have begun, and what lets them go."""
    begun, release = list[int](), threading.Event()

    def slow(n: int, more: object = None) -> int:
        begun.append(n)
        release.wait(60)
        return n

    it.tools["slow"] = slow
    it.tools["echo"] = lambda value: value
    return begun, release


def all_begun(begun: list[int], most: int) -> int:
    """How many have begun, once `most` have and there was time for more."""
    deadline = time.monotonic() + 60
    while len(begun) < most and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.3)
    return len(begun)


@pytest.mark.parametrize("transport", ["direct", "terminal", "session"])
def test_nothing_is_read_on_until_they_are_answered(
    transport: str, request: pytest.FixtureRequest, make: Callable[..., DaytonaInterpreter]
) -> None:
    runtime = request.getfixturevalue("runtime" if transport == "direct" else f"{transport}_runtime")
    it = make(runtime=runtime)
    begun, release = with_slow_tool(it)
    cell = threading.Thread(target=it.execute, args=(FORGED,), daemon=True)
    cell.start()
    assert all_begun(begun, MOST_CALLS) == MOST_CALLS and cell.is_alive()
    release.set()
    cell.join(60)
    assert not cell.is_alive() and sorted(begun) == list(range(CALLS))
    assert it.execute("print(echo(1))") == "1"


@pytest.mark.parametrize("transport", ["direct", "terminal"])
def test_large_ones_wait_in_the_sandbox_and_what_is_no_part_of_a_call_is_not_kept(
    transport: str, request: pytest.FixtureRequest, make: Callable[..., DaytonaInterpreter]
) -> None:
    runtime = request.getfixturevalue("runtime" if transport == "direct" else f"{transport}_runtime")
    it = make(runtime=runtime)
    begun, release = with_slow_tool(it)
    it.execute("1")
    cell = threading.Thread(target=it.execute, args=(LARGE_FORGED,), daemon=True)
    most = -(-MOST_CALL_BYTES // LARGE)
    tracemalloc.start()
    try:
        cell.start()
        assert all_begun(begun, most) == most and cell.is_alive()
        assert tracemalloc.get_traced_memory()[0] < 2 * LARGE
    finally:
        tracemalloc.stop()
        release.set()
    cell.join(60)
    assert not cell.is_alive() and sorted(begun) == list(range(LARGE_CALLS))
    assert it.execute("print(echo(1))") == "1"


def test_what_they_are_decoded_into_counts(make: Callable[..., DaytonaInterpreter], runtime: object) -> None:
    """Three megabytes of empty lists take many times that: with the second call the room is full."""
    it = make(runtime=runtime)
    begun, release = with_slow_tool(it)
    it.execute("1")
    cell = threading.Thread(target=it.execute, args=(MANY_VALUES,), daemon=True)
    cell.start()
    most = all_begun(begun, 2)
    time.sleep(3)
    assert most == len(begun) == 2 and cell.is_alive()
    release.set()
    cell.join(60)
    assert not cell.is_alive() and sorted(begun) == list(range(LARGE_CALLS))
