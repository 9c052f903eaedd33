"""A model with everything that is known about it before it is asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from fleet_rlm.runtime.config import Secret, Source
from fleet_rlm.runtime.models.prices import Price

SMALL_WINDOW: Final = 16_384
"""Tokens. Below it the prompts of a recursive run soon do not fit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """What a model string came to mean.

    `model` is the string as written, `wire_model` the one that DSPy gets. `api_base` is set for servers of the
    person's own. `price` None = unknown, which is not free. `context_window` in tokens.
    `writes_code` False: it failed the smallest task of an agent. Sources: DSPy's bundled catalogue for known
    providers, a probe (see probe.py) on the day `probed` (ISO) for servers of one's own; None: never asked.
    """

    model: str
    wire_model: str
    label: str
    source: Source
    demo: bool = False
    api_base: str | None = None
    api_key: Secret | None = None
    key_variable: str | None = None
    context_window: int | None = None
    price: Price | None = None
    function_calling: bool = False
    response_schema: bool = False
    writes_code: bool = True
    probed: str | None = None

    @property
    def weak(self) -> str | None:
        """Why this model is likely too weak for agents, in plain words, or None. A guess is never made of nothing."""
        if self.demo:
            return None
        day = f" ({self.probed})" if self.probed else ""
        if not self.writes_code:
            return f"it did not write the code of a small task when it was tried{day}"
        if self.context_window is not None and self.context_window < SMALL_WINDOW:
            return f"it sees {self.context_window:,} tokens at once{day}; {SMALL_WINDOW:,} are the least for agents"
        return None

    def cost_usd(self, prompt_tokens: int, completion_tokens: int) -> float | None:
        """An estimate from token counts alone, or None where the price is unknown."""
        return None if self.price is None else self.price.micro_usd(prompt_tokens, completion_tokens) / 1e6


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a connection test. `ms` is what it took; `fix` says what to do when it failed."""

    name: str
    ok: bool
    ms: float
    detail: str
    fix: str | None = None


@dataclass(frozen=True, slots=True)
class ModelOption:
    """A model that could be chosen right now, and why: a found key, a found server, or the demo program."""

    model: str
    label: str
    reason: str
    api_base: str | None = None
