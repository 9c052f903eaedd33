"""`demo/search`: a deterministic search program behind the interface of a language model.

It lets the whole system run on a fresh machine without any key. It reads the same prompts as a model and writes real
Python cells, native tool calls and answers; it says in each answer what it is. Its token counts are characters / 4,
because it has no tokenizer; its price is zero.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final, TypeAlias

from dspy import lm15

from fleet_rlm.runtime.models.demo_plan import NO_CONTEXT, next_cell, partial_answer
from fleet_rlm.runtime.models.demo_prompt import Prompt, kind_of_type, outputs_in, read_action, read_request
from fleet_rlm.runtime.models.demo_search import compose, rank

CHARS_PER_TOKEN: Final = 4
STREAM_CHARS: Final = 48
"""Characters of one streamed piece of text."""

NOT_A_MODEL = (
    "(The demo search program is not an AI model: it cannot read this prompt. It searches attached texts by the words "
    "of the question. Choose a language model in the settings, or with `--model`.)"
)
_NOTHING_ATTACHED = ("(none attached)", "(none)", "")
_SECTION = re.compile(r"^=== (.+) ===$", re.MULTILINE)
_FAILED_RESULT = re.compile(r"\(no result: (.*)\)|delegate failed: (.*)", re.DOTALL)

StreamEvent: TypeAlias = lm15.StreamStartEvent | lm15.StreamDeltaEvent | lm15.StreamEndEvent
Reply: TypeAlias = str | dict[str, Any]
"""A text, or the arguments of one tool call under "tool" and "input"."""


def reply_to(prompt: Prompt) -> Reply:
    """The answer to a request. The same request gets the same answer."""
    if {"reasoning", "code"} <= prompt.wanted.keys() and "iteration" in prompt.fields:
        return _action(prompt)
    if "repl_history" in prompt.fields:
        return _extract(prompt)
    if "delegate" in prompt.tools:
        return _agent(prompt)
    if prompt.style == "raw":
        return NOT_A_MODEL
    return _predict(prompt)


def _action(prompt: Prompt) -> Reply:
    cell = next_cell(read_action(prompt))
    if cell is None:
        return NOT_A_MODEL  # the wanted type is none that a search can give: the run fails and says so
    return _render(prompt, {"reasoning": cell.reasoning, "code": f"```python\n{cell.code}\n```"})


def _extract(prompt: Prompt) -> Reply:
    """A run that was cut short asks for what there is."""
    found = partial_answer(tuple(outputs_in(prompt.fields["repl_history"])))
    values: dict[str, Any] = {}
    for name, type_name in prompt.wanted.items():
        kind = kind_of_type(type_name)
        if kind == "impossible":
            return NOT_A_MODEL
        nothing = "**Demo search program**: the run was stopped before anything was searched."
        values[name] = (found or nothing) if kind == "text" else []
    return _render(prompt, values)


def _agent(prompt: Prompt) -> Reply:
    question = prompt.fields.get("question", "").strip()
    documents = prompt.fields.get("documents", "").strip()
    done = [result for result in prompt.results if result.name == "delegate"]
    if done:
        return _final(prompt, _told(done[-1].text, is_error=done[-1].is_error))
    if documents in _NOTHING_ATTACHED or not question:
        return _final(prompt, NO_CONTEXT)
    return {"tool": "delegate", "input": {"task": question}}


def _told(result: str, *, is_error: bool) -> str:
    failed = _FAILED_RESULT.fullmatch(result)
    if failed or is_error:
        reason = (failed[1] or failed[2]) if failed else result
        return f"**Demo search program**: the search could not be done: {reason}"
    return result


def _final(prompt: Prompt, answer: str) -> Reply:
    if "submit" in prompt.tools:
        return {"tool": "submit", "input": {"answer": answer}}
    return answer


def _predict(prompt: Prompt) -> Reply:
    """One prompt with everything in it: search the documents field; without one there is nothing it can do."""
    documents = prompt.fields.get("documents", prompt.fields.get("context", ""))
    question = prompt.fields.get("question", prompt.fields.get("task", prompt.fields.get("query", "")))
    values: dict[str, Any] = {}
    for name, type_name in prompt.wanted.items():
        if kind_of_type(type_name) != "text":
            return NOT_A_MODEL
        values[name] = NOT_A_MODEL
    if documents.strip() not in _NOTHING_ATTACHED and question.strip() and len(values) == 1:
        answer = compose(rank(question, _sections(documents)), "in one piece", [])
        values = dict.fromkeys(values, answer)
    elif "documents" in prompt.fields:
        values = dict.fromkeys(values, NO_CONTEXT)
    return _render(prompt, values)


def _sections(documents: str) -> dict[str, str]:
    """The named documents of one prompt."""
    parts = _SECTION.split(documents)
    if len(parts) < 3:
        return {"text": documents}
    return {
        name: body.removeprefix("\n").removesuffix("\n\n") for name, body in zip(parts[1::2], parts[2::2], strict=True)
    }


def _render(prompt: Prompt, values: dict[str, Any]) -> str:
    """The values in the form that the prompt asks for."""
    if prompt.style == "json":
        return json.dumps(values, ensure_ascii=False)
    parts = [
        f"[[ ## {name} ## ]]\n{value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}"
        for name, value in values.items()
    ]
    return "\n\n".join([*parts, "[[ ## completed ## ]]"])


class DemoEngine:
    """DSPy's engine interface over `reply_to`. Stateless, so it may be shared and copied freely."""

    supports_function_calling = True
    supports_reasoning = False
    supports_response_schema = False
    supported_params = frozenset({"tools", "tool_choice", "parallel_tool_calls"})

    def complete(self, request: lm15.Request) -> lm15.Response:
        """The whole answer. Usage is in tokens of four characters."""
        prompt = read_request(request)
        reply = reply_to(prompt)
        text = reply if isinstance(reply, str) else json.dumps(reply["input"], ensure_ascii=False)
        part = lm15.TextPart(reply) if isinstance(reply, str) else _tool_call(reply, request)
        return lm15.Response(
            id=None,
            model=request.model,
            message=lm15.Message("assistant", (part,)),
            finish_reason="stop" if isinstance(reply, str) else "tool_call",
            usage=_usage(prompt.chars, len(text)),
        )

    def stream(self, request: lm15.Request) -> Iterator[StreamEvent]:
        """The same answer in pieces."""
        response = self.complete(request)
        yield lm15.StreamStartEvent(model=request.model)
        part = response.message.parts[0]
        if isinstance(part, lm15.ToolCallPart):
            delta = lm15.ToolCallDelta(input=json.dumps(part.input, ensure_ascii=False), id=part.id, name=part.name)
            yield lm15.StreamDeltaEvent(delta)
        elif isinstance(part, lm15.TextPart):
            for start in range(0, len(part.text), STREAM_CHARS):
                yield lm15.StreamDeltaEvent(lm15.TextDelta(part.text[start : start + STREAM_CHARS]))
        yield lm15.StreamEndEvent(finish_reason=response.finish_reason, usage=response.usage)

    def close(self) -> None:
        """Nothing is held."""


class AsyncDemoEngine:
    """The same for asynchronous callers; an answer takes milliseconds."""

    supports_function_calling = DemoEngine.supports_function_calling
    supports_reasoning = DemoEngine.supports_reasoning
    supports_response_schema = DemoEngine.supports_response_schema
    supported_params = DemoEngine.supported_params

    async def complete(self, request: lm15.Request) -> lm15.Response:
        """The whole answer."""
        return DemoEngine().complete(request)

    async def stream(self, request: lm15.Request) -> AsyncIterator[StreamEvent]:
        """The same answer in pieces."""
        for event in DemoEngine().stream(request):
            yield event

    async def aclose(self) -> None:
        """Nothing is held."""


def _tool_call(reply: dict[str, Any], request: lm15.Request) -> lm15.ToolCallPart:
    number = sum(isinstance(part, lm15.ToolCallPart) for message in request.messages for part in message.parts)
    return lm15.ToolCallPart(id=f"demo_{number + 1}", name=reply["tool"], input=reply["input"])


def _usage(prompt_chars: int, reply_chars: int) -> lm15.Usage:
    prompt, reply = math.ceil(prompt_chars / CHARS_PER_TOKEN), math.ceil(reply_chars / CHARS_PER_TOKEN)
    return lm15.Usage(input_tokens=prompt, output_tokens=reply, total_tokens=prompt + reply)
