"""What a model writes is shown while it writes: from a real server that streams, at any depth, well and badly."""

import hashlib
from typing import Any

import pytest
from tests.engine.conftest import events_of
from tests.engine.sse_model import CUT, say, sse_model, think, tool
from tests.engine.test_turns import ask, check_journal
from tests.scripted import action, scripted

from fleet_rlm.runtime.execution import events as ev
from fleet_rlm.runtime.factory import Workspace
from fleet_rlm.runtime.models.streaming import SHOWN_CHARS
from fleet_rlm.runtime.models.visible import Visible, visible


def texts(events: list[ev.Event], kind: str) -> dict[str, list[tuple[int, str]]]:
    """Of each run (None: the turn) the finished texts of a kind, with the depth of their run; hashes are checked."""
    growing: dict[str, str] = {}
    done: dict[str, list[tuple[int, str]]] = {}
    for event in events:
        if event.type == f"{kind}.started":
            growing[event.data.id] = ""
        elif event.type == f"{kind}.delta":
            growing[event.data.id] += event.data.text
        elif event.type == f"{kind}.finished":
            text = growing.pop(event.data.id)
            assert event.data.length == len(text)
            assert event.data.sha256 == hashlib.sha256(text.encode()).hexdigest()
            done.setdefault(event.run, []).append((event.depth, text))
    assert not growing
    return done


def test_thought_and_answer_of_the_agent_are_shown_as_they_come(workspace: Workspace) -> None:
    def reply(body: dict[str, Any]) -> list[Any]:
        return [*think("Let me ", "see. "), 0.1, *tool("submit", {"answer": "It is Tokyo, the capital."})]

    with sse_model(reply) as model:
        result = ask(workspace, "capital?", model=model.lm())
    events = events_of(workspace, result.session)
    check_journal(events)
    root = next(event.run for event in events if event.type == "run.started")
    assert result.answer == "It is Tokyo, the capital."
    assert texts(events, "message") == {root: [(0, result.answer)]}, "shown once, under the run that speaks"
    assert texts(events, "reasoning") == {root: [(0, "Let me see. ")]}
    first = next(event for event in events if event.type == "reasoning.delta")
    assert first.data.text == "Let me " or first.data.text.startswith("Let me see"), "shown before the answer began"


def test_a_childs_thought_is_shown_under_the_child(workspace: Workspace) -> None:
    def reply(body: dict[str, Any]) -> list[Any]:
        prompt = str(body["messages"])
        if "the small task" in prompt.rpartition("Your task:")[2]:
            return say(*pieces(action("SUBMIT(answer='21')", "halve it")))
        return say(*pieces(action("SUBMIT(answer=rlm_query('the small task') + llm_query('plain?'))", "ask a child")))

    def answer(body: dict[str, Any]) -> list[Any]:
        return say("!") if "plain?" in str(body["messages"][-1]) and len(body["messages"]) == 1 else reply(body)

    with sse_model(answer) as model:
        result = ask(workspace, "the whole task", mode="rlm", model=model.lm(tools=False))
    assert (result.status, result.answer) == ("ok", "21!"), result
    events = events_of(workspace, result.session)
    check_journal(events)
    by_depth = sorted(text for found in texts(events, "reasoning").values() for text in found)
    assert by_depth == [(0, "ask a child"), (1, "halve it")]
    assert list(texts(events, "message")) == [None], "only the turn's own answer is a message"


def pieces(text: str, size: int = 9) -> list[str]:
    return [text[start : start + size] for start in range(0, len(text), size)]


def test_a_stream_that_breaks_off_is_asked_for_once_more(workspace: Workspace) -> None:
    def reply(body: dict[str, Any]) -> list[Any]:
        return [*say("It is "), CUT] if body.get("stream") else say("It is Tokyo.")

    with sse_model(reply) as model:
        result = ask(workspace, "capital?", model=model.lm(tools=False))
        assert [bool(body.get("stream")) for body in model.asked] == [True, False]
    assert (result.status, result.answer) == ("ok", "It is Tokyo.")
    events = events_of(workspace, result.session)
    check_journal(events)
    shown = [text for found in texts(events, "message").values() for _, text in found]
    assert shown == ["It is", "It is Tokyo."], "the last message is the answer"


def many_words(prompt: str) -> str:
    return "A word, and more. " * 40_000


@pytest.mark.parametrize("mode", ["direct", "rlm"])
def test_of_a_long_answer_the_beginning_is_shown_and_the_whole_is_the_turns(workspace: Workspace, mode: str) -> None:
    whole = many_words("")
    submit = action("SUBMIT(answer='A word, and more. ' * 40_000)")
    result = ask(workspace, "all?", mode=mode, model=scripted(many_words if mode == "direct" else lambda _: submit))
    assert (result.status, result.answer.strip()) == ("ok", whole.strip())
    events = events_of(workspace, result.session)
    check_journal(events)
    assert events[-1].data.answer == result.answer
    (found,) = texts(events, "message").values()
    assert [text for _, text in found] == [whole[:SHOWN_CHARS]], "once"
    assert sum(event.type == "message.delta" for event in events) <= 100


AT_ONCE = {"at once": True}


def test_a_server_that_does_not_stream_is_asked_without_it(workspace: Workspace) -> None:
    with sse_model(lambda _: [AT_ONCE, *say("It is Tokyo.")]) as model:
        lm = model.lm(tools=False)
        results = [ask(workspace, f"capital {n}?", model=lm) for n in range(4)]
        streamed = [bool(body.get("stream")) for body in model.asked]
    assert [(result.status, result.answer) for result in results] == [("ok", "It is Tokyo.")] * 4, results[0].error
    assert streamed == [True, False, True, False, False, False], "after two in a row it is known not to stream"
    assert [result.usage.calls for result in results] == [2, 2, 1, 1], "each request is a call"
    events = events_of(workspace, results[0].session)
    check_journal(events)
    assert [text for found in texts(events, "message").values() for _, text in found] == ["It is Tokyo."]


LONG = "word " * 20_000
"""More than DSPy takes in one line of a stream."""


@pytest.mark.parametrize("first", [[AT_ONCE], []])
def test_an_answer_too_long_for_one_line_of_a_stream_is_asked_for_without_it(
    workspace: Workspace, first: list[Any]
) -> None:
    with sse_model(lambda _: [*first, *say(LONG)]) as model:
        lm = model.lm(tools=False, num_retries=3)
        results = [ask(workspace, f"write {n}", model=lm) for n in range(3)]
        streamed = [bool(body.get("stream")) for body in model.asked]
    assert [(result.status, result.answer == LONG.strip()) for result in results] == [("ok", True)] * 3, results[
        0
    ].error
    assert streamed == [True, False, True, False, False]
    assert [result.usage.calls for result in results] == [2, 2, 1]


FULL = '{"error": {"code": 500, "message": "Context size has been exceeded.", "type": "server_error"}}'


@pytest.mark.parametrize("begun", [[], say("It is")])
def test_a_stream_that_ends_because_the_window_is_full_is_not_asked_for_again(
    workspace: Workspace, begun: list[Any]
) -> None:
    with sse_model(lambda _: [*begun, FULL, CUT]) as model:
        result = ask(workspace, "capital?", model=model.lm(tools=False, num_retries=3))
        assert len(model.asked) == 1
    assert result.error is not None and result.error.code == "context_too_long", result


def test_a_server_that_fails_to_stream_now_and_then_is_still_asked_for_it(workspace: Workspace) -> None:
    script = iter([[AT_ONCE], None, [], [AT_ONCE], None, []])

    def reply(body: dict[str, Any]) -> list[Any]:
        return [*(next(script) or []), *say("It is Tokyo.")]

    with sse_model(reply) as model:
        lm = model.lm(tools=False)
        assert [ask(workspace, f"capital {n}?", model=lm).answer for n in range(4)] == ["It is Tokyo."] * 4
        assert [bool(body.get("stream")) for body in model.asked] == [True, False, True, True, False, True]


@pytest.mark.parametrize("mode", ["direct", "rlm"])
def test_a_web_page_in_place_of_an_api_is_called_so(workspace: Workspace, mode: ev.Mode) -> None:
    with sse_model(lambda _: [{"page": "<!doctype html><html><body>hello</body></html>"}]) as model:
        result = ask(workspace, "capital?", mode=mode, model=model.lm())
    assert result.status == "failed" and result.error is not None, result
    assert "not as an OpenAI-compatible API" in result.error.message and "\n" not in result.error.message
    assert result.error.hint is not None and "address" in result.error.hint


@pytest.mark.parametrize("bad", [["no json at all"], ["[DONE]"], [CUT], ['{"choices": 3}']])
def test_a_stream_of_nothing_or_garbage_ends_in_one_line(workspace: Workspace, bad: list[Any]) -> None:
    with sse_model(lambda body: bad if body.get("stream") else []) as model:
        result = ask(workspace, "capital?", model=model.lm(tools=False))
    assert result.status == "failed" and result.error is not None, result
    assert "\n" not in result.error.message and "Traceback" not in result.error.message
    check_journal(events_of(workspace, result.session))


def test_a_cancelled_turn_closes_the_stream(workspace: Workspace) -> None:
    from fleet_rlm.runtime.execution.requests import TurnRequest

    with sse_model(lambda _: [*say("It is "), *([0.05, {"content": "x"}] * 400)]) as model:
        submitted = workspace.submit(TurnRequest(question="capital?", model=model.lm(tools=False)))
        while not any(event.type == "message.delta" for event in events_of(workspace, submitted.session)):
            pass
        workspace.cancel(submitted.turn)
        result = workspace.wait(submitted.turn, timeout=20)
        assert model.broken.wait(10), "the server notices that nobody reads"
    assert result.status == "cancelled"
    check_journal(events_of(workspace, result.session))


@pytest.mark.parametrize(("mode", "asked"), [("auto", 1), ("direct", 1), ("rlm", 2)])
@pytest.mark.parametrize("tools", [True, False])
def test_thoughts_without_an_answer_are_none(workspace: Workspace, mode: ev.Mode, asked: int, *, tools: bool) -> None:
    thought = "I think:\n```python\nSUBMIT(answer='thought')\n```"
    with sse_model(lambda _: think(thought)) as model:
        result = ask(workspace, "capital?", mode=mode, model=model.lm(tools=tools))
        assert len(model.asked) == asked, "a run asks once more for its code, as for any reply without code"
    assert (result.status, result.answer) == ("failed", None), result
    assert result.error is not None and "thoughts but no answer" in result.error.message
    assert result.error.hint is not None and "max_tokens" in result.error.hint
    events = events_of(workspace, result.session)
    check_journal(events)
    assert not texts(events, "message"), "a thought is no message"
    assert not [event for event in events if event.type == "cell.started"], "and no code"


@pytest.mark.parametrize("mode", ["auto", "direct"])
def test_an_answer_between_markers_is_shown_once_and_without_them(workspace: Workspace, mode: ev.Mode) -> None:
    said = "[[ ## answer ## ]]\na thing\n\n[[ ## completed ## ]]"
    call = '[[ ## next_thought ## ]]\nhm\n\n[[ ## tool_calls ## ]]\n{"tool_calls": [{"name": "nope", "args": {}}]}'

    def reply(body: dict[str, Any]) -> list[Any]:
        return say(*pieces(call if mode == "auto" and "there is no tool" not in str(body["messages"]) else said))

    with sse_model(reply) as model:
        ref = workspace.contexts.add_text("a.txt", "a\nb")
        result = ask(workspace, "what?", contexts=(ref,), mode=mode, model=model.lm(tools=False))
    events = events_of(workspace, result.session)
    assert (result.status, result.answer) == ("ok", "a thing")
    assert [text for found in texts(events, "message").values() for _, text in found] == ["a thing"]


def test_a_call_written_into_the_text_is_not_shown_as_an_answer(workspace: Workspace) -> None:
    call = 'I look.\n<tool_call>\n{"name": "list_memory", "arguments": {}}\n</tool_call>'
    submit = '<tool_call>\n{"name": "submit", "arguments": {"answer": "It is Tokyo."}}\n</tool_call>'

    def reply(body: dict[str, Any]) -> list[Any]:
        name = body["tools"][-1]["function"]["name"]
        done = any(message["role"] == "tool" for message in body["messages"])
        return say(*pieces(submit if done else call.replace("list_memory", name)))

    with sse_model(reply) as model:
        result = ask(workspace, "capital?", model=model.lm())
        assert len(model.asked) == 2
    assert (result.status, result.answer) == ("ok", "It is Tokyo."), result.error
    events = events_of(workspace, result.session)
    check_journal(events)
    shown = [text for found in texts(events, "message").values() for _, text in found]
    assert shown == ["I look.", "It is Tokyo."], "what it says beside its call is said, as with native calls"


HALF = "half \ud83d"


@pytest.mark.parametrize("mode", ["auto", "direct"])
@pytest.mark.parametrize(
    "said",
    [
        say(HALF),
        say(HALF, "\ud83d", " and on"),
        [*think(HALF), *say("It is ", HALF)],
        say(f"[[ ## answer ## ]]\n{HALF}"),
        say(f'{{"answer": "{HALF}"}}'),
        say(f'{{"answer": "{HALF}'),
        say(f'<tool_call>{{"name": "{HALF}", "arguments": {{}}}}'),
        tool("submit", {"answer": HALF}, cut=3),
    ],
)
def test_half_of_a_surrogate_pair_does_not_end_a_stream(workspace: Workspace, said: list[Any], mode: ev.Mode) -> None:
    with sse_model(lambda _: said) as model:
        result = ask(workspace, "capital?", mode=mode, model=model.lm())
        assert len(model.asked) == 1
    if mode == "auto" or "tool_calls" not in said[0]:
        assert result.status == "ok" and "half" in str(result.answer), result.error
    events = events_of(workspace, result.session)
    check_journal(events)
    assert texts(events, "message") or result.status == "failed"


MARKED = "[[ ## next_thought ## ]]\nlook [1]\n\n[[ ## tool_calls ## ]]\n"


@pytest.mark.parametrize(
    ("text", "tools", "seen"),
    [
        ("It is [[ ##", (), Visible(answer="It is")),
        ("See a[", (), Visible(answer="See a")),
        ("See a[1", (), Visible(answer="See a[1")),
        (f"{MARKED}[{{\"name\": \"submit\", \"args\": {{\"answer\": \"To", (), Visible("look [1]", "To")),
        (f"{MARKED}```json\n{{\"tool_calls\": [{{\"name\": \"look\"", (), Visible("look [1]", "")),
        ('{"next_thought": "hm", "tool_calls": {"tool_calls": [{"name": "submit", "args": {"answer": "To', (), Visible("hm", "To")),
        ('{"reasoning": {"content": "so"}, "code": "x', (), Visible("so", "")),
        ("Let me look", (("look", '{"a'),), Visible()),
        ("", (("submit", '{"answer": "Tok'),), Visible(answer="Tok")),
        ("[[ ## answer ## ]]\nTok\n\n[[ ## comp", (), Visible(answer="Tok")),
    ],
)  # fmt: skip
def test_what_is_visible_of_a_reply_so_far(text: str, tools: tuple[tuple[str, str], ...], seen: Visible) -> None:
    assert visible(text, tools, done=False) == seen


def test_a_run_that_does_not_speak_thinks_before_its_code() -> None:
    text = "First count.\n```python\nprint(1)\n```"
    assert visible(text, done=True, speaks=False) == Visible(thought="First count.")
    shown = [visible(text[:n], done=False, speaks=False).thought for n in range(len(text))]
    assert all(later.startswith(earlier) for earlier, later in zip(shown, shown[1:], strict=False))
