"""The controls of the engine as a person meets them: the page in a real Chromium, `fleet web`, real sandboxes.

The model is a script behind a real provider's address: a root that asks three children, each of which asks once.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.browser.real_page import Served, browse, gapless, served
from tests.engine.sse_model import Piece, SseModel, say, sse_model, tool
from tests.scripted import action

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

QUESTION = "Ask three children"


def trial(body: dict[str, Any]) -> list[Piece]:
    """Right answers where a model that is new is tried."""
    if "tools" in body:
        return tool("look_up", {"word": "tree"})
    if "response_format" in body:
        return say('{"color": "red", "number": 1}')
    return say("```python\nanswer = count('red') + count('blue')\n```")


class Script:
    """The model's answers. While `holding` is set, child 1 gets none."""

    def __init__(self) -> None:
        self.holding = threading.Event()
        self.free = threading.Event()
        self.asked: list[str] = []

    def __call__(self, body: dict[str, Any]) -> list[Piece]:
        text = "\n\n".join(str(message["content"]) for message in body["messages"])
        task = text.split("Your task:")[-1].strip().split("\n")[0] if "Your task:" in text else ""
        self.asked.append(task)
        if found := re.match(r"child (\d)", task):
            if found[1] == "1" and self.holding.is_set():
                self.free.wait(200)
            return say(action(f"SUBMIT(answer='x{found[1]}')"))
        if not task:
            return trial(body)
        if "You have not interacted" in text:
            return say(action("got = rlm_query_batched([f'child {i}' for i in range(3)])\nprint(got)"))
        return say(action(f"SUBMIT(answer={task[-8:]!r} + ': ' + ' '.join(map(str, got)))"))

    def count(self, task: str) -> int:
        return sum(asked.startswith(task) for asked in self.asked)


@pytest.fixture
def script() -> Iterator[Script]:
    script = Script()
    yield script
    script.free.set()


@pytest.fixture
def model(script: Script) -> Iterator[SseModel]:
    with sse_model(script) as model:
        yield model


@contextmanager
def connected(home: Path, model: SseModel, **rules: str) -> Iterator[Served]:
    """The workspace with the scripted model, which is new to it and was tried."""
    environment = {"FLEET_MODEL": "openai/scripted", "FLEET_API_BASE": f"{model.address}/v1", "FLEET_API_KEY": "none"}
    with served(home, **environment, **rules) as workspace:
        deadline = time.monotonic() + 60
        while not (home / "endpoints.json").exists():  # what the trial finds changes what is asked of the model
            assert time.monotonic() < deadline, "the model was not tried"
            time.sleep(0.1)
        yield workspace


def of_type(events: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [event for event in events if event["type"] == kind]


def test_the_policys_question_and_a_limit_are_answered_by_click(tmp_path: Path, model: SseModel) -> None:
    rules = {"FLEET_ASK_DEPTH": "1", "FLEET_AT_LIMIT": "ask"}
    with connected(tmp_path, model, **rules) as workspace:
        seen = browse("engine.mjs", "questions", url=workspace.address, question=QUESTION)
    assert [choice.split("\n")[0].lower() for choice in seen["choices"]] == [
        "allow once",
        "allow for this turn",
        "deny",
    ]
    assert any("The limit of 4 model calls is reached" in text for text in seen["asked"])
    assert seen["proposed"] == "8" and "of 8" in seen["budget"]
    assert seen["answer"] == "children: x0 x1 x2"
    gapless(seen["events"])
    asked = of_type(seen["events"], "approval.requested")
    assert [(event["kind"], event.get("unit")) for event in asked] == [("depth", None), ("limit", "calls")]
    answers = [event["answer"] for event in of_type(seen["events"], "approval.resolved")]
    assert answers == ["allow for this turn", "raise"]
    assert of_type(seen["events"], "budget.updated")[-1]["limits"]["calls"] == 8


def test_a_turn_that_ended_at_its_limit_goes_on_with_a_higher_one(tmp_path: Path, model: SseModel) -> None:
    with connected(tmp_path, model) as workspace:
        seen = browse("engine.mjs", "raise", url=workspace.address, question=QUESTION)
    assert "Resume" not in seen["menu"], "the server would refuse it"
    assert seen["proposed"] == "6" and seen["answer"] == "children: x0 x1 x2"
    gapless(seen["events"])
    assert [event["status"] for event in of_type(seen["events"], "turn.finished")] == ["limit", "ok"]
    assert of_type(seen["events"], "turn.accepted")[1]["limits"]["calls"] == 20


def test_one_run_is_cancelled_and_its_parent_goes_on(tmp_path: Path, model: SseModel, script: Script) -> None:
    script.holding.set()
    with connected(tmp_path, model) as workspace:
        seen = browse("engine.mjs", "cancelRun", url=workspace.address, question=QUESTION)
    assert "child 1" in seen["bar"] and "Its parent goes on" in seen["bar"]
    assert "x0" in seen["answer"] and "x2" in seen["answer"] and "x1" not in seen["answer"]
    assert len(seen["cancelled"]) == 1 and "child 1" in seen["cancelled"][0]
    gapless(seen["events"])
    assert sorted(event["status"] for event in of_type(seen["events"], "run.finished")) == ["cancelled"] + 3 * ["ok"]


def test_stop_ends_the_turn_and_its_processes(tmp_path: Path, model: SseModel, script: Script) -> None:
    script.holding.set()
    with connected(tmp_path, model) as workspace:
        seen = browse("engine.mjs", "stop", url=workspace.address, question=QUESTION)
    assert [event["status"] for event in of_type(seen["events"], "turn.finished")] == ["cancelled"]
    assert sorted(event["status"] for event in of_type(seen["events"], "run.finished")) == 2 * ["cancelled"] + 2 * [
        "ok"
    ]
    released = len(of_type(seen["events"], "sandbox.released"))
    assert released == len(of_type(seen["events"], "sandbox.ready")) == 4
    gapless(seen["events"])


def test_a_turn_is_resumed_after_its_server_was_killed(tmp_path: Path, model: SseModel, script: Script) -> None:
    script.holding.set()
    with connected(tmp_path, model) as workspace:
        session = browse("engine.mjs", "leave", url=workspace.address, question=QUESTION)["session"]
        workspace.die()
    script.holding.clear()
    script.free.set()
    with connected(tmp_path, model) as workspace:
        seen = browse("engine.mjs", "resume", url=workspace.address, session=session)
    assert seen["answer"] == "children: x0 x1 x2"
    assert "Resumed from turn 1" in seen["origin"] and "3 calls taken from the journal" in seen["origin"]
    assert seen["resumes"] == 0, "a turn is resumed once"
    assert (script.count("child 0"), script.count("child 2")) == (1, 1), "what was finished is not asked again"
    gapless(seen["events"])
    ends = [event["status"] for event in of_type(seen["events"], "turn.finished")]
    assert ends == ["interrupted", "ok"]
    assert sorted(seen["pairs"]) == ["changed", "changed", "same", "same"]
    assert "taken whole from an earlier turn" in seen["taken"]


def test_forks_a_replay_and_their_comparison(tmp_path: Path, model: SseModel, script: Script) -> None:
    with connected(tmp_path, model) as workspace:
        seen = browse("engine.mjs", "again", url=workspace.address, question=QUESTION, other="Ask the other children")
    assert seen["otherQuestion"] == "Ask the other children"
    assert seen["otherQuestionAnswer"] == "children: x0 x1 x2"
    assert "Forked from" in seen["lineage"] and "turn 1" in seen["lineage"]
    assert seen["otherCellAnswer"] == "children: edited"
    assert sorted(seen["pairs"]) == ["changed", "removed", "removed", "removed"]
    assert seen["otherPromptAnswer"] == "children: x7 x1 x2"
    assert (script.count("child 1"), script.count("child 7")) == (1, 1), "what asks the same is not asked again"
    assert seen["replayAnswer"] == "children: x0 x1 x2" and "Replay of turn 1" in seen["replayLineage"]
    assert all(event["replayed"] for event in of_type(seen["replayed"], "call.finished"))
    for events in (seen["forked"], seen["replayed"]):
        gapless(events)
