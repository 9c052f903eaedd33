"""The settings that shape a turn's requests stand in its journal, all of them."""

from __future__ import annotations

import dataclasses

import msgspec

from fleet_rlm.runtime.config import load_settings
from fleet_rlm.runtime.execution import events as ev
from fleet_rlm.runtime.policy import Policy
from fleet_rlm.runtime.setup import setup_of, under

OTHERS = {
    "variable_mode": "never",
    "tools": "contexts,web",
    "models_allowed": "openai/gpt-5-mini",
    "verify": "judge",
    "judge_model": "openai/gpt-5",
    "policy.ask_tools": "web_*",
    "policy.ask_hosts": "example.org",
    "policy.allowed_hosts": "docs.example.org",
    "policy.ask_cost_usd": "0.5",
    "policy.ask_depth": "2",
    "policy.ask_seconds": "7",
    "policy.otherwise": "allow",
    "policy.ask_user": "no",
    "policy.max_depth": "3",
}


def test_what_stands_there_brings_them_back(tmp_path) -> None:
    plain = load_settings(home=tmp_path, environ={})
    other = load_settings(home=tmp_path, environ={}, overrides=OTHERS)
    rules = dataclasses.asdict(other.policy)
    assert not [name for name, value in dataclasses.asdict(Policy()).items() if rules[name] == value], "all are others"
    for then, now in ((plain, other), (other, plain)):
        told = msgspec.json.decode(msgspec.json.encode(setup_of(then)), type=ev.TurnSetup)
        back = under(now, told)
        for name in ("variable_mode", "tools", "models_allowed", "verify", "policy"):
            assert getattr(back, name) == getattr(then, name), name
        assert then.verify == "off" or back.judge_model == then.judge_model


def test_where_nothing_is_told_they_are_those_of_now(tmp_path) -> None:
    settings = load_settings(home=tmp_path, environ={}, overrides=OTHERS)
    assert under(settings, None) is settings


def test_the_rules_of_a_journal_are_those_of_the_policy() -> None:
    rules = msgspec.structs.asdict(ev.Rules())
    assert {k: tuple(v) if isinstance(v, list) else v for k, v in rules.items()} == dataclasses.asdict(Policy())
