"""What a failed request means for the provider's width, and whether it is worth another try.

DSPy's own retries are off in a turn: it would repeat a request while holding its place, unseen by the budget. Here a
retry waits without a place, is counted as a call of its own, and a `Retry-After` holds back all calls to that provider.
"""

from __future__ import annotations

import random
import socket
import ssl
from collections.abc import Hashable, Mapping
from hashlib import sha256
from typing import Any

import dspy
from dspy.utils.exceptions import (
    LMAuthError,
    LMBillingError,
    LMConfigurationError,
    LMError,
    LMInvalidRequestError,
    LMLockTimeoutError,
    LMRateLimitError,
    LMServerError,
    LMTimeoutError,
    LMTransportError,
    LMUnsupportedFeatureError,
    is_retryable_lm_error,
)

from fleet_rlm.runtime.execution.throttle import Verdict
from fleet_rlm.runtime.models.failures import is_context_overflow, too_long_for_a_line

RATE_TRIES = 10
"""Tries of a request that is refused for too many requests: the width halves each time, so few are needed."""
FIRST_WAIT_S = 1.0
LONGEST_WAIT_S = 60.0
LONGEST_RETRY_AFTER_S = 120.0
"""A provider that asks for more patience than this has no place for us today: the call fails and says so."""
OVERLOADED = (503, 529)
_REFUSED = (LMAuthError, LMBillingError, LMInvalidRequestError, LMRateLimitError)
_NEVER_SENT = (LMConfigurationError, LMLockTimeoutError, LMUnsupportedFeatureError)
_NO_CONNECTION = (ConnectionRefusedError, socket.gaierror, ssl.SSLCertVerificationError)


def verdict_of(error: BaseException) -> Verdict:
    """What the failure says about the provider."""
    if isinstance(error, LMBillingError):
        return "failed"
    status = getattr(error, "status", None)
    if isinstance(error, LMRateLimitError) or (isinstance(error, LMServerError) and status in OVERLOADED):
        return "limited"
    timed_out = isinstance(error, LMTransportError) and "timed out" in str(error)
    return "timeout" if isinstance(error, LMTimeoutError) or timed_out else "failed"


def may_be_billed(error: BaseException, lm: dspy.BaseLM, together: int = 1) -> bool:
    """Whether the provider may have worked for a request that failed so; of several sent `together` another may have.

    Not where it refused (4xx, too many, overloaded), was never reached, or where DSPy itself did not send it.
    """
    if isinstance(error, _NEVER_SENT) or _not_connected(error):
        return False
    if not isinstance(error, LMError):  # DSPy checks what it is given before an engine has it; others may do anything
        return getattr(lm, "engine", None) is None
    status = getattr(error, "status", None)
    refused = isinstance(error, _REFUSED) if status is None else 400 <= status < 500 or status in OVERLOADED
    return together > 1 or not refused


def _not_connected(error: BaseException) -> bool:
    """Whether it failed before a connection stood: the engines' own errors have a name for that, and no common base."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, _NO_CONNECTION) or type(cause).__name__ in ("ConnectError", "ConnectTimeout"):
            return True
        cause = cause.__cause__
    return False


def retry_after(error: BaseException) -> float | None:
    """Seconds that the provider asked for, when it did and they are not too many."""
    seconds = getattr(error, "retry_after", None)
    if isinstance(seconds, int | float) and 0 <= seconds <= LONGEST_RETRY_AFTER_S:
        return float(seconds)
    return None


def patience(error: Exception, tries: int, retries: int) -> float | None:
    """Seconds until the next try after `tries` failed ones, or None: give up.

    `retries` is the language model's own number (`num_retries`); 0 means never. A prompt that did not fit never will,
    also where the server calls that a failure of its own; a line that was too long comes again like that. With a
    Retry-After the provider's pause is the wait. Without one: 1 s, 2 s, 4 s ..., of which a random half is taken off,
    so that many do not come back at once.
    """
    if not retries or not is_retryable_lm_error(error):
        return None
    if is_context_overflow(error) or too_long_for_a_line(error) is not None:
        return None
    limited = verdict_of(error) == "limited"
    if tries >= (max(RATE_TRIES, retries + 1) if limited else retries + 1):
        return None
    asked = getattr(error, "retry_after", None)
    if asked is not None:
        return 0.0 if retry_after(error) is not None else None
    return min(FIRST_WAIT_S * 2 ** (tries - 1), LONGEST_WAIT_S) * random.uniform(0.5, 1.0)  # noqa: S311 - no secret


def sent_by_dspy(lm: dspy.BaseLM) -> bool:
    """Whether one of DSPy's own engines sends its requests, and no engine of the caller."""
    return isinstance(getattr(lm, "engine", None), str)


def endpoint_of(lm: dspy.BaseLM) -> tuple[Hashable, Any]:
    """What calls of this LM share a limit with: (key, the object whose identity is the key, if any).

    A model at an address with a key, or the engine object that a caller brought.
    """
    engine: Any = getattr(lm, "engine", None)
    if engine is not None and not isinstance(engine, str):
        return ("engine", id(engine)), engine
    if engine is None:
        return ("lm", id(lm)), lm
    options: Mapping[str, Any] = lm.kwargs
    address = options.get("api_base") or options.get("base_url") or ""
    key = sha256(str(options.get("api_key") or "").encode()).hexdigest()[:16]
    return ("wire", str(lm.model), str(address), key), None
