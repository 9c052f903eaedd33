"""Requests and answers as text: what a person reads in the journal, and the hash under which a replay finds a call."""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any, cast

from fleet_rlm.runtime.execution.paths import PASSING

_encoder = json.JSONEncoder(sort_keys=True, ensure_ascii=False, default=repr)
_PLAIN = {"role", "content"}
_ADDRESS = re.compile(r" at 0x[0-9a-f]{6,16}>")
KEPT_CHARS = 32_000
"""A message of at most so many characters is put into JSON once for several requests."""


def prompt_text(prompt: Any, messages: Any) -> str:
    """The request as a person reads it: one block per message."""
    if messages is None:
        return prompt if isinstance(prompt, str) else repr(prompt)
    blocks: list[str] = []
    for message in messages:
        content = message.get("content")
        body = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False, default=str)
        calls = message.get("tool_calls")
        if calls:
            body += "\n" + json.dumps(calls, ensure_ascii=False, default=str)
        blocks.append(f"[{message.get('role', '?')}]\n{body}")
    return "\n\n".join(blocks)


def whole_characters(value: Any) -> Any:
    """Text, or JSON with text in it, with U+FFFD in place of half a surrogate pair, and two halves made one character:
    such text is none, and a provider's library refuses the whole request for it. The value itself where there is none.

    Code that cuts in the middle of an emoji makes them, and so does JSON that somebody else cut.
    """
    match value:
        case str():
            return (
                value if _is_whole(value) else value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
            )
        case list() | tuple():
            return [whole_characters(item) for item in cast("list[Any]", value)]
        case dict():
            items = cast("dict[Any, Any]", value).items()
            return {whole_characters(key): whole_characters(item) for key, item in items}
        case _:
            return value


def _is_whole(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def output_text(outputs: Any) -> str:
    """The answer as a person reads it."""
    if isinstance(outputs, list):
        parts: list[str] = []
        for item in outputs:
            if isinstance(item, dict):
                text = item.get("text") or ""
                calls = item.get("tool_calls")
                parts.append(text + (("\n" if text else "") + json.dumps(calls, default=_plain) if calls else ""))
            else:
                parts.append(str(item))
        return "\n\n".join(parts)
    text = getattr(outputs, "text", None)
    return text if isinstance(text, str) else str(outputs)


def _plain(value: Any) -> Any:
    dump = getattr(value, "model_dump", None)
    return dump() if callable(dump) else vars(value) if hasattr(value, "__dict__") else str(value)


def request_hash(model: str, prompt: Any, messages: Any, kwargs: Mapping[str, Any]) -> str:
    """SHA-256 over everything that determines an answer; the key under which a replay finds it.

    Left out: what is said of the budget (`PASSING`), and where an object lay in memory.
    """
    encode = _encoder.encode
    options = encode(dict(kwargs)) if kwargs else "{}"
    body = f"[{encode(model)}, {encode(prompt)}, {_messages_json(messages)}, {options}]"
    passing = PASSING.get()
    if passing:
        body = body.replace(encode(passing)[1:-1], "")
    if " at 0x" in body:
        body = _ADDRESS.sub(" at 0x>", body)
    return hashlib.sha256(body.encode("utf-8", "surrogatepass")).hexdigest()


def _messages_json(messages: Any) -> str:
    """As `_encoder` writes them."""
    if messages is None:
        return "null"
    if not isinstance(messages, list):
        return _encoder.encode(messages)
    return f"[{', '.join([_message_json(message) for message in messages])}]"


def _message_json(message: Any) -> str:
    if type(message) is dict and message.keys() == _PLAIN:
        role, content = message["role"], message["content"]
        if type(role) is str and type(content) is str and len(content) <= KEPT_CHARS:
            return _plain_json(role, content)
    return _encoder.encode(message)


@functools.lru_cache(maxsize=64)
def _plain_json(role: str, content: str) -> str:
    """What a run said once it says again with its next step."""
    return _encoder.encode({"role": role, "content": content})
