"""The settings that shape a turn's requests stand in its journal, all of them, and whether somebody was there."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.engine.conftest import events_of
from tests.engine.sse_model import say, sse_model
from tests.engine.test_agent_tools import offered, results, script

from fleet_rlm.runtime.config import load_settings
from fleet_rlm.runtime.execution import events as ev
from fleet_rlm.runtime.execution.normalised import first_difference
from fleet_rlm.runtime.execution.requests import ForkEdit, Submitted, TurnRequest, TurnResult
from fleet_rlm.runtime.factory import Workspace, open_workspace
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


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Workspace]:
    with open_workspace(load_settings(home=tmp_path, environ={})) as opened:
        yield opened


def ended(own: Workspace, submitted: Submitted) -> TurnResult:
    return own.wait(submitted.turn, timeout=60)


def of_turn(own: Workspace, result: TurnResult) -> list[ev.Event]:
    return [event for event in events_of(own, result.session) if event.turn == result.turn]


def failing_after(steps: int, reply: Any, failed: list[bool]) -> Any:
    """The same model, that refuses one request after so many steps, until `failed` is emptied."""
    return lambda body: [{"refused": "no"}] if failed and len(results(body)) >= steps else reply(body)


@pytest.mark.parametrize("then", [True, False])
def test_a_replay_does_not_depend_on_who_is_there_now(own: Workspace, then: bool) -> None:
    with sse_model(lambda _: say("done thing")) as model:
        first = ended(own, own.submit(TurnRequest(question="q?", model=model.lm(), present=then)))
        assert ("ask_user" in offered(model)) == then
        own.present = not then
        again = ended(own, own.replay(first.turn))
        of_it = ended(own, own.replay(again.turn))
        assert (again.status, again.answer, len(model.asked)) == ("ok", "done thing", 1), again.error
    for other in (again, of_it):
        assert first_difference(of_turn(own, first), of_turn(own, other)) is None


@pytest.mark.parametrize("then", [True, False])
@pytest.mark.parametrize("way", ["resume", "fork"])
def test_what_goes_on_offers_what_was_offered_whoever_is_there_now(own: Workspace, then: bool, way: str) -> None:
    failed = [True]
    reply = failing_after(1, script([("read_context", {"name": "none"})]), failed)
    with sse_model(reply) as model:
        cut = ended(own, own.submit(TurnRequest(question="q?", model=model.lm(), present=then)))
        assert (cut.status, len(model.asked)) == ("failed", 2)
        failed.clear()
        own.present = not then
        lm = model.lm()
        again = ended(own, own.resume(cut.turn, lm=lm) if way == "resume" else own.fork(cut.turn, ForkEdit(), lm=lm))
        assert (again.status, len(model.asked)) == ("ok", 3), "the call that failed, and none that was finished"
        assert ("ask_user" in offered(model)) == then
        replayed = ended(own, own.replay(again.turn))
        assert (replayed.answer, len(model.asked)) == (again.answer, 3), replayed.error
    assert not [event for event in of_turn(own, again) if event.type == "warning"]


def test_who_answers_is_who_is_there_now(own: Workspace) -> None:
    failed = [True]
    asks = script([("read_context", {"name": "none"})], [("ask_user", {"question": "Which year?"})])
    with sse_model(failing_after(1, asks, failed)) as model:
        cut = ended(own, own.submit(TurnRequest(question="q?", model=model.lm(), present=True)))
        failed.clear()
        own.present = False
        again = ended(own, own.resume(cut.turn, lm=model.lm()))
        assert again.status == "ok" and "nobody answered in time" in (again.answer or "")
        ends = [event.data for event in of_turn(own, again) if isinstance(event.data, ev.ApprovalResolved)]
        assert [(end.who, end.status) for end in ends] == [("rule", "expired")], "the rule, at once"
        own.present = True
        replayed = ended(own, own.replay(again.turn))
        assert replayed.answer == again.answer, replayed.error


def test_a_fork_with_another_question_is_told_who_is_there(own: Workspace) -> None:
    with sse_model(lambda _: say("done thing")) as model:
        first = ended(own, own.submit(TurnRequest(question="q?", model=model.lm(), present=False)))
        ended(own, own.fork(first.turn, ForkEdit(question="and now?"), lm=model.lm()))
        assert "ask_user" in offered(model)


def test_a_turn_whose_journal_does_not_tell_who_was_there_is_replayed_as_before(own: Workspace) -> None:
    with sse_model(lambda _: say("done thing")) as model:
        first = ended(own, own.submit(TurnRequest(question="q?", model=model.lm(), present=False)))
    events = [untold(event) for event in of_turn(own, first)]
    own.present = False
    assert ended(own, own.replay_events(events)).answer == "done thing"


def untold(event: ev.Event) -> ev.Event:
    """As older versions wrote it: the policy of the settings, and no word of who was there."""
    if not isinstance(event.data, ev.TurnAccepted):
        return event
    told = msgspec.structs.replace(event.data, setup=ev.TurnSetup(rules=ev.Rules(), tools=event.data.setup.tools))
    return msgspec.structs.replace(event, data=told)
