"""How large a call may become: the pessimistic estimate that is reserved before it is sent."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from dspy.utils.exceptions import LMInvalidRequestError

from fleet_rlm.runtime.execution.leases import Size
from fleet_rlm.runtime.models.prices import Price

BYTES_PER_TOKEN = 3
"""Pessimistic: English text has about four bytes a token, code and numbers about three, Chinese three for each sign."""
ANSWER_TOKENS = (16_384, 4_096, 1_024)
"""Reserved for an answer that its request does not bound: the first that leaves room for others."""
ANSWER_BOUNDS = ("max_tokens", "max_completion_tokens")


def check_bounds(options: Mapping[str, Any], model: str) -> None:
    """Errors: LMInvalidRequestError for a number of answers, or a bound on them, that nothing can be promised for.

    DSPy's own engines refuse them as well; an LM of the caller's own may take anything.
    """
    for name, least in (("n", 1), *((bound, 0) for bound in ANSWER_BOUNDS)):
        value: object = options.get(name)
        if value is not None and not (isinstance(value, int | float) and least <= value < math.inf):
            raise LMInvalidRequestError(f"{name} must be a number from {least} on, not {value!r:.80}", model=model)


def sizes_of(text: str, kwargs: Mapping[str, Any], defaults: Mapping[str, Any], price: Price | None) -> list[Size]:
    """What a call may become at most, the largest answer first; one size where the request bounds its answer.

    `defaults` are the model's own parameters. With `Size.answer` the answer is to be bounded by it when tokens or money
    are limited, so that the estimate holds.
    """
    prompt = math.ceil(_bytes_of(text) / BYTES_PER_TOKEN)
    given = _given(kwargs) or _given(defaults)
    answers = [(given, None)] if given else [(bound, bound) for bound in ANSWER_TOKENS]
    return [
        Size(prompt + bound, None if price is None else price.at_most(prompt, bound), answer)
        for bound, answer in answers
    ]


def _given(source: Mapping[str, Any]) -> int | None:
    """The bound on an answer that stands there."""
    return next((int(source[name]) for name in ANSWER_BOUNDS if source.get(name)), None)


def _bytes_of(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))
