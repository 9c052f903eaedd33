"""`FleetAgent`: the chat agent, a ReAct module.

Built on `dspy.ReActV2`, which becomes `dspy.ReAct` in DSPy 3.5. Two things differ from it: a reply in plain text is an
answer and not an error, and independent tool calls of one step run side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import dspy
import pydantic
from dspy.adapters.types.tool import ToolCallResults, ToolCalls
from dspy.predict.react_v2 import ReActV2
from dspy.utils.exceptions import AdapterParseError

from fleet_rlm.runtime.agent.compaction import Fitting, TurnFields, closing
from fleet_rlm.runtime.agent.signatures import Ask
from fleet_rlm.runtime.agent.typed_calls import as_tool_calls, needs_typed_calls, with_typed_calls
from fleet_rlm.runtime.models.adapters import adapter_for, reply_of
from fleet_rlm.runtime.models.visible import plain_answer
from fleet_rlm.runtime.models.written_calls import written_calls

MAX_STEPS = 12


class ToolRunner(Protocol):
    """How the tools of one step are run: observed, and several at once."""

    def run(
        self, calls: Sequence[ToolCalls.ToolCall], invoke: Callable[[ToolCalls.ToolCall], Any]
    ) -> list[tuple[Any, bool]]:
        """Value and whether it is an error, for each call in order."""
        ...


class InOrder:
    """Runs tools one after the other and tells nobody; what an agent outside of a turn uses."""

    def run(
        self, calls: Sequence[ToolCalls.ToolCall], invoke: Callable[[ToolCalls.ToolCall], Any]
    ) -> list[tuple[Any, bool]]:
        return [run_one(call, invoke) for call in calls]


class FleetAgent(ReActV2):  # pyright: ignore[reportGeneralTypeIssues, reportUntypedBaseClass] - @experimental
    """A ReAct agent whose plain-text reply is its answer; a DSPy module like any other, within a turn or on its own.

        with dspy.context(lm=dspy.LM("openai/gpt-5-mini")):
            agent = FleetAgent(tools=[search])
            first = agent(question="...")
            again = agent(question="...", history=first.history)

    It takes the model and the adapter of DSPy's settings; without an adapter there, the one that suits the model.
    A tool's error, a bad argument and an unknown tool are told to the model in one line.

    Args:
        tools: functions (or `dspy.Tool`s) that the agent may call.
        signature: inputs, and one output that is the answer.
        runner: how the tool calls of a step are run.
        fitting: keeps the history within the model's window; None: when the provider says that it is too long.
    """

    def __init__(
        self,
        tools: Sequence[Callable[..., Any]] = (),
        *,
        signature: type[dspy.Signature] | str = Ask,
        runner: ToolRunner | None = None,
        fitting: Fitting | None = None,
        max_steps: int = MAX_STEPS,
    ) -> None:
        shape: Any = dspy.ensure_signature(signature)
        super().__init__(shape, tools=list(tools), max_iters=max_steps)
        # First and in plain words, because small models take what they read first.
        submit = self.tools.pop("submit")
        submit.desc = "Give the final answer. Call it as soon as you can answer."
        self.tools = {"submit": submit, **self.tools}
        self.react = dspy.Predict(self._make_react_signature())
        self._runner = runner or InOrder()
        self._fitting = fitting or Fitting(fields=TurnFields(tuple(shape.input_fields), tuple(shape.output_fields)))
        self._answer_field = next(iter(shape.output_fields))

    def forward(self, **inputs: Any) -> dspy.Prediction:
        """Answer. Returns a Prediction with the answer field, `history` and `termination_reason`.

        Inputs: those of the signature, `history` (continued in place), `max_iters`.
        Errors: dspy.LMError as the provider raised it, AdapterParseError for an empty reply.
        """
        if dspy.settings.adapter is None and dspy.settings.lm is not None:
            with dspy.context(adapter=adapter_for(dspy.settings.lm)):
                return self._answer(inputs)
        return self._answer(inputs)

    def _answer(self, inputs: dict[str, Any]) -> dspy.Prediction:
        history = inputs.pop("history", None) or dspy.History(messages=[])
        steps = int(inputs.pop("max_iters", self.max_iters))
        pending = dict(inputs)
        tools = list(self.tools.values())
        typed = needs_typed_calls(dspy.settings.lm)
        signature = with_typed_calls(self.react.signature, tools) if typed else self.react.signature
        for _ in range(steps):
            try:
                step = self._ask(history, signature=signature, tools=tools, **pending)
            except AdapterParseError as error:
                reply = _reply(error)
                step = self._written_step(reply)
                if step is None:
                    return self._finish(plain_answer(reply), history, pending, "text")
            calls = final_first(as_tool_calls(step.tool_calls))
            if not calls.tool_calls:
                return self._finish(self._thought(step), history, pending, "text")
            calls = _with_ids(calls, len(history.messages))
            results, answer = self._execute_tool_calls(calls)
            history.messages.append(self._history_event(pending, step, calls, results) | (answer or {}))
            pending = {}
            if answer is not None:
                return dspy.Prediction(**answer, history=history, termination_reason="submit")
        return self._last_word(signature, tools, history, pending)

    def _ask(self, history: dspy.History, **options: Any) -> dspy.Prediction:
        return self._fitting.call(lambda: self.react(history=history, **options), history)

    def _last_word(self, signature: Any, tools: list[Any], history: Any, pending: dict[str, Any]) -> dspy.Prediction:
        """One more call that must submit; what a model says instead of it is its answer."""
        must = {"tool_choice": {"type": "function", "function": {"name": "submit"}}}
        try:
            step = self._ask(history, signature=signature, tools=tools, config=must, **pending)
        except AdapterParseError as error:
            reply = _reply(error)
            step = self._written_step(reply)
            if step is None:
                return self._finish(plain_answer(reply), history, pending, "text")
        calls = final_first(as_tool_calls(step.tool_calls))
        if calls.tool_calls and calls.tool_calls[0].name == "submit":
            results, answer = self._execute_tool_calls(_with_ids(calls, len(history.messages)))
            if answer is not None:
                history.messages.append(self._history_event(pending, step, calls, results) | answer)
                return dspy.Prediction(**answer, history=history, termination_reason="forced_submit")
        return self._finish(self._thought(step), history, pending, "max_iters")

    def _execute_tool_calls(self, tool_calls: ToolCalls) -> tuple[ToolCallResults, dict[str, Any] | None]:
        outcomes = self._runner.run(tool_calls.tool_calls, self._invoke)
        values = [value for value, _ in outcomes]
        errors = [failed for _, failed in outcomes]
        answer = next(
            (
                value
                for call, (value, failed) in zip(tool_calls.tool_calls, outcomes, strict=True)
                if call.name == "submit" and not failed and isinstance(value, dict)
            ),
            None,
        )
        return ToolCallResults.from_tool_calls_and_values(tool_calls, values, errors), answer

    def _invoke(self, call: ToolCalls.ToolCall) -> Any:
        tool = self.tools.get(call.name)
        if tool is None:
            raise ValueError(f"there is no tool {call.name!r}; there are {', '.join(self.tools)}")
        return tool(**(call.args or {}))

    def _written_step(self, reply: str) -> dspy.Prediction | None:
        """The step of a model that wrote its calls into its text; None unless all of them are of tools that it has."""
        written = written_calls(reply)
        if written is None or any(name not in self.tools for name, _ in written.calls):
            return None
        calls = [ToolCalls.ToolCall(name=name, args=args) for name, args in written.calls]
        return dspy.Prediction(next_thought=written.before or None, tool_calls=ToolCalls(tool_calls=calls))

    def _finish(self, answer: str, history: Any, pending: dict[str, Any], reason: str) -> dspy.Prediction:
        if not answer:
            raise AdapterParseError(type(self).__name__, self.signature, "")
        fields = {self._answer_field: answer}
        history.messages.append(pending | closing(fields, f"call_{len(history.messages)}"))
        return dspy.Prediction(**fields, history=history, termination_reason=reason)

    @staticmethod
    def _thought(step: dspy.Prediction) -> str:
        thought = getattr(step, "next_thought", None)
        return str(getattr(thought, "content", thought) or "")


def final_first(calls: ToolCalls) -> ToolCalls:
    """Only `submit` when a step has it: its answer was written before the results of its neighbours could be known."""
    final = [call for call in calls.tool_calls if call.name == "submit"]
    return ToolCalls(tool_calls=final[:1]) if final else calls


def _reply(error: AdapterParseError) -> str:
    """The text of a reply that did not parse. Errors: the same AdapterParseError when there was none."""
    reply = reply_of(error)
    if not reply:
        raise error
    return reply


def run_one(call: ToolCalls.ToolCall, invoke: Callable[[ToolCalls.ToolCall], Any]) -> tuple[Any, bool]:
    """One tool call: its value, or its error in words that the model can act on."""
    try:
        return invoke(call), False
    except Exception as error:  # noqa: BLE001 - supervisor: whatever a tool raises is told to the model, never lost
        return f"{call.name} failed: {in_one_line(error)}", True


def in_one_line(error: Exception) -> str:
    """What was wrong, without the library's ornaments: for a bad argument which one and why."""
    if isinstance(error, pydantic.ValidationError):
        return "; ".join(
            f"{'.'.join(map(str, e['loc']))}: {e['msg']} (got {e['input']!r:.80})" for e in error.errors()[:3]
        )
    return " ".join(str(error).split())[:1000]


def _with_ids(calls: ToolCalls, step: int) -> ToolCalls:
    return ToolCalls(
        tool_calls=[
            call if call.id is not None else call.model_copy(update={"id": f"call_{step}_{index}"})
            for index, call in enumerate(calls.tool_calls)
        ]
    )
