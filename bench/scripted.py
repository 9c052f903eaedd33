"""Models that answer by a function, at once or after a fixed time: what remains is the engine's own cost."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import dspy
from dspy.lm15 import Message, Response, TextPart, Usage

FIRST_TURN = "You have not interacted"
"""Stands in the prompt of an RLM's first iteration, DSPy's and ours."""


class Engine:
    """Behind DSPy's own engine interface. `moments`: when each call began, in seconds of perf_counter."""

    def __init__(self, reply: Callable[[str], str], delay_s: float) -> None:
        self._reply = reply
        self._delay_s = delay_s
        self._lock = threading.Lock()
        self.moments: list[float] = []

    def complete(self, request: Any) -> Response:
        with self._lock:
            self.moments.append(time.perf_counter())
        parts = [part.text for message in request.messages for part in message.parts if hasattr(part, "text")]
        text = "\n\n".join([request.system or "", *parts])
        answer = self._reply(text)
        if self._delay_s:
            time.sleep(self._delay_s)
        usage = Usage(input_tokens=len(text) // 4, output_tokens=len(answer) // 4, total_tokens=len(text) // 4)
        message = Message.assistant([TextPart(answer)])
        return Response(id=None, model=request.model, message=message, finish_reason="stop", usage=usage)

    def close(self) -> None:
        """Nothing to close."""


class AsyncEngine:
    """The same behind DSPy's asynchronous interface, which only a peer measured on an event loop needs."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def complete(self, request: Any) -> Response:
        return self._engine.complete(request)

    async def aclose(self) -> None:
        """Nothing to close."""


def scripted_on_a_loop(reply: Callable[[str], str]) -> dspy.LM:
    """A DSPy model for `acall`. Ours does not get it: a model with an asynchronous twin would be streamed."""
    engine = Engine(reply, 0.0)
    return dspy.LM("bench/scripted", engine=engine, async_engine=AsyncEngine(engine), cache=False)


def scripted(reply: Callable[[str], str], delay_s: float = 0.0) -> tuple[dspy.LM, Engine]:
    """A DSPy model that answers with `reply(prompt)`, and its engine."""
    engine = Engine(reply, delay_s)
    return dspy.LM("bench/scripted", engine=engine, cache=False), engine


def action(code: str) -> str:
    """A reply that makes an RLM run `code`."""
    return f"[[ ## reasoning ## ]]\nnext\n\n[[ ## code ## ]]\n```python\n{code}\n```\n\n[[ ## completed ## ]]"


def one_cell(code: str) -> Callable[[str], str]:
    """A model whose every action is this code."""
    return lambda _prompt: action(code)


def cells(code: str, number: int) -> Callable[[str], str]:
    """A model that runs `code` so many times, then submits. One at a time: it counts its calls.

    No two cells are the same text: a run whose model repeats itself is ended."""
    steps = iter(range(number))

    def reply(_prompt: str) -> str:
        step = next(steps, None)
        return action("SUBMIT(answer='done')" if step is None else f"{code}  # {step}")

    return reply
