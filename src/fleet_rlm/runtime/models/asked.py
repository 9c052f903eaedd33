"""What an RLM is asked, for what is made while it begins: DSPy asks for its interpreter without a word of it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import dspy
from dspy.predict.rlm import RLM
from dspy.utils.callback import BaseCallback

RLM_ASKED: ContextVar[Any] = ContextVar("fleet_rlm_asked", default=None)
"""Signature and inputs of the RLM that began last in this context."""


class NotesAsked(BaseCallback):
    """Notes what each RLM is asked when it begins."""

    def on_module_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        if isinstance(instance, RLM):  # pyright: ignore[reportArgumentType] - @experimental hides it
            RLM_ASKED.set([str(instance.signature.signature), inputs])


def noting(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function within which it is noted. Only there: with a callback set, each of DSPy's calls takes longer, and an
    iteration of a run half as long again."""

    @functools.wraps(function)
    def noted(*args: Any, **kwargs: Any) -> Any:
        with dspy.context(callbacks=[NotesAsked()]):
            return function(*args, **kwargs)

    return noted
