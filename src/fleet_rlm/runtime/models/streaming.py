"""The answer while it is being written: from a model's chunks to `message.delta` events.

A model writes its answer in one of four ways: as the argument of the `submit` tool, as a JSON field, between DSPy's
field markers, or as plain text. `visible_answer` finds the part of it that a person may see already.
"""

from __future__ import annotations

import hashlib
import time
from typing import Any

from pydantic_core import from_json

from fleet_rlm.runtime.execution import events as ev
from fleet_rlm.runtime.execution.ids import new_id
from fleet_rlm.runtime.execution.observer import RunScope, TurnObserver

EVERY_S = 0.04
"""Deltas are emitted at most 25 times a second."""
FIELD = "answer"
_MARK = f"[[ ## {FIELD} ## ]]"


class AnswerStream:
    """Takes the chunks of one call (`async send`, as DSPy's `send_stream` wants it) and emits what is visible.

    One message per call at most: started with the first visible text, finished by `close`.
    """

    def __init__(self, observer: TurnObserver, scope: RunScope) -> None:
        self._observer = observer
        self._scope = scope
        self._text = ""
        self._tools: dict[int, tuple[str, str]] = {}
        self._shown = ""
        self._message: str | None = None
        self._at = 0.0

    async def send(self, chunk: Any) -> None:
        """One chunk in OpenAI's shape."""
        for choice in chunk.get("choices") or []:
            delta = choice.get("delta") or {}
            self._text += delta.get("content") or ""
            for call in delta.get("tool_calls") or []:
                function = call.get("function") or {}
                name, arguments = self._tools.get(call["index"], ("", ""))
                self._tools[call["index"]] = (
                    name + (function.get("name") or ""),
                    arguments + (function.get("arguments") or ""),
                )
        now = time.monotonic()
        if now - self._at >= EVERY_S:
            self._at = now
            self._show(done=False)

    def close(self) -> None:
        """The call has ended, well or not."""
        self._show(done=True)
        if self._message is not None:
            digest = hashlib.sha256(self._shown.encode("utf-8", "replace")).hexdigest()
            finished = ev.MessageFinished(id=self._message, length=len(self._shown), sha256=digest)
            self._observer.emit(finished)
            self._observer.streamed = self._shown

    def _show(self, *, done: bool) -> None:
        visible = self._observer.clean(visible_answer(self._text, list(self._tools.values()), done=done))
        if len(visible) <= len(self._shown) or not visible.startswith(self._shown):
            return
        if self._message is None:
            self._message = new_id("msg")
            self._observer.emit(ev.MessageStarted(id=self._message))
        self._observer.emit(ev.MessageDelta(id=self._message, text=visible[len(self._shown) :]))
        self._shown = visible


def visible_answer(text: str, tools: list[tuple[str, str]], *, done: bool) -> str:
    """The answer as far as it is written. `tools`: (name, arguments so far); `done`: nothing more will come."""
    for name, arguments in tools:
        if name == "submit":
            return _field(arguments)
    if tools:
        return ""
    start = text.lstrip()
    if start.startswith("{"):
        return _field(start)
    if _MARK in text:
        return _whole(text.split(_MARK, 1)[1].split("[[ ##", 1)[0], done).strip()
    if start.startswith("[["):
        return ""
    return _whole(text, done).strip()


def _whole(text: str, done: bool) -> str:
    """Without a beginning of a marker that may still be coming."""
    if done:
        return text
    cut = text.rfind("[")
    return text[:cut] if cut >= 0 and len(text) - cut < len(_MARK) else text


def _field(json_text: str) -> str:
    try:
        value = from_json(json_text, allow_partial="trailing-strings")
    except ValueError:
        return ""
    found = value.get(FIELD) if isinstance(value, dict) else None
    if found is None and isinstance(value, dict):
        found = _submitted(value)
    return found if isinstance(found, str) else ""


def _submitted(value: dict[str, Any]) -> Any:
    """The answer inside text tool calls: `{"tool_calls": {"tool_calls": [{"name": "submit", "args": {...}}]}}`."""
    calls: Any = value.get("tool_calls")
    calls = calls.get("tool_calls") if isinstance(calls, dict) else calls
    for call in calls if isinstance(calls, list) else []:
        if isinstance(call, dict) and call.get("name") == "submit":
            arguments = call.get("args")
            return arguments.get(FIELD) if isinstance(arguments, dict) else None
    return None
