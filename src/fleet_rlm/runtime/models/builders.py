"""`build_recursive_subquery_rlm`: a bounded `dspy.RLM` whose code runs in its own child sandbox."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import dspy
from dspy.signatures.signature import make_signature

from fleet_rlm.errors import InvalidInput
from fleet_rlm.runtime.models.rlm import BoundedRLM, RunHooks

MAX_ITERATIONS = 20
VARIABLE_MODE_CHARS = 32_000
"""Above this much input a run works through REPL variables and sees less of what it prints."""
OUTPUT_CHARS = 10_000
OUTPUT_CHARS_VARIABLE_MODE = 5_000

KEPT_TOOLS = 256

INSTRUCTIONS = "Do the task with Python code."
CONTEXT_INSTRUCTIONS = """\
Do the task. The context is a variable of the REPL and not part of this prompt: look at it with code, in pieces.
Split what is too long for one look with `chunks` and work on the pieces side by side with the batched functions.
Name the places your answer rests on as `path:line`. If the context does not hold the answer, say so."""

_TYPE_WORDS = {
    "str": str,
    "int": int,
    "float": float,
    "bool": bool,
    "list": list[Any],
    "dict": dict[str, Any],
    "list[str]": list[str],
    "list[int]": list[int],
    "list[float]": list[float],
    "list[dict]": list[dict[str, Any]],
    "dict[str, str]": dict[str, str],
    "dict[str, int]": dict[str, int],
}


def answer_type(schema: str | None) -> Any:
    """The Python type that a schema word names; `str` for None.

    Errors: InvalidInput for a word that is not in the table, with the table in the hint.
    """
    if schema is None:
        return str
    word = schema.replace(" ", "").replace(",", ", ")
    found = _TYPE_WORDS.get(word)
    if found is None:
        raise InvalidInput(f"unknown schema {schema!r}", hint="use one of " + " | ".join(_TYPE_WORDS))
    return found


def output_chars(input_chars: int) -> int:
    """How many characters of a cell's output the model sees, by the size of the run's input."""
    return OUTPUT_CHARS_VARIABLE_MODE if input_chars > VARIABLE_MODE_CHARS else OUTPUT_CHARS


@functools.cache
def task_signature(*, with_context: bool, schema: str | None = None) -> Any:
    """`task[, context] -> answer` with the instructions of a run. One object for each shape.

    Errors: InvalidInput for an unknown schema.
    """
    fields: dict[str, Any] = {"task": (str, dspy.InputField(desc="What to find out or do"))}
    if with_context:
        fields["context"] = (Any, dspy.InputField(desc="The input, in the REPL only"))
    answer = answer_type(schema)
    fields["answer"] = (answer, dspy.OutputField(desc="The result"))
    return make_signature(fields, CONTEXT_INSTRUCTIONS if with_context else INSTRUCTIONS)


def build_recursive_subquery_rlm(
    signature: Any = "task, context -> answer",
    *,
    interpreter_factory: Callable[[], Any],
    sub_lm: Any = None,
    tools: Sequence[Callable[..., Any]] = (),
    hooks: RunHooks | None = None,
    max_iterations: int = MAX_ITERATIONS,
    max_output_chars: int = OUTPUT_CHARS,
    max_llm_calls: int = 1_000,
) -> BoundedRLM:
    """A bounded RLM for one (sub-)task.

    Args:
        signature: what goes in and what comes out.
        interpreter_factory: makes the sandboxed REPL; `fleet_rlm.DaytonaInterpreter` is one.
        sub_lm: the model behind `llm_query`; None: the model in DSPy's settings.
        tools: further host functions that the code may call.
        hooks: observation by a turn; None outside of one.
        max_llm_calls: what the prompt tells the model, and the bound on sub-agents. The tree's budget rules besides.
    """
    return BoundedRLM(
        signature,
        hooks=hooks,
        max_iters=max_iterations,
        max_llm_calls=max_llm_calls,
        max_output_chars=max_output_chars,
        tools=[_as_tool(tool) for tool in tools],
        sub_lm=sub_lm,
        interpreter_factory=interpreter_factory,
    )


_parsed: dict[tuple[Any, str | None], dspy.Tool] = {}


def _as_tool(function: Callable[..., Any]) -> Any:
    """DSPy's view of a host function. The functions of each run are closures over the same code, whose signature is
    read once: that takes a millisecond each time."""
    code = getattr(function, "__code__", None)
    if code is None:
        return function
    key = (code, function.__doc__)
    if key not in _parsed:
        if len(_parsed) >= KEPT_TOOLS:
            _parsed.clear()
        _parsed[key] = dspy.Tool(function)
    return _parsed[key].model_copy(update={"func": function})
