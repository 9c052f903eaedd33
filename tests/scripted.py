"""Scripted models: a function from the prompt's text to a reply, behind DSPy's own engine interface."""

import threading
import time
from collections.abc import Callable
from typing import Any

import dspy
from dspy.lm15 import Message, Response, TextPart, Usage


class ScriptedEngine:
    """Calls `reply(prompt_text)`; counts calls and the most that were in flight at once."""

    def __init__(self, reply: Callable[[str], str], delay_s: float = 0.0, usage: Usage | None = None) -> None:
        self._reply = reply
        self._usage = usage
        self._delay_s = delay_s
        self._lock = threading.Lock()
        self.prompts: list[str] = []
        self.in_flight = 0
        self.most_in_flight = 0

    def complete(self, request):
        text = "\n\n".join(part.text for message in request.messages for part in message.parts if hasattr(part, "text"))
        text = f"{request.system or ''}\n\n{text}"
        with self._lock:
            self.prompts.append(text)
            self.in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            if self._delay_s:
                time.sleep(self._delay_s)
            answer = self._reply(text)
        finally:
            with self._lock:
                self.in_flight -= 1
        return Response(
            id=None,
            model=request.model,
            message=Message.assistant([TextPart(answer)]),
            finish_reason="stop",
            usage=self._usage
            or Usage(
                input_tokens=len(text) // 4, output_tokens=len(answer) // 4, total_tokens=(len(text) + len(answer)) // 4
            ),
        )

    def close(self) -> None:
        pass


def scripted(
    reply: Callable[[str], str], *, delay_s: float = 0.0, usage: Usage | None = None, **options: Any
) -> dspy.LM:
    """A DSPy LM that answers with `reply`. Its engine is at `lm.engine`; `usage` is what each call reports."""
    return dspy.LM("test/scripted", engine=ScriptedEngine(reply, delay_s, usage), **{"cache": False, **options})


def action(code: str, reasoning: str = "next step") -> str:
    """A reply that makes an RLM run `code`."""
    return f"[[ ## reasoning ## ]]\n{reasoning}\n\n[[ ## code ## ]]\n```python\n{code}\n```\n\n[[ ## completed ## ]]"


def field(name: str, value: str) -> str:
    """A reply that sets one output field."""
    return f"[[ ## {name} ## ]]\n{value}\n\n[[ ## completed ## ]]"
