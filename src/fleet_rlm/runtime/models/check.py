"""A connection test, step by step, for `fleet doctor` and the settings page."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

import dspy

from fleet_rlm.errors import ModelError
from fleet_rlm.runtime.models.detect import listed_models, request_json, within
from fleet_rlm.runtime.models.failures import as_model_error
from fleet_rlm.runtime.models.probe import EndpointFacts, ask_code, ask_schema, ask_tools, ask_window
from fleet_rlm.runtime.models.spec import SMALL_WINDOW, ModelSpec, Step

ANSWER_SECONDS: Final = 120.0
_TOO_SMALL: Final = "this model is likely too small for agents; a larger one will do better"


def run(spec: ModelSpec, lm: dspy.LM, *, answer_s: float = ANSWER_SECONDS) -> tuple[list[Step], EndpointFacts | None]:
    """All steps, up to the first that makes the next ones pointless; and what was learnt of an own server.

    `answer_s` bounds the model's first answer, which also loads it.
    """
    steps: list[Step] = []
    if spec.api_base is not None:
        steps.append(_timed("address", spec, lambda: _address(spec)))
        if not steps[-1].ok:
            return steps, None
    steps.append(_timed("answer", spec, lambda: _answer(lm, answer_s)))
    if not steps[-1].ok:
        return steps, None
    if spec.api_base is None:
        return [*steps, *_known_weakness(spec)], None
    address, model, key = spec.api_base, spec.model.partition("/")[2], _key(spec)
    steps.append(_timed("schema", spec, lambda: _ability(ask_schema(address, model, key), "keeps to a JSON schema")))
    steps.append(_timed("tools", spec, lambda: _ability(ask_tools(address, model, key), "calls tools")))
    steps.append(
        _timed("agent", spec, lambda: _ability(ask_code(address, model, key), "writes the code of a small task"))
    )
    facts = EndpointFacts(
        response_schema=steps[-3].ok,
        function_calling=steps[-2].ok,
        writes_code=steps[-1].ok,
        context_window=ask_window(address, model, key),
        asked=datetime.now(UTC).date().isoformat(),
    )
    if facts.context_window is not None:
        steps.append(_window(facts.context_window))
    return steps, facts


def _known_weakness(spec: ModelSpec) -> list[Step]:
    """What the catalogue holds against a hosted model: no request is made, so nothing is paid for it."""
    return [] if spec.weak is None else [Step("agent", False, 0.0, spec.weak, _TOO_SMALL)]


def _window(tokens: int) -> Step:
    """Some servers cut a longer prompt silently, and the model then answers to half of it."""
    wide = tokens >= SMALL_WINDOW
    fix = f"give the server at least {SMALL_WINDOW:,} (Ollama: OLLAMA_CONTEXT_LENGTH, llama.cpp: --ctx-size)"
    return Step("window", wide, 0.0, f"the model sees {tokens:,} tokens at once", None if wide else fix)


class _Missing(Exception):
    """An ability that the model lacks: the step fails, the model works nevertheless."""


def _timed(name: str, spec: ModelSpec, action: Callable[[], str]) -> Step:
    start = time.perf_counter()
    try:
        detail, ok, fix = action(), True, None
    except _Missing as error:
        detail, ok, fix = str(error), False, _TOO_SMALL
    except (ModelError, dspy.LMError, OSError) as error:
        failure = as_model_error(error, spec)
        detail, ok, fix = failure.message, False, failure.hint
    return Step(name, ok, round((time.perf_counter() - start) * 1000, 1), detail, fix)


def _key(spec: ModelSpec) -> str | None:
    return spec.api_key.reveal() if spec.api_key is not None else None


def _address(spec: ModelSpec) -> str:
    model = spec.model.partition("/")[2]
    models = listed_models(request_json(f"{spec.api_base}/models", key=_key(spec)))
    if models is None:
        return "a server answers; it does not list its models"
    if model in models or f"{model}:latest" in models:
        return f"the server has {model}"
    return f"the server lists {len(models)} models, {model} is not among them: {', '.join(list(models)[:5])}"


def _answer(lm: dspy.LM, seconds: float) -> str:
    """One short request. Errors: dspy.LMError, TimeoutError."""

    def ask() -> list[Any]:
        return lm("Reply with the one word: ready")

    outputs = within(seconds, ask)
    text = outputs[0] if outputs and isinstance(outputs[0], str) else ""
    return f"it answers: {' '.join(text.split())[:60]!r}"


def _ability(found: bool, what: str) -> str:
    if not found:
        raise _Missing(f"no: the model never {what}" if what.startswith("calls") else f"no: it never {what}")
    return f"it {what}"
