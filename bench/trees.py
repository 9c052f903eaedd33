"""Many at once: a fan-out of child runs, and how little one session's cell disturbs another session."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any

import dspy

from bench import peer, rlms
from bench.measure import Row, gaps_ms, seconds
from bench.ours import Ours
from bench.scripted import FIRST_TURN, action, one_cell, scripted, scripted_on_a_loop
from fleet_rlm.runtime.execution.events import Draft, TurnStarted
from fleet_rlm.runtime.factory import Workspace

CHILDREN = 64
AT_ONCE = CHILDREN - 1  # the root's own sandbox counts among the 64 that a turn may have
BEAT_S = 0.005
SLOW_S = 60.0
CHILD = "one of many"
ASK_ALL = f"got = ask_all(tasks=['{CHILD} %d' % i for i in range({CHILDREN})])\nSUBMIT(answer=str(len(got)) + got[-1])"


def fan_out(ours: Ours) -> list[Row]:
    """A run that asks 64 children, two turns each, and waits for all: with little and with much made ahead."""

    def measured(place: Workspace, delay_s: float) -> float:
        return seconds(lambda: _ours(ours, place, delay_s))

    def settled(place: Workspace, delay_s: float) -> float:
        ours.settle(place)
        return measured(place, delay_s)

    with ours.fresh("fan-out") as place:
        _ours(ours, place, 0.0, children=4)  # what every process does once
        waiting = [("right after the start", 0.0, 2.0, measured(place, 0.0))]
    with ours.fresh("fan-outs") as place:
        _ours(ours, place, 0.0, children=4)
        waiting.append(("the first time in a while", 0.0, 2.0, settled(place, 0.0)))
        waiting += [("again", delay, target, settled(place, delay)) for delay, target in ((0.0, 2.0), (0.05, 1.0))]
    theirs = {delay: seconds(lambda d=delay: _peer(d)) for delay in (0.0, 0.05)}
    fanned = {delay: rlms.measured("fan-out", calls=CHILDREN, delay_s=delay) for delay in theirs}
    name = f"fan-out to {CHILDREN} children of 2 turns"
    return [
        Row(f"{name}, {delay * 1000:.0f} ms a turn, {how}", "s", mine, target, theirs[delay], rlms=fanned[delay])
        for how, delay, target, mine in waiting
    ]


def cancel(ours: Ours) -> list[Row]:
    """From the cancel of a turn with 64 children, all of which wait for their model, to its end in the journal."""

    def once() -> float:
        child, engine = scripted(_child_reply, SLOW_S)
        root, _ = scripted(one_cell(ASK_ALL.replace("ask_all", "rlm_query_batched")))
        turn = ours.submit(root, sub_lm=child)
        until = time.monotonic() + SLOW_S / 2
        while len(engine.moments) < AT_ONCE and time.monotonic() < until:
            time.sleep(0.02)
        assert len(engine.moments) >= AT_ONCE, f"only {len(engine.moments)} children asked their model"
        began = time.perf_counter()
        ours.workspace.cancel(turn)
        result = ours.workspace.wait(turn, SLOW_S)
        took = time.perf_counter() - began
        assert result.status == "cancelled", result
        return took

    once()
    return [Row(f"cancel of a turn with {CHILDREN} children", "s", once(), 1.0)]


def _ours(ours: Ours, place: Workspace, delay_s: float, children: int = CHILDREN) -> None:
    child, _ = scripted(_child_reply, delay_s)
    ask_all = ASK_ALL.replace("ask_all", "rlm_query_batched").replace(f"range({CHILDREN})", f"range({children})")
    result = ours.ask(scripted(one_cell(ask_all))[0], sub_lm=child, workspace=place)
    assert (result.answer, result.runs) == (f"{children}42", children + 1), result


def _peer(delay_s: float) -> None:
    child, _ = scripted(_child_reply, delay_s)
    root, _ = scripted(one_cell(ASK_ALL))

    def one(task: str) -> str:
        with dspy.context(lm=child):
            return peer.module("task -> answer")(task=task).answer

    def ask_all(tasks: list[str]) -> list[str]:
        """Ask one child each, side by side."""
        with ThreadPoolExecutor(CHILDREN) as pool:
            return [future.result() for future in [pool.submit(copy_context().run, one, task) for task in tasks]]

    assert peer.ask(root, tools=[ask_all]).answer == f"{CHILDREN}42"


def _child_reply(prompt: str) -> str:
    return action("half = 21" if FIRST_TURN in prompt else "SUBMIT(answer=str(half * 2))")


def stall(ours: Ours) -> list[Row]:
    """How late another session's events come, at worst, while a cell of one second sleeps, or computes."""
    codes = {
        "sleeps": "import time\ntime.sleep(1)\nSUBMIT(answer='done')",
        "computes": "import time\nend = time.time() + 1\nwhile time.time() < end: pass\nSUBMIT(answer='done')",
    }
    ours.settle()  # after what was measured before, new sandboxes are made ready
    quiet = _largest_gap(ours, lambda: time.sleep(1))
    rows = [Row("another session's events held up, nothing else runs", "ms", quiet)]
    for what, code in codes.items():
        mine = _largest_gap(ours, lambda c=code: ours.ask(scripted(one_cell(c))[0]))
        theirs = asyncio.run(_peer_gap(code))
        rows.append(Row(f"the same while a 1 s cell {what}", "ms", mine, 20, theirs))
    return rows


def _largest_gap(ours: Ours, work: Callable[[], object]) -> float:
    """One session tells something every 5 ms; how much longer a listener hears nothing while `work` runs. In ms."""
    workspace = ours.workspace
    sid = workspace.sessions.create("beats").sid
    heard: list[float] = []
    leave = workspace.journal.listen(sid, lambda _events: heard.append(time.perf_counter()))
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(BEAT_S):
            workspace.journal.append(sid, [Draft(data=TurnStarted(), turn="trn_beat")])

    beating = threading.Thread(target=beat)
    beating.start()
    try:
        time.sleep(0.1)
        work()
    finally:
        ended.set()
        beating.join()
        leave()
    return max(gaps_ms(heard)) - BEAT_S * 1000


async def _peer_gap(code: str) -> float:
    """The same for an event loop on which `dspy.RLM.acall` runs."""
    moments: list[float] = []

    async def beat() -> None:
        while True:
            moments.append(time.perf_counter())
            await asyncio.sleep(BEAT_S)

    beating = asyncio.create_task(beat())
    rlm: Any = peer.module("task -> answer")
    with dspy.context(lm=scripted_on_a_loop(one_cell(code))):
        await rlm.acall(task="measure")
    moments.append(time.perf_counter())
    beating.cancel()
    return max(gaps_ms(moments)) - BEAT_S * 1000
