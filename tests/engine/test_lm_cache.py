"""DSPy's process-wide cache: what one caller's model answered is never given to another's, whatever the LM asks for."""

import asyncio

import dspy
import pytest
from tests.engine.conftest import events_of
from tests.engine.sse_model import say, sse_model
from tests.engine.test_turns import ask
from tests.scripted import action, field

from fleet_rlm.runtime.factory import Workspace


@pytest.fixture(autouse=True)
def cache_in_memory():
    """DSPy's cache as it is in a process, but not on the disk of whoever runs these tests."""
    before = dspy.cache
    dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=True)
    yield
    dspy.cache = before


def of(name: str):
    """A server whose every answer is its own name."""
    return sse_model(lambda body: say(field("answer", name)))


def test_two_endpoints_of_one_model_string_never_share_an_answer(workspace: Workspace) -> None:
    with of("first") as one, of("second") as two:
        lms = [server.lm(tools=False, cache=True, temperature=0.0) for server in (one, two)]
        assert lms[0].model == lms[1].model
        said = [ask(workspace, "who are you?", mode="direct", model=lm).answer for lm in (*lms, *lms)]
    assert said == ["first", "second", "first", "second"]
    assert (len(one.asked), len(two.asked)) == (2, 2), "an answer came out of a cache"
    assert all(lm.cache for lm in lms), "the caller's own objects stay as they were"


def test_code_in_a_sandbox_cannot_read_the_cache_of_its_host(workspace: Workspace) -> None:
    """A call may carry `cache=True`; DSPy lets sandboxed code set it."""
    code = (
        "found = dspy.Predict('question -> answer')(question='what is it?', config={'cache': True})\n"
        "SUBMIT(answer=found.answer)"
    )
    secret = field("answer", "the other tenant's answer")
    with sse_model(lambda body: say(secret)) as other, dspy.context(lm=other.lm(tools=False, cache=True)):
        predict = dspy.Predict("question -> answer")  # on the asynchronous path, as the engine sends its requests
        assert asyncio.run(predict.acall(question="what is it?")).answer == "the other tenant's answer"

    def reply(body):
        prompt = str(body["messages"])
        return say(action(code) if "You have not interacted" in prompt else field("answer", "mine"))

    with sse_model(reply) as mine:
        result = ask(workspace, "x", mode="rlm", model=mine.lm(tools=False, cache=True))
    assert result.status == "ok", [e.data for e in events_of(workspace, result.session)]
    assert result.answer == "mine"
