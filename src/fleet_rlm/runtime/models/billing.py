"""What a call used and what that costs, from the entries that DSPy hands to `update_history`.

A provider may say anything: what is no number of tokens, or no amount of money, is taken as not told.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

from fleet_rlm.runtime.execution.budget import Cost
from fleet_rlm.runtime.models.prices import FREE, Price

Entry = Mapping[str, Any]
MOST = 2**53
"""Of tokens, and of micro-dollars: the page counts in numbers that are exact up to here."""


def cost_of(entries: Sequence[Entry], price: Price | None, *, sent_in_vain: bool) -> Cost:
    """What DSPy reported. Nothing for a request `sent_in_vain`; without a report the price is unknown. Never raises."""
    if not entries:
        return Cost(micro_usd=0 if price is FREE or sent_in_vain else None)
    prompt = completion = cached = 0
    micro: int | None = 0
    for entry in entries:
        usage = _usage(entry)
        used = tokens_of(usage)
        prompt, completion, cached = prompt + used[0], completion + used[1], cached + used[2]
        cost = _micro_usd(price, entry.get("cost"), usage)
        micro = None if cost is None or micro is None else micro + cost
    return Cost(prompt_tokens=prompt, completion_tokens=completion, cached_tokens=cached, micro_usd=micro)


def tokens_of(usage: Mapping[str, Any]) -> tuple[int, int, int]:
    """Prompt and completion tokens, and how many of the prompt the provider read from its cache. 0: not told."""
    details: Any = usage.get("prompt_tokens_details") or {}
    found = details.get("cached_tokens") if isinstance(details, Mapping) else getattr(details, "cached_tokens", None)
    cached = _count(found) or _count(usage.get("cache_read_input_tokens")) or 0
    return _count(usage.get("prompt_tokens")) or 0, _count(usage.get("completion_tokens")) or 0, cached


def _usage(entry: Entry) -> Mapping[str, Any]:
    usage = entry.get("usage")
    return cast("Mapping[str, Any]", usage) if isinstance(usage, Mapping) else {}


def _count(told: object) -> int | None:
    """A number of tokens, or None where none is told."""
    if isinstance(told, str) and len(told) <= len(str(MOST)) and told.isascii() and told.isdigit():
        return _count(int(told))
    return int(told) if isinstance(told, int | float) and 0 <= told <= MOST else None


def _micro_usd(price: Price | None, reported: object, usage: Mapping[str, Any]) -> int | None:
    """A person's own price goes first, then DSPy's reckoning, which knows more dimensions than our price."""
    if isinstance(reported, bool) or not isinstance(reported, int | float) or not 0 <= reported <= MOST / 1e6:
        reported = None
    if price is not None and (price.own or price is FREE or reported is None):
        return price.micro_usd(*tokens_of(usage)) if price is FREE or _told(price, usage) else None
    return None if reported is None else math.ceil(reported * 1e6)


def _told(price: Price, usage: Mapping[str, Any]) -> bool:
    """Whether the usage tells all that the price asks: no usage, no cost, and half of it is no half cost."""
    prompt, completion = _count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens"))
    whole = (prompt is not None or not price.input_usd) and (completion is not None or not price.output_usd)
    return whole and bool(prompt or completion)
