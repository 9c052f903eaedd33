"""A key that comes with a model object is kept nowhere, whatever its server makes of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import dspy
import pytest

from faults.broken_model import BrokenModel, Reply, send
from fleet_rlm.runtime.execution.normalised import first_difference
from fleet_rlm.runtime.models.credentials import secrets_of
from fleet_rlm.runtime.models.failures import MAX_DETAIL

KEYS = ["CANARY-0123456789", 'CANARY-"77"\\+/=']


def refuses(status: int, written: Any) -> Reply:
    """An error that tells the key, as `written` writes it."""

    def reply(handler: Any, body: dict[str, Any]) -> None:
        told = written(handler.headers["Authorization"].removeprefix("Bearer "))
        send(handler, status, json.dumps({"error": {"message": f"{status} for {told} here"}}).encode())

    return reply


def repeats(handler: Any, body: dict[str, Any]) -> None:
    """A model that thinks of the key and says it."""
    key = handler.headers["Authorization"]
    message = {"role": "assistant", "content": f"The key is {key}.", "reasoning_content": f"It said {key}"}
    answer = {
        "id": "1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
    }
    send(handler, 200, json.dumps(answer).encode())


REPLIES = {
    "says it": repeats,
    "401": refuses(401, str),
    "500": refuses(500, str),
    "as JSON": refuses(401, json.dumps),
    "in an address": refuses(401, lambda key: quote(key, safe="")),
}


@pytest.mark.parametrize("key", KEYS, ids=["usual", "odd"])
@pytest.mark.parametrize("reply", REPLIES)
def test_a_key_of_a_model_object_stands_nowhere(workspace, ask, reply: str, key: str) -> None:
    with BrokenModel(lambda number, prompt: REPLIES[reply]) as model:
        lm = dspy.LM("openai/m", api_key=key, api_base=model.address, cache=False, num_retries=0)
        result, events = ask(None, f"what of {key}?", mode="direct", model=lm)
    assert result.status == ("ok" if reply == "says it" else "failed"), result.error
    assert "CANARY" not in f"{result} {[event.data for event in events]}"
    assert "CANARY" not in workspace.sessions.get(result.session).title
    assert [path for path in files(workspace.settings.home) if b"CANARY" in path.read_bytes()] == []


def test_a_key_that_the_end_of_a_shown_refusal_would_cut(workspace, ask) -> None:
    with BrokenModel(lambda number, prompt: refuses(400, lambda key: "x" * (MAX_DETAIL - 20) + f" {key}")) as model:
        lm = dspy.LM("openai/m", api_key=KEYS[0], api_base=model.address, cache=False, num_retries=0)
        result, events = ask(None, mode="direct", model=lm)
    assert "xxx" in result.error.message and "CANARY" not in f"{result} {[event.data for event in events]}"


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".sock"]


def test_a_replay_gives_the_same_without_the_key(workspace, ask) -> None:
    with BrokenModel(lambda number, prompt: repeats) as model:
        lm = dspy.LM("openai/m", api_key=KEYS[0], api_base=model.address, cache=False, num_retries=0)
        result, events = ask(None, mode="direct", model=lm)
        asked = len(model.prompts)
        again = workspace.wait(workspace.replay(result.turn).turn, 60)
        assert (again.status, len(model.prompts)) == ("ok", asked), again.error
    assert result.answer == again.answer == "The key is Bearer •••."
    replayed = [e for e in workspace.journal.read(again.session, 0, 10_000) if e.turn == again.turn]
    assert first_difference([e for e in events if e.turn == result.turn], replayed) is None


def test_what_of_a_model_object_is_a_secret() -> None:
    lm = dspy.LM(
        "openai/m",
        api_key="sk-key",
        api_base="https://me:pass%2Bword@models.example/v1",
        headers={"Authorization": "Bearer of-header", "X-Extra": "extra", "Content-Type": "application/json"},
        extra_headers={"X-Title": "My program"},
        aws_secret_access_key="aws",
        azure_ad_token=None,
        max_tokens=100,
    )
    expected = {"sk-key", "pass%2Bword", "pass+word", "Bearer of-header", "of-header", "extra", "aws"}
    assert secrets_of(lm) == expected


def test_a_model_class_of_the_callers_own_may_keep_its_key_as_an_attribute() -> None:
    class Own(dspy.BaseLM):
        def __init__(self) -> None:
            super().__init__("own/model")
            self.api_key = "sk-attribute"

    assert secrets_of(Own()) == {"sk-attribute"}
    assert secrets_of(dspy.LM("test/model", engine=object.__new__(_Engine))) == set()


class _Engine:
    """An engine that is never asked: it owns its connection, so its model has no key."""

    def complete(self, request: Any) -> Any:
        raise NotImplementedError
