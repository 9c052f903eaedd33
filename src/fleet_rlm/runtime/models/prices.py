"""What a language-model call costs: a price with its source and its date, never a guess.

A price comes from the settings (`[prices."openai/my-model"]`), or from the catalogue that DSPy ships. Where neither
knows a model its price is unknown, which is not free. US dollars per million tokens are micro-dollars per token, the
unit in which the budget counts, so no factor stands anywhere below.

Light to import (no dspy): the settings are read with it.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any, Final, cast

CATALOGUE_DATES: Final = {"1.105.0": "2026-10-11"}
"""When the price list that DSPy bundles was published, by its version; source: the package index's upload times."""

_FIELDS: Final = ("input_usd_per_million", "output_usd_per_million", "cached_usd_per_million", "date")
_HIGHEST: Final = 1_000_000.0
"""US dollars per million tokens; more is a slip of the decimal point."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """A model's price. Units: US dollars per million tokens = micro-dollars per token.

    `cached_usd`: prompt tokens that the provider read from its cache (None: like any other prompt token).
    `written_usd`: those that it wrote there, which some charge more for; only a promise counts with it.
    `source` names who says so: "settings", "built in" or the catalogue with its version. `date` (ISO): as of when.
    """

    input_usd: float
    output_usd: float
    cached_usd: float | None = None
    written_usd: float | None = None
    source: str
    date: str | None = None

    @property
    def own(self) -> bool:
        """Whether a person set it; then it goes before what DSPy reckons."""
        return self.source == "settings"

    def micro_usd(self, prompt_tokens: int, completion_tokens: int, cached_tokens: int = 0) -> int:
        """What a call costs, rounded up. `prompt_tokens` include the cached ones."""
        cached = min(cached_tokens, prompt_tokens)
        rate = self.input_usd if self.cached_usd is None else self.cached_usd
        return _up((prompt_tokens - cached) * self.input_usd + cached * rate + completion_tokens * self.output_usd)

    def at_most(self, prompt_tokens: int, completion_tokens: int) -> int:
        """Micro-dollars to promise before a call of at most that size: as if nothing were read from a cache."""
        dearest = max(self.input_usd, self.cached_usd or 0.0, self.written_usd or 0.0)
        return _up(prompt_tokens * dearest + completion_tokens * self.output_usd)


FREE: Final = Price(input_usd=0.0, output_usd=0.0, source="built in")
"""The demo program: no model, no price."""


def _up(micro: float) -> int:
    # 0.3 * 1e6 is 299999.99999999994 or 300000.00000000006 by chance; a millionth of a micro-dollar is noise.
    return math.ceil(round(micro, 6))


def read_prices(tables: object) -> dict[str, Price]:
    """The `[prices]` table of the settings: a table for each model string.

    Errors: ValueError with the model and what was expected.
    """
    if not isinstance(tables, Mapping):
        raise ValueError('expected tables such as [prices."openai/my-model"]')
    return {str(name): _price(str(name), table) for name, table in cast("Mapping[str, object]", tables).items()}


def _price(model: str, table: object) -> Price:
    if "/" not in model:
        raise ValueError(f"{model!r}: a price belongs to a model string such as openai/my-model")
    if not isinstance(table, Mapping):
        raise ValueError(f"{model}: expected a table with {', '.join(_FIELDS)}")
    fields = cast("Mapping[str, object]", table)
    for name in fields:
        if name not in _FIELDS:
            close = difflib.get_close_matches(name, _FIELDS, n=1)
            raise ValueError(f"{model}: unknown {name!r}" + (f", did you mean {close[0]}?" if close else ""))
    for name in _FIELDS[:2]:
        if name not in fields:
            raise ValueError(f"{model}: {name} is missing")
    return Price(
        input_usd=_dollars(model, fields, _FIELDS[0]),
        output_usd=_dollars(model, fields, _FIELDS[1]),
        cached_usd=_dollars(model, fields, _FIELDS[2]) if _FIELDS[2] in fields else None,
        source="settings",
        date=_day(model, fields.get("date")),
    )


def _dollars(model: str, fields: Mapping[str, object], name: str) -> float:
    value = fields[name]
    number = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    if not 0 <= number <= _HIGHEST:
        raise ValueError(f"{model}: {name} must be US dollars from 0 to {_HIGHEST:,.0f}, not {value!r}")
    return number


def _day(model: str, value: object) -> str | None:
    """An ISO date: a text, or TOML's own date."""
    if value is None:
        return None
    try:
        return date.fromisoformat(value).isoformat() if isinstance(value, str) else cast("date", value).isoformat()[:10]
    except (ValueError, AttributeError):
        raise ValueError(f"{model}: date must be a day such as 2026-11-01, not {value!r}") from None


def as_tables(prices: Mapping[str, Price]) -> dict[str, dict[str, Any]]:
    """The same as it stands in the settings file."""
    tables: dict[str, dict[str, Any]] = {}
    for model, price in prices.items():
        values = (price.input_usd, price.output_usd, price.cached_usd, price.date)
        tables[model] = {name: value for name, value in zip(_FIELDS, values, strict=True) if value is not None}
    return tables
