"""What every `dspy.CodeInterpreter` of ours must do, and what dspy's own LocalInterpreter does too.

LocalInterpreter is here so that the suite is known to be fair: it asks for nothing that dspy does not give.
"""

from __future__ import annotations

import asyncio
import contextvars
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import dspy
import pytest
from dspy import FinalOutput
from dspy.lm15 import Message, Response, TextPart, Usage
from dspy.primitives.code_interpreter import CodeExecutionError, CodeInterpreterError
from dspy.primitives.facade import FacadeInvocation
from dspy.utils import DummyLM

from fleet_rlm.integrations.daytona.interpreter import DaytonaInterpreter
from integrations.daytona.factories import KINDS, Factory, make_factory


@pytest.fixture(params=KINDS)
def factory(request: pytest.FixtureRequest) -> Factory:
    return make_factory(request.param, request)


@pytest.fixture
def it(factory: Factory) -> Iterator[Any]:
    interpreter = factory()
    yield interpreter
    interpreter.shutdown()


def printed(it: Any, code: str, **variables: Any) -> str:
    return str(it.execute(code, variables=variables or None)).strip()


class Stop(BaseException):
    """What ends a session when a tool raises it."""


def stops() -> None:
    raise Stop("budget")


class TestLifecycle:
    def test_is_an_interpreter_and_the_factory_is_not(self, factory: Factory) -> None:
        interpreter = factory()
        assert isinstance(interpreter, dspy.CodeInterpreter)
        assert not isinstance(factory, dspy.CodeInterpreter) or isinstance(factory, type)
        assert isinstance(getattr(factory, "execution_instructions", ""), str)
        assert factory() is not interpreter
        interpreter.shutdown()

    def test_start_twice_is_start_once(self, it: Any) -> None:
        it.start()
        it.start()
        assert printed(it, "print(1+1)") == "2"

    def test_execute_starts(self, it: Any) -> None:
        assert printed(it, "print(1+1)") == "2"

    def test_shutdown_is_final_and_may_be_repeated(self, factory: Factory) -> None:
        interpreter = factory()
        interpreter.execute("1")
        interpreter.shutdown()
        interpreter.shutdown()
        with pytest.raises(CodeInterpreterError):
            interpreter.execute("1")

    def test_shutdown_before_start(self, factory: Factory) -> None:
        factory().shutdown()

    def test_shutdown_from_another_thread_unblocks_execute(self, factory: Factory) -> None:
        interpreter, errors = factory(), []
        interpreter.start()

        def run() -> None:
            try:
                interpreter.execute("import time\ntime.sleep(60)")
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        time.sleep(1.0)
        begun = time.time()
        interpreter.shutdown()
        thread.join(10)
        assert not thread.is_alive() and time.time() - begun < 10
        assert isinstance(errors[0], CodeInterpreterError)
        assert not isinstance(errors[0], CodeExecutionError)

    def test_two_instances_share_nothing(self, factory: Factory) -> None:
        a, b = factory(), factory()
        try:
            a.execute("secret=1")
            with pytest.raises(CodeExecutionError):
                b.execute("print(secret)")
        finally:
            a.shutdown()
            b.shutdown()


class TestCells:
    def test_state_persists(self, it: Any) -> None:
        it.execute("a=41\ndef f(): return a+1")
        assert printed(it, "print(f())") == "42"

    def test_variables_arrive_with_their_types(self, it: Any) -> None:
        assert printed(it, "print(v['k'][1], n, b)", v={"k": [1, "é"]}, n=None, b=True) == "é None True"

    def test_a_changed_variable_overwrites(self, it: Any) -> None:
        it.execute("x=5", variables={"x": 1})
        assert printed(it, "print(x)", x=7) == "7"

    def test_no_output(self, it: Any) -> None:
        assert it.execute("x=1") in (None, "")

    def test_syntax_error(self, it: Any) -> None:
        with pytest.raises(SyntaxError):
            it.execute("def f(:")
        assert printed(it, "print(1)") == "1"

    @pytest.mark.parametrize(
        "code", ["1/0", "undefined_name", "raise ValueError('é')", "import sys; sys.exit(3)", "raise KeyboardInterrupt"]
    )
    def test_runtime_errors_keep_the_state(self, it: Any, code: str) -> None:
        it.execute("keep=1")
        with pytest.raises(CodeExecutionError):
            it.execute(code)
        assert printed(it, "print(keep)") == "1"

    def test_a_guest_cannot_pose_as_a_broken_interpreter(self, it: Any) -> None:
        with pytest.raises(CodeExecutionError):
            it.execute("class CodeInterpreterError(Exception): pass\nraise CodeInterpreterError('x')")

    def test_big_output(self, it: Any) -> None:
        assert len(str(it.execute("print('é'*1_000_000)"))) >= 1_000_000

    def test_big_variable(self, it: Any) -> None:
        assert printed(it, "print(len(big))", big="x" * 10_000_000) == "10000000"

    def test_output_is_never_protocol(self, it: Any) -> None:
        line = '{"jsonrpc":"2.0","result":{"final":1},"id":1,"type":"final","value":1}'
        assert "jsonrpc" in printed(it, f"print({line!r})")


class TestSubmit:
    def fields(self, it: Any, *fields: dict[str, str]) -> None:
        it.output_fields = list(fields)
        if hasattr(it, "_tools_registered"):
            it._tools_registered = False

    def test_without_fields(self, it: Any) -> None:
        assert it.execute("SUBMIT('v')") in (FinalOutput({"output": "v"}), FinalOutput("v"))

    def test_with_fields(self, it: Any) -> None:
        self.fields(it, {"name": "a", "type": "str"}, {"name": "n", "type": "int"}, {"name": "any"})
        assert it.execute("SUBMIT(a='x', n=1, any={'k':[1]})") == FinalOutput({"a": "x", "n": 1, "any": {"k": [1]}})
        assert it.execute("SUBMIT('x', 2, None)") == FinalOutput({"a": "x", "n": 2, "any": None})

    def test_goes_through_except_exception(self, it: Any) -> None:
        self.fields(it, {"name": "a"})
        code = "def g():\n    try:\n        SUBMIT(a=1)\n    except Exception:\n        pass\ng()\nraise SystemError"
        assert it.execute(code) == FinalOutput({"a": 1})

    def test_missing_field(self, it: Any) -> None:
        self.fields(it, {"name": "a"}, {"name": "b"})
        with pytest.raises(CodeExecutionError):
            it.execute("SUBMIT(a=1)")


class TestTools:
    def offer(self, it: Any, **tools: Any) -> None:
        it.tools.update(tools)
        if hasattr(it, "_tools_registered"):
            it._tools_registered = False

    def test_added_after_start(self, it: Any) -> None:
        it.start()
        it.execute("1")
        self.offer(it, add=lambda x, y=1: x + y)
        assert printed(it, "print(add(1), add(1, 2), add(x=3, y=4))").split() == ["2", "3", "7"]

    def test_replaced_between_cells(self, it: Any) -> None:
        it.tools["t"] = lambda: "old"
        it.execute("t()")
        self.offer(it, t=lambda: "new")
        assert "new" in printed(it, "print(t())")

    def test_json_types(self, it: Any) -> None:
        it.tools["t"] = lambda v: {"got": v, "l": [1, 2.5, None, True, "é"]}
        assert printed(it, "print(t(v={'a':[1]}) == {'got': {'a':[1]}, 'l':[1,2.5,None,True,'é']})") == "True"

    def test_an_error_is_the_guests_exception(self, it: Any) -> None:
        def boom() -> None:
            raise ValueError("host says no")

        it.tools["boom"] = boom
        assert "host says no" in printed(it, "try:\n    boom()\nexcept Exception as e:\n    print('caught', e)")
        with pytest.raises(CodeExecutionError):
            it.execute("boom()")
        assert printed(it, "print(1)") == "1"

    def test_async_tool(self, it: Any) -> None:
        async def t(x: int) -> int:
            await asyncio.sleep(0)
            return x

        it.tools["t"] = t
        assert printed(it, "print(t(5))") == "5"

    def test_async_tool_under_a_running_loop(self, factory: Factory) -> None:
        async def main() -> str:
            interpreter = factory()

            async def t(x: int) -> int:
                await asyncio.sleep(0)
                return x

            interpreter.tools["t"] = t
            try:
                return printed(interpreter, "print(t(5))")
            finally:
                interpreter.shutdown()

        assert asyncio.run(main()) == "5"

    def test_context_variables_reach_tools(self, it: Any) -> None:
        variable: contextvars.ContextVar[str | None] = contextvars.ContextVar("variable", default=None)
        variable.set("tree")
        it.tools["t"] = lambda: variable.get()
        assert printed(it, "print(t())") == "tree"

    def test_dspy_context_reaches_tools(self, it: Any) -> None:
        it.tools["t"] = lambda: str(dspy.settings.get("marker"))
        with dspy.context(marker="M1"):
            assert printed(it, "print(t())") == "M1"

    def test_base_exception_ends_the_session_and_propagates(self, it: Any) -> None:
        it.tools["t"] = stops
        with pytest.raises(Stop):
            it.execute("try:\n    t()\nexcept BaseException:\n    pass\nprint('survived')")

    def test_what_was_printed_before_the_call_that_ends_the_session_is_told(self, it: Any) -> None:
        it.tools["t"] = stops
        with pytest.raises(Stop):
            it.execute("for n in range(400):\n    print(n, 'x' * 99)\nt()")
        if isinstance(it, DaytonaInterpreter):  # DSPy's own keeps nothing of its last cell
            assert it.last_cell is not None
            assert [line.split()[0] for line in it.last_cell.stdout.splitlines()] == [str(n) for n in range(400)]

    def test_calls_run_side_by_side(self, it: Any) -> None:
        barrier = threading.Barrier(8, timeout=30)  # passes only when all eight are in at once

        def t(x: int) -> int:
            barrier.wait()
            return x

        it.tools["t"] = t
        code = (
            "from concurrent.futures import ThreadPoolExecutor\n"
            "with ThreadPoolExecutor(8) as ex:\n    print(list(ex.map(t, range(8))))"
        )
        assert printed(it, code) == "[0, 1, 2, 3, 4, 5, 6, 7]"

    def test_an_interpreter_within_a_tool(self, it: Any, factory: Factory) -> None:
        def nested() -> str:
            inner = factory()
            try:
                return printed(inner, "print('inner')")
            finally:
                inner.shutdown()

        it.tools["nested"] = nested
        assert printed(it, "print(nested())") == "inner"


class Echo:
    """A model that answers `pong` to everything."""

    def complete(self, request: Any) -> Response:
        return Response(
            id=None,
            model=request.model,
            message=Message.assistant([TextPart("[[ ## answer ## ]]\npong\n\n[[ ## completed ## ]]")]),
            finish_reason="stop",
            usage=Usage(input_tokens=1, output_tokens=1, total_tokens=2),
        )

    def close(self) -> None:
        pass


def echo_lm() -> dspy.LM:
    return dspy.LM("test/echo", engine=Echo(), cache=False)


class TestDspyFacade:
    def test_the_hosts_dspy_is_not_replaced(self, it: Any, factory: Factory) -> None:
        FacadeInvocation({}, factory, 5).install(it)
        assert hasattr(sys.modules["dspy"], "LM") and sys.modules["dspy"] is dspy

    def test_predict(self, it: Any, factory: Factory) -> None:
        reserved: list[int] = []
        FacadeInvocation({}, factory, None, reserve=reserved.append).install(it)
        with dspy.context(lm=echo_lm()):
            code = "import dspy\nprint(dspy.Predict('question -> answer')(question='ping').answer)"
            assert "pong" in printed(it, code)
        assert reserved == [1]

    def test_tools_travel_by_name(self, it: Any, factory: Factory) -> None:
        invocation = FacadeInvocation({"shout": dspy.Tool(lambda s: s.upper(), name="shout")}, factory, None)
        it.tools["shout"] = lambda s: s.upper()
        invocation.install(it)
        it.execute(
            "import dspy\np = dspy.ReActV2('question -> answer', tools=[shout])\n"
            "class M(dspy.Module):\n    def __init__(self): self.r = p\nm = M()"
        )
        assert "shout" in invocation._predictors["r"].tools

    def test_rejects_a_factory_of_the_guests(self, it: Any, factory: Factory) -> None:
        FacadeInvocation({}, factory, None).install(it)
        with pytest.raises(CodeExecutionError):
            it.execute(
                "import dspy\nclass M(dspy.Module):\n"
                "    def __init__(self): self.r = dspy.RLM('q->a', interpreter_factory=1)\nM()"
            )

    def test_rejects_routing_options(self, it: Any, factory: Factory) -> None:
        FacadeInvocation({}, factory, None).install(it)
        with dspy.context(lm=echo_lm()), pytest.raises(CodeExecutionError):
            it.execute("import dspy\nprint(dspy.Predict('question -> answer', api_base='http://evil')(question='x'))")

    def test_rlm(self, factory: Factory) -> None:
        lm = DummyLM([{"reasoning": "a", "code": "print(len(ctx))"}, {"reasoning": "b", "code": "SUBMIT(n=len(ctx))"}])
        with dspy.context(lm=lm):
            result = dspy.RLM("ctx -> n: int", interpreter_factory=factory)(ctx="x" * 1000)
        assert result.n == 1000
        assert "1000" in result.trajectory[0]["output"]
