"""`dspy.RLM` with our bounds: the one module that touches DSPy's underscored names.

What must hold for the whole tree lives in the metered LM and in the interpreter, because sub-agents that model-written
code builds are plain `dspy.RLM`s. This subclass only adds what a run of ours shows and offers: iteration events,
sub-calls that fail one by one, code mended before it costs a turn, our offer and true sizes of contexts in the prompt,
a salvaged action when a reply does not parse, and a final answer from the trajectory when a limit strikes.
`tests/engine/test_dspy_internals.py` fails when one of these names moves.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from typing import Any, Protocol

import dspy
from dspy.predict.rlm import RLM, SUB_AGENT_INSTRUCTIONS
from dspy.primitives.code_interpreter import CodeExecutionError, resolve_interpreter_factory
from dspy.primitives.facade import CALL_TOOL
from dspy.primitives.repl_types import REPLHistory, REPLVariable
from dspy.utils.exceptions import AdapterParseError, format_error_for_lm

from fleet_rlm.errors import TreeStopped
from fleet_rlm.integrations.daytona.interpreter import DaytonaInterpreter, visible_text
from fleet_rlm.integrations.daytona.listener import CellResult
from fleet_rlm.integrations.daytona.offer import BY_NAME, line_of
from fleet_rlm.runtime.content.values import ContextInput
from fleet_rlm.runtime.models.adapters import reply_of
from fleet_rlm.runtime.models.asked import noting
from fleet_rlm.runtime.models.repair import Repair, by_rule
from fleet_rlm.runtime.models.repeats import Repeats, repeat_note
from fleet_rlm.runtime.models.repl_history import Shortened, StepsInView

_INITIAL = ("_initial_execution_instructions", "_initial_sub_agent_rules", "_initial_interpreter_rules")
_KEPT_SIGNATURES = 64
_signatures: dict[Any, tuple[tuple[Any, Any], dict[str, Any]]] = {}
_signatures_lock = threading.Lock()
_MAX_SUB_CALLS = re.compile(r"You have max \d+ sub-LLM calls\. ")
LEFT_CHARS = 8_000
"""How much of the variables of a cell that was cut is shown for the run's last word."""
_CODE_BLOCK = re.compile(r"```(?:python|py)?\s*\n(.*?)```", re.DOTALL)

FORCED = "Extract forced final output"
"""DSPy's own mark of an answer that a run gave because its iterations were used up."""
DSPY_SUB_CALL_LINES = (
    "- `llm_query(prompt)` - query a sub-LLM (~500K char capacity) for semantic analysis\n",
    "- `llm_query_batched(prompts)` - query multiple prompts concurrently (much faster for multiple queries)\n",
)
DSPY_SUB_CALL_RULES = (
    "4. USE llm_query FOR SEMANTICS - String matching finds WHERE things are; llm_query understands WHAT things mean.",
    "4. READ - String matching finds WHERE things are; print what it found to understand WHAT it means.",
)


class RunHooks(Protocol):
    """What a run wants to know and to change while its RLM works."""

    def iteration_started(self, n: int, limit: int) -> None:
        """Iteration `n` (1-based) of at most `limit` begins."""
        ...

    def iteration_finished(self) -> None:
        """It has ended, also by an exception. Idempotent."""
        ...

    def turn_note(self) -> str:
        """What the model is told at the end of each prompt: its task again, and what is left of the budget."""
        ...

    def steps_shortened(self, shortened: Shortened) -> None:
        """The model sees less of its older steps from now on."""
        ...

    def code(self, code: str) -> str:
        """The code that is run for what the model wrote: the same, unless a person edited this cell."""
        ...

    def sub_call_tools(self) -> dict[str, Callable[..., Any]]:
        """`llm_query` and `llm_query_batched`; none where the depth limit forbids sub-calls."""
        ...

    def repair(self, code: str, fault: str) -> Repair | None:
        """Code that did not compile, as it may be run; None when the model has to see the fault."""
        ...


class BoundedRLM(RLM):  # pyright: ignore[reportGeneralTypeIssues, reportUntypedBaseClass] - @experimental hides it
    """A `dspy.RLM` that reports its iterations and can answer from what it has."""

    def __init__(self, signature: Any, *, hooks: RunHooks | None = None, **options: Any) -> None:
        self._hooks = hooks
        self._sub_calls = hooks is None or bool(hooks.sub_call_tools())
        super().__init__(signature, **options)
        self._seen: tuple[list[REPLVariable], REPLHistory] | None = None
        self._repl: Any = None
        self._running: tuple[str, CellResult | None] | None = None  # the step's code, and the cell before it
        self._facade: tuple[Any, ...] | None = None
        self._repeats = Repeats()
        view = StepsInView(None if hooks is None else hooks.steps_shortened)
        self.generate_action = ActionPredict(self._action_signature, hooks, view)
        self.extract = ExtractPredict(self.extract.signature, view)

    def _build_signatures(self) -> tuple[Any, Any]:
        """As DSPy does, but once for all runs of the same shape: building them costs as much as a whole iteration."""
        factory = self._get_execution_instructions(resolve_interpreter_factory(self._interpreter_factory))
        tools = tuple((tool.name, tool.desc) for tool in self._user_tools.values())
        shape = (self.signature, tools, self.max_llm_calls, factory, self._sub_calls)
        with _signatures_lock:
            built = _signatures.get(shape)
        if built is None:
            pair = super()._build_signatures()
            pair = _with_our_words(pair[0], sub_calls=self._sub_calls), pair[1]
            built = pair, {name: getattr(self, name) for name in _INITIAL}
            with _signatures_lock:
                if len(_signatures) >= _KEPT_SIGNATURES:
                    _signatures.clear()
                _signatures[shape] = built
        self.__dict__.update(built[1])
        return built[0]

    def answer_from_trajectory(self) -> dspy.Prediction | None:
        """One call that extracts the outputs from the steps so far, the last of which may have been cut short by the
        limit; None when there was no step yet."""
        if self._seen is None or not self._seen[1]:
            return None
        variables, history = self._seen
        return self._extract_fallback(variables, history, list(self.signature.output_fields))

    def work(self, inputs: dict[str, Any]) -> dspy.Prediction:
        """The whole run, as DSPy does it."""
        return self(**inputs)

    def leave(self) -> None:
        """The thread of `work` was left: what it would tell and give back at its end is done here, and not again by it.
        Idempotent."""
        if self._repl is None:
            return
        if self._hooks is not None:
            self._hooks.iteration_finished()
        self._repl.shutdown()

    def _make_llm_tools(self, budget: Any = None, max_workers: int = 8) -> dict[str, Callable[..., Any]]:
        if self._hooks is None:
            return super()._make_llm_tools(budget, max_workers)
        return self._hooks.sub_call_tools()

    def _setup_facade(self, repl: Any, *rest: Any) -> str:
        """Put off until code speaks of dspy: most never does, and it costs a cell before the first model call."""
        if not self._sub_calls:
            return ""  # sub-agents are sub-calls too
        if not isinstance(repl, DaytonaInterpreter):
            return super()._setup_facade(repl, *rest)
        self._facade = (repl, *rest)
        return SUB_AGENT_INSTRUCTIONS

    def _format_tool_docs(self, tools: dict[str, dspy.Tool]) -> str:
        """Names of our offer in the words of its table; others as DSPy does."""
        ours = [line_of(BY_NAME[name]) for name in tools if name in BY_NAME]
        others = super()._format_tool_docs({name: tool for name, tool in tools.items() if name not in BY_NAME})
        return ("\nAlso available:\n" + "\n".join(ours) if ours else "") + others

    def _execute_code(self, repl: Any, code: str, input_args: dict[str, Any]) -> Any:
        """As DSPy does, with our notes for the model: of a repair, and of a cell that it ran before to no effect."""
        self._running = code, _last_cell(repl)
        shown = self._run_code(repl, code, input_args)
        cell = _last_cell(repl)
        if cell is None:
            return shown
        again = self._repeats.add(code, shown, cell) > 1
        return _noted(shown, repeat_note(self.signature.output_fields)) if again else shown

    def _run_code(self, repl: Any, code: str, input_args: dict[str, Any]) -> Any:
        """Code that does not compile is mended first, where that can be done without the model."""
        if self._facade is not None and "dspy" in code:
            facade, self._facade = self._facade, None
            super()._setup_facade(*facade)
            if CALL_TOOL in repl.tools:
                repl.tools[CALL_TOOL] = noting(repl.tools[CALL_TOOL])
        if not isinstance(repl, DaytonaInterpreter):  # others may raise SyntaxError after some of the code has run
            return super()._execute_code(repl, code, input_args)
        try:
            return repl.execute(code, variables=dict(input_args))
        except CodeExecutionError as error:
            return f"[Error] {format_error_for_lm(error)}"
        except SyntaxError as error:
            fault = format_error_for_lm(error)
        repair = by_rule(code) if self._hooks is None else self._hooks.repair(code, fault)
        if repair is None:
            return f"[Error] {fault}"
        mended = repair.code if self._hooks is None else self._hooks.code(repair.code)
        result = super()._execute_code(repl, mended, input_args)
        return _noted(result, f"(Your code did not compile: {fault}. It was run after a repair: {repair.done}.)")

    def _build_variables(self, **input_args: Any) -> list[REPLVariable]:
        """As DSPy does, but a context shows its own type and true length instead of its preview's."""
        variables = super()._build_variables(**input_args)
        return [
            variable.model_copy(update={"type_name": value.guest_type, "total_length": value.chars})
            if isinstance(value := input_args[variable.name], ContextInput)
            else variable
            for variable in variables
        ]

    def _execute_iteration(
        self, repl: Any, variables: list[REPLVariable], history: REPLHistory, iteration: int, *rest: Any
    ) -> Any:
        self._seen, self._repl, self._running = (variables, history), repl, None
        if iteration == 0:
            self._repeats.begin()
        if self._hooks is None:
            return super()._execute_iteration(repl, variables, history, iteration, *rest)
        self._hooks.iteration_started(iteration + 1, self.max_iters)
        try:
            result = super()._execute_iteration(repl, variables, history, iteration, *rest)
        except TreeStopped as stop:
            self._seen = variables, self._with_cut_cell(history, stop)
            raise
        finally:
            self._hooks.iteration_finished()
        if isinstance(result, REPLHistory):
            self._seen = (variables, result)
            if self._repeats.stuck:
                return self._answer_of_repeats(variables, result)
        return result

    def _with_cut_cell(self, history: REPLHistory, stop: TreeStopped) -> REPLHistory:
        """The steps with the cell in which a limit struck, as far as it came: it may hold all that the run found."""
        cell = _last_cell(self._repl)
        if (
            stop.reason != "limit"
            or self._running is None
            or cell is None
            or cell.status not in ("lost", "interrupted")
        ):
            return history
        code, before = self._running
        if cell is before:  # this step's code did not come to run
            return history
        note = f"(cut short: the limit of {'time' if stop.limit == 'wall' else stop.limit} was reached)"
        return history.append(code=code, output=_noted(visible_text(cell), note + _left_by(cell)))

    def _answer_of_repeats(self, variables: list[REPLVariable], history: REPLHistory) -> dspy.Prediction:
        """What the steps have shown, in one call: a whole answer, unless all that they showed was one error."""
        found = self.extract(variables_info=[variable.format() for variable in variables], repl_history=history)
        outputs = {name: getattr(found, name) for name in self.signature.output_fields}
        why = FORCED if self._repeats.failing else "its steps repeated themselves"
        return dspy.Prediction(trajectory=[entry.model_dump() for entry in history], final_reasoning=why, **outputs)


class ActionPredict(dspy.Predict):
    """The action predictor: reminds the model of its task and of what is left, and takes code out of any reply.

    A reply without a code block is asked for once more, as JSON.
    """

    def __init__(self, signature: Any, hooks: RunHooks | None, view: StepsInView) -> None:
        super().__init__(signature)
        self._hooks = hooks
        self._view = view

    def forward(self, **inputs: Any) -> dspy.Prediction:
        action = self._action(inputs)
        code = action.code
        run = code if self._hooks is None or not isinstance(code, str) else self._hooks.code(code)
        return action if run is code else dspy.Prediction(reasoning=action.reasoning, code=run)

    def _action(self, inputs: dict[str, Any]) -> dspy.Prediction:
        note = self._hooks.turn_note() if self._hooks is not None else ""
        if note:
            inputs["iteration"] = f"{inputs['iteration']}\n{note}"
        return self._view.ask(lambda seen: self._act(inputs | {"repl_history": seen}), inputs["repl_history"])

    def _act(self, inputs: dict[str, Any]) -> dspy.Prediction:
        try:
            return super().forward(**inputs)
        except AdapterParseError as error:
            action = salvage(reply_of(error))
            if action is not None:
                return action
        with dspy.context(adapter=dspy.JSONAdapter(use_native_function_calling=False)):
            return super().forward(**inputs)


class ExtractPredict(dspy.Predict):
    """The last word from the steps so far, which the model sees as its actions did."""

    def __init__(self, signature: Any, view: StepsInView) -> None:
        super().__init__(signature)
        self._view = view

    def forward(self, **inputs: Any) -> dspy.Prediction:
        history = inputs.pop("repl_history")
        return self._view.ask(lambda seen: super(ExtractPredict, self).forward(**inputs, repl_history=seen), history)


def _last_cell(repl: Any) -> CellResult | None:
    """How the newest cell ended, where the interpreter tells."""
    return repl.last_cell if isinstance(repl, DaytonaInterpreter) else None


def _left_by(cell: CellResult) -> str:
    """The variables of a cell that was cut, as far as it told them: nobody can print them any more."""
    lines: list[str] = []
    for change in cell.changed:
        size = "" if change.size is None else f" of {change.size:,}"
        lines.append(f"{change.name} ({change.type}{size}) = {change.text or change.preview}")
    left = "\n".join(lines)[:LEFT_CHARS]
    return f"\nWhat it had assigned by then:\n{left}" if left else ""


def _noted(shown: Any, note: str) -> Any:
    """What a cell showed, with a note below; a submission stays as it is."""
    if shown is None or isinstance(shown, str):
        return f"{shown}\n{note}" if shown else note
    return shown


def _with_our_words(signature: Any, *, sub_calls: bool) -> Any:
    """DSPy's action prompt with the table's lines for sub-calls, or without them where there are none."""
    text = signature.instructions
    for name, line in zip(("llm_query", "llm_query_batched"), DSPY_SUB_CALL_LINES, strict=True):
        text = text.replace(line, f"{line_of(BY_NAME[name])}\n" if sub_calls else "")
    if not sub_calls:
        text = text.replace(*DSPY_SUB_CALL_RULES)
        text = _MAX_SUB_CALLS.sub("", text)
    return signature.with_instructions(text)


def salvage(reply: str | None) -> dspy.Prediction | None:
    """The first code block of a free-text reply as an action, or None when it has none."""
    found = _CODE_BLOCK.search(reply or "")
    if reply is None or found is None:
        return None
    return dspy.Prediction(reasoning=reply[: found.start()].strip(), code=found.group(1))
