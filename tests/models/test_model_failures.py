"""Failures of real requests: the class, one line, a hint, and never the key."""

import dspy
import pytest
from dspy.utils.exceptions import AdapterParseError

from fleet_rlm.errors import ContextTooLong, ModelAuthError, ModelError, ModelRefused, ModelUnavailable
from fleet_rlm.runtime.models.adapters import Chat, Json, reply_of
from fleet_rlm.runtime.models.failures import as_model_error, is_context_overflow, was_cut
from fleet_rlm.runtime.models.registry import ModelRegistry
from models.fake_models import completion

KEY = "sk-live-1234567890abcdef"


def failure_of(server, settings_for, *answer, timeout=20.0) -> ModelError:
    server.answer = lambda body: answer
    registry = ModelRegistry(
        settings_for(FLEET_MODEL="openai/tiny", FLEET_API_BASE=server.address, FLEET_API_KEY=KEY), environ={}
    )
    spec = registry.resolve()
    with pytest.raises(dspy.LMError) as caught:
        registry.lm(spec, num_retries=0, timeout=timeout)("hello")
    error = as_model_error(caught.value, spec)
    assert "\n" not in str(error) and KEY not in str(error)
    assert len(str(error)) < 500
    return error


@pytest.mark.parametrize(
    ("answer", "kind", "said"),
    [
        (
            (
                400,
                {
                    "error": {
                        "code": 400,
                        "message": "request (9031 tokens) exceeds the available context size (4096 tokens), try increasing it",
                        "type": "exceed_context_size_error",
                    }
                },
            ),
            ContextTooLong,
            "9031 tokens",
        ),
        (
            (
                400,
                {
                    "error": {
                        "message": "This model's maximum context length is 4096 tokens.",
                        "code": "context_length_exceeded",
                    }
                },
            ),
            ContextTooLong,
            "longer than its window",
        ),
        (
            (401, {"error": {"message": f"Incorrect API key provided: {KEY}", "code": "invalid_api_key"}}),
            ModelAuthError,
            "refused the key",
        ),
        ((403, {"error": {"message": "forbidden"}}), ModelAuthError, "refused the key"),
        ((404, {"error": {"message": "model 'tiny' not found"}}), ModelRefused, "unknown model"),
        ((400, {"error": {"message": "temperature must be at most 2"}}), ModelRefused, "temperature must be at most 2"),
        ((402, {"error": {"message": "Insufficient Balance"}}), ModelRefused, "no credit"),
        ((429, {"error": {"message": "Rate limit reached"}}), ModelUnavailable, "asked too often"),
        ((500, {"error": {"message": "boom"}}), ModelUnavailable, "its server failed"),
        ((503, {"error": {"message": "Loading model"}}), ModelUnavailable, "Loading model"),
    ],
)
def test_refusals_of_the_server(server, settings_for, answer, kind, said):
    error = failure_of(server, settings_for, *answer)
    assert type(error) is kind
    assert said in error.message
    assert error.message.startswith("openai/tiny")


@pytest.mark.parametrize("raw", [b"<!doctype html><p>hello</p>", b""])
def test_what_answers_but_is_no_api(server, settings_for, raw):
    error = failure_of(server, settings_for, 200, raw)
    assert type(error) is ModelRefused
    assert f"{server.address} answers, but not as an OpenAI-compatible API" in error.message
    assert "address" in error.hint


def test_an_error_of_an_api_that_calls_it_a_success(server, settings_for):
    error = failure_of(server, settings_for, 200, {"error": {"message": "boom", "code": 502}})
    assert "boom" in error.message and "not as an" not in error.message


def test_a_server_that_is_too_slow(server, settings_for):
    server.delay_s = 1.0
    error = failure_of(server, settings_for, 200, {}, timeout=0.2)
    assert type(error) is ModelUnavailable and "no answer in time" in error.message
    assert error.retryable


def test_a_server_that_is_down(settings_for):
    registry = ModelRegistry(settings_for(FLEET_MODEL="openai/x", FLEET_API_BASE="http://127.0.0.1:9/v1"), environ={})
    spec = registry.resolve()
    with pytest.raises(dspy.LMError) as caught:
        registry.lm(spec, num_retries=0)("hello")
    error = as_model_error(caught.value, spec)
    assert type(error) is ModelUnavailable
    assert "cannot be reached at http://127.0.0.1:9/v1" in error.message and "running" in error.hint


def test_an_answer_that_does_not_parse(server, settings_for):
    server.answer = lambda body: completion("no idea")
    registry = ModelRegistry(settings_for(FLEET_MODEL="openai/x", FLEET_API_BASE=server.address), environ={})
    spec = registry.resolve()
    with pytest.raises(Exception) as caught, dspy.context(lm=registry.lm(spec), adapter=dspy.JSONAdapter()):
        dspy.Predict("question -> answer: int")(question="?")
    error = as_model_error(caught.value, spec)
    assert type(error) is ModelError and "form" in error.message and "no idea" not in error.message


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ({"content": "", "reasoning_content": "hm " * 900}, "thoughts but no answer"),
        ({"content": None}, "answered nothing"),
        ({"content": " \n"}, "answered nothing"),
    ],
)
@pytest.mark.parametrize(
    "adapter", [dspy.ChatAdapter(use_json_adapter_fallback=False), dspy.JSONAdapter(), Chat(), Json()]
)
def test_an_answer_without_a_text(server, settings_for, adapter, message, said):
    status, answer = completion("")
    answer["choices"][0]["message"] = {"role": "assistant", **message}
    server.answer = lambda body: (status, answer)
    registry = ModelRegistry(settings_for(FLEET_MODEL="openai/x", FLEET_API_BASE=server.address), environ={})
    spec = registry.resolve()
    with pytest.raises(AdapterParseError) as caught, dspy.context(lm=registry.lm(spec), adapter=adapter):
        dspy.Predict("question -> answer")(question="?")
    assert reply_of(caught.value) == "", "DSPy gives its whole output where there was no text"
    error = as_model_error(caught.value, spec)
    assert type(error) is ModelError and said in error.message and "hm" not in error.message
    assert error.hint is not None and "max_tokens" in error.hint


OVERFLOWS = {
    "llama.cpp": (400, {"code": 400, "message": "the request exceeds the available context size. try increasing it"}),
    "llama.cpp, 500": (500, {"code": 500, "message": "context size exceeded"}),
    "vLLM": (
        400,
        {"message": "This model's maximum context length is 4096 tokens. However, you requested 5009 tokens"},
    ),
    "vLLM, engine": (
        400,
        {"message": "The decoder prompt (length 21535) is longer than the maximum model length of 16384. Make sure"},
    ),
    "vLLM, older": (
        400,
        {"message": "The prompt (total length 25938) is too long to fit into the model (context length 4096)."},
    ),
    "LM Studio": (
        400,
        {
            "message": "Trying to keep the first 15857 tokens when context the overflows. However, the model is loaded "
            "with context length of only 4096 tokens, which is not enough."
        },
    ),
    "LM Studio, newer": (400, {"message": "Cannot truncate prompt with n_keep (15028) >= n_ctx (7424)"}),
    "TGI": (
        422,
        {
            "message": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 2048. Given: 3474 `inputs` "
            "tokens and 60 `max_new_tokens`"
        },
    ),
    "TGI, inputs": (
        422,
        {"message": "Input validation error: `inputs` must have less than 2048 tokens. Given: 2222"},
    ),
    "SGLang": (400, {"message": "The input (5000 tokens) is longer than the model's context length (4096 tokens)."}),
    "Ollama": (400, {"message": "the input length exceeds the context length"}),
    "Ollama, newer": (400, {"message": "prompt too long; exceeded max context length by 5 tokens"}),
    "llama.cpp, LM Studio": (500, {"code": 500, "message": "Context size has been exceeded."}),
    "OpenAI": (400, {"message": "Your input exceeds the context window of this model. Please adjust your input"}),
    "xAI": (400, {"message": "This model's maximum prompt length is 131072 but the request contains 537812 tokens."}),
    "Groq": (400, {"message": "Please reduce the length of the messages or completion."}),
    "Moonshot": (400, {"message": "Your request exceeded model token limit: 131072 (requested: 140000)"}),
    "MiniMax": (400, {"message": "invalid params, context window exceeds limit (2013)"}),
    "Copilot": (400, {"message": "prompt token count of 200000 exceeds the limit of 128000"}),
    "Alibaba": (
        400,
        {"message": "<400> InternalError.Algo.InvalidParameter: Range of input length should be [1, 129024]"},
    ),
    "Zhipu": (400, {"message": "Prompt exceeds max length"}),
    "a gateway": (400, {"message": "input (9,000 tokens) exceeds the limit of 8,192 tokens"}),
}


@pytest.mark.parametrize("name", OVERFLOWS)
def test_every_local_servers_words_for_a_prompt_that_does_not_fit(server, settings_for, name):
    status, said = OVERFLOWS[name]
    error = failure_of(server, settings_for, status, {"error": said})
    assert type(error) is ContextTooLong, error
    assert "OLLAMA_CONTEXT_LENGTH" in error.hint and "mode rlm" in error.hint


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (429, "Request too large: too many tokens per minute (TPM), limit 6000"),
        (400, "max_tokens is too large: 99999"),
        (400, "this input exceeds the limit of 6000 tokens per minute"),
        (413, "Request too large for model x on tokens per minute (TPM): Limit 6000, Requested 9000"),
        (400, "the number of stop sequences exceeds the limit of 4"),
        (400, "Range of max_tokens should be [1, 8192]"),
        (400, "please reduce the length of the tool's name"),
        (400, "no context was given"),
        (500, "the model length must be set"),
    ],
)
def test_other_refusals_that_speak_of_tokens_are_no_overflow(server, settings_for, status, said):
    error = failure_of(server, settings_for, status, {"error": {"message": said}})
    assert not isinstance(error, ContextTooLong)


@pytest.mark.parametrize(
    ("chars", "tokens", "window", "cut"),
    [
        (159_062, 16_386, 32_768, True),  # Ollama keeps half its window and two tokens
        (159_062, 32_768, 32_768, True),  # older Ollama: the whole window
        (159_062, 4_096, None, True),
        (159_062, 2_050, None, True),
        (60_000, 16_386, 32_768, False),  # 3.7 characters a token: that was all
        (60_000, 15_000, 32_768, False),
        (10_000, 2_050, None, False),
        (700_000, 2_900, None, False),  # ten thousand times the same word: no round count
        (300, 70, 4_096, False),
        (300, 0, 4_096, False),  # a server that does not count
    ],
)
def test_a_silent_cut_shows_in_the_count(chars, tokens, window, cut):
    assert was_cut(chars, tokens, window) is cut


def test_only_overflows_count_as_overflows():
    wrong = dspy.utils.exceptions.LMInvalidRequestError("no such parameter: context", model="m")
    assert not is_context_overflow(wrong)
    assert not is_context_overflow(ValueError("maximum context length is 1"))
    assert is_context_overflow(dspy.ContextWindowExceededError(model="m"))


def test_our_own_errors_pass_and_strangers_are_named(settings_for):
    spec = ModelRegistry(settings_for(), environ={}).resolve("demo/search")
    mine = ModelRefused("x")
    assert as_model_error(mine, spec) is mine
    assert "KeyError" in as_model_error(KeyError(), spec).message
    told = as_model_error(RuntimeError("line one\nBearer abc.def sk-proj-aaaaaaaaaa"), spec).message
    assert "sk-proj" not in told
