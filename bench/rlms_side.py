"""`rlms` measured in its own environment: `.venv-bench/bin/python bench/rlms_side.py WHAT CALLS DELAY_S`.

Prints one number: milliseconds for `iteration` and `serial`, seconds for `batched` and `fan-out`. Its model is scripted
behind its own client class; its REPL is the local one, which runs the code in this very process.
"""

import asyncio
import itertools
import statistics
import sys
import threading
import time

import rlm.core.rlm as engine
from rlm.clients.base_lm import BaseLM
from rlm.core.types import ModelUsageSummary, UsageSummary

TIMED = "import time\nbegan = time.perf_counter()\n{work}\ntook = time.perf_counter() - began\n{end}"
END = "answer['content'] = {value}\nanswer['ready'] = True"


class Scripted(BaseLM):
    """Answers the turns of an RLM with `cells(turn)`, and a bare prompt with "ok"."""

    def __init__(self, cells, delay_s):
        super().__init__("bench/scripted")
        self._cells = cells
        self._delay_s = delay_s
        self._lock = threading.Lock()
        self.moments = []

    def completion(self, prompt):
        time.sleep(self._delay_s)
        return self._reply(prompt)

    async def acompletion(self, prompt):
        await asyncio.sleep(self._delay_s)
        return self._reply(prompt)

    def _reply(self, prompt):
        with self._lock:
            self.moments.append(time.perf_counter())
        if isinstance(prompt, str):
            return "ok"
        turn = sum(message["role"] == "assistant" for message in prompt)
        return f"next\n```repl\n{self._cells(turn)}\n```"

    def get_usage_summary(self):
        return UsageSummary({"bench/scripted": self.get_last_usage()})

    def get_last_usage(self):
        return ModelUsageSummary(1, 10, 1)


def run(root, others, **options):
    """One completion: the first client is the root's, every further one is made by `others`. Answer and seconds."""
    clients = itertools.chain([root], iter(others, None))
    engine.get_client = lambda *_: next(clients)
    began = time.perf_counter()
    answer = engine.RLM(backend_kwargs={"model_name": "bench/scripted"}, **options).completion("measure").response
    return answer, time.perf_counter() - began


def in_a_cell(work, value, calls, delay_s):
    code = TIMED.format(work=work.format(calls=calls), end=END.format(value=value))
    plain = Scripted(lambda _turn: code, delay_s)
    return float(run(plain, lambda: plain)[0])


def iteration(calls, _delay_s):
    root = Scripted(lambda turn: "x = 1" if turn < calls else END.format(value="'done'"), 0.0)
    run(root, lambda: root, max_iterations=calls + 2)
    gaps = [after - before for before, after in itertools.pairwise(root.moments)]
    return statistics.median(gaps[3:]) * 1000


def serial(calls, delay_s):
    work = "for _ in range({calls}):\n    llm_query('p')"
    return in_a_cell(work, f"str(took / {calls} * 1000)", calls, delay_s)


def batched(calls, delay_s):
    return in_a_cell("llm_query_batched(['p%d' % i for i in range({calls})])", "str(took)", calls, delay_s)


def fan_out(calls, delay_s):
    ask = f"got = rlm_query_batched(['one of many %d' % i for i in range({calls})])\n"
    root = Scripted(lambda _turn: ask + END.format(value="str(len(got)) + str(got[-1])"), 0.0)
    child = lambda: Scripted(lambda turn: END.format(value="half * 2") if turn else "half = 21", delay_s)  # noqa: E731
    answer, took = run(root, child, max_depth=2, max_concurrent_subcalls=calls)
    if answer != f"{calls}42":
        raise SystemExit(f"children were lost: {answer!r}")
    return took


if __name__ == "__main__":
    what, number, delay = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    print(globals()[what.replace("-", "_")](number, delay))
