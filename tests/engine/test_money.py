"""Money in whole turns: own prices for any model, cached tokens, and a cost limit under parallel calls."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import dspy
import pytest
from dspy.lm15 import Usage
from tests.engine.conftest import events_of
from tests.engine.fake_provider import FakeProvider, fake_provider
from tests.scripted import action, field, scripted

from fleet_rlm.errors import InvalidInput, TreeStopped
from fleet_rlm.runtime.config import load_settings
from fleet_rlm.runtime.execution.budget import Cost, TreeBudget
from fleet_rlm.runtime.execution.events import Limits
from fleet_rlm.runtime.execution.leases import Reservation
from fleet_rlm.runtime.execution.requests import TurnRequest, TurnResult
from fleet_rlm.runtime.execution.stops import Stop
from fleet_rlm.runtime.factory import Workspace, open_workspace

TWO_THOUSAND = Usage(input_tokens=0, output_tokens=2000, total_tokens=2000)


@pytest.fixture
def priced(tmp_path: Path) -> Iterator[Callable[..., Workspace]]:
    """Opens a workspace whose settings price the scripted model."""
    opened: list[Workspace] = []

    def make(**price: float) -> Workspace:
        table = "\n".join(f"{name}_usd_per_million = {value}" for name, value in price.items())
        (tmp_path / "settings.toml").write_text(f'[prices."test/scripted"]\n{table}\n')
        opened.append(open_workspace(load_settings(home=tmp_path, environ={})))
        return opened[-1]

    yield make
    for workspace in opened:
        workspace.close()


def ask(workspace: Workspace, **options: object) -> TurnResult:
    submitted = workspace.submit(TurnRequest(question="what?", **options))
    return workspace.wait(submitted.turn, timeout=100)


def test_cached_tokens_are_counted_and_cost_what_they_cost(priced: Callable[..., Workspace]) -> None:
    workspace = priced(input=1, output=10, cached=0.1)
    usage = Usage(input_tokens=1000, output_tokens=10, total_tokens=1010, cache_read_tokens=800)
    result = ask(workspace, mode="direct", model=scripted(lambda _: field("answer", "x"), usage=usage))
    assert (result.usage.prompt_tokens, result.usage.cached_tokens) == (1000, 800)
    assert result.usage.cost_usd == pytest.approx((200 * 1 + 800 * 0.1 + 10 * 10) / 1e6)
    (call,) = [e.data for e in events_of(workspace, result.session) if e.type == "call.finished"]
    assert (call.cached_tokens, call.cost_usd) == (800, result.usage.cost_usd)


def test_a_dollar_at_thirty_cents_a_call_is_three_calls_however_many_ask_at_once(
    priced: Callable[..., Workspace],
) -> None:
    workspace = priced(input=0, output=150)  # 2,000 tokens of answer are $0.30

    def reply(prompt: str) -> str:
        if "part" in prompt and "REPL" not in prompt:
            return "yes"
        return action("r = llm_query_batched(['part %d' % i for i in range(8)])\nprint(r)")

    lm = scripted(reply, delay_s=0.05, usage=TWO_THOUSAND, max_tokens=2000)
    result = ask(workspace, mode="rlm", model=lm, limits=Limits(cost_usd=1.0))
    assert (result.status, result.limit) == ("limit", "cost")
    assert len(lm.engine.prompts) == 3
    assert result.usage.cost_usd == pytest.approx(0.90)
    assert lm.engine.most_in_flight == 2, "the two that the dollar still has room for run side by side"


def test_a_call_that_could_break_the_limit_is_never_made(priced: Callable[..., Workspace]) -> None:
    workspace = priced(input=0, output=150)
    lm = scripted(str, usage=TWO_THOUSAND, max_tokens=2000)
    result = ask(workspace, mode="direct", model=lm, limits=Limits(cost_usd=0.29))
    assert (result.status, result.limit, result.usage.calls) == ("limit", "cost", 0)
    assert lm.engine.prompts == []


def brought(provider: FakeProvider, name: str, **options: object) -> dspy.LM:
    """An LM object of a caller, on one of DSPy's own engines."""
    return dspy.LM(name, api_base=provider.address, api_key="none", cache=False, **options)


def test_an_lm_object_promises_its_worst_case_by_the_list_as_a_name_does(priced: Callable[..., Workspace]) -> None:
    workspace = priced(input=0, output=0)
    root = scripted(lambda _: action("SUBMIT(answer=str(len(llm_query_batched(['part %d' % i for i in range(6)]))))"))
    with fake_provider() as provider:
        sub = brought(provider, "openai/gpt-4o", max_tokens=1000)  # a cent for the longest answer
        result = ask(workspace, mode="rlm", model=root, sub_model=sub, limits=Limits(cost_usd=0.015))
    assert (result.status, result.answer) == ("ok", "6"), result
    assert [arrival.beside for arrival in provider.arrivals] == [0] * 6, "two promises are more than the limit"
    assert result.usage.cost_usd is not None and 0 < result.usage.cost_usd < 0.001


def test_a_cost_limit_is_refused_for_an_lm_object_without_a_price(priced: Callable[..., Workspace]) -> None:
    workspace = priced(input=0, output=0)
    with fake_provider() as provider:
        unknown = brought(provider, "openai/unknown-zz")
        with pytest.raises(InvalidInput, match="the price of openai/unknown-zz is unknown"):
            ask(workspace, mode="direct", model=unknown, limits=Limits(cost_usd=0.01))
        assert ask(workspace, mode="direct", model=unknown, limits=Limits(calls=5)).usage.cost_usd is None
        own = scripted(lambda _: field("answer", "x"))  # of an engine of one's own nobody can know it before
        own.model = "test/other"
        assert ask(workspace, mode="direct", model=own, limits=Limits(cost_usd=0.01)).status == "ok"


def test_what_is_promised_without_a_price_grows_with_the_size_of_a_call() -> None:
    lease = TreeBudget(Limits(cost_usd=1.0)).root()
    lease.reserve(tokens=10).settle(Cost(prompt_tokens=5, completion_tokens=5, micro_usd=100))
    assert lease.reserve(tokens=1_000).micro_usd == 10_000, "at the dearest token that was seen"
    assert lease.reserve(tokens=2).micro_usd == 100, "and no less than the dearest call"


class Own(dspy.BaseLM):
    """An LM of a caller without an engine, which reports what it likes."""

    def __init__(self, usage: dict[str, object]) -> None:
        super().__init__(model="test/own")
        self.usage, self.asked = usage, list[dict[str, object]]()

    def forward(self, prompt: object = None, messages: object = None, **options: object) -> SimpleNamespace:
        self.asked.append(options)
        message = SimpleNamespace(content=field("answer", "hi"), tool_calls=None)
        choice = SimpleNamespace(message=message, finish_reason="stop")
        return SimpleNamespace(choices=[choice], usage=self.usage, model="x")


@pytest.mark.parametrize("told", ["many", -500_000])
def test_an_lm_object_that_reports_no_number_of_tokens_ends_its_calls_all_the_same(workspace, told: object) -> None:
    result = ask(workspace, mode="direct", model=Own({"prompt_tokens": told, "completion_tokens": 2}))
    assert (result.status, result.answer) == ("ok", "hi"), result
    assert (result.usage.prompt_tokens, result.usage.completion_tokens) == (0, 2)
    (call,) = [e.data for e in events_of(workspace, result.session) if e.type == "call.finished"]
    assert call.status == "ok"


@pytest.mark.parametrize("wrong", ["n=-1", "n=0", "max_tokens=-10**7"])
def test_a_number_of_answers_or_a_bound_that_nothing_can_be_promised_for_is_refused(workspace, wrong: str) -> None:
    code = f"""
try:
    SUBMIT(answer=str(dspy.Predict('q -> a', {wrong}, temperature=0.5)(q='hi')))
except Exception as error:
    SUBMIT(answer=str(error))
"""
    own = Own({"prompt_tokens": 5, "completion_tokens": 900})
    root = scripted(lambda _: action(code))
    result = ask(workspace, mode="rlm", model=root, sub_model=own, limits=Limits(calls=9, tokens=30_000))
    assert result.status == "ok" and "must be a number from" in (result.answer or ""), result
    assert not own.asked and result.usage.calls == 1
    assert sum(e.type == "call.started" for e in events_of(workspace, result.session)) == 1


def priced_after(costs: list[int | None], together: int = 1) -> tuple[TreeBudget, list[int]]:
    """One after another calls of an unknown price; then eight at once under a limit of a dollar, at 30 cents each."""
    tree = TreeBudget(Limits(cost_usd=1.0))
    lease, made = tree.root(), list[int]()
    for micro in costs:
        lease.reserve().settle(Cost(micro_usd=micro))

    def call() -> None:
        taken = list[Reservation]()
        try:
            for n in range(together):
                taken.append(lease.reserve(with_it=n))
        except TreeStopped:
            for each in taken:
                each.refund()
            return
        time.sleep(0.01)
        made.append(1)
        for n, each in enumerate(taken):
            each.settle(Cost(prompt_tokens=10, micro_usd=300_000 if n == 0 else 0))

    threads = [threading.Thread(target=call, daemon=True) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive(), "a call waits for itself"
    return tree, made


def test_a_first_call_that_failed_says_nothing_of_what_others_cost() -> None:
    tree, made = priced_after([0])
    assert len(made) == 3 and tree.usage().cost_usd == pytest.approx(0.9)


def test_several_completions_of_one_request_do_not_wait_for_each_other() -> None:
    tree, made = priced_after([], together=2)
    assert 1 <= len(made) <= 3 and tree.usage().cost_usd is not None and tree.usage().cost_usd <= 1.0


def test_a_call_that_is_known_to_be_free_says_nothing_of_what_others_cost() -> None:
    tree = TreeBudget(Limits(cost_usd=1.0))
    lease = tree.root()
    lease.reserve(micro_usd=0).settle(Cost(prompt_tokens=9, micro_usd=0))
    first = lease.reserve()
    second = threading.Thread(target=lambda: lease.reserve().refund(), daemon=True)
    second.start()
    second.join(0.2)
    assert second.is_alive(), "one at a time until a cost was seen"
    first.settle(Cost(prompt_tokens=9, micro_usd=300_000))
    second.join(10)
    assert not second.is_alive()


def test_who_waits_for_a_price_can_be_stopped_alone() -> None:
    tree = TreeBudget(Limits(cost_usd=1.0))
    lease, stop, ended = tree.root(), Stop(tree.stopped), list[str]()
    first = lease.reserve()

    def wait() -> None:
        try:
            lease.reserve(stop=stop.future)
        except TreeStopped as stopped:
            ended.append(stopped.reason)

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    thread.join(0.1)
    stop.set(TreeStopped("cancelled"))
    thread.join(10)
    assert ended == ["cancelled"] and tree.snapshot().reserved_calls == 1
    first.refund()
