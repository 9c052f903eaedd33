"""The chat agent on its own: plain answers, tools side by side, typed calls for servers that enforce a schema."""

import json
import threading
from typing import Any

import dspy
import pydantic
import pytest
from dspy.utils.exceptions import AdapterParseError
from tests.engine.sse_model import Piece, say, sse_model, think, tool

from fleet_rlm.runtime.agent.agent import FleetAgent
from fleet_rlm.runtime.agent.signatures import Talk
from fleet_rlm.runtime.agent.typed_calls import as_tool_calls, calls_type
from fleet_rlm.runtime.models.adapters import adapter_for
from scripted import ScriptedEngine, scripted


def ask(lm: dspy.LM, agent: FleetAgent, **inputs: object) -> dspy.Prediction:
    with dspy.context(lm=lm, adapter=adapter_for(lm)):
        return agent(**inputs)


def calls(*items: tuple[str, dict[str, object]]) -> str:
    listed = [{"name": name, "args": args} for name, args in items]
    return (
        f"[[ ## next_thought ## ]]\nhm\n\n[[ ## tool_calls ## ]]\n{json.dumps({'tool_calls': listed})}"
        "\n\n[[ ## completed ## ]]"
    )


def test_a_reply_without_a_tool_call_is_the_answer() -> None:
    done = ask(scripted(lambda _: "It is Tokyo."), FleetAgent(signature=Talk), question="Capital of Japan?")
    assert (done.answer, done.termination_reason) == ("It is Tokyo.", "text")
    assert done.history.messages[-1]["answer"] == "It is Tokyo."


@pytest.mark.parametrize("tools", [True, False])
@pytest.mark.parametrize("thoughts", [[], think("Japan, so Tokyo.")])
def test_a_plain_answer_of_a_model_that_thinks_by_itself_is_what_it_says(thoughts: list[Piece], *, tools: bool) -> None:
    with sse_model(lambda _: [*thoughts, *say("It is Tokyo.")]) as model:
        done = ask(model.lm(tools=tools, reasons=True), FleetAgent(signature=Talk), question="Capital of Japan?")
    assert (done.answer, done.termination_reason) == ("It is Tokyo.", "text")


LOOKED = [
    '<tool_call>\n{"name": "look", "arguments": {"what": "x"}}\n</tool_call>',
    'I look.\n```json\n{"name": "look", "arguments": {"what": "x"}}\n```',
    'Thought: I look.\nAction: look\nAction Input: {"what": "x"}\nObservation: made up',
]


@pytest.mark.parametrize("written", LOOKED)
@pytest.mark.parametrize("tools", [True, False])
def test_a_call_written_into_the_text_is_taken_as_the_call(written: str, *, tools: bool) -> None:
    def look(what: str) -> str:
        """Look something up."""
        return f"seen {what}"

    def reply(body: dict[str, Any]) -> list[Piece]:
        return say("It is Tokyo." if "seen x" in str(body["messages"]) else written)

    with sse_model(reply) as model:
        done = ask(model.lm(tools=tools), FleetAgent([look], signature=Talk), question="Capital of Japan?")
        assert (done.answer, len(model.asked)) == ("It is Tokyo.", 2)


@pytest.mark.parametrize("written", LOOKED)
def test_a_written_call_of_no_tool_that_is_offered_is_left_as_it_is(written: str) -> None:
    done = ask(scripted(lambda _: written), FleetAgent(signature=Talk), question="Capital of Japan?")
    assert done.answer == written


def test_written_calls_are_bounded_like_others_and_a_written_submit_ends_them() -> None:
    def look(what: str) -> str:
        """Look something up."""
        return "nothing"

    lm = scripted(lambda _: LOOKED[1])
    done = ask(lm, FleetAgent([look], signature=Talk, max_steps=3), question="q")
    assert (done.answer, done.termination_reason, len(lm.engine.prompts)) == ("I look.", "max_iters", 4)
    submit = '<tool_call>{"name": "submit", "arguments": {"answer": "Tokyo"}}</tool_call>'
    done = ask(scripted(lambda _: submit), FleetAgent([look], signature=Talk), question="q")
    assert (done.answer, done.termination_reason) == ("Tokyo", "submit")


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        ("[[ ## answer ## ]]\na thing\n\n[[ ## completed ## ]]", "a thing"),
        ("It is a thing.\n\n[[ ## completed ## ]]", "It is a thing."),
        ("[[ ## next_thought ## ]]\nIt is a thing.", "It is a thing."),
        ("[[ ## next_thought ## ]]\nhm\n\n[[ ## tool_calls ## ]]\nnone", "[[ ## next_thought ## ]]\nhm\n\n[[ ## tool_calls ## ]]\nnone"),
    ],
)  # fmt: skip
def test_a_plain_answer_is_read_without_the_markers_around_it(reply: str, answer: str) -> None:
    done = ask(scripted(lambda _: reply), FleetAgent(signature=Talk), question="What is it?")
    assert done.answer == answer


def test_a_step_without_thought_and_calls_is_no_answer() -> None:
    empty = '[[ ## next_thought ## ]]\n\n[[ ## tool_calls ## ]]\n{"tool_calls": []}\n\n[[ ## completed ## ]]'
    with pytest.raises(AdapterParseError):
        ask(scripted(lambda _: empty), FleetAgent(signature=Talk), question="Capital of Japan?")


def test_submit_is_taken_before_its_neighbours() -> None:
    ran: list[str] = []

    def look(what: str) -> str:
        """Look something up."""
        ran.append(what)
        return "nothing"

    reply = calls(("look", {"what": "x"}), ("submit", {"answer": "Tokyo"}))
    done = ask(scripted(lambda _: reply), FleetAgent([look], signature=Talk), question="q")
    assert (done.answer, ran) == ("Tokyo", [])


def test_a_tool_that_does_not_exist_or_fails_is_told_to_the_model() -> None:
    def half(n: int) -> int:
        """Half of a number."""
        return n // 2

    def reply(prompt: str) -> str:
        if "there is no tool 'nope'" in prompt and "Arg n is invalid" in prompt:
            return calls(("submit", {"answer": "recovered"}))
        return calls(("nope", {}), ("half", {"n": "many"}))

    done = ask(scripted(reply), FleetAgent([half], signature=Talk), question="q")
    assert done.answer == "recovered"


def test_an_agent_that_never_submits_says_what_it_thinks_at_the_end() -> None:
    def look(what: str) -> str:
        """Look something up."""
        return "nothing"

    lm = scripted(lambda _: calls(("look", {"what": "x"})))
    done = ask(lm, FleetAgent([look], signature=Talk, max_steps=3), question="q")
    assert (done.answer, done.termination_reason, len(lm.engine.prompts)) == ("hm", "max_iters", 4)


class EnforcingEngine(ScriptedEngine):
    """An engine of a server that enforces schemas but has no tools."""

    supports_response_schema = True


def test_an_enforced_schema_names_each_tool_and_its_arguments() -> None:
    def half(n: int) -> int:
        """Half of a number."""
        return n // 2

    replies = iter(
        [
            {"next_thought": "t", "tool_calls": {"tool_calls": [{"name": "half", "args": {"n": 8}}]}},
            {"next_thought": "t", "tool_calls": {"tool_calls": [{"name": "submit", "args": {"answer": "4"}}]}},
        ]
    )
    engine = EnforcingEngine(lambda _: json.dumps(next(replies)))
    lm = dspy.LM("test/enforcing", engine=engine, cache=False)
    if not lm.supports_response_schema:
        pytest.fail("DSPy no longer reads supports_response_schema from an engine")
    done = ask(lm, FleetAgent([half], signature=Talk), question="half of 8?")
    assert done.answer == "4" and len(engine.prompts) == 2
    shown = engine.prompts[0]
    assert "half_arguments" in shown and "submit_arguments" in shown, "the schema of the calls is told to the model"


def test_typed_calls_accept_the_tools_that_exist_and_nothing_else() -> None:
    def half(n: int) -> int:
        """Half of a number."""
        return n // 2

    kind = calls_type([dspy.Tool(half)])
    made = as_tool_calls(kind.model_validate({"tool_calls": [{"name": "half", "args": {"n": 8}}]}))
    assert [(call.name, call.args) for call in made.tool_calls] == [("half", {"n": 8})]
    for wrong in ({"name": "search", "args": {"n": 8}}, {"name": "half", "args": {"n": "many"}}, {"name": "half"}):
        with pytest.raises(pydantic.ValidationError):
            kind.model_validate({"tool_calls": [wrong]})


def test_concurrent_questions_do_not_share_their_history() -> None:
    agent = FleetAgent(signature=Talk)
    lm = scripted(lambda prompt: "saw both" if "first?" in prompt and "second?" in prompt else "saw one")
    answers: list[str] = []
    threads = [
        threading.Thread(target=lambda q=q: answers.append(ask(lm, agent, question=q).answer))
        for q in ("first?", "second?")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == ["saw one", "saw one"]


def test_the_agent_is_a_module_of_the_library() -> None:
    import fleet_rlm

    def price(item: str) -> int:
        """The price of an item in cents."""
        return {"apple": 30}[item]

    def reply(body):
        if "And two?" in str(body["messages"]):
            return tool("submit", {"answer": "60" if "30" in str(body["messages"]) else "?"})
        told = [message["content"] for message in body["messages"] if message["role"] == "tool"]
        return tool("submit", {"answer": told[0]}) if told else tool("price", {"item": "apple"})

    with sse_model(reply) as model, dspy.context(lm=model.lm()):
        agent = fleet_rlm.FleetAgent(tools=[price])
        first = agent(question="What is an apple?")
        assert first.answer == "30" and first.termination_reason == "submit"
        assert model.asked[0]["tools"], "native tools, with no adapter configured"
        assert agent(question="And two?", history=first.history).answer == "60"
    with sse_model(lambda _: tool("submit", {"total": "30"})) as model, dspy.context(lm=model.lm()):
        other = fleet_rlm.FleetAgent(tools=[price], signature="item, amount -> total")
        assert other(item="apple", amount="1").total == "30"
