"""How an answer of a model ended, from the entry that DSPy hands over: whole, cut, or withheld."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from dspy.utils.exceptions import LMInvalidRequestError

from fleet_rlm.runtime.models.billing import Entry, tokens_of

FILTERED = "content_filter"


def check_given(entries: Sequence[Entry], outputs: Any, model: str) -> None:
    """Errors: LMInvalidRequestError where the model refused to answer, or a filter took the whole answer away."""
    response: Any = entries[-1].get("response") if entries else None
    if response is None or _says_something(outputs):
        return
    parts: Sequence[Any] = getattr(getattr(response, "message", None), "parts", ())
    refusal = " ".join(str(part.text) for part in parts if getattr(part, "type", None) == "refusal").strip()
    if refusal:
        raise LMInvalidRequestError(f"it said: {refusal}", model=model)
    if getattr(response, "finish_reason", None) == FILTERED:
        raise LMInvalidRequestError("a content filter withheld the answer", model=model)


def why_cut(entries: Sequence[Entry], model: str, *, bound: int | None) -> str | None:
    """Why the answer ends before its end, in one line; None where it is whole. `bound`: tokens that the budget left."""
    if not entries:
        return None
    reason = getattr(entries[-1].get("response"), "finish_reason", None)
    if reason == FILTERED:
        return f"a content filter cut an answer of {model} short"
    if reason != "length":
        return None
    if bound is not None:
        return f"an answer of {model} was cut at {bound:,} tokens: the turn's limits leave no more for one answer"
    tokens = tokens_of(entries[-1].get("usage") or {})[1]
    return f"an answer of {model} was cut at {tokens:,} tokens: by max_tokens, or because its window was full"


def _says_something(outputs: Any) -> bool:
    for item in cast("list[Any]", outputs) if isinstance(outputs, list) else [outputs]:
        if isinstance(item, dict):
            found = cast("dict[str, Any]", item)
            if found.get("text") or found.get("tool_calls"):
                return True
        elif item:
            return True
    return False
