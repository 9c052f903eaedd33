"""Prices: where they come from, what a call costs by them, and what a bad one is told."""

from pathlib import Path

import pytest
from dspy.clients.model_metadata import source_info

from fleet_rlm.errors import InvalidInput
from fleet_rlm.runtime.config import load_settings, save_settings
from fleet_rlm.runtime.models.billing import cost_of, tokens_of
from fleet_rlm.runtime.models.prices import CATALOGUE_DATES, FREE, Price
from fleet_rlm.runtime.models.registry import ModelRegistry

OWN = """
[prices."openai/gpt-4.1"]
input_usd_per_million = 2
output_usd_per_million = 8.5
cached_usd_per_million = 0.5
date = 2026-11-01

[prices."my/model"]
input_usd_per_million = 0
output_usd_per_million = 0
date = "2026-10-31"
"""


def settings(home: Path, text: str, **variables: str):
    home.mkdir(exist_ok=True)
    (home / "settings.toml").write_text(text)
    return load_settings(home=home, environ=variables)


def test_an_own_price_goes_before_the_catalogue_and_is_dated(tmp_path):
    registry = ModelRegistry(settings(tmp_path, OWN, OPENAI_API_KEY="k"), environ={})
    price = registry.resolve("openai/gpt-4.1").price
    assert price == Price(input_usd=2, output_usd=8.5, cached_usd=0.5, source="settings", date="2026-11-01")
    assert registry.own_price("my/model").date == "2026-10-31"
    listed = registry.resolve("openai/gpt-5-mini").price
    assert (
        listed.source.startswith("price list of LiteLLM") and listed.cached_usd < listed.input_usd < listed.output_usd
    )
    assert listed.date == CATALOGUE_DATES[source_info()["snapshot_version"]], "a new catalogue needs its date"


def test_saving_another_setting_keeps_the_prices(tmp_path):
    before = settings(tmp_path, OWN)
    after = save_settings(before, {"model": "openai/gpt-4.1"}, environ={})
    assert after.model == "openai/gpt-4.1" and after.prices == before.prices and len(after.prices) == 2


def test_what_a_call_costs():
    price = Price(input_usd=2.0, output_usd=10.0, cached_usd=0.5, source="settings")
    assert price.micro_usd(100, 10) == 300
    assert price.micro_usd(100, 10, cached_tokens=80) == 40 + 40 + 100
    assert price.at_most(100, 10) == 300, "nothing is promised to be cached"
    assert Price(input_usd=0.1, output_usd=0.0, source="x").micro_usd(1, 0) == 1, "rounded up"
    assert Price(input_usd=300_000.0, output_usd=0.0, source="x").micro_usd(1, 0) == 300_000


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[prices."openai/x"]\ninput_usd_per_million = 1', "output_usd_per_million is missing"),
        ('[prices."openai/x"]\ninput_usd_per_millon = 1', "did you mean input_usd_per_million"),
        ('[prices."openai/x"]\ninput_usd_per_million = -1\noutput_usd_per_million = 1', "from 0 to"),
        ('[prices."openai/x"]\ninput_usd_per_million = nan\noutput_usd_per_million = 1', "from 0 to"),
        ('[prices."openai/x"]\ninput_usd_per_million = "1"\noutput_usd_per_million = 1', "from 0 to"),
        ('[prices."openai/x"]\ninput_usd_per_million=1\noutput_usd_per_million=1\ndate="soon"', "such as 2026-11-01"),
        ("[prices.gpt]\ninput_usd_per_million=1\noutput_usd_per_million=1", "a model string"),
        ("prices = 3", "expected tables"),
    ],
)
def test_a_bad_price_is_one_clear_line(tmp_path, text, said):
    with pytest.raises(InvalidInput, match="bad price in .*settings.toml") as caught:
        settings(tmp_path, text)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_tokens_as_the_providers_report_them():
    class Details:
        cached_tokens = 7

    both = {"prompt_tokens": 10, "completion_tokens": 2}
    assert tokens_of({}) == (0, 0, 0)
    assert tokens_of({**both, "prompt_tokens_details": {"cached_tokens": 8}}) == (10, 2, 8)
    assert tokens_of({**both, "prompt_tokens_details": None}) == (10, 2, 0)
    assert tokens_of({**both, "prompt_tokens_details": Details()}) == (10, 2, 7)
    assert tokens_of({**both, "cache_read_input_tokens": 9}) == (10, 2, 9)


@pytest.mark.parametrize(
    "bad",
    [10**25, 10**400, -5, "many", float("nan"), float("inf"), [1], {}, None],
    ids=["large", "huge", "negative", "a word", "nan", "inf", "a list", "a dict", "nothing"],
)
def test_what_is_no_number_of_tokens_is_not_told(bad):
    price = Price(input_usd=10, output_usd=20, cached_usd=1, source="settings")
    for usage in ({"prompt_tokens": bad, "completion_tokens": 3}, {"prompt_tokens": 3, "completion_tokens": bad}):
        cost = cost_of([{"usage": usage}], price, sent_in_vain=False)
        assert (cost.tokens, cost.micro_usd) == (3, None)
    cached = {"prompt_tokens": 10, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": bad}}
    assert cost_of([{"usage": cached}], price, sent_in_vain=False).micro_usd == 140
    assert cost_of([{"usage": bad, "cost": bad}], None, sent_in_vain=False).micro_usd is None


def test_half_of_the_usage_is_no_half_cost():
    price = Price(input_usd=10, output_usd=20, source="settings")
    listed = Price(input_usd=10, output_usd=20, source="price list")

    def cost(price, reported=None, **usage):
        return cost_of([{"usage": usage, "cost": reported}], price, sent_in_vain=False).micro_usd

    assert cost(price, prompt_tokens=12) is None and cost(listed, prompt_tokens=12) is None
    assert cost(price, completion_tokens=12) is None and cost(price) is None
    assert cost(price, prompt_tokens=12, completion_tokens=0) == 120, "a model may answer nothing"
    assert cost(listed, 0.5, prompt_tokens=12) == 500_000, "DSPy knows it"
    assert cost(Price(input_usd=0, output_usd=20, source="settings"), completion_tokens=1) == 20
    assert cost(FREE, prompt_tokens=12) == cost(FREE) == 0
