"""The peer: `dspy.RLM` on `dspy.LocalInterpreter`, which isolates nothing. The same cells, the same scripted models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dspy

MAX_CALLS = 5_000


def ask(
    lm: dspy.BaseLM,
    *,
    sub_lm: dspy.BaseLM | None = None,
    context: str | None = None,
    tools: list[Callable[..., Any]] | None = None,
) -> Any:
    """One run; gives the prediction."""
    inputs = {"task": "measure"} if context is None else {"task": "measure", "context": context}
    rlm = module(f"{', '.join(inputs)} -> answer", sub_lm=sub_lm, tools=tools)
    with dspy.context(lm=lm):
        return rlm(**inputs)


def module(signature: str, **options: Any) -> Any:
    """A `dspy.RLM` as its documentation makes one, with room for the calls measured here."""
    options = {"interpreter_factory": dspy.LocalInterpreter, **options}
    return dspy.RLM(signature, max_llm_calls=MAX_CALLS, **options)
