"""What a call used and what that costs, from the entries that DSPy hands to `update_history`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from fleet_rlm.runtime.execution.budget import Cost
from fleet_rlm.runtime.models.prices import FREE, Price

Entry = Mapping[str, Any]


def cost_of(entries: Sequence[Entry], price: Price | None, *, sent_in_vain: bool) -> Cost:
    """What DSPy reported. A refused call costs nothing; one that was abandoned has an unknown price."""
    if not entries:
        return Cost(micro_usd=0 if price is FREE or sent_in_vain else None)
    prompt = completion = cached = 0
    micro: int | None = 0
    for entry in entries:
        used = tokens_of(entry.get("usage") or {})
        prompt, completion, cached = prompt + used[0], completion + used[1], cached + used[2]
        cost = _micro_usd(price, entry.get("cost"), *used)
        micro = None if cost is None or micro is None else micro + cost
    return Cost(prompt_tokens=prompt, completion_tokens=completion, cached_tokens=cached, micro_usd=micro)


def tokens_of(usage: Mapping[str, Any]) -> tuple[int, int, int]:
    """Prompt and completion tokens, and how many of the prompt the provider read from its cache."""
    details: Any = usage.get("prompt_tokens_details") or {}
    found = details.get("cached_tokens") if isinstance(details, Mapping) else getattr(details, "cached_tokens", None)
    cached = found or usage.get("cache_read_input_tokens") or 0
    return int(usage.get("prompt_tokens") or 0), int(usage.get("completion_tokens") or 0), int(cached)


def _micro_usd(price: Price | None, reported: float | None, prompt: int, completion: int, cached: int) -> int | None:
    """A person's own price goes first, then DSPy's reckoning, which knows more dimensions than our price."""
    if price is not None and (price.own or price is FREE or reported is None):
        # No usage, no cost: an answer without token counts has an unknown price, unless the price is nothing.
        told = prompt or completion or price is FREE
        return price.micro_usd(prompt, completion, cached) if told else None
    return None if reported is None else math.ceil(float(reported) * 1e6)
