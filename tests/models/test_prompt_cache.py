"""Prompt caches that want a mark: what reaches Anthropic's API, and that a promise covers the dearer writing."""

import dspy
import pytest

from fleet_rlm.runtime.config import load_settings
from fleet_rlm.runtime.models.metered import tokens_of
from fleet_rlm.runtime.models.registry import ModelRegistry

MODEL = "anthropic/claude-sonnet-4-5"
OWN = f'[prices."{MODEL}"]\ninput_usd_per_million = 3\noutput_usd_per_million = 15\n'


def message(body):
    text = "[[ ## answer ## ]]\nx\n\n[[ ## completed ## ]]"
    usage = {"input_tokens": 10, "output_tokens": 5, "cache_read_input_tokens": 80, "cache_creation_input_tokens": 20}
    return 200, {
        "id": "m", "type": "message", "role": "assistant", "model": body["model"],
        "content": [{"type": "text", "text": text}], "stop_reason": "end_turn", "usage": usage,
    }  # fmt: skip


@pytest.fixture
def asked(server, tmp_path):
    """Sends one question and gives (request body, the LM), with the settings file that is passed."""
    server.answer = message

    def send(settings_file: str = ""):
        home = tmp_path / "home"
        home.mkdir(exist_ok=True)
        (home / "settings.toml").write_text(settings_file)
        registry = ModelRegistry(load_settings(home=home, environ={"ANTHROPIC_API_KEY": "k"}), environ={})
        lm = registry.lm(registry.resolve(MODEL), api_base=server.address)
        with dspy.context(lm=lm, adapter=dspy.ChatAdapter()):
            assert dspy.Predict("question -> answer")(question="q").answer == "x"
        return server.asked[-1].body, lm

    return send


def test_the_system_message_is_marked_and_nothing_else(asked):
    body, lm = asked()
    (system,) = body["system"]
    assert system["cache_control"] == {"type": "ephemeral"} and "`question`" in system["text"]
    assert "cache_control" not in str(body["messages"])
    entry = lm.history[-1]
    assert tokens_of(entry["usage"]) == (110, 5, 80)
    assert entry["cost"] == pytest.approx((10 * 3 + 80 * 0.3 + 20 * 3.75 + 5 * 15) / 1e6)


def test_what_is_promised_covers_a_prompt_that_is_written_into_the_cache(tmp_path):
    registry = ModelRegistry(load_settings(home=tmp_path, environ={"ANTHROPIC_API_KEY": "k"}), environ={})
    price = registry.resolve(MODEL).price
    assert price.written_usd > price.input_usd > price.cached_usd
    assert price.at_most(1_000, 10) == round(1_000 * price.written_usd + 10 * price.output_usd)


def test_a_price_of_ones_own_does_not_know_what_writing_costs_so_nothing_is_written(asked):
    body, _ = asked(OWN)
    assert "cache_control" not in str(body)


def test_other_providers_get_no_mark(settings_for):
    registry = ModelRegistry(settings_for(OPENAI_API_KEY="k"), environ={})
    assert "prompt_cache" not in registry.lm(registry.resolve("openai/gpt-4.1")).kwargs
