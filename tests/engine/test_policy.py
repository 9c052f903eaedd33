"""What a person is asked first: each rule with the effect of each answer, on whole turns."""

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from dspy.lm15 import Usage
from tests.engine.conftest import events_of
from tests.engine.test_approvals import Asking, until
from tests.engine.test_turns import check_journal, task_of
from tests.scripted import action, field, scripted

from fleet_rlm.errors import Conflict, Denied, InvalidInput, NotFound, TreeStopped
from fleet_rlm.runtime.config import load_settings
from fleet_rlm.runtime.execution import events as ev
from fleet_rlm.runtime.execution.approvals import MAX_QUESTIONS
from fleet_rlm.runtime.execution.budget import Cost
from fleet_rlm.runtime.execution.leases import Reservation
from fleet_rlm.runtime.execution.requests import TurnRequest, TurnResult
from fleet_rlm.runtime.factory import Workspace, open_workspace
from fleet_rlm.runtime.models.prices import Price
from fleet_rlm.runtime.policy import ALWAYS, DENY, ONCE, Policy, PolicyGate


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """A workspace whose policy the tests of this module change."""
    home: Path = tmp_path_factory.mktemp("policy-home")
    with open_workspace(load_settings(home=home, environ={})) as opened:
        yield opened


def with_policy(workspace: Workspace, policy: Policy) -> Workspace:
    workspace.configure(replace(workspace.settings, policy=policy))
    return workspace


class Gate(Asking):
    """A gate over one turn in memory."""

    def __init__(self, policy: Policy) -> None:
        super().__init__()
        self.gate = PolicyGate(policy, self.approvals, self.budget, lambda: self.scope)

    def asking(self, ask, *arguments: str) -> list[BaseException | None]:
        """Ask in a thread; the list gets the outcome."""
        ended: list[BaseException | None] = []

        def work() -> None:
            try:
                ask(*arguments)
                ended.append(None)
            except BaseException as error:
                ended.append(error)

        threading.Thread(target=work, daemon=True).start()
        return ended


def test_what_no_rule_names_is_not_asked() -> None:
    turn = Gate(Policy(ask_tools=("web_*",), ask_hosts=("*.example.org",), allowed_hosts=("docs.*",)))
    turn.gate.tool("delegate")
    turn.gate.host("example.com")
    turn.gate.host("docs.example.org")
    turn.gate.depth(8, "deep")
    turn.gate.cost()
    assert not turn.asked


@pytest.mark.parametrize(("answer", "first", "again"), [(ONCE, True, 2), (ALWAYS, True, 1), (DENY, False, 1)])
def test_each_answer_is_remembered_as_it_says(answer: str, first: bool, again: int) -> None:
    turn = Gate(Policy(ask_tools=("web_*",)))
    outcome = turn.asking(turn.gate.tool, "web_get", '{"url": "x"}')
    until(lambda: bool(turn.asked))
    assert turn.asked[0].kind == "tool" and "web_get" in turn.asked[0].question and turn.asked[0].detail is not None
    turn.answer(answer)
    until(lambda: bool(outcome))
    assert (outcome[0] is None) == first and (first or isinstance(outcome[0], Denied))
    second = turn.asking(turn.gate.tool, "web_get")
    until(lambda: bool(second) or len(turn.asked) == 2)
    assert len(turn.asked) == again
    if second:
        assert (second[0] is None) == first
    other = turn.asking(turn.gate.tool, "web_post")
    until(lambda: len(turn.asked) == again + 1)
    turn.budget.stop(TreeStopped("cancelled"))
    until(lambda: bool(other))


def test_many_at_once_ask_once() -> None:
    turn = Gate(Policy())
    outcomes = [turn.asking(turn.gate.host, "example.org") for _ in range(16)]
    until(lambda: bool(turn.asked))
    time.sleep(0.1)
    assert len(turn.asked) == 1
    turn.answer(ALWAYS)
    until(lambda: all(outcomes))
    assert [outcome[0] for outcome in outcomes] == [None] * 16 and len(turn.asked) == 1


@pytest.mark.parametrize(("otherwise", "allowed"), [("allow", True), ("deny", False)])
def test_the_rule_decides_for_the_rest_of_the_turn(otherwise: str, allowed: bool) -> None:
    turn = Gate(Policy(otherwise=otherwise, ask_seconds=0.05))
    for _ in range(3):
        outcome = turn.asking(turn.gate.host, "example.org")
        until(lambda o=outcome: bool(o))
        assert (outcome[0] is None) == allowed
    assert len(turn.asked) == 1 and turn.ended[0].status == "expired"


def test_money_is_asked_for_step_by_step() -> None:
    turn = Gate(Policy(ask_cost_usd=1.0))
    turn.budget.before_call = turn.gate.cost
    spend = lambda: turn.scope.lease.reserve().settle(Cost(micro_usd=600_000))  # noqa: E731
    spend()
    spend()
    third = turn.asking(spend)
    until(lambda: bool(turn.asked))
    assert "$1.2000" in turn.asked[0].question
    turn.answer(ONCE)
    until(lambda: bool(third))
    spend()
    more = turn.asking(spend)
    until(lambda: len(turn.asked) == 2)
    turn.answer(DENY)
    until(lambda: bool(more))
    assert isinstance(more[0], TreeStopped) and more[0].limit == "cost" and turn.budget.exhausted == "cost"
    turn.scope.lease.reserve(final=True).settle(Cost(micro_usd=1))  # the last word needs no leave


def test_what_was_allowed_before_a_resume_is_allowed_as_far_as_it_went() -> None:
    turn = Gate(Policy(ask_cost_usd=1.0))
    said = [(f"This turn has cost ${cost}. May it go on?", ONCE) for cost in ("1.2000", "2.3000")]
    turn.gate = PolicyGate(turn.gate.policy, turn.approvals, turn.budget, lambda: turn.scope, allowed_costs=said)
    turn.budget.carry([Cost(micro_usd=2_900_000)])
    turn.gate.cost()
    assert not turn.asked, "two dollars thirty were allowed, and one more"
    turn.budget.carry([Cost(micro_usd=500_000)])
    more = turn.asking(turn.gate.cost)
    until(lambda: bool(turn.asked))
    assert "$3.4000" in turn.asked[0].question
    turn.answer(ONCE)
    until(lambda: bool(more))
    always = PolicyGate(
        turn.gate.policy, turn.approvals, turn.budget, lambda: turn.scope, allowed_costs=[(said[0][0], ALWAYS)]
    )
    always.cost()
    denied = PolicyGate(
        turn.gate.policy, turn.approvals, turn.budget, lambda: turn.scope, allowed_costs=[(said[0][0], DENY)]
    )
    outcome = turn.asking(denied.cost)
    until(lambda: len(turn.asked) == 2)
    turn.answer(ONCE)
    until(lambda: bool(outcome))


def test_one_answer_about_money_is_for_all_that_wait_for_it() -> None:
    turn = Gate(Policy(ask_cost_usd=1.0))
    turn.scope.lease.reserve().settle(Cost(micro_usd=1_500_000))
    waiting = [turn.asking(turn.gate.cost) for _ in range(8)]
    until(lambda: bool(turn.asked))
    time.sleep(0.1)
    turn.answer(ONCE)
    until(lambda: all(waiting))
    assert waiting == [[None]] * 8 and len(turn.asked) == 1


def test_an_unknown_price_is_asked_about_once() -> None:
    turn = Gate(Policy(ask_cost_usd=1.0))
    turn.budget.before_call = turn.gate.cost
    turn.scope.lease.reserve().settle(Cost(micro_usd=None))
    second = turn.asking(turn.gate.cost)
    until(lambda: bool(turn.asked))
    assert "unknown amount" in turn.asked[0].question
    turn.answer(ONCE)
    until(lambda: bool(second))
    turn.gate.cost()
    assert len(turn.asked) == 1


def test_questions_of_code_take_none_of_the_policys_own() -> None:
    turn = Gate(Policy(ask_cost_usd=1.0, ask_depth=1))
    for _ in range(MAX_QUESTIONS):
        turn.approvals.ask(turn.scope, kind="question", question="q", seconds=0)
    turn.scope.lease.reserve().settle(Cost(micro_usd=1_500_000))
    for ask in (turn.gate.cost, lambda: turn.gate.depth(1, "the child")):
        before = len(turn.asked)
        outcome = turn.asking(ask)
        until(lambda n=before: len(turn.asked) > n)
        turn.answer(ONCE)
        until(lambda o=outcome: bool(o))
        assert outcome == [None]


@pytest.mark.parametrize(("otherwise", "allowed"), [("allow", True), ("deny", False)])
def test_where_the_policy_has_asked_too_often_the_rule_decides(otherwise: str, allowed: bool) -> None:
    turn = Gate(Policy(otherwise=otherwise, ask_seconds=0))
    outcomes = [turn.asking(turn.gate.host, f"{n}.example") for n in range(MAX_QUESTIONS + 3)]
    until(lambda: all(outcomes), 60)
    assert len(turn.asked) == MAX_QUESTIONS
    assert all((outcome[0] is None) == allowed and not isinstance(outcome[0], InvalidInput) for outcome in outcomes)


def test_what_is_known_is_asked_about_also_beside_an_unknown_price() -> None:
    turn = Gate(Policy(ask_cost_usd=1.0))
    turn.budget.before_call = turn.gate.cost
    turn.scope.lease.reserve().settle(Cost(micro_usd=None))
    spend = lambda: turn.scope.lease.reserve().settle(Cost(micro_usd=600_000))  # noqa: E731
    first = turn.asking(spend)
    until(lambda: bool(turn.asked))
    turn.answer(ONCE)
    until(lambda: bool(first))
    spend()
    more = turn.asking(spend)
    until(lambda: len(turn.asked) == 2)
    assert "$1.2000 and an unknown amount" in turn.asked[1].question
    turn.answer(DENY)
    until(lambda: bool(more))
    assert isinstance(more[0], TreeStopped)
    said = [(turn.asked[1].question, ONCE)]
    again = PolicyGate(turn.gate.policy, turn.approvals, turn.budget, lambda: turn.scope, allowed_costs=said)
    again.cost()
    assert len(turn.asked) == 2, "two dollars twenty were allowed, and what is not known"


def test_many_at_once_spend_no_more_unasked_than_one_after_another() -> None:
    turn = Gate(Policy(ask_cost_usd=0.1))
    turn.budget.before_call = turn.gate.cost
    made: list[Reservation] = []

    def call() -> None:
        made.append(turn.scope.lease.reserve(micro_usd=170_000))

    outcomes = [turn.asking(call) for _ in range(30)]
    for ended in range(1, 4):  # calls that cost little of what they were promised: nobody is asked yet
        until(lambda ended=ended: len(made) == ended)
        assert not turn.asked and turn.budget.snapshot().reserved_calls == 1
        made[-1].settle(Cost(prompt_tokens=1, micro_usd=1_000))
    until(lambda: len(made) == 4)
    made[-1].settle(Cost(prompt_tokens=1, micro_usd=1_010_000))
    until(lambda: bool(turn.asked))
    assert "$1.0130" in turn.asked[0].question
    turn.answer(DENY)
    until(lambda: all(outcomes))
    assert len(made) == 4 and len(turn.asked) == 1
    assert [type(outcome[0]) for outcome in outcomes].count(TreeStopped) == 26


def test_who_waits_for_promises_goes_on_when_a_person_allows_all_and_ends_with_its_run() -> None:
    turn = Gate(Policy(ask_cost_usd=0.1))
    turn.budget.before_call = turn.gate.cost
    lease = turn.scope.lease
    first = lease.reserve(micro_usd=170_000)
    lease.reserve(micro_usd=170_000, with_it=1).refund()  # of the same request: it would wait for itself
    with pytest.raises(TreeStopped):
        lease.reserve(micro_usd=1, ahead=True)  # nobody waits for what is asked ahead
    waiting = [turn.asking(lambda: lease.reserve(micro_usd=170_000)) for _ in range(4)]
    first.settle(Cost(micro_usd=None))  # abandoned: what it was promised is what it may have cost
    until(lambda: bool(turn.asked))
    assert "$0.0000, and $0.1700 more at most" in turn.asked[0].question
    turn.answer(ALWAYS)
    until(lambda: all(waiting))
    assert waiting == [[None]] * 4
    other = Gate(Policy(ask_cost_usd=0.1))
    other.budget.before_call = other.gate.cost
    other.scope.lease.reserve(micro_usd=170_000)
    last = other.asking(lambda: other.scope.lease.reserve(micro_usd=1))
    other.budget.stop(TreeStopped("cancelled"))
    until(lambda: bool(last))
    assert isinstance(last[0], TreeStopped) and last[0].reason == "cancelled"


def test_a_batch_asks_before_more_is_spent_and_a_replay_tells_the_same(own: Workspace) -> None:
    with_policy(own, Policy(ask_cost_usd=0.1, ask_seconds=0))
    price = Price(input_usd=0, output_usd=10, source="settings")
    own.configure(replace(own.settings, prices={"test/scripted": price}))

    def batch(prompt: str) -> str:
        return (
            "yes"
            if "part" in prompt and "REPL" not in prompt
            else action("SUBMIT(answer=str(len(llm_query_batched(['part %d' % i for i in range(30)]))))")
        )

    usage = Usage(input_tokens=0, output_tokens=20_000, total_tokens=20_000)  # $0.20
    lm = scripted(lambda prompt: batch(prompt), usage=usage, delay_s=0.05)
    root = scripted(lambda prompt: batch(prompt), usage=Usage(input_tokens=9, output_tokens=9, total_tokens=18))
    turn = own.submit(TurnRequest(question="go", mode="rlm", model=root, sub_model=lm))
    result = finished(own, turn.turn)
    own.configure(replace(own.settings, prices={}))
    assert (result.status, result.limit) == ("limit", "cost")
    assert len(lm.engine.prompts) == 1 and result.usage.cost_usd == pytest.approx(0.2, abs=0.01)
    asked = [e.data.question for e in events_of(own, turn.session) if e.type == "approval.requested"]
    assert len(asked) == 1 and "$0.20" in asked[0]
    again = finished(own, own.replay(turn.turn).turn)
    told = [e.data.question for e in events_of(own, again.session) if e.type == "approval.requested"]
    assert (again.status, again.limit) == ("limit", "cost") and told[-1:] == asked and len(lm.engine.prompts) == 1


def reply(prompt: str) -> str:
    if "the child" in task_of(prompt):
        return action("SUBMIT(answer='done')")
    return action("got = rlm_query('the child')\nSUBMIT(answer=str(got) if got else f'{got.error}: {got.message}')")


def finished(workspace: Workspace, turn: str) -> TurnResult:
    return workspace.wait(turn, 60)


def question_of(workspace: Workspace, session: str) -> ev.Event:
    found: list[ev.Event] = []

    def there() -> bool:
        found[:] = [e for e in events_of(workspace, session) if e.type == "approval.requested"]
        return bool(found)

    until(there, 60)
    return found[-1]


def test_a_child_below_a_depth_waits_for_a_person(own: Workspace) -> None:
    with_policy(own, Policy(ask_depth=1))
    turn = own.submit(TurnRequest(question="go", mode="rlm", model=scripted(reply)))
    asked = question_of(own, turn.session)
    assert asked.data.kind == "depth" and asked.depth == 0 and asked.data.choices == [ONCE, ALWAYS, DENY]
    assert asked.data.detail.head == "the child"
    with pytest.raises(InvalidInput, match="not a choice"):
        own.answer(turn.turn, asked.data.id, "sure")
    with pytest.raises(NotFound, match="no question"):
        own.answer(turn.turn, "apr_none", ONCE)
    own.answer(turn.turn, asked.data.id, ONCE)
    assert finished(own, turn.turn).answer == "done"
    own.answer(turn.turn, asked.data.id, ONCE)  # the same again, after the end
    with pytest.raises(Conflict, match="answered 'allow once'"):
        own.answer(turn.turn, asked.data.id, DENY)
    with pytest.raises(NotFound, match="no turn"):
        own.answer("trn_none", asked.data.id, ONCE)
    check_journal(events_of(own, turn.session))


def test_a_denied_child_is_a_failure_and_no_run(own: Workspace) -> None:
    with_policy(own, Policy(ask_depth=1, ask_seconds=0))
    turn = own.submit(TurnRequest(question="go", mode="rlm", model=scripted(reply)))
    result = finished(own, turn.turn)
    assert (result.status, result.answer) == ("ok", "denied: '1' was not allowed (depth)")
    events = events_of(own, turn.session)
    assert sum(event.type == "run.started" for event in events) == 1
    ends = [event.data for event in events if event.type == "approval.resolved"]
    assert [(end.status, end.answer, end.who) for end in ends] == [("expired", DENY, "rule")]


def test_a_cancelled_run_that_waits_for_a_person(own: Workspace) -> None:
    with_policy(own, Policy(ask_depth=2))

    def deeper(prompt: str) -> str:
        task = task_of(prompt)
        if "the child" in task:
            return action("SUBMIT(answer=str(rlm_query('the grandchild')))")
        return reply(prompt)

    request = TurnRequest(question="go", mode="rlm", model=scripted(deeper), limits=ev.Limits(depth=3))
    turn = own.submit(request)
    asked = question_of(own, turn.session)
    began = time.monotonic()
    assert own.cancel_run(turn.turn, asked.run)
    result = finished(own, turn.turn)
    assert result.answer == "cancelled: this run was stopped by a person" and time.monotonic() - began < 10
    ends = [e.data.status for e in events_of(own, turn.session) if e.type == "approval.resolved"]
    assert ends == ["cancelled"]
    with pytest.raises(Conflict, match="stopped"):
        own.answer(turn.turn, asked.data.id, ONCE)
    check_journal(events_of(own, turn.session))


def test_a_tool_of_the_agent_that_was_denied_is_told_as_failed(own: Workspace) -> None:
    with_policy(own, Policy(ask_tools=("delegate*",), ask_seconds=0))
    calls = '{"tool_calls": [{"name": "delegate", "args": {"task": "count"}}]}'
    answer = '{"tool_calls": [{"name": "submit", "args": {"answer": "I may not"}}]}'

    def agent(prompt: str) -> str:
        said = answer if "was not allowed" in prompt else calls
        return field("next_thought", "so") + "\n\n" + field("tool_calls", said)

    ref = own.contexts.add_text("note.txt", "three words here")
    turn = own.submit(TurnRequest(question="count", mode="auto", contexts=(ref,), model=scripted(agent)))
    result = finished(own, turn.turn)
    assert (result.status, result.answer) == ("ok", "I may not"), result
    tools = [e.data for e in events_of(own, turn.session) if e.type == "tool.finished"]
    assert tools[0].status == "failed" and "'delegate' was not allowed (tool)" in tools[0].result.head


def test_no_turn_may_be_deeper_than_the_policy(own: Workspace) -> None:
    with_policy(own, Policy(max_depth=2))
    with pytest.raises(InvalidInput, match=r"depth of 3 is more than the policy allows \(2\)"):
        own.submit(TurnRequest(question="go", mode="rlm", model=scripted(reply), limits=ev.Limits(depth=3)))
