"""A language model's answer as data, exact enough that DSPy's adapters parse the same again, and back.

`call.finished.record` holds one JSON object: `{"outputs": [...]}` with what the LM gave to DSPy (texts, or objects with
text, reasoning, tool calls, citations), `{}` when that is just the one text that stands in `response`, or
`{"failure": {...}}` with the class and the words of what the provider raised. `cut` says why an answer of a run ends
before its end, where it does.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, NoReturn, cast

import dspy
import msgspec
from dspy.utils import exceptions
from dspy.utils.exceptions import DSPyError, LMError

from fleet_rlm.errors import FleetError, TreeStopped
from fleet_rlm.integrations.daytona.session import ASKED_AHEAD
from fleet_rlm.runtime.execution import events as ev
from fleet_rlm.runtime.execution.ids import new_id
from fleet_rlm.runtime.execution.losses import losing
from fleet_rlm.runtime.execution.observer import RunScope, TurnObserver
from fleet_rlm.runtime.execution.paths import CALL_PLACE
from fleet_rlm.runtime.execution.replay import RecordedCall, Replay
from fleet_rlm.runtime.execution.spending import Cost

_FACTS = ("code", "model", "provider", "provider_code", "status", "request_id", "retry_after")


CUT = "answer.cut"
"""The code of the warning that a run's own answer was cut."""


def record_of(outputs: Any, response: str, cut: str | None = None) -> str | None:
    """The record of an answer; None for a shape that cannot come back (such a call is made again)."""
    if not isinstance(outputs, list):
        return None
    items = cast("list[Any]", outputs)
    facts: dict[str, Any] = {} if cut is None else {"cut": cut}
    if items != [response]:
        facts["outputs"] = items
    try:
        return json.dumps(facts, ensure_ascii=False, default=_plain)
    except (TypeError, ValueError):
        return None


def record_of_failure(error: BaseException) -> str | None:
    """The record of what a provider raised; None for an error that is not DSPy's or ours."""
    if not isinstance(error, DSPyError | FleetError):
        return None
    facts = {name: getattr(error, name, None) for name in _FACTS} if isinstance(error, DSPyError) else {}
    failure = {"class": type(error).__name__, "message": error.message, **{k: v for k, v in facts.items() if v}}
    return json.dumps({"failure": failure}, ensure_ascii=False, default=str)


def outputs_of(record: str, response: str) -> list[Any]:
    """What the LM gave to DSPy."""
    return json.loads(record).get("outputs", [response])


def failure_of(record: str | None, info: ev.ErrorInfo | None) -> Exception:
    """What the provider raised, of the same class; a plain LMError where that class is gone."""
    said: dict[str, Any] = json.loads(record).get("failure", {}) if record else {}
    message = said.get("message") or (info.message if info else "the call failed")
    kind = getattr(exceptions, str(said.get("class")), LMError)
    if not (isinstance(kind, type) and issubclass(kind, DSPyError)):
        kind = LMError
    facts = {name: said[name] for name in _FACTS if name in said}
    try:
        return kind(message=message, **facts)  # by name: not all take it by place
    except TypeError:  # a class with further arguments of its own
        return LMError(message, **facts)


def _plain(value: Any) -> Any:
    dump = getattr(value, "model_dump", None)
    if callable(dump):
        return dump()
    if hasattr(value, "__dict__"):
        return vars(value)
    raise TypeError(f"a {type(value).__name__} cannot be recorded")


@dataclass(frozen=True, slots=True)
class Asked:
    """A request to a model, as the metered LM has it. `text`: as a person reads it."""

    request: str
    role: ev.CallRole
    model: str
    text: str
    prompt: Any
    messages: Any
    edited: bool = False


@dataclass(frozen=True, slots=True)
class Answered:
    """What the LM gives to DSPy."""

    outputs: list[Any]


class CallReplay:
    """Answers calls from the journal, with the same events as if they had been made."""

    def __init__(self, replay: Replay, observer: TurnObserver) -> None:
        self._replay = replay
        self._observer = observer
        self._ids: dict[str, str] = {}

    def answer(self, scope: RunScope, asked: Asked) -> Answered | Asked:
        """The recorded outputs of this request, or the request that is to be made: itself, or what a fork made of it.

        Errors: what the provider raised then; TreeStopped where the recorded run was stopped, and where nothing is
        recorded and no call may be made.
        """
        scope.part_opened()  # nobody may wait for it any more: then its run waits for its end
        try:
            return self._answer(scope, asked)
        finally:
            scope.part_closed()

    def _answer(self, scope: RunScope, asked: Asked) -> Answered | Asked:
        scope.stop.check()
        found = self._replay.call(scope, asked.request, _place_of(asked), ahead=ASKED_AHEAD.get())
        if isinstance(found, str):
            prompt, messages = with_text(asked.prompt, asked.messages, found)
            return replace(asked, prompt=prompt, messages=messages, edited=True)
        if found is None or found.finished is None:
            return asked
        if found.finished.status == "cancelled":
            self._cut(scope, asked, found, found.finished)
        self._begin(scope, asked, found, found.finished)
        self._end(scope, found, found.finished)
        return Answered(self._outcome(found))

    def _cut(self, scope: RunScope, asked: Asked, found: RecordedCall, end: ev.CallFinished) -> NoReturn:
        """A call that was under way when its run was stopped. Errors: TreeStopped, always."""
        self._begin(scope, asked, found, end)
        here = scope.places.stage
        if self._replay.stops.soon(scope) or self._replay.stops.stopped_in(scope, here) or losing(scope):
            scope.stop.future.result()
        self._end(scope, found, end)
        scope.stop.check()
        raise TreeStopped("cancelled")

    def _begin(self, scope: RunScope, asked: Asked, found: RecordedCall, done: ev.CallFinished) -> None:
        micro = None if done.cost_usd is None else round(done.cost_usd * 1e6)
        cost = Cost(done.prompt_tokens, done.completion_tokens, done.cached_tokens, micro_usd=micro)
        self._replay.credit(scope, cost, calls=done.calls)
        started = ev.CallStarted(
            id=self._named(done.id),
            role=asked.role,
            model=asked.model,
            request=found.started.request,
            prompt=self._replay.prompt(found, asked.text),
            shared=self._shared(done),
            place=found.started.place,
        )
        self._observer.emit(started, scope)

    def _end(self, scope: RunScope, found: RecordedCall, done: ev.CallFinished) -> None:
        if found.shown:
            self._observer.emit_all(_renamed(found.shown), scope if found.shown_in_run else None)
            texts = [data.text for data in found.shown if isinstance(data, ev.MessageDelta)]
            if texts:
                self._observer.streamed = "".join(texts)
        call, shared = self._named(done.id), self._shared(done)
        again = msgspec.structs.replace(done, id=call, ms=0.0, queued_ms=0.0, shared=shared, replayed=True)
        self._observer.emit(again, scope)
        cut = None if done.record is None else json.loads(self._replay.text(done.record)).get("cut")
        if cut is not None:
            self._observer.emit(ev.Warning(code=CUT, message=cut, where=scope.id), scope)

    def _shared(self, done: ev.CallFinished) -> str | None:
        return None if done.shared is None else self._named(done.shared)

    def _named(self, call: str) -> str:
        """The id of a recorded call in this turn, also for one that only another names."""
        return self._ids.setdefault(call, new_id("cal"))

    def _outcome(self, found: RecordedCall) -> list[Any]:
        done = found.finished
        assert done is not None
        record = None if done.record is None else self._replay.text(done.record)
        if done.status != "ok":
            error = failure_of(record, done.error)
            error.told = done.error  # pyright: ignore[reportAttributeAccessIssue] - what was said of it holds again
            raise error
        response = "" if done.response is None else self._replay.text(done.response)
        return outputs_of(record or "{}", response)


def _place_of(asked: Asked) -> str:
    """Where its cell asks: nothing for a run's own next step, which is alone."""
    return "" if asked.messages is not None else CALL_PLACE.get()


def _renamed(shown: Sequence[ev.EventData]) -> list[ev.EventData]:
    """The events of a message under an id of its own: a session has each id once."""
    names: dict[str, str] = {}
    renamed: list[ev.EventData] = []
    for data in shown:
        old = str(getattr(data, "id", ""))
        names.setdefault(old, new_id(old.partition("_")[0]))
        renamed.append(msgspec.structs.replace(data, id=names[old]))
    return renamed


_ROLES = ("system", "user", "assistant", "tool", "developer")


def with_text(prompt: Any, messages: Any, text: str) -> tuple[Any, Any]:
    """A request whose words are `text`: the whole of a bare prompt; of messages the last one, or all of them when the
    text is written in blocks `[role]` as a screen shows a prompt."""
    if messages is None:
        return text, None
    blocks = _blocks(text)
    if blocks is not None and [role for role, _ in blocks] == [message.get("role") for message in messages]:
        pairs = zip(messages, blocks, strict=True)
        return prompt, [_said(message, body) for message, (_, body) in pairs]
    return prompt, [*messages[:-1], _said(messages[-1], text)]


def _said(message: dict[str, Any], body: str) -> dict[str, Any]:
    """A message with another text; one whose content is no plain text (pictures, tool calls) stays as it is."""
    return {**message, "content": body} if isinstance(message.get("content"), str) else message


def _blocks(text: str) -> list[tuple[str, str]] | None:
    """The messages of a prompt as a person reads it, or None when it is not written so."""
    found: list[tuple[str, list[str]]] = []
    for line in text.split("\n"):
        role = line[1:-1] if line.startswith("[") and line.endswith("]") else ""
        if role in _ROLES:
            found.append((role, []))
        elif not found:
            return None
        else:
            found[-1][1].append(line)
    last = len(found) - 1
    # Between two blocks stands an empty line that belongs to neither.
    return [(role, "\n".join(lines if n == last else lines[:-1])) for n, (role, lines) in enumerate(found)]


class _NoAnswer:
    """An engine that refuses: whoever replays asks nobody. DSPy reads from it what its model can do."""

    def __init__(self, can: Collection[ev.Ability]) -> None:
        self.supports_function_calling = "tools" in can
        self.supports_response_schema = "schema" in can
        self.supports_reasoning = "reasoning" in can
        self.supported_params = {"response_format"} if "json" in can else set[str]()

    def complete(self, request: Any) -> Any:
        raise LMError("no call is made in a replay", model=str(request.model))

    def close(self) -> None:
        pass


def silent_model(name: str, can: Collection[ev.Ability] = ()) -> dspy.LM:
    """A model that is only its name and abilities."""
    return dspy.LM(name, engine=_NoAnswer(can), cache=False)
