"""Keeps a conversation within its model's window: older steps are shortened, then left out, by rule.

What a history holds is a list of events as `dspy.ReActV2` writes them: the first of a turn has the inputs, each has the
tool calls of a step with their results, the last has the answer. What is cut is gone from the model's view only; the
journal keeps everything. Compaction goes well below the window at once, so that the beginning of the prompt, which
providers cache, changes seldom.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import dspy
from dspy.adapters.types.tool import ToolCallResults, ToolCalls
from dspy.utils.exceptions import LMError

from fleet_rlm.runtime.models.failures import is_context_overflow
from fleet_rlm.runtime.tools.bounds import cut

CHARS_PER_TOKEN: Final = 3
FULL: Final = 0.75
"""Of the window; the rest is for the tools, the instructions and the answer."""
AFTER: Final = 0.4
"""What is left of the window after compaction."""
FALLBACK: Final = 0.5
"""Of the present size, when the provider refused a prompt and no window is known."""
KEPT_STEPS: Final = 2
"""The newest steps keep their results as long as anything else can be shortened."""
SHORT: Final = 600
"""Characters of an older tool result."""
SHORTEST: Final = 120
RECALLED: Final = 1_500
"""Characters of the summary of turns that were left out."""

T = TypeVar("T")
MAX_REFUSALS: Final = 4
RECALL: Final = "What was said before, in short?"

Event = dict[str, Any]


@dataclass(frozen=True, slots=True)
class TurnFields:
    """By which names a turn is told: inputs in its first event, outputs in its last."""

    inputs: tuple[str, ...] = ("question",)
    outputs: tuple[str, ...] = ("answer",)

    def ends(self, message: Event) -> bool:
        """Whether a turn ends with this event."""
        return any(name in message for name in self.outputs)

    def asked(self, message: Event) -> str:
        """What the turn was asked, where this event has it; the names where there is more than one."""
        given = [(name, str(message[name])) for name in self.inputs if name in message]
        return given[0][1] if len(given) == 1 else ", ".join(f"{name}: {value}" for name, value in given)

    def answered(self, message: Event) -> str:
        """The answer that ended the turn."""
        return ", ".join(str(message[name]) for name in self.outputs if name in message)


CHAT: Final = TurnFields()


def closing(answer: Event, id: str) -> Event:
    """The event that ends a turn: a `submit` of its answer. It has a result, for DSPy shows no call without one."""
    calls = ToolCalls.from_dict_list([{"name": "submit", "args": dict(answer), "id": id}])
    results = ToolCallResults.from_tool_calls_and_values(calls, ["ok"])
    return {"tool_calls": calls.model_copy(update={"tool_call_results": results}), **answer}


@dataclass(frozen=True, slots=True)
class Compacted:
    """A shorter history. `dropped`: how many steps and turns were left out or shortened."""

    messages: list[Event]
    dropped: int
    before_chars: int
    after_chars: int


def chars_of(messages: Sequence[Event], fields: TurnFields = CHAT) -> int:
    """About as many characters as the messages take in a prompt."""
    return sum(
        _chars(value)
        for message in messages
        for name, value in message.items()
        if name not in fields.outputs or "tool_calls" not in message  # where the answer stands already
    )


def limit_of(window: int | None) -> int | None:
    """Characters of history at which it is compacted, for a window in tokens."""
    return None if window is None else int(window * CHARS_PER_TOKEN * FULL)


def target_of(window: int | None, now: int) -> int:
    """Characters that shall be left."""
    return int(now * FALLBACK) if window is None else min(int(window * CHARS_PER_TOKEN * AFTER), int(now * FALLBACK))


def compact(messages: Sequence[Event], target: int, fields: TurnFields = CHAT) -> Compacted:
    """Shorten the history to about `target` characters; the current question and the newest steps go last.

    In this order: results of older steps to head and tail; whole earlier turns, of which a line each stays; whole
    older steps of this turn; at last the results of the newest steps.
    """
    before = chars_of(messages, fields)
    work = _Work(list(messages), target, fields)
    for attempt in (work.shorten_older, work.drop_turns, work.drop_steps, work.shorten_all):
        if work.fits:
            break
        attempt()
    return Compacted(work.messages, work.dropped, before, chars_of(work.messages, fields))


class _Work:
    def __init__(self, messages: list[Event], target: int, fields: TurnFields) -> None:
        self.messages = messages
        self.dropped = 0
        self._target = target
        self._fields = fields

    @property
    def fits(self) -> bool:
        return chars_of(self.messages, self._fields) <= self._target

    @property
    def _current(self) -> int:
        """Where the current turn begins: the last event with inputs and no answer; else the end."""
        for index in range(len(self.messages) - 1, -1, -1):
            if self._fields.ends(self.messages[index]):
                return index + 1
        return 0

    def shorten_older(self) -> None:
        self._shorten(range(len(self.messages) - KEPT_STEPS), SHORT)

    def shorten_all(self) -> None:
        room = max(SHORTEST, self._target // max(1, 2 * len(self.messages)))
        self._shorten(range(len(self.messages)), room)

    def _shorten(self, indexes: Sequence[int], chars: int) -> None:
        for index in indexes:
            if self.fits:
                return
            shorter = None if self._fields.ends(self.messages[index]) else _shortened(self.messages[index], chars)
            if shorter is not None:
                self.messages[index] = shorter
                self.dropped += 1

    def drop_turns(self) -> None:
        """Leave out the oldest turns, as many as must be; a line of each stays, all lines together bounded."""
        gone: list[Event] = []
        while self._current > 0 and not self.fits:
            end = next(index for index, message in enumerate(self.messages) if self._fields.ends(message)) + 1
            gone += self.messages[:end]
            del self.messages[:end]
            self.dropped += 1
        if gone:
            self.messages.insert(0, _recalled(gone, min(RECALLED, max(SHORTEST, self._target // 4)), self._fields))

    def drop_steps(self) -> None:
        """Leave out older steps of this turn; its first event holds the question and loses only its calls."""
        first = self._current
        last = len(self.messages) - KEPT_STEPS
        while first + 1 < last and not self.fits:
            del self.messages[first + 1]
            last -= 1
            self.dropped += 1


def _chars(value: Any) -> int:
    if isinstance(value, str):
        return len(value)
    if isinstance(value, ToolCalls):
        results = _results(value)
        return sum(len(call.name) + len(_text(call.args)) + 20 for call in value.tool_calls) + sum(
            len(_text(each.value)) for each in results
        )
    content = getattr(value, "content", None)  # DSPy's own type for thoughts
    return len(content) if isinstance(content, str) else len(str(value))


def _results(calls: ToolCalls) -> list[ToolCallResults.ToolCallResult]:
    found = calls.tool_call_results
    return [] if found is None else list(found.tool_call_results)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _shortened(message: Event, chars: int) -> Event | None:
    """The same event with its tool results, and long arguments, cut; None when there was nothing to cut."""
    calls = message.get("tool_calls")
    if not isinstance(calls, ToolCalls):
        return None
    results = _results(calls)
    if all(len(_text(each.value)) <= chars for each in results) and all(
        len(_text(call.args)) <= 2 * chars for call in calls.tool_calls
    ):
        return None
    kept = [each.model_copy(update={"value": cut(_text(each.value), chars)}) for each in results]
    listed = [call.model_copy(update={"args": _short_arguments(call.args, chars)}) for call in calls.tool_calls]
    update: dict[str, Any] = {"tool_calls": listed}
    if results:
        update["tool_call_results"] = ToolCallResults(tool_call_results=kept)
    return message | {"tool_calls": calls.model_copy(update=update)}


def _short_arguments(arguments: Any, chars: int) -> Any:
    if not isinstance(arguments, dict):
        return arguments
    return {name: cut(value, chars) if isinstance(value, str) else value for name, value in arguments.items()}


def _recalled(gone: Sequence[Event], chars: int, fields: TurnFields) -> Event:
    """The turns that were left out as one earlier exchange of so many characters; what is oldest goes first."""
    lines: list[str] = []
    for message in gone:
        asked, answered = fields.asked(message), fields.answered(message)
        if asked == RECALL:
            lines += answered.splitlines()
            continue
        if asked:
            lines.append(f"- asked: {_line(asked, 120)}")
        if fields.ends(message):
            lines.append(f"  answered: {_line(answered, 200)}")
    text = "\n".join(lines)
    if len(text) > chars:
        text = "...\n" + text[-chars:].partition("\n")[2]
    ask = next((name for name in fields.inputs if name in gone[0]), fields.inputs[0])
    return {ask: RECALL} | closing({fields.outputs[0]: text}, "recalled")


def _line(text: str, chars: int) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= chars else f"{flat[: chars - 3]}..."


class Fitting:
    """Makes calls with a history that fits: compacted before it is too long, and when a provider says that it was.

    Args:
        window: of the model, in tokens; None where it is unknown.
        tell: hears of every compaction.
        fields: the names of what a turn is asked and answers.
    """

    def __init__(
        self,
        window: int | None = None,
        tell: Callable[[Compacted], None] | None = None,
        fields: TurnFields = CHAT,
    ) -> None:
        self._fields = fields
        self._window = window
        self._tell = tell

    def call(self, request: Callable[[], T], history: dspy.History | None) -> T:
        """`request()`, again with less history for as long as that helps. `history` is changed in place."""
        if history is None:
            return request()
        limit = limit_of(self._window)
        if limit is not None and chars_of(history.messages, self._fields) > limit:
            self._compact(history)
        for _ in range(MAX_REFUSALS):
            try:
                return request()
            except LMError as error:
                if not is_context_overflow(error) or not self._compact(history):
                    raise
        return request()

    def _compact(self, history: dspy.History) -> bool:
        """Whether something could be left out."""
        now = chars_of(history.messages, self._fields)
        done = compact(history.messages, target_of(self._window, now), self._fields)
        if done.after_chars >= done.before_chars:
            return False
        history.messages[:] = done.messages
        if self._tell is not None:
            self._tell(done)
        return True
