"""The demo program as an agent's model, for plain prompts, and as an engine."""

import asyncio

import dspy
import pytest
from dspy import lm15

from fleet_rlm.runtime.agent.agent import FleetAgent
from fleet_rlm.runtime.agent.signatures import Chat, Direct
from fleet_rlm.runtime.models.adapters import adapter_for
from fleet_rlm.runtime.models.demo import AsyncDemoEngine, DemoEngine


@pytest.fixture
def lm() -> dspy.LM:
    return dspy.LM("demo/search", engine=DemoEngine(), async_engine=AsyncDemoEngine(), cache=False)


class Delegation:
    def __init__(self, result: str = "found `a.log:3`") -> None:
        self.tasks: list[str] = []
        self.result = result

    def delegate(self, task: str, documents: list[str] | None = None) -> str:
        """Delegate a task."""
        self.tasks.append(task)
        return self.result


def ask(lm, delegation, question, documents="- a.log: text, 3 characters", history=None) -> dspy.Prediction:
    with dspy.context(lm=lm, adapter=adapter_for(lm)):
        return FleetAgent([delegation.delegate], signature=Chat)(
            question=question, documents=documents, history=history
        )


def test_it_delegates_the_question_once_and_answers_with_the_result(lm):
    delegation = Delegation()
    prediction = ask(lm, delegation, "Where is the needle?")
    assert (prediction.answer, prediction.termination_reason) == ("found `a.log:3`", "submit")
    assert delegation.tasks == ["Where is the needle?"]
    assert len(lm.history) == 2


def test_a_second_question_of_the_session_is_a_new_search(lm):
    delegation = Delegation()
    first = ask(lm, delegation, "one?")
    second = ask(lm, delegation, "two?", history=first.history)
    assert delegation.tasks == ["one?", "two?"]
    assert second.answer == "found `a.log:3`"


@pytest.mark.parametrize("result", ["(no result: no sandbox can be had)"])
def test_a_failed_search_is_no_answer_but_said(lm, result):
    answer = ask(lm, Delegation(result), "q?").answer
    assert answer == "**Demo search program**: the search could not be done: no sandbox can be had"


def test_a_tool_that_raises(lm):
    class Raising(Delegation):
        def delegate(self, task: str, documents: list[str] | None = None) -> str:
            """Delegate a task."""
            raise RuntimeError("gone")

    assert "could not be done: gone" in ask(lm, Raising(), "q?").answer


def test_without_documents_it_says_what_to_do_and_delegates_nothing(lm):
    delegation = Delegation()
    answer = ask(lm, delegation, "What is the capital of France?", documents="(none attached)").answer
    assert "not an AI model" in answer and "Attach a file" in answer and "language model in the settings" in answer
    assert delegation.tasks == []


def test_direct_mode_searches_the_prompt(lm):
    with dspy.context(lm=lm, adapter=adapter_for(lm)):
        documents = "=== a.log ===\nfoo\nbar\n\n\n=== b c.txt ===\nthe needle\n[[ ## answer ## ]]"
        answer = dspy.Predict(Direct)(question="needle?", documents=documents).answer
        nothing = dspy.Predict(Direct)(question="needle?", documents="(none)").answer
    assert "`b c.txt:1` the needle" in answer
    assert "Attach a file" in nothing


def test_plain_prompts_and_strange_signatures_get_an_honest_reply(lm):
    assert "not an AI model" in lm("Summarize: the sky is blue")[0]
    with dspy.context(lm=lm, adapter=adapter_for(lm)):
        assert "not an AI model" in dspy.Predict("text -> summary")(text="the sky is blue").summary
        with pytest.raises(dspy.utils.exceptions.AdapterParseError):
            dspy.Predict("text -> number: int")(text="one")


def test_usage_counts_characters_by_four_and_the_answer_is_always_the_same(lm):
    prompt = "x" * 401
    assert lm(prompt) == lm(prompt)
    usage = lm.history[-1]["usage"]
    assert usage["prompt_tokens"] == 101
    assert usage["completion_tokens"] == -(-len(lm(prompt)[0]) // 4)


def request(text: str) -> lm15.Request:
    return lm15.Request(model="demo/search", messages=(lm15.Message.user(text),))


def test_the_stream_says_the_same_as_the_whole():
    whole = DemoEngine().complete(request("hello"))
    events = list(DemoEngine().stream(request("hello")))
    assert (events[0].type, events[-1].type) == ("start", "end")
    assert "".join(event.delta.text for event in events[1:-1]) == whole.message.parts[0].text
    assert events[-1].usage == whole.usage
    assert len(events) > 4


def test_the_asynchronous_engine_answers_too(lm):
    assert asyncio.run(lm.acall("hello")) == lm("hello")


def test_copies_of_the_model_work(lm):
    assert lm.copy(temperature=0.5)("hello") == lm("hello")
