"""An interpreter in this process with contexts as sandboxes have them: it runs the demo program's real cells quickly."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable
from typing import Any

import dspy
from dspy.primitives.code_interpreter import CodeExecutionError, FinalOutput

from fleet_rlm.integrations.daytona.binding import BIND_FUNCTION
from fleet_rlm.integrations.daytona.worker.slices import Contexts, Helpers, with_handles
from fleet_rlm.integrations.daytona.worker.values import Failure
from fleet_rlm.runtime.content.contexts import ContextStore
from fleet_rlm.runtime.content.values import context_value
from fleet_rlm.runtime.execution.events import ContextRef
from fleet_rlm.runtime.models.builders import build_recursive_subquery_rlm, task_signature


class Submitted(BaseException):
    def __init__(self, value: dict[str, Any]) -> None:
        self.value = value


class InProcess:
    execution_instructions = "Also: `context_info()` tells the sizes of the inputs."

    def __init__(self, root: str) -> None:
        self.tools: dict[str, Callable[..., Any]] = {}
        self.output_fields: list[dict[str, Any]] = []
        self._contexts = Contexts(root)
        self.namespace: dict[str, Any] = {"SUBMIT": self._submit}
        helpers = Helpers(self._contexts, self.namespace)
        for name in ("chunks", "grep", "context_info"):
            self.namespace[name] = getattr(helpers, name)
        self.namespace[BIND_FUNCTION] = lambda name, raw: self._contexts.bind(name, json.loads(raw))

    def start(self) -> None: ...
    def shutdown(self) -> None: ...

    def execute(self, code: str, variables: dict[str, Any] | None = None) -> Any:
        if "__dspy_host_token" in (variables or {}):
            raise CodeExecutionError("no sub-agents here")
        self.namespace |= variables or {}
        self.namespace |= self.tools
        self._contexts.build_named_in(code, self.namespace)
        printed = io.StringIO()
        try:
            with contextlib.redirect_stdout(printed):
                exec(compile(code, "<cell>", "exec"), self.namespace)
        except Submitted as submitted:
            return FinalOutput(json.loads(json.dumps(submitted.value)))
        except Exception as error:
            raise CodeExecutionError(f"{type(error).__name__}: {error}") from error
        return printed.getvalue()

    def _submit(self, **values: Any) -> None:
        raise Submitted(values)


class Tree:
    """Runs of the demo program with children in this process; counts them and lets some fail."""

    def __init__(
        self, store: ContextStore, refs: list[ContextRef], lm: dspy.LM, *, fail: Callable[[int], bool] = lambda n: False
    ) -> None:
        self.refs = {ref.sha256: ref for ref in refs}
        self.store = store
        self.root = str(store.data_path("0" * 64).parent.parent)
        self.lm = lm
        self.fail = fail
        self.children: list[Any] = []
        self.calls_left = 1000

    def run(
        self,
        task: str,
        spec: Any,
        *,
        depth: int,
        schema: str | None = None,
        adapter: Any = None,
        max_iterations: int = 8,
    ) -> dspy.Prediction:
        def budget() -> dict[str, Any]:
            """What is left."""
            return {"calls_left": self.calls_left, "depth_left": depth}

        def rlm_query_batched(tasks: Any, contexts: list[Any] | None = None, schema: str | None = None) -> list[Any]:
            """Run many."""
            crossed = json.loads(json.dumps(with_handles(contexts)))
            return [self._child(tasks, piece, schema, depth) for piece in crossed]

        rlm = build_recursive_subquery_rlm(
            task_signature(with_context=spec is not None, schema=schema),
            interpreter_factory=self._factory(),
            tools=[budget, *([rlm_query_batched] if depth else [])],
            max_iterations=max_iterations,
        )
        inputs = (
            {"task": task} if spec is None else {"task": task, "context": context_value(spec, self.refs, self.store)}
        )
        with dspy.context(lm=self.lm, adapter=adapter or dspy.ChatAdapter(use_json_adapter_fallback=False)):
            return rlm(**inputs)

    def _child(self, task: str, piece: Any, schema: str | None, depth: int) -> Any:
        self.children.append(piece)
        if self.fail(len(self.children)):
            return Failure("model_unavailable", "the server is down")
        return self.run(task, piece, depth=depth - 1, schema=schema).answer

    def _factory(self) -> Callable[[], InProcess]:
        def make() -> InProcess:
            return InProcess(self.root)

        make.execution_instructions = InProcess.execution_instructions
        return make
