"""What a failed language-model request means for a person: one class, one line, one hint, no secret."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

import dspy
from dspy.utils.exceptions import (
    AdapterParseError,
    LMAuthError,
    LMBillingError,
    LMConfigurationError,
    LMError,
    LMInvalidRequestError,
    LMNotConfiguredError,
    LMProviderError,
    LMRateLimitError,
    LMServerError,
    LMTimeoutError,
    LMTransportError,
    LMUnsupportedModelError,
)

from fleet_rlm.errors import ContextTooLong, ModelAuthError, ModelError, ModelRefused, ModelUnavailable
from fleet_rlm.runtime.models.adapters import reply_of
from fleet_rlm.runtime.models.spec import ModelSpec

MAX_DETAIL: Final = 240

_OVERFLOW = re.compile(
    r"exceed\w*( the)?( available| max(imum)?| model'?s?)? context"  # llama.cpp, SGLang, Ollama
    r"|(longer|larger|greater) than the (model'?s? )?(maximum )?(model|context) length"  # vLLM, SGLang, LM Studio
    r"|context (length|window|size) (has been |was )?(exceed(s|ed)|of)|loaded with context length of only"  # LM Studio
    r"|too long to fit into the model"
    r"|maximum context length|exceed_context_size|n_keep \(\d+\) >= n_ctx|\bn_ctx\b"  # vLLM, llama.cpp, LM Studio
    r"|`?max_new_tokens`? must be <=|`?inputs`? must have less than \d+ tokens"  # TGI
    r"|prompt (is )?too long|input is too long for requested model|too many (input )?tokens"
    r"|(input|prompt) token count .{0,40}exceeds|prompt contains \d+ tokens"
    r"|maximum prompt length|exceed\w* model token limit|reduce the length of the (messages|prompt|input)"  # xAI, Groq
    r"|range of input length should be|prompt exceeds max(imum)? length"  # Alibaba, Zhipu
    r"|(input|prompt)\b.{0,40} exceeds the (limit|maximum) of [\d,]+ tokens(?! per)",
    re.IGNORECASE,
)
_OTHER_REASONS: Final = (LMAuthError, LMBillingError, LMRateLimitError)
"""Refusals whose text may speak of too many tokens as well: a minute's allowance is no window."""

CUT_SLACK: Final = 8
"""Tokens by which a server that cuts may miss its window or the half of it (Ollama keeps `num_ctx / 2 + 2`)."""
CUT_CHARS_PER_TOKEN: Final = 6.0
"""Text of more characters per reported token than this was not read whole: prose has 4 to 5, code and numbers 3."""
_LONG_LINE: Final = re.compile(r"SSE (?:line|event) exceeds limit \((\d+) >")
_SECRETS = re.compile(r"\b(sk|pk|gsk|xai|key|AIza)[-_][\w-]{6,}[\w*.-]*|\bAIza[\w-]{20,}|Bearer\s+\S+", re.IGNORECASE)


def is_context_overflow(error: BaseException) -> bool:
    """True when the prompt did not fit the model's window, also where DSPy does not know the server's words for it."""
    if isinstance(error, dspy.ContextWindowExceededError | ContextTooLong):
        return True
    if not isinstance(error, LMError) or isinstance(error, _OTHER_REASONS):
        return False
    return bool(_OVERFLOW.search(str(error)))


def as_overflow(error: BaseException) -> BaseException:
    """DSPy's own overflow error in place of one that DSPy did not recognise, so that its modules shorten and retry."""
    if isinstance(error, dspy.ContextWindowExceededError) or not is_context_overflow(error):
        return error
    return dspy.ContextWindowExceededError(model=getattr(error, "model", None), message=str(error))


def too_long_for_a_line(error: BaseException) -> int | None:
    """How many bytes came in one line of a stream, when those were more than DSPy reads; it calls that an address that
    was not reached."""
    found = _LONG_LINE.search(str(error)) if isinstance(error, LMTransportError) else None
    return None if found is None else int(found[1])


def was_cut(chars: int, prompt_tokens: int, window: int | None) -> bool:
    """Whether a server of one's own silently dropped a part of a prompt of `chars` characters.

    Such a server answers as if all was well and counts what it kept: its whole window, or half of it (Ollama). With
    `window` (tokens) unknown, a round count stands for it. True also when a prompt left no room for an answer.
    """
    if prompt_tokens <= 0:
        return False
    thin = chars / prompt_tokens > CUT_CHARS_PER_TOKEN
    if window is not None:
        half = window // 2
        return prompt_tokens >= window - CUT_SLACK or (thin and half <= prompt_tokens <= half + CUT_SLACK)
    return thin and prompt_tokens >= 1024 and prompt_tokens % 1024 <= CUT_SLACK


def as_model_error(error: BaseException, spec: ModelSpec, clean: Callable[[str], str] = str) -> ModelError:
    """The failure as an error of ours. One of ours comes back as it is. `clean` removes further secrets."""
    if isinstance(error, ModelError):
        return error
    said = _said(error, spec, clean)
    where = f" at {spec.api_base}" if spec.api_base else ""
    if is_context_overflow(error):
        return ContextTooLong(f"{spec.label}: the prompt is longer than its window{said}", hint=_window_hint(spec))
    if isinstance(error, LMNotConfiguredError | LMAuthError) or _status(error) in (401, 403):
        return ModelAuthError(f"{spec.label} refused the key{where}{said}", hint=_key_hint(spec))
    if isinstance(error, LMBillingError):
        return ModelRefused(f"{spec.label}: the account has no credit{said}", hint="see the provider's billing page")
    if isinstance(error, LMRateLimitError):
        return ModelUnavailable(f"{spec.label} is asked too often{said}", hint="wait, or allow fewer calls at once")
    if isinstance(error, LMTimeoutError | TimeoutError) or (
        isinstance(error, LMTransportError) and "timed out" in str(error)
    ):
        return ModelUnavailable(f"{spec.label} gave no answer in time{where}", hint="is the model too large for it?")
    if isinstance(error, LMTransportError | OSError):
        return _unreached(error, spec, where + said)
    if isinstance(error, LMUnsupportedModelError):
        return ModelRefused(f"{spec.label}: unknown model{where}{said}", hint=_model_hint(spec))
    if isinstance(error, LMServerError):
        return ModelUnavailable(f"{spec.label}: its server failed{where}{said}", hint="try again in a moment")
    if isinstance(error, LMInvalidRequestError | LMConfigurationError):
        return ModelRefused(f"{spec.label} refused the request{said}")
    if isinstance(error, AdapterParseError):
        return _without_form(error, spec)
    return _no_api(error, spec) or ModelError(f"{spec.label} failed{said or f': {type(error).__name__}'}")


def _unreached(error: BaseException, spec: ModelSpec, said: str) -> ModelError:
    """An address that does not answer, or not in pieces that can be read."""
    length = too_long_for_a_line(error)
    if length is not None:
        return ModelError(f"{spec.label}: its answer came in one piece of {length:,} bytes, which is too long")
    return ModelUnavailable(f"{spec.label} cannot be reached{said}", hint=_server_hint(spec))


def _without_form(error: AdapterParseError, spec: ModelSpec) -> ModelError:
    """A reply that does not parse, or that had nothing to parse."""
    if reply_of(error):
        return ModelError(f"{spec.label}: its answer has not the form that was asked for", hint=_SMALL_MODEL)
    thought = "reasoning_content" in (error.lm_response or "")
    said = "the model gave thoughts but no answer" if thought else "the model answered nothing"
    return ModelError(f"{spec.label}: {said}", hint=_MORE_ROOM)


def _no_api(error: BaseException, spec: ModelSpec) -> ModelError | None:
    """A good reply that is none of a model, such as the page of a web server or a proxy; None for other failures."""
    if not isinstance(error, LMProviderError) or _status(error) != _OK or "is not JSON" not in str(error):
        return None
    place = spec.api_base or "the provider's address"
    return ModelRefused(f"{spec.label}: {place} answers, but not as an OpenAI-compatible API", hint=_NO_API)


_SMALLER: Final = "use mode rlm, a smaller input, or a model (or server setting) with a larger window"
_WIDER: Final = (
    "give the server a larger window (Ollama: OLLAMA_CONTEXT_LENGTH, llama.cpp: --ctx-size), or use mode rlm"
)
_SMALL_MODEL: Final = "the model may be too small for this; try a larger one"
_OK: Final = 200
_NO_API: Final = "check the address: that of an API often ends in /v1; or is there a proxy before it?"
_MORE_ROOM: Final = "allow it a longer answer (max_tokens, or more of the turn's tokens), or try another model"


def _status(error: BaseException) -> int | None:
    status = getattr(error, "status", None)
    return status if isinstance(status, int) and isinstance(error, LMError) else None


def _said(error: BaseException, spec: ModelSpec, clean: Callable[[str], str]) -> str:
    """What the other side said: its first line, without the model's name before it, without secrets."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = re.sub(r"^\[[^\]]*\]\s*", "", lines[0]) if lines else ""
    if spec.api_key is not None:
        text = text.replace(spec.api_key.reveal(), "***")
    text = _SECRETS.sub("***", clean(text))  # before the cut, which would leave the beginning of one
    if len(text) > MAX_DETAIL:
        text = text[: MAX_DETAIL - 1] + "…"
    return f": {text}" if text else ""


def _window_hint(spec: ModelSpec) -> str:
    return _WIDER if spec.api_base else _SMALLER


def _key_hint(spec: ModelSpec) -> str:
    return f"check {spec.key_variable}" if spec.key_variable else "check the key in the settings"


def _server_hint(spec: ModelSpec) -> str:
    return "is the model server running, and is this its address?" if spec.api_base else "is this machine online?"


def _model_hint(spec: ModelSpec) -> str:
    return f"see {spec.api_base}/models for its models" if spec.api_base else "see the provider's list of models"
