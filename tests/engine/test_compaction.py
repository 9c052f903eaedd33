"""Histories that outgrow the model's window: what leaves, in which order, and that nothing grows by it."""

import json
from typing import Any

import dspy
import pytest
from dspy.adapters.types.tool import ToolCallResults, ToolCalls
from tests.engine.conftest import events_of
from tests.engine.sse_model import SseModel, say, sse_model, tool
from tests.engine.test_turns import ask, check_journal

from fleet_rlm.runtime.agent.agent import FleetAgent
from fleet_rlm.runtime.agent.compaction import RECALL, TurnFields, chars_of, compact
from fleet_rlm.runtime.agent.history import KEPT_TURNS, Delegated, PastTurn, first_kept, history
from fleet_rlm.runtime.factory import Workspace


def step(number: int, result: str, **inputs: str) -> dict[str, Any]:
    calls = ToolCalls.from_dict_list([{"name": "look", "args": {"n": number}, "id": f"c{number}"}])
    results = ToolCallResults.from_tool_calls_and_values(calls, [result])
    return inputs | {"tool_calls": calls.model_copy(update={"tool_call_results": results})}


def results_of(messages: list[dict[str, Any]]) -> list[str]:
    return [
        each.value
        for message in messages
        if isinstance(message.get("tool_calls"), ToolCalls) and message["tool_calls"].tool_call_results
        for each in message["tool_calls"].tool_call_results.tool_call_results
    ]


def test_older_results_are_cut_first_and_the_newest_stay() -> None:
    messages = [step(0, "a" * 5000, question="why?"), *(step(n, f"{n}" * 5000) for n in range(1, 6))]
    done = compact(messages, 14_000)
    results = results_of(done.messages)
    assert done.messages[0]["question"] == "why?" and len(done.messages) == 6
    assert [len(result) for result in results[-2:]] == [5000, 5000] and len(results[0]) < 700
    assert done.after_chars <= 14_000 < done.before_chars and done.after_chars == chars_of(done.messages)
    assert results_of(messages)[0] == "a" * 5000, "what was given is not changed"
    assert all(call.id for message in done.messages for call in message["tool_calls"].tool_calls)


def test_earlier_turns_leave_as_a_line_each_and_the_question_never() -> None:
    past = [PastTurn(f"question {n}?", f"answer {n} " + "z" * 900) for n in range(40)]
    messages = [*history(past).messages, step(0, "r" * 300, question="now?"), step(1, "s" * 300)]
    done = compact(messages, 6_000)
    assert done.after_chars <= 6_000 + 1_700 and done.dropped > 30
    assert done.messages[0]["question"] == RECALL and "question 3" in done.messages[0]["answer"]
    assert done.messages[-2]["question"] == "now?" and results_of(done.messages[-2:]) == ["r" * 300, "s" * 300]
    again = compact(done.messages, 3_000)
    assert again.after_chars <= 3_000 + 1_700
    assert sum("What was said before" in str(message.get("question")) for message in again.messages) == 1
    assert "question" in again.messages[0]["answer"], "what was recalled is recalled again, not recalled of"


@pytest.mark.parametrize("names", [("question", "answer"), ("item", "total")])
def test_the_current_turn_stays_whatever_its_fields_are_called(names: tuple[str, str]) -> None:
    asks, answers = names
    fields = TurnFields((asks, "amount"), (answers, "currency"))

    def turn(what: str, steps: int) -> list[dict[str, Any]]:
        return [step(0, "r" * 1000, **{asks: what, "amount": "3"}), *(step(n, "r" * 1000) for n in range(1, steps))]

    submit = ToolCalls.from_dict_list([{"name": "submit", "args": {answers: "A" * 700}, "id": "s"}])
    end = {"tool_calls": submit, answers: "A" * 700, "currency": "cents"}
    messages = [*turn("first", 3), end, *turn("second", 3), end, *turn("the current one", 4)]
    done = compact(messages, 3_000, fields)
    assert done.before_chars == chars_of(messages, fields) < chars_of(messages) + 1400
    recalled, current = done.messages[0], done.messages[1:]
    assert recalled[asks] == RECALL and recalled[answers].startswith(f"- asked: {asks}: first, amount: 3\n  answered: ")
    assert recalled["tool_calls"].tool_calls[0].args == {answers: recalled[answers]}
    assert current[0][asks] == "the current one" and len(results_of(current)) >= 3
    assert compact(done.messages, 500, fields).messages[1][asks] == "the current one"


def test_an_agent_with_a_signature_of_its_own_keeps_what_it_was_asked() -> None:
    def reply(body: dict[str, Any]) -> list[Any]:
        if looks:
            return tool("look", {"n": looks.pop()})
        if len(json.dumps(body["messages"])) > limit[0]:
            return [{"refused": "This model's maximum context length is 100 tokens"}]
        return tool("submit", {"total": "7"})

    def look(n: int) -> str:
        """Look."""
        return "r" * 1000

    looks, limit = [], [10**9]
    with sse_model(reply) as model, dspy.context(lm=model.lm()):
        agent = FleetAgent([look], signature="item -> total")
        first = agent(item="the first item")
        second = agent(item="the second item", history=first.history)
        looks, limit[0] = [*range(5)], 6_000
        last = agent(item="the current item", history=second.history)
        seen = json.dumps(model.asked[-1]["messages"])
    assert last.total == "7" and len(seen) <= limit[0]
    assert seen.count("the current item") == 1 and "the second item" in seen


@pytest.mark.parametrize("tools", [True, False])
def test_earlier_answers_are_in_the_prompt(tools: bool) -> None:
    given = (Delegated("delegate", {"task": "t"}, "the result"),)
    past = history([PastTurn("q1", "the first answer", given), PastTurn("q2", "the second answer")])
    says: list[list[Any]] = [say("a third answer, in plain text"), say("enough")]
    with sse_model(lambda _: says.pop(0)) as model, dspy.context(lm=model.lm(tools=tools)):
        agent = FleetAgent([])
        third = agent(question="q3", history=past)
        agent(question="q4", history=third.history)
        seen = json.dumps(model.asked[-1]["messages"])
    for text in ("q1", "the result", "the first answer", "q2", "the second answer", "q3", "a third answer", "q4"):
        assert seen.count(text) == 1, text


def test_compaction_never_makes_a_history_longer() -> None:
    for sizes in ([10], [10] * 30, [50_000], [100, 50_000, 100]):
        messages = [step(0, "x", question="q"), *(step(n, "y" * size) for n, size in enumerate(sizes, 1))]
        for target in (50, 1_000, 20_000):
            done = compact(messages, target)
            assert done.after_chars <= done.before_chars or done.before_chars <= target
            assert done.messages[0]["question"] == "q"
            twice = compact(done.messages, target)
            assert twice.after_chars <= done.after_chars


def test_the_beginning_of_the_history_stays_over_turns() -> None:
    assert [first_kept(n) for n in (5, 20, 29, 30, 39, 40)] == [0, 0, 0, 10, 10, 20]
    past = [PastTurn("q1", "a1", (Delegated("delegate", {"task": "t"}, "r"),)), PastTurn("q2", "a2")]
    short, longer = history(past).messages, history([*past, PastTurn("q3", "a3")]).messages
    assert str(longer[: len(short)]) == str(short) and len(longer) > len(short)
    assert KEPT_TURNS >= 10


def says(body: dict[str, Any]) -> list[str]:
    return [str(message["content"]) for message in body["messages"] if message["role"] == "tool"]


LIMIT = 30_000


def small_window(body: dict[str, Any]) -> list[Any]:
    """A server with a window of LIMIT characters, whose model reads ten large pieces and then answers."""
    size = len(json.dumps(body["messages"]))
    if size > LIMIT:
        return [{"refused": f"This model's maximum context length is {LIMIT} tokens, you requested {size}"}]
    seen = sum("line 1 of" in text or "characters left out" in text for text in says(body))
    last = next((text for text in reversed(says(body))), "")
    number = int(last.partition("piece ")[2].partition(" ")[0]) + 1 if "piece " in last else 0
    if number < 10:
        return tool(
            "read_context", {"name": "big.txt", "first_line": number * 100 + 1, "last_line": number * 100 + 100}
        )
    return tool("submit", {"answer": f"read {number}, sees {seen}"})


def test_an_agent_reads_more_than_its_window_holds(workspace: Workspace) -> None:
    lines = [f"piece {n // 100} line {n % 100} of " + "w" * 50 for n in range(1000)]
    ref = workspace.contexts.add_text("big.txt", "\n".join(lines))
    with sse_model(small_window) as model:
        result = ask(workspace, "read all", model=model.lm(), contexts=(ref,))
    assert result.status == "ok" and result.answer is not None and result.answer.startswith("read 10"), result
    events = events_of(workspace, result.session)
    check_journal(events)
    compacted = [event for event in events if event.type == "history.compacted"]
    root = next(event.run for event in events if event.type == "run.started")
    assert compacted and all(event.run == root for event in compacted)
    assert all(event.data.after_chars < event.data.before_chars for event in compacted)
    reads = [event for event in events if event.type == "tool.finished" and event.data.status == "ok"]
    assert len(reads) == 10 and all("piece" in event.data.result.head for event in reads), "the journal has all of it"


def test_what_was_delegated_is_in_the_history_of_the_next_turn(workspace: Workspace) -> None:
    from tests.scripted import action

    def reply(body: dict[str, Any]) -> list[Any]:
        text = json.dumps(body["messages"])
        if "Your task:" in text:
            return [{"content": action("SUBMIT(answer='the sum is 42')")}]
        if "second" in str(body["messages"][-1]["content"]):
            return tool("submit", {"answer": "remembered" if "the sum is 42" in text else "forgotten"})
        if says(body):
            return tool("submit", {"answer": "done"})
        return tool("delegate", {"task": "add"})

    with sse_model(reply) as model:
        first = ask(workspace, "first", model=model.lm())
        assert first.answer == "done"
        second = ask(workspace, "second", model=model.lm(), session=first.session)
        assert second.answer == "remembered"
        before = model.asked[-1]["messages"]
        ask(workspace, "second once more", model=model.lm(), session=first.session)
        assert prefix(before, model.asked[-1]["messages"]) >= len(before) - 1, "a provider's cache finds the beginning"


def prefix(before: list[Any], after: list[Any]) -> int:
    return next((n for n, (a, b) in enumerate(zip(before, after, strict=False)) if a != b), len(before))


@pytest.mark.parametrize("tools", [True, False])
def test_a_question_that_alone_is_too_long_ends_in_one_line(workspace: Workspace, tools: bool) -> None:
    refuse = [{"refused": "This model's maximum context length is 10 tokens"}]
    with sse_model(lambda _: refuse) as model:
        result = ask(workspace, "too long", model=model.lm(tools=tools))
        assert len(model.asked) == 1, "nothing can be left out, so it is not asked again"
    assert result.status == "failed" and result.error is not None and result.error.code == "context_too_long"


def test_a_library_agent_compacts_by_itself() -> None:
    from fleet_rlm.runtime.agent.agent import FleetAgent
    from fleet_rlm.runtime.agent.signatures import Talk
    from fleet_rlm.runtime.models.adapters import adapter_for

    def refuses(body: dict[str, Any]) -> list[Any]:
        if len(json.dumps(body["messages"])) > 8_000:
            return [{"refused": "prompt is too long: maximum context length"}]
        number = int(says(body)[-1][0]) + 1 if says(body) else 0
        return tool("look", {"n": number}) if number < 6 else tool("submit", {"answer": "ok"})

    def look(n: int) -> str:
        """Look at something."""
        return str(n) * 2500

    with sse_model(refuses) as model:
        done = run_agent(model, FleetAgent([look], signature=Talk), adapter_for)
    assert done.answer == "ok"


def run_agent(model: SseModel, agent: Any, adapter_for: Any) -> dspy.Prediction:
    lm = model.lm()
    with dspy.context(lm=lm, adapter=adapter_for(lm)):
        return agent(question="look six times")
