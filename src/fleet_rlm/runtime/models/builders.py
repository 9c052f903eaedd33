"""`build_recursive_subquery_rlm`: a bounded `dspy.RLM` whose code runs in its own child sandbox."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import dspy
from dspy.signatures.signature import make_signature

from fleet_rlm.runtime.config_values import VariableMode
from fleet_rlm.runtime.models.answer_types import Schema, answer_type, schema_key
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
VARIABLE_INSTRUCTIONS = f"""\
Work through variables: keep what sub-calls and children give in variables, have them give typed values (`schema`), \
and hand pieces of the context on as they are. Print only what you must see: of what a cell prints you are shown \
{OUTPUT_CHARS_VARIABLE_MODE:,} characters."""


def works_in_variables(input_chars: int, mode: VariableMode = "auto") -> bool:
    """Whether a run with this much input works through REPL variables."""
    return mode == "always" or (mode == "auto" and input_chars > VARIABLE_MODE_CHARS)


def output_chars(variables: bool) -> int:
    """How many characters of a cell's output the model sees."""
    return OUTPUT_CHARS_VARIABLE_MODE if variables else OUTPUT_CHARS


def task_signature(*, with_context: bool, schema: Schema = None, variables: bool = False) -> Any:
    """`task[, context] -> answer` with the instructions of a run. One object for each shape.

    Errors: InvalidInput for an unknown schema.
    """
    return _task_signature(with_context, schema_key(schema), variables)


@functools.lru_cache(256)
def _task_signature(with_context: bool, schema: str | None, variables: bool) -> Any:
    fields: dict[str, Any] = {"task": (str, dspy.InputField(desc="What to find out or do"))}
    if with_context:
        fields["context"] = (Any, dspy.InputField(desc="The input, in the REPL only"))
    fields["answer"] = (answer_type(schema), dspy.OutputField(desc="The result"))
    told = CONTEXT_INSTRUCTIONS if with_context else INSTRUCTIONS
    return make_signature(fields, f"{told}\n{VARIABLE_INSTRUCTIONS}" if variables else told)


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
