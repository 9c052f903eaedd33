"""A model with everything that is known about it before it is asked."""

from __future__ import annotations

from dataclasses import dataclass

from fleet_rlm.runtime.config import Secret, Source
from fleet_rlm.runtime.models.prices import Price


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """What a model string came to mean.

    `model` is the string as written, `wire_model` the one that DSPy gets. `api_base` is set for servers of the
    person's own. `price` None = unknown, which is not free. `context_window` in tokens.
    Sources: DSPy's bundled catalogue for known providers, a probe (see probe.py) for servers of one's own.
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
