"""A small OpenAI-compatible server that records what it is asked, for tests of the registry."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

Answer = tuple[int, Any]


@dataclass
class Asked:
    method: str
    path: str
    key: str | None
    body: dict[str, Any] | None


@dataclass
class FakeModelServer:
    """`answer` decides what a chat request gets; `models` is what the list says; `get` answers other GETs."""

    models: list[dict[str, Any]] = field(default_factory=lambda: [{"id": "tiny"}])
    answer: Callable[[dict[str, Any]], Answer] | None = None
    get: dict[str, Answer] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    delay_s: float = 0.0
    address: str = ""

    def chats(self) -> list[dict[str, Any]]:
        return [item.body or {} for item in self.asked if item.path == "/v1/chat/completions"]


def completion(content: str | None = None, *, tool_calls: list[dict[str, Any]] | None = None) -> Answer:
    message: dict[str, Any] = {"role": "assistant", "content": content}
    if tool_calls:
        message["tool_calls"] = tool_calls
    return 200, {
        "id": "c1", "object": "chat.completion", "created": 1, "model": "tiny",
        "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls" if tool_calls else "stop"}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
    }  # fmt: skip


def tool_call(name: str, **arguments: Any) -> Answer:
    call = {"id": "t1", "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
    return completion(tool_calls=[call])
