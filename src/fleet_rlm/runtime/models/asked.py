"""What an RLM is asked, for what is made while it begins: DSPy asks for its interpreter without a word of it."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

from dspy.predict.rlm import RLM
from dspy.utils.callback import BaseCallback

RLM_ASKED: ContextVar[Any] = ContextVar("fleet_rlm_asked", default=None)
"""Signature and inputs of the RLM that began last in this context."""


class NotesAsked(BaseCallback):
    """Notes what each RLM is asked when it begins."""

    def on_module_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        if isinstance(instance, RLM):  # pyright: ignore[reportArgumentType] - @experimental hides it
            RLM_ASKED.set([str(instance.signature.signature), inputs])
