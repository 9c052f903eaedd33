"""Whole turns against a provider with limits of its own, over real HTTP."""

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from tests.engine.conftest import events_of
from tests.engine.fake_provider import FakeProvider, fake_provider
from tests.engine.test_approvals import until
from tests.engine.test_turns import check_journal, task_of
from tests.scripted import action, scripted

from fleet_rlm.runtime.execution.events import Limits
from fleet_rlm.runtime.execution.requests import TurnRequest, TurnResult
from fleet_rlm.runtime.factory import Workspace


@pytest.fixture
def narrow(workspace: Workspace) -> Iterator[Workspace]:
    """The workspace with eight calls in flight at most."""
    before = workspace.settings
    workspace.configure(replace(before, call_width=8))
    yield workspace
    workspace.configure(before)


def ask(workspace: Workspace, code: str, provider: FakeProvider, limits: Limits | None = None) -> TurnResult:
    root = scripted(lambda prompt: action(code))
    request = TurnRequest(
        question="q", mode="rlm", model=root, sub_model=provider.lm(), limits=limits or Limits(), title="t"
    )
    return workspace.wait(workspace.submit(request).turn, timeout=100)


def calls_of(workspace: Workspace, result: TurnResult) -> list[Any]:
    return [e.data for e in events_of(workspace, result.session) if e.type == "call.finished"]


def test_the_width_finds_what_the_provider_bears(workspace: Workspace) -> None:
    code = (
        "got = llm_query_batched([f'item {i}' for i in range(300)])\n"
        "SUBMIT(answer=str([i for i, g in enumerate(got) if g != f'answer to item {i}']))"
    )
    with fake_provider(bears=6, delay_s=0.03) as provider:
        result = ask(workspace, code, provider)
    assert (result.status, result.answer) == ("ok", "[]"), "every item has its own answer, in order"
    statuses = [arrival.status for arrival in provider.arrivals]
    assert statuses.count(200) == 300 and statuses.count(429) > 0
    late = provider.arrivals[-150:]
    assert sum(arrival.status == 429 for arrival in late) <= 3, "refusals do not go on"
    assert sum(arrival.beside for arrival in late) / len(late) >= 1, "and it is not idle either"
    assert result.usage.calls == 1 + len(statuses), "every request that was sent is counted"
    calls = calls_of(workspace, result)
    assert len(calls) == 301 and sum(call.tries for call in calls) == 1 + len(statuses)
    assert any(call.queued_ms > 20 for call in calls) and all(call.queued_ms <= call.ms for call in calls)
    check_journal(events_of(workspace, result.session))


def test_a_run_with_many_calls_does_not_starve_its_neighbour(narrow: Workspace) -> None:
    def reply(prompt: str) -> str:
        if "many" in task_of(prompt):
            return action("SUBMIT(answer=str(len(llm_query_batched([f'big {i}' for i in range(400)]))))")
        if "few" in task_of(prompt):
            return action("SUBMIT(answer=str(len(llm_query_batched([f'small {i}' for i in range(5)]))))")
        return action("SUBMIT(answer=' '.join(rlm_query_batched(['many', 'few'])))")

    with fake_provider(delay_s=0.02) as provider:
        sub = provider.lm()
        root = scripted(reply)
        # The children are scripted as the root is; their plain sub-calls go to the provider.
        sub_reply = scripted(lambda prompt: reply(prompt) if "Preview" in prompt else sub(prompt)[0])
        request = TurnRequest(question="q", mode="rlm", model=root, sub_model=sub_reply, limits=Limits())
        result = narrow.wait(narrow.submit(request).turn, timeout=100)
    assert result.answer == "400 5", result
    order = [arrival.prompt.split()[0] for arrival in provider.arrivals]
    first, last = order.index("small"), len(order) - 1 - order[::-1].index("small")
    assert order[first:last].count("big") <= 24, "the five went in between, and not after the four hundred"


def test_identical_calls_in_flight_are_made_once(workspace: Workspace) -> None:
    code = "got = llm_query_batched(['the same'] * 50)\nSUBMIT(answer=f'{len(got)} {set(got)}')"
    with fake_provider(delay_s=1.0) as provider:
        result = ask(workspace, code, provider)
    assert result.answer == "50 {'answer to the same'}"
    assert provider.prompts() == ["the same"]
    assert (result.usage.calls, result.usage.prompt_tokens > 7) == (2, True)
    shared = [call for call in calls_of(workspace, result) if call.shared]
    (made,) = {call.shared for call in shared}
    assert len(shared) == 49 and all((c.prompt_tokens, c.cost_usd) == (0, 0.0) for c in shared)
    assert made in {call.id for call in calls_of(workspace, result) if not call.shared}
    check_journal(events_of(workspace, result.session))
    assert sum(call.calls for call in calls_of(workspace, result)) == 2, "as the events say it"
    again = workspace.wait(workspace.replay(result.turn).turn, timeout=60)
    replayed = [call for call in calls_of(workspace, again) if call.shared]
    (same,) = {call.shared for call in replayed}
    assert len(replayed) == 49 and same in {call.id for call in calls_of(workspace, again) if not call.shared}
    assert again.usage.calls == sum(call.calls for call in calls_of(workspace, again)) == 2


def test_a_call_that_is_stopped_while_it_waits_for_another_was_not_sent(workspace: Workspace) -> None:
    with fake_provider(delay_s=30.0) as provider:
        root = scripted(lambda prompt: action("llm_query_batched(['the same'] * 2)"))
        request = TurnRequest(question="q", mode="rlm", model=root, sub_model=provider.lm(), limits=Limits())
        submitted = workspace.submit(request)

        def one_waits() -> bool:
            started = [e.data for e in events_of(workspace, submitted.session) if e.type == "call.started"]
            return sum(call.shared is not None for call in started) == 1

        until(one_waits, 30)
        workspace.cancel(submitted.turn)
        result = workspace.wait(submitted.turn, timeout=60)
    calls = calls_of(workspace, result)
    assert sorted(call.calls for call in calls if call.status == "cancelled") == [0, 1]
    assert sum(call.calls for call in calls) == result.usage.calls


def test_a_call_that_asks_for_chance_is_never_shared(workspace: Workspace) -> None:
    code = "got = llm_query_batched(['the same'] * 5)\nSUBMIT(answer=str(len(got)))"
    with fake_provider(delay_s=0.3) as provider:
        root = scripted(lambda prompt: action(code))
        request = TurnRequest(question="q", mode="rlm", model=root, sub_model=provider.lm(temperature=0.7))
        result = workspace.wait(workspace.submit(request).turn, timeout=60)
    assert result.answer == "5" and len(provider.prompts()) == 5


def test_one_bad_item_fails_alone(workspace: Workspace) -> None:
    code = (
        "good, bad, also = llm_query_batched(['fine', 'broken', 'well'])\n"
        "SUBMIT(answer=f'{good} | {bool(bad)} {bad.error} | {also}')"
    )
    with fake_provider(status=lambda prompt, before: 400 if prompt == "broken" else 200) as provider:
        result = ask(workspace, code, provider)
    assert result.answer == "answer to fine | False model_refused | answer to well"
    assert provider.prompts(400) == ["broken"], "a request that is wrong is not tried again"


def test_a_moment_of_weakness_is_survived_and_counted(workspace: Workspace) -> None:
    with fake_provider(status=lambda prompt, before: 200 if before >= 2 else 500, retry_after="0") as provider:
        result = ask(workspace, "SUBMIT(answer=llm_query('please'))", provider)
    assert result.answer == "answer to please" and result.usage.calls == 1 + 3
    assert [call.tries for call in calls_of(workspace, result)] == [1, 3]


def test_a_retry_that_the_budget_does_not_allow_is_not_made(workspace: Workspace) -> None:
    code = "got = llm_query_batched(['only'])\nSUBMIT(answer=str(got[0].error))"
    with fake_provider(status=lambda prompt, before: 500, retry_after="0") as provider:
        result = ask(workspace, code, provider, Limits(calls=4))
    assert len(provider.arrivals) == 2, "one for the root, one is held back for its last word"
    assert result.answer.endswith("model_unavailable") and result.usage.calls == 3


def test_a_pause_that_the_provider_asks_for_ends_with_the_turn(workspace: Workspace) -> None:
    refused = threading.Event()

    def status(prompt: str, before: int) -> int:
        refused.set()
        return 429

    with fake_provider(status=status, retry_after="100") as provider:
        root = scripted(lambda prompt: action("llm_query_batched([f'item {i}' for i in range(30)])"))
        submitted = workspace.submit(TurnRequest(question="q", mode="rlm", model=root, sub_model=provider.lm()))
        assert refused.wait(60)
        time.sleep(0.5)
        workspace.cancel(submitted.turn)
        assert workspace.wait(submitted.turn, timeout=20).status == "cancelled"
    assert len(provider.arrivals) <= 30, "nobody asked again while the provider wanted to be left alone"
    check_journal(events_of(workspace, submitted.session))
