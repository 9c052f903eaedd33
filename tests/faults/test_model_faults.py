"""Every way in which a provider can fail ends in a typed event, within limits, with nothing left running."""

from __future__ import annotations

import pytest
from tests.scripted import action, field

from faults.broken_model import BrokenModel, Reply, cut_short, raw, refuses, says
from fleet_rlm.runtime.execution import events as ev
from fleet_rlm.runtime.execution.normalised import first_difference
from fleet_rlm.runtime.execution.requests import TurnRequest
from fleet_rlm.runtime.execution.throttle import PROVIDERS
from fleet_rlm.runtime.models.prices import Price
from fleet_rlm.runtime.models.registry import ModelRegistry
from fleet_rlm.runtime.models.tries import endpoint_of

BUSY = refuses(429, "slow down", Retry_After="0")
DOWN = refuses(503, "overloaded", Retry_After="0")
PRICE = Price(input_usd=10, output_usd=20, source="settings")
SUBMITS = says(action("SUBMIT(answer='fine')"))


def always(reply: Reply) -> BrokenModel:
    return BrokenModel(lambda number, prompt: reply)


def at_first(reply: Reply, then: Reply, times: int = 1) -> BrokenModel:
    return BrokenModel(lambda number, prompt: reply if number < times else then)


def finished_calls(events: list[ev.Event]) -> list[ev.CallFinished]:
    return [event.data for event in events if isinstance(event.data, ev.CallFinished)]


@pytest.mark.parametrize("mode", ["auto", "rlm", "direct"])
@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (BUSY, "model_unavailable"),
        (DOWN, "model_unavailable"),
        (refuses(500, "boom", Retry_After="0"), "model_unavailable"),
        (refuses(401, "bad key"), "model_auth"),
        (refuses(400, "no such parameter"), "model_refused"),
        (refuses(400, "maximum context length is 100 tokens"), "context_too_long"),
    ],
    ids=["429", "503", "500", "401", "400", "overflow"],
)
def test_a_provider_that_always_refuses(ask, reply, code, mode) -> None:
    with always(reply) as model:
        result, events = ask(model, mode=mode)
    assert (result.status, result.answer) == ("failed", None) and result.error is not None
    assert result.error.code == code and "\n" not in result.error.message
    assert {call.status for call in finished_calls(events)} == {"failed"}
    assert {call.error.code for call in finished_calls(events) if call.error} == {code}
    assert len(model.prompts) <= 20


@pytest.mark.parametrize("reply", [BUSY, DOWN, cut_short], ids=["429", "503", "cut"])
def test_what_passes_by_is_tried_again(ask, reply) -> None:
    with at_first(reply, SUBMITS) as model:
        result, _ = ask(model, mode="rlm")
    assert (result.status, result.answer) == ("ok", "fine"), result.error
    assert len(model.prompts) == 2


@pytest.mark.parametrize("mode", ["auto", "rlm"])
def test_an_answer_that_is_always_cut_off(ask, mode) -> None:
    with always(cut_short) as model:
        result, events = ask(model, mode=mode)
    assert result.status == "failed" and result.error is not None
    assert result.error.code.startswith("model") and "\n" not in result.error.message
    assert all(call.status == "failed" for call in finished_calls(events))


@pytest.mark.parametrize("mode", ["auto", "rlm", "direct"])
@pytest.mark.parametrize(
    "reply",
    [
        says(""),
        raw(b""),
        raw(b"<html>502 Bad Gateway</html>"),
        raw(b'{"object": "chat.completion"}', "application/json"),
    ],
    ids=["no words", "no body", "a page", "no choices"],
)
def test_an_answer_that_is_none(ask, reply, mode) -> None:
    with always(reply) as model:
        result, _ = ask(model, mode=mode)
    assert result.status == "failed" and not result.answer
    assert result.error is not None and result.error.code.startswith("model") and "\n" not in result.error.message
    assert len(model.prompts) <= 20


@pytest.mark.parametrize(
    ("reply", "cost"),
    [
        (BUSY, 0.0),
        (DOWN, 0.0),
        (refuses(400, "no such parameter"), 0.0),
        (refuses(500, "boom", Retry_After="0"), None),
        (cut_short, None),
        (raw(b"<html>502 Bad Gateway</html>"), None),
        (says(field("answer", "hi"), usage={"prompt_tokens": -500_000, "completion_tokens": 1}), None),
        (says(field("answer", "hi"), usage={"prompt_tokens": "many", "completion_tokens": 1}), None),
    ],
    ids=["429", "503", "400", "500", "cut", "a page", "negative usage", "usage in words"],
)
def test_only_a_refusal_is_known_to_cost_nothing(ask, reply, cost) -> None:
    with always(reply) as model:
        result, events = ask(model, mode="direct", price=PRICE)
    assert result.status == "failed" and {call.cost_usd for call in finished_calls(events)} == {cost}
    assert result.usage.cost_usd == cost and result.usage.calls == len(model.prompts)


def test_a_server_that_is_not_there_costs_nothing(ask) -> None:
    with always(SUBMITS) as model:
        pass
    result, events = ask(model, mode="direct", price=PRICE)
    assert result.status == "failed" and {call.cost_usd for call in finished_calls(events)} == {0.0}


def test_a_try_that_may_have_cost_something_leaves_its_call_without_a_known_cost(ask) -> None:
    with at_first(cut_short, SUBMITS) as model:
        result, events = ask(model, mode="rlm", price=PRICE)
    (call,) = finished_calls(events)
    assert (result.status, call.status, call.tries, call.prompt_tokens) == ("ok", "ok", 2, 7)
    assert call.cost_usd is result.usage.cost_usd is None


def test_what_was_promised_for_answers_that_never_arrive_whole_goes_on_counting(ask) -> None:
    def script(number: int, prompt: str) -> Reply:
        asks = "for i in range(20):\n    llm_query(f'part {i}')\nSUBMIT(answer='done')"
        return says(action(asks)) if "SUBMIT" in prompt else cut_short

    dear = Price(input_usd=10, output_usd=1000, source="settings")
    with BrokenModel(script) as model:
        result, _ = ask(model, mode="rlm", price=dear, limits=ev.Limits(calls=60, cost_usd=3.0))
    assert (result.status, result.limit, result.usage.cost_usd) == ("limit", "cost", None)
    assert len(model.prompts) <= 4, "a dollar is promised for the shortest answer"


_THREE_AT_ONCE = """
before = budget()['tokens_left']
try:
    dspy.Predict('q -> a', n=3, max_tokens=1000)(q='hi')
except Exception as error:
    print(error)
SUBMIT(answer=str(before - budget()['tokens_left']))
"""


def test_of_several_completions_one_that_is_refused_does_not_make_the_others_free(ask) -> None:
    def script(number: int, prompt: str) -> Reply:
        if number == 0:
            return says(action(_THREE_AT_ONCE))
        return refuses(400, "no") if number == 3 else says(field("a", "x"))

    with BrokenModel(script) as model:
        result, events = ask(model, mode="rlm", price=PRICE, limits=ev.Limits(tokens=50_000))
    assert len(model.prompts) == 4 and result.usage.cost_usd is None
    assert int(result.answer) > 3 * 1000, "what was promised for each of them goes on counting"
    assert [(call.status, call.cost_usd) for call in finished_calls(events)][1:] == [("failed", None)]


def test_garbage_where_code_was_asked_for(ask) -> None:
    with always(says("\x00\ufffd]]]} SUBMIT SUBMIT [[ ## code")) as model:
        result, _ = ask(model, mode="rlm")
    assert result.status == "failed" and result.error is not None and "form" in result.error.message
    assert len(model.prompts) <= 5


@pytest.mark.parametrize("mode", ["auto", "rlm", "direct"])
def test_an_answer_of_10_megabytes(ask, mode) -> None:
    """It is taken in part or refused; it never lies in an event whole."""
    with always(says("word " * 2_000_000)) as model:
        result, events = ask(model, mode=mode)
    assert result.status in ("ok", "failed")
    assert result.status == "ok" or (result.error is not None and result.error.code.startswith("model"))
    assert result.error is None or "one piece" in result.error.message
    assert len(model.prompts) <= 2, "not three times for nothing"
    assert max(len(ev.encode_event(event)) for event in events) < 3_000_000


@pytest.mark.parametrize("told", [10**400], ids=["huge"])
def test_a_usage_that_is_no_number_is_unknown_and_leaves_nothing_behind(ask, workspace, told) -> None:
    """A place at the provider would be lost for as long as this process lives."""
    usage = {"prompt_tokens": told, "completion_tokens": 1, "total_tokens": 1}
    with always(says(field("answer", "hi"), usage=usage)) as model:
        result, events = ask(model, mode="direct", price=PRICE)
    (call,) = finished_calls(events)
    assert result.usage.prompt_tokens == 0 and result.usage.cost_usd is call.cost_usd is None
    assert (result.status, call.status) in [("ok", "ok"), ("failed", "failed")]
    registry = ModelRegistry(workspace.settings, environ={})
    key, owner = endpoint_of(registry.lm(registry.resolve()))
    assert PROVIDERS.throttle(key, 64, owner=owner).in_flight == 0


@pytest.mark.parametrize(
    ("limits", "why"), [(ev.Limits(tokens=90_000), "limits leave no more"), (ev.Limits(), "by max_tokens")]
)
@pytest.mark.parametrize("mode", ["auto", "direct"])
def test_an_answer_that_was_cut_is_told_as_cut(workspace, ask, limits, why, mode) -> None:
    with always(says(field("answer", "the first half"), ends="length")) as model:
        result, events = ask(model, mode=mode, limits=limits)
        asked = len(model.prompts)
        again = workspace.wait(workspace.replay(result.turn).turn, 60)
        assert len(model.prompts) == asked
    assert (result.status, again.status) == ("ok", "ok")
    told = [event.data for event in events if isinstance(event.data, ev.Warning) and event.data.code == "answer.cut"]
    assert len(told) == asked == 1 and why in told[0].message and "openai/tiny was cut at" in told[0].message
    replayed = [e for e in workspace.journal.read(again.session, 0, 10_000) if e.turn == again.turn]
    assert first_difference([e for e in events if e.turn == result.turn], replayed) is None


@pytest.mark.parametrize("mode", ["auto", "rlm", "direct"])
def test_an_answer_that_a_filter_withheld_is_told_as_that(ask, mode) -> None:
    with always(says("", ends="content_filter")) as model:
        result, events = ask(model, mode=mode)
    assert result.status == "failed" and result.error is not None
    assert (result.error.code, result.error.hint) == ("model_refused", None)
    assert result.error.message == "openai/tiny refused the request: a content filter withheld the answer"
    assert len(model.prompts) == 1 and finished_calls(events)[0].status == "failed"


def test_a_refusal_of_a_sub_call_comes_in_its_words(ask) -> None:
    """In a stream DSPy leaves them out: there it is an answer of nothing."""
    code = action("said = llm_query_batched(['x'])[0]\nSUBMIT(answer=f'{said.error}: {said.message}')")
    refusal = says("", refusal="I cannot help with that.")
    with BrokenModel(lambda number, prompt: says(code) if "REPL" in prompt else refusal) as model:
        result, _ = ask(model, mode="rlm")
    assert result.answer == "model_refused: openai/tiny refused the request: it said: I cannot help with that."


def test_a_tool_that_does_not_exist(ask) -> None:
    wrong = says("", tool=("erase_disk", {"path": "/"}))
    with at_first(wrong, says(field("answer", "sorry")), times=1) as model:
        result, _ = ask(model, mode="auto")
    assert result.status in ("ok", "failed") and len(model.prompts) <= 20
    assert result.status == "ok" or (result.error is not None and "\n" not in result.error.message)


def test_one_bad_item_of_a_batch_fails_alone(ask) -> None:
    def script(number: int, prompt: str) -> Reply:
        if "You have not interacted" in prompt:
            return says(
                action("got = llm_query_batched(['one', 'two', 'three'])\nSUBMIT(answer=repr([bool(g) for g in got]))")
            )
        return refuses(400, "no") if "two" in prompt else says("yes")

    with BrokenModel(script) as model:
        result, events = ask(model, mode="rlm")
    assert (result.status, result.answer) == ("ok", "[True, False, True]")
    assert sorted(call.status for call in finished_calls(events)) == ["failed", "ok", "ok", "ok"]


def test_the_turn_after_a_failure_works(ask) -> None:
    with at_first(refuses(401, "bad key"), SUBMITS) as model:
        assert ask(model, mode="rlm")[0].status == "failed"
        assert ask(model, mode="rlm")[0].answer == "fine"


def test_a_request_is_never_made_for_an_empty_question(workspace) -> None:
    with always(SUBMITS) as model, pytest.raises(Exception, match="question is empty"):
        workspace.submit(TurnRequest(question=" "))
    assert model.prompts == []
