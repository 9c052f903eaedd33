"""The names of DSPy that are not public and that we stand on: each fails here first when a new DSPy moves it."""

import inspect

import dspy
from dspy.predict.react_v2 import ReActV2
from dspy.predict.rlm import RLM

from fleet_rlm.runtime.models.builders import task_signature
from fleet_rlm.runtime.models.rlm import _INITIAL, BoundedRLM
from scripted import action, scripted


def parameters(function) -> list[str]:
    return list(inspect.signature(function).parameters)


def test_the_rlm_methods_that_we_override_are_called_as_we_expect() -> None:
    assert parameters(RLM._execute_iteration)[:5] == ["self", "repl", "variables", "history", "iteration"]
    assert parameters(RLM._extract_fallback) == ["self", "variables", "history", "output_field_names"]
    assert parameters(RLM._make_llm_tools) == ["self", "budget", "max_workers"]
    assert parameters(RLM._build_signatures) == ["self"]
    assert parameters(RLM._build_variables) == ["self", "input_args"]
    for name in ("_build_signatures", "_build_variables", "_execute_iteration", "_make_llm_tools"):
        assert f"self.{name}(" in inspect.getsource(RLM), f"{name} is no longer called by dspy.RLM"


def test_building_signatures_sets_what_we_keep_and_nothing_else() -> None:
    rlm = dspy.RLM("task -> answer", interpreter_factory=dspy.LocalInterpreter)
    before = set(vars(rlm))
    source = inspect.getsource(RLM._build_signatures)
    assert set(_INITIAL) <= before
    assert {line.split("=")[0].strip().removeprefix("self.") for line in source.splitlines() if "        self._" in line and " = " in line} == set(_INITIAL)  # fmt: skip


def test_runs_of_one_shape_share_their_signatures_and_others_do_not() -> None:
    def make(tools=(), calls=10):
        return BoundedRLM(
            task_signature(with_context=False),
            interpreter_factory=dspy.LocalInterpreter,
            tools=list(tools),
            max_llm_calls=calls,
        )

    def extra() -> str:
        """More."""
        return ""

    one, same, more, other = make(), make(), make([extra]), make(calls=11)
    assert one.generate_action.signature is same.generate_action.signature
    assert "extra" in more.generate_action.signature.instructions
    assert "extra" not in one.generate_action.signature.instructions
    assert "max 11 sub-LLM calls" in other.generate_action.signature.instructions


def test_a_forced_end_is_marked_as_we_read_it() -> None:
    lm = scripted(lambda p: "[[ ## answer ## ]]\nforced" if "extract the final outputs" in p else action("1"))
    with dspy.context(lm=lm, adapter=dspy.ChatAdapter()):
        done = dspy.RLM("task -> answer", max_iters=1, interpreter_factory=dspy.LocalInterpreter)(task="t")
    assert (done.answer, done.final_reasoning) == ("forced", "Extract forced final output")


def test_usage_and_cost_come_through_the_history_hook() -> None:
    lm = scripted(lambda _: "hello")
    entries: list[dict] = []
    copy = lm.copy()
    copy.update_history = entries.append
    copy("a prompt of some length")
    assert entries[0]["usage"]["completion_tokens"] > 0 and "cost" in entries[0]
    assert lm.history == []


def test_the_agent_methods_that_we_override_exist() -> None:
    assert parameters(ReActV2._execute_tool_calls) == ["self", "tool_calls"]
    assert parameters(ReActV2._history_event) == ["self", "pending_inputs", "pred", "tool_calls", "tool_call_results"]
    assert parameters(ReActV2._make_react_signature) == ["self"]
    assert hasattr(scripted(str), "_async_engine_spec")
