"""What an OpenAI-compatible server really does for a model: asked once, kept in `<home>/endpoints.json`.

DSPy's catalogue knows nothing of such servers and would send them neither schemas nor tools. Only servers of the
person's own are asked; a hosted model costs money, and the catalogue knows it.
"""

from __future__ import annotations

import ast
import ipaddress
import os
import re
import tempfile
import threading
from pathlib import Path
from typing import Any, Final, cast
from urllib.parse import urlsplit

import msgspec

from fleet_rlm.runtime.models.detect import Reply, json_value, listed_models, request_json

PROBE_SECONDS: Final = 60.0
"""A local server may load the model before it answers."""


_CODE: Final = re.compile(r"```(?:python|py)?\s*\n(.*?)```", re.DOTALL)


class EndpointFacts(msgspec.Struct, frozen=True):
    """What a server does for one model. The defaults are what holds before anybody asked.

    Servers take a response schema, or ignore it harmlessly; many refuse tools or answer them in prose.
    `writes_code`: it solved the smallest task of a recursive run. `context_window` in tokens; `asked`: the ISO date.
    """

    response_schema: bool = True
    function_calling: bool = False
    writes_code: bool = True
    context_window: int | None = None
    asked: str | None = None


class EndpointBook:
    """The answers of former probes, by address and model. Thread-safe; a lost or broken file is an empty book."""

    def __init__(self, home: Path) -> None:
        self._path = home / "endpoints.json"
        self._lock = threading.Lock()

    def look_up(self, address: str, model: str) -> EndpointFacts | None:
        """What a former probe found, or None."""
        return self._read().get(f"{address} {model}")

    def note(self, address: str, model: str, facts: EndpointFacts) -> None:
        """Keep what a probe found."""
        with self._lock:
            book = {**self._read(), f"{address} {model}": facts}
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(prefix=".endpoints.", dir=self._path.parent)
            with os.fdopen(handle, "wb") as file:
                file.write(msgspec.json.encode(book))
            Path(temporary).replace(self._path)

    def _read(self) -> dict[str, EndpointFacts]:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=dict[str, EndpointFacts])
        except (OSError, msgspec.DecodeError):
            return {}


def is_near(address: str) -> bool:
    """Whether a server runs on this machine or its private network: then trying it costs no money."""
    host = urlsplit(address).hostname or ""
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return host == "localhost" or host.endswith((".localhost", ".local", ".internal"))


def ask_schema(address: str, model: str, key: str | None, timeout_s: float = PROBE_SECONDS) -> bool:
    """True when the server takes a JSON schema and the answer fits it. Errors: OSError when there is no answer."""
    schema = {
        "type": "object",
        "properties": {"color": {"type": "string", "enum": ["red", "blue"]}, "number": {"type": "integer"}},
        "required": ["color", "number"],
        "additionalProperties": False,
    }
    reply = _chat(
        address,
        key,
        {
            "model": model,
            "max_tokens": 60,
            "messages": [{"role": "user", "content": "Name a color and a number."}],
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "pick", "schema": schema, "strict": True},
            },
        },
        timeout_s,
    )
    value = json_value(_message(reply).get("content"))
    return isinstance(value, dict) and value.get("color") in ("red", "blue") and isinstance(value.get("number"), int)


def ask_tools(address: str, model: str, key: str | None, timeout_s: float = PROBE_SECONDS) -> bool:
    """True when the model calls the tool it is told to call. Errors: OSError when there is no answer."""
    tool = {
        "type": "function",
        "function": {
            "name": "look_up",
            "description": "Look a word up in the dictionary.",
            "parameters": {"type": "object", "properties": {"word": {"type": "string"}}, "required": ["word"]},
        },
    }
    reply = _chat(
        address,
        key,
        {
            "model": model,
            "max_tokens": 120,
            "messages": [{"role": "user", "content": "Call the tool look_up with the word 'tree'."}],
            "tools": [tool],
        },
        timeout_s,
    )
    calls = _message(reply).get("tool_calls")
    try:
        function = cast("list[Any]", calls)[0]["function"]
        return function["name"] == "look_up" and isinstance(json_value(function["arguments"])["word"], str)
    except (TypeError, LookupError):
        return False


def ask_code(address: str, model: str, key: str | None, timeout_s: float = PROBE_SECONDS) -> bool:
    """True when the model solves the smallest task of a recursive run: a code block that calls what it was offered.

    The code is read and never run. Errors: OSError when there is no answer.
    """
    task = (
        "You work in a Python REPL. The function count(word) returns how often a word stands in a long text. "
        "Reply with one ```python code block and nothing else: assign to the variable answer the sum of the counts "
        "of 'red' and of 'blue'."
    )
    body = {"model": model, "max_tokens": 300, "messages": [{"role": "user", "content": task}]}
    content = _message(_chat(address, key, body, timeout_s)).get("content")
    return solves(content if isinstance(content, str) else "")


def solves(reply: str) -> bool:
    """Whether a reply to `ask_code` would do what was asked: count both words and assign the answer."""
    found = _CODE.search(reply)
    try:
        tree = ast.parse(found.group(1) if found else reply)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    nodes = list(ast.walk(tree))
    counts = any(isinstance(n, ast.Call) and isinstance(n.func, ast.Name) and n.func.id == "count" for n in nodes)
    words = {n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str)}
    named = any(isinstance(n, ast.Name) and n.id == "answer" and isinstance(n.ctx, ast.Store) for n in nodes)
    return counts and named and {"red", "blue"} <= words


def ask_window(address: str, model: str, key: str | None, timeout_s: float = 2.0) -> int | None:
    """Tokens of the loaded model's window as the server tells it, or None.

    Sources: vLLM's model list, Ollama's `/api/ps` (a model must be loaded), llama.cpp's `/props`.
    """
    parts = urlsplit(address)
    root = f"{parts.scheme}://{parts.netloc}"
    try:
        listed = listed_models(request_json(f"{address}/models", key=key, timeout_s=timeout_s)) or {}
        found = listed.get(model, {}).get("max_model_len")
        if found is None:
            running = request_json(f"{root}/api/ps", key=key, timeout_s=timeout_s)
            entries = _entries((running.body or {}).get("models"))
            found = next(
                (e.get("context_length") for e in entries if e.get("name") in (model, f"{model}:latest")), None
            )
        if found is None:
            props = request_json(f"{root}/props", key=key, timeout_s=timeout_s)
            found = next(
                (e.get("n_ctx") for e in _entries([(props.body or {}).get("default_generation_settings")])), None
            )
    except OSError:
        return None
    return found if isinstance(found, int) and found > 0 else None


def _entries(value: Any) -> list[dict[str, Any]]:
    items = cast("list[Any]", value) if isinstance(value, list) else []
    return [cast("dict[str, Any]", item) for item in items if isinstance(item, dict)]


def _chat(address: str, key: str | None, body: dict[str, Any], timeout_s: float) -> Reply:
    return request_json(f"{address}/chat/completions", key=key, body=body, timeout_s=timeout_s)


def _message(reply: Reply) -> dict[str, Any]:
    try:
        message = (reply.body or {})["choices"][0]["message"] if reply.status == 200 else {}
    except (LookupError, TypeError):
        return {}
    return cast("dict[str, Any]", message) if isinstance(message, dict) else {}
