"""What a cell gives back, keeps and hides, beyond dspy's contract. On a local terminal: no jail is needed for this."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from dspy import FinalOutput
from dspy.primitives.code_interpreter import CodeExecutionError, CodeInterpreterError

from fleet_rlm.integrations.daytona.binding import ContextValue
from fleet_rlm.integrations.daytona.interpreter import DaytonaInterpreter
from fleet_rlm.integrations.daytona.listener import CellLimits, CellResult
from integrations.daytona.contexts import folder_of, store_text
from integrations.daytona.local_pty import LocalPtySource

Make = Callable[..., DaytonaInterpreter]


class Recorder:
    """A listener that keeps what it is told, in order."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []
        self.seen_output = threading.Event()

    def sandbox_requested(self, id: str, provider: str) -> None:
        self.told.append(("requested", provider))

    def sandbox_ready(self, id: str, sandbox_id: str, provider: str, isolation: str, ms: float) -> None:
        self.told.append(("ready", isolation))

    def sandbox_lost(self, id: str, reason: str) -> None:
        self.told.append(("lost", reason))

    def sandbox_released(self, id: str) -> None:
        self.told.append(("released",))

    def cell_started(self, cell: str, code: str) -> None:
        self.told.append(("started", code))

    def cell_output(self, cell: str, stream: str, text: str) -> None:
        self.told.append(("output", stream, text))
        self.seen_output.set()

    def cell_finished(self, cell: str, result: CellResult) -> None:
        self.told.append(("finished", result.status))

    @contextmanager
    def tool_scope(self, cell: str, name: str, call_id: str) -> Iterator[None]:
        self.told.append(("tool", name))
        yield
        self.told.append(("tool ended", name))

    def names(self) -> list[str]:
        return [told[0] for told in self.told]


class TestOutput:
    def test_prints_and_the_last_value_are_both_kept(self, make: Make) -> None:
        it = make()
        assert it.execute("print('log line')\n42") == "log line\n42"
        assert it.last_cell is not None
        assert (it.last_cell.stdout, it.last_cell.value, it.last_cell.status) == ("log line\n", "42", "ok")

    @pytest.mark.parametrize(("code", "shown"), [("0", "0"), ("[]", "[]"), ("''", "''"), ("None", None), ("x=1", None)])
    def test_false_values_are_values(self, make: Make, code: str, shown: str | None) -> None:
        assert make().execute(code) == shown

    def test_stderr_and_subprocesses_are_seen(self, make: Make) -> None:
        it = make()
        text = it.execute(
            "import subprocess, sys\nsubprocess.run(['echo', 'from a child'])\nprint('e', file=sys.stderr)"
        )
        assert text == "from a child\n[stderr]\ne"

    def test_an_error_tells_its_line_and_what_was_printed_before(self, make: Make) -> None:
        it = make()
        with pytest.raises(CodeExecutionError) as caught:
            it.execute("print('before')\nx = 1\n1/0")
        assert str(caught.value) == "ZeroDivisionError: division by zero (line 3)\nOutput before the error:\nbefore"
        error = it.last_cell.error if it.last_cell else None
        assert error is not None and error.line == 3
        assert error.traceback is not None and "1/0" in error.traceback and "<worker>" not in error.traceback

    @pytest.mark.parametrize("interrupted", [False, True])
    def test_a_cell_that_a_call_ends_tells_what_it_had_assigned(self, make: Make, interrupted: bool) -> None:
        """Also where an interruption has ended the cell before the call was stopped."""
        recorder = Recorder()
        it = make(listener=recorder)

        class Stop(BaseException):
            pass

        def stop() -> None:
            if interrupted:
                it.interrupt()
                time.sleep(0.3)
            raise Stop

        it.tools["stop"] = stop
        with pytest.raises(Stop):
            it.execute("found = ['a', 'b']\nprint('so far')\ntry:\n    stop()\nexcept Exception:\n    found = []")
        cell = it.last_cell
        assert cell is not None and (cell.status, cell.stdout) == ("interrupted", "so far\n")
        assert [(each.name, each.size) for each in cell.changed] == [("found", 2)]
        assert recorder.told[-2:] == [("finished", "interrupted"), ("released",)]

    def test_a_cell_that_is_deaf_to_its_end_tells_nothing(self, make: Make) -> None:
        it = make()

        class Stop(BaseException):
            pass

        def stop() -> None:
            raise Stop

        it.tools["stop"] = stop
        began = time.monotonic()
        with pytest.raises(Stop):
            it.execute("while True:\n    try:\n        stop()\n    except BaseException:\n        pass")
        assert it.last_cell is not None and (it.last_cell.status, it.last_cell.changed) == ("lost", ())
        assert time.monotonic() - began < 10

    def test_the_traceback_of_a_call_shows_the_code_and_not_the_worker(self, make: Make) -> None:
        def refuse() -> None:
            raise ValueError("no")

        it = make()
        it.tools["refuse"] = refuse
        with pytest.raises(CodeExecutionError):
            it.execute("def go():\n    refuse()\ngo()")
        error = it.last_cell.error if it.last_cell else None
        assert error is not None and error.traceback is not None
        assert error.traceback.count("File ") == 2 and "    refuse()" in error.traceback, error.traceback

    def test_syntax_errors_tell_the_line(self, make: Make) -> None:
        with pytest.raises(SyntaxError, match=r"line 2: y = = 2"):
            make().execute("x = 1\ny = = 2")

    @pytest.mark.parametrize("depth", [400, 900])
    @pytest.mark.parametrize("loop", ["[llm_query(f'{n}') for n in range(3)]", "re.findall('e', context)"])
    def test_a_deep_expression_runs_where_python_can_run_it(
        self, make: Make, tmp_path: Path, depth: int, loop: str
    ) -> None:
        """However deep our own look at the code may go."""
        sha = store_text(tmp_path, "a.txt", "a text")
        source = LocalPtySource(folder_of(tmp_path, sha))
        it = make(runtime=source)
        it.tools["llm_query"] = lambda prompt: f"<{prompt}>"
        code = f"import re\ndef named(x):\n    return f'{{x}}'\nn = {' + '.join(['1'] * depth)}\nfound = {loop}\n(n, found)"
        value = ContextValue({"$context": sha}, "a text")
        text = it.execute(code, variables={"context": value})
        assert isinstance(text, str) and text.startswith(f"({depth}, ['")
        it.shutdown()
        source.close()

    def test_long_output_keeps_its_beginning_and_end(self, make: Make) -> None:
        it = make(limits=CellLimits(output_bytes=40_000))
        text = it.execute("for n in range(100_000): print(n)")
        assert isinstance(text, str) and len(text) < 45_000
        assert text.startswith("0\n1\n2\n") and text.endswith("99998\n99999")
        assert "bytes of output left out" in text
        assert it.last_cell is not None and it.last_cell.truncated
        assert it.execute("print('next cell is whole')") == "next cell is whole"

    def test_a_huge_value_is_shown_in_part(self, make: Make) -> None:
        text = make().execute("list(range(10_000_000))")
        assert isinstance(text, str) and text.startswith("[0, 1, 2") and len(text) < 30_000
        assert "10,000,000 in all" in text

    def test_output_streams_while_the_cell_runs(self, make: Make) -> None:
        recorder = Recorder()
        it = make(listener=recorder)
        it.tools["seen"] = lambda: recorder.seen_output.wait(30)
        assert it.execute("print('early')\nprint(seen())") == "early\nTrue"

    @pytest.mark.parametrize(
        "end",
        [
            "sys.stdout.close()",
            "sys.stdout.buffer.close()",
            "sys.stdout.detach()",
            "os.close(1)",
            "sys.stdout.close()\nos.close(1)",
            "del sys.stdout, sys.__stdout__",
            "sys.__stdout__ = None",
        ],
    )
    def test_what_a_cell_closes_is_open_in_the_next(self, make: Make, end: str) -> None:
        it = make()
        with contextlib.suppress(CodeExecutionError):
            it.execute(f"import os, subprocess, sys\nkept = 'here'\nprint('before')\n{end}")
        assert it.last_cell is not None and it.last_cell.stdout == "before\n"
        assert it.execute("print(kept)") == "here"
        assert it.execute("subprocess.run(['echo', kept])\nprint(kept, file=sys.stderr)") == "here\n[stderr]\nhere"

    def test_where_a_cell_leads_the_output_stays(self, make: Make, tmp_path: Path) -> None:
        it = make()
        it.execute(f"import os\nfound = open({str(tmp_path / 'out')!r}, 'w')\nos.dup2(found.fileno(), 1)")
        assert it.execute("print('there')") is None
        assert (tmp_path / "out").read_text() == "there\n"

    def test_output_comes_in_few_pieces(self, make: Make) -> None:
        recorder = Recorder()
        make(listener=recorder).execute("for n in range(5000): print(n)")
        outputs = [told for told in recorder.told if told[0] == "output"]
        assert len(outputs) < 100
        assert "".join(told[2] for told in outputs).split() == [str(n) for n in range(5000)]


class TestState:
    def test_an_unchanged_variable_keeps_the_guests_changes(self, make: Make) -> None:
        it, values = make(), {"nums": [1, 2, 3]}
        it.execute("nums.append(4)", variables=values)
        assert it.execute("print(sum(nums))", variables=values) == "10"
        values["nums"].append(100)
        assert it.execute("print(nums)", variables=values) == "[1, 2, 3, 100]"

    def test_a_big_variable_is_sent_once(self, make: Make) -> None:
        it = make()
        it.start()
        source: Any = it._source
        values = {"big": "x" * 3_000_000}
        it.execute("len(big)", variables=values)
        writes: list[int] = []
        terminal = source.terminals[-1]
        write = terminal.write
        terminal.write = lambda data: (writes.append(len(data)), write(data))[1]
        assert it.execute("print(len(big))", variables=values) == "3000000"
        assert sum(writes) < 10_000

    def test_an_input_may_have_a_helpers_name(self, make: Make) -> None:
        it = make()
        for _ in range(2):
            assert it.execute("print(chunks)", variables={"chunks": "mine"}) == "mine"

    def test_the_answer_so_far_is_told_in_full(self, make: Make) -> None:
        it = make()

        def told(code: str) -> list[tuple[str, str | None]]:
            it.execute(code)
            assert it.last_cell is not None
            return [(c.name, c.text) for c in it.last_cell.changed]

        assert told("answer = 'é' * 30_000") == [("answer", "é" * 20_000)]
        assert told("answer = {'text': 'ab', 'ready': False}") == [("answer", '{"text": "ab", "ready": false}')]
        assert told("answer['ready'] = True") == [("answer", '{"text": "ab", "ready": true}')]
        assert told("other = 1") == [("other", None)]
        assert told("answer = object; answer2 = 1") == [("answer", "\"<class 'object'>\""), ("answer2", None)]
        assert told("answer = {(1, 2): 3}") == [("answer", "{(1, 2): 3}")]

    def test_changed_variables_are_told(self, make: Make) -> None:
        it = make()
        it.execute("a = 1\nkeep = [1]\ndef f(): pass\nimport os\n_hidden = 2")
        it.execute("a = 'new'\nkeep.append(2)")
        assert it.last_cell is not None
        assert {(c.name, c.type, c.size, c.preview) for c in it.last_cell.changed} == {
            ("a", "str", 3, "'new'"),
            ("keep", "list", 2, "[1, 2]"),
        }

    def test_main_is_the_guests_own_module(self, make: Make) -> None:
        it = make()
        it.execute("import dataclasses, pickle\n@dataclasses.dataclass\nclass P:\n    x: int")
        assert it.execute("print(pickle.loads(pickle.dumps(P(3))))") == "P(x=3)"

    @pytest.mark.parametrize(
        ("variables", "message"),
        [({"not a name": 1}, "identifiers"), ({"SUBMIT": 1}, "identifiers"), ({"class": 1}, "identifiers")],
    )
    def test_bad_names_are_refused(self, make: Make, variables: dict[str, Any], message: str) -> None:
        it = make()
        with pytest.raises(CodeInterpreterError, match=message):
            it.execute("1", variables=variables)
        assert it.execute("2") == "2"


class TestSubmit:
    @pytest.mark.parametrize(
        "code",
        [
            "try:\n    SUBMIT(7)\nexcept:\n    pass",
            "import threading\nt=threading.Thread(target=lambda: SUBMIT(7))\nt.start()\nt.join()",
        ],
    )
    def test_is_not_lost(self, make: Make, code: str) -> None:
        assert make().execute(code) == FinalOutput({"output": 7})

    @pytest.mark.parametrize("catch", ["except: pass", "except BaseException: pass", "finally: continue"])
    def test_the_first_stands_and_nothing_is_asked_after_it(self, make: Make, catch: str) -> None:
        it = make()
        asked: list[str] = []
        it.tools["ask"] = asked.append
        loop = f"for x in 'abc':\n    try:\n        ask(x)\n        SUBMIT(x)\n    {catch}\n"
        assert it.execute(f"{loop}ask('d')\nprint('on')") == FinalOutput({"output": "a"})
        assert asked == ["a"] and it.last_cell is not None and it.last_cell.stdout == ""
        assert it.execute("SUBMIT(ask('e'))") == FinalOutput({"output": None})

    def test_threads_ask_nothing_after_it(self, make: Make) -> None:
        it = make()
        asked: list[str] = []
        it.tools["ask"] = asked.append
        code = (
            "import threading\ndef answer():\n    try: SUBMIT(7)\n    finally: ask('late')\n"
            "t = threading.Thread(target=answer)\nt.start()\nt.join()\ntry: SUBMIT(8)\nfinally: ask('later')"
        )
        assert it.execute(code) == FinalOutput({"output": 7})
        assert asked == []

    def test_values_become_plain(self, make: Make) -> None:
        code = (
            "import dataclasses, datetime\n@dataclasses.dataclass\nclass P:\n    x: int\n"
            "SUBMIT({'p': P(1), 's': {3}, 't': (1, 2), 'd': datetime.date(2026, 1, 2), 5: b'b'})"
        )
        assert make().execute(code) == FinalOutput(
            {"output": {"p": {"x": 1}, "s": [3], "t": [1, 2], "d": "2026-01-02", "5": "b"}}
        )

    def test_a_circle_does_not_hang(self, make: Make) -> None:
        result = make().execute("a = []\na.append(a)\nSUBMIT(a)")
        assert isinstance(result, FinalOutput)
        result = make().execute("a = []\na += [a, {'b': a}]\nSUBMIT(a)")  # whose every level is twice as wide
        assert isinstance(result, FinalOutput)

    def test_the_error_says_how_to_call_it(self, make: Make) -> None:
        it = make()
        it.output_fields = [{"name": "a"}, {"name": "b"}]
        with pytest.raises(CodeExecutionError, match=r"missing: b. Use SUBMIT\(a, b\)"):
            it.execute("SUBMIT(1)")
        assert it.execute("SUBMIT(1, b=2)") == FinalOutput({"a": 1, "b": 2})


ODD = {
    "attributes that are keys": "class R:\n    def __getattr__(self, name): return {}[name]\nx = R()",
    "a key that has no text": "class K:\n    def __str__(self): raise ValueError\nx = {K(): 1}",
    "a mock": "from unittest import mock\nx = mock.Mock(spec=list)",
    "text that is none": "from unittest import mock\nx = mock.Mock(spec=str)",
    "a list without a length": "class L(list):\n    def __len__(self): raise RuntimeError\nx = L()",
    "a lazy proxy": "class P:\n    @property\n    def __class__(self): raise RuntimeError('unbound')\nx = P()",
    "a repr that exits": "class R:\n    def __repr__(self): raise SystemExit\nx = R()",
    "a repr that submits": "class R:\n    def __repr__(self): SUBMIT(1)\nx = R()",
    "a repr that interrupts": "class R:\n    def __repr__(self): raise KeyboardInterrupt\nx = R()",
    "a class without a name": (
        "class M(type):\n    __name__ = property(lambda s: 1 / 0)\n"
        "class R(metaclass=M):\n    def __repr__(self): raise ValueError\nx = R()"
    ),
}
BROKEN = {
    "a name that is none": "globals()[1] = 2",
    "an error without a name": (
        "class M(type):\n    __name__ = property(lambda s: 1 / 0)\nclass E(Exception, metaclass=M): pass\nraise E"
    ),
    "an error without a traceback": "class E(Exception):\n    __traceback__ = property(lambda s: 1 / 0)\nraise E",
    "a clock that is gone": "import time\ntime.perf_counter = None",
    "sources that are gone": "import linecache\nlinecache.cache = None",
    "a flush that exits": (
        "import sys\nclass F:\n    def write(self, s): pass\n    def flush(self): raise SystemExit\nsys.stdout = F()"
    ),
}


class TestOddValues:
    """What a guest's values do when they are looked at ends no interpreter."""

    @pytest.mark.parametrize("name", ODD)
    def test_as_a_variable_as_the_value_and_as_the_answer(self, make: Make, name: str) -> None:
        it = make()
        it.execute("kept = 1")
        for use in ("", "answer = x", "x", "SUBMIT(x)"):
            with contextlib.suppress(CodeExecutionError):
                it.execute(f"{ODD[name]}\n{use}")
            assert it.execute("later = [kept]\nprint(later)") == "[1]"
            assert it.last_cell is not None and "later" in [change.name for change in it.last_cell.changed]
            it.execute("del later")

    @pytest.mark.parametrize("name", BROKEN)
    def test_what_it_breaks_of_python_is_its_own(self, make: Make, name: str) -> None:
        it = make()
        it.execute("kept = 1")
        with contextlib.suppress(CodeExecutionError):
            it.execute(BROKEN[name])
        assert it.execute("print(kept)") == "1"

    def test_an_answer_that_cannot_be_told_is_the_guests_error(self, make: Make) -> None:
        it = make()
        with pytest.raises(CodeExecutionError, match=r"ValueError: no text \(line 2\)"):
            it.execute("class K:\n    def __str__(self): raise ValueError('no text')\nSUBMIT({K(): 1})")
        assert it.execute("SUBMIT({1: 1})") == FinalOutput({"output": {"1": 1}})

    def test_a_value_that_never_ends_its_text_can_be_interrupted(self, make: Make) -> None:
        it = make(limits=CellLimits(wall_s=0.5))
        for use in ("R()", "SUBMIT(R())"):
            with pytest.raises(CodeExecutionError, match="longer than its limit"):
                it.execute(f"class R:\n    def __repr__(self):\n        while True: pass\n{use}")
            assert it.last_cell is not None and it.last_cell.status == "interrupted"
        assert it.execute("print(1)") == "1"


class TestTools:
    def test_builtin_errors_keep_their_class(self, make: Make) -> None:
        it = make()

        def missing() -> None:
            raise KeyError("k")

        it.tools["missing"] = missing
        assert it.execute("try:\n    missing()\nexcept KeyError as e:\n    print('key', e)") == "key \"'k'\""

    def test_other_errors_keep_their_name(self, make: Make) -> None:
        class QuotaSpent(Exception):
            pass

        def spend() -> None:
            raise QuotaSpent("no more")

        it = make()
        it.tools["spend"] = spend
        text = it.execute(
            "try:\n    spend()\nexcept Exception as e:\n    print(type(e).__name__, isinstance(e, RuntimeError), e)"
        )
        assert text == "QuotaSpent True QuotaSpent: no more"

    def test_a_failure_is_false_and_not_text(self, make: Make) -> None:
        it = make()
        it.tools["ask"] = lambda: ["ok", {"$failure": {"error": "Timeout", "message": "too slow"}}]
        code = "r = ask()\nprint(bool(r[1]), isinstance(r[1], Failure), r[1].error, r[1].message, r[1])"
        assert it.execute(code) == "False True Timeout too slow Failure(Timeout: too slow)"

    def test_results_of_host_types_arrive_as_data(self, make: Make) -> None:
        @dataclasses.dataclass
        class Place:
            path: str
            line: int

        it = make()
        it.tools["where"] = lambda: [Place("a", 1), (1, 2), float("inf")]
        assert it.execute("print(where())") == "[{'path': 'a', 'line': 1}, [1, 2], inf]"

    def test_the_same_function_object_stays(self, make: Make) -> None:
        it = make()
        it.tools["t"] = lambda: 1
        it.execute("first = t")
        it.tools["u"] = lambda: 2
        assert it.execute("print(first is t, t.__name__, first())") == "True t 1"

    def test_a_removed_tool_is_gone(self, make: Make) -> None:
        it = make()
        it.tools["t"] = lambda: 1
        it.execute("t()")
        del it.tools["t"]
        with pytest.raises(CodeExecutionError, match="NameError"):
            it.execute("t()")

    def test_a_result_too_large_is_the_guests_error(self, make: Make) -> None:
        it = make(limits=CellLimits(message_bytes=1 << 20))
        it.tools["big"] = lambda: "x" * (2 << 20)
        assert "larger than the limit" in str(it.execute("try:\n    big()\nexcept ValueError as e:\n    print(e)"))

    @pytest.mark.parametrize("code", ["SUBMIT('x' * (2 << 20))", "t('x' * (2 << 20))"])
    def test_a_value_too_large_to_leave_is_the_guests_error(self, make: Make, code: str) -> None:
        it = make(limits=CellLimits(message_bytes=1 << 20))
        it.tools["t"] = len
        with pytest.raises(CodeExecutionError, match="too large to leave the sandbox"):
            it.execute(code)
        assert it.execute("print(1)") == "1"

    def test_outputs_with_pieces_of_contexts_too_large_to_leave_leave_the_interpreter(
        self, make: Make, tmp_path: Path
    ) -> None:
        sha = store_text(tmp_path, "a.txt", "a text")
        source = LocalPtySource(folder_of(tmp_path, sha))
        it = make(runtime=source, limits=CellLimits(message_bytes=1 << 20))
        value = ContextValue({"$context": sha}, "a text")
        with pytest.raises(CodeExecutionError, match="too large to leave the sandbox"):
            it.execute("kept = 1\nSUBMIT([context, 'x' * (2 << 20)])", variables={"context": value})
        assert it.execute("print(kept)") == "1"
        it.shutdown()
        source.close()

    def test_more_threads_than_slots_wait(self, make: Make) -> None:
        it = make()
        it.tools["t"] = lambda n: n
        code = (
            "from concurrent.futures import ThreadPoolExecutor\n"
            "with ThreadPoolExecutor(300) as pool: print(sum(pool.map(t, range(600))))"
        )
        assert it.execute(code) == str(sum(range(600)))

    def test_forks_of_the_guest_cannot_call(self, make: Make) -> None:
        it = make()
        it.tools["t"] = lambda: 1
        code = (
            "import os\npid = os.fork()\nif not pid:\n    try:\n        t()\n    except RuntimeError as e:\n"
            "        print('refused', flush=True)\n    os._exit(0)\nos.waitpid(pid, 0)\nprint(t())"
        )
        assert it.execute(code) == "refused\n1"

    def test_a_fork_that_runs_on_does_not_answer_for_the_interpreter(self, make: Make) -> None:
        it = make()
        assert it.execute("import os\npid = os.fork()\nif pid: os.waitpid(pid, 0)\nprint('here', pid > 0)") in (
            "here False\nhere True",
            "here True",
        )
        assert it.execute("print('once')") == "once"

    def test_threads_left_running_are_refused_between_cells(self, make: Make) -> None:
        it = make()
        it.tools["t"] = lambda: 1
        it.execute(
            "import threading, time\nfound = []\n"
            "def later():\n    time.sleep(0.3)\n    try:\n        found.append(t())\n    except RuntimeError as e:\n"
            "        found.append(str(e))\nthread = threading.Thread(target=later)\nthread.start()"
        )
        time.sleep(0.8)
        assert it.execute("thread.join()\nprint(found)") == "['host tools can only be called while a cell is running']"


class TestHostile:
    def test_the_child_has_no_terminal(self, make: Make) -> None:
        it = make()
        code = "import os\nfor n in range(3, 64):\n    try:\n        if os.isatty(n): print('tty', n)\n    except OSError: pass"
        assert it.execute(code) is None
        with pytest.raises(CodeExecutionError, match="OSError"):
            it.execute("open('/dev/tty')")

    def test_frames_in_the_output_are_output(self, make: Make) -> None:
        it = make()
        code = "import os\nos.write(1, b'\\xf1\\x5e\\x01\\x05' + bytes(32) + b'{}')\nprint('still here')"
        assert "still here" in str(it.execute(code))

    def test_a_forged_result_ends_no_other_cell(self, make: Make) -> None:
        it = make()
        forge = (
            "import gc, json, struct, socket\n"
            "s = next(o for o in gc.get_objects() if isinstance(o, socket.socket) and o.fileno() >= 0)\n"
            "m = json.dumps({'cell': 'another', 'status': 'ok', 'value': 'forged'}).encode()\n"
            "s.sendall(struct.pack('>II', len(m), 0) + m)\nprint('after')"
        )
        assert it.execute(forge) == "after"
        assert it.execute("print(1)") == "1"

    @pytest.mark.parametrize("payload", ["not json", "[]", '{"cell": 5}', '{"id": "x"}'])
    @pytest.mark.parametrize("channel", [0, 3])
    def test_nonsense_on_the_control_channel_ends_the_session(self, make: Make, payload: str, channel: int) -> None:
        it = make()
        code = (
            "import gc, struct, socket, time\n"
            "s = next(o for o in gc.get_objects() if isinstance(o, socket.socket) and o.fileno() >= 0)\n"
            f"m = {payload!r}.encode()\ns.sendall(struct.pack('>II', len(m), {channel}) + m)\ntime.sleep(30)"
        )
        with pytest.raises(CodeInterpreterError, match="cannot be read"):
            it.execute(code)

    def test_a_tool_that_is_not_offered_is_refused(self, make: Make) -> None:
        it = make()
        it.tools["t"] = lambda: 1
        with pytest.raises(CodeExecutionError, match="Unknown tool"):
            it.execute(
                "t.__closure__[[c.cell_contents for c in t.__closure__].index('t')].cell_contents = '__init__'\nt()"
            )

    def test_a_dead_process_is_a_lost_session(self, make: Make) -> None:
        recorder = Recorder()
        it = make(listener=recorder)
        with pytest.raises(CodeInterpreterError, match="exit status 3") as caught:
            it.execute("print('last words', flush=True)\nimport os\nos._exit(3)")
        assert not isinstance(caught.value, CodeExecutionError)
        assert it.last_cell is not None and it.last_cell.status == "lost" and it.last_cell.stdout == "last words\n"
        with pytest.raises(CodeInterpreterError):
            it.execute("1")
        assert [name for name in recorder.names() if name != "output"] == [
            "requested",
            "ready",
            "started",
            "lost",
            "finished",
            "released",
        ]

    def test_a_dead_process_is_seen_though_its_fork_lives(self, make: Make) -> None:
        it = make(limits=CellLimits(wall_s=5.0, grace_s=0.5))
        with pytest.raises(CodeInterpreterError, match="exit status 3"):
            it.execute(
                "import os, time\nif not os.fork(): time.sleep(60)\nprint('last words', flush=True)\nos._exit(3)"
            )
        assert it.last_cell is not None and it.last_cell.stdout == "last words\n"

    def test_a_killed_process_says_so(self, make: Make) -> None:
        with pytest.raises(CodeInterpreterError, match="SIGKILL"):
            make().execute("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)")

    def test_the_parent_cannot_be_read(self, make: Make) -> None:
        code = "import os\ntry:\n    open(f'/proc/{os.getppid()}/mem', 'rb').read(1)\nexcept OSError as e:\n    print('no')"
        if __import__("os").geteuid() == 0:  # root reads everything where there is no jail; see the jailed tests
            code = code.replace("open(f'/proc/{os.getppid()}/mem', 'rb').read(1)", "raise OSError")
        assert make().execute(code) == "no"


class TestStopping:
    def run(self, it: DaytonaInterpreter, code: str) -> tuple[threading.Thread, list[BaseException]]:
        errors: list[BaseException] = []
        running = threading.Event()
        it.tools["running"] = running.set

        def work() -> None:
            try:
                it.execute(code if "running()" in code else f"running()\n{code}")
            except BaseException as error:
                errors.append(error)

        it.start()
        thread = threading.Thread(target=work)
        thread.start()
        assert running.wait(30)
        return thread, errors

    @pytest.mark.parametrize(
        "code", ["while True: pass", "import time\ntime.sleep(60)", "import threading\nthreading.Event().wait()"]
    )
    def test_interrupt_keeps_the_state(self, make: Make, code: str) -> None:
        it = make()
        it.execute("keep = 1")
        thread, errors = self.run(it, code)
        it.interrupt()
        thread.join(20)
        assert isinstance(errors[0], CodeExecutionError) and "interrupted" in str(errors[0])
        assert it.last_cell is not None and it.last_cell.status == "interrupted"
        assert it.execute("print(keep)") == "1"

    def test_interrupt_while_a_tool_runs(self, make: Make) -> None:
        it, release = make(), threading.Event()
        it.tools["wait"] = lambda: release.wait(60)
        thread, errors = self.run(it, "wait()")
        it.interrupt()
        thread.join(20)
        release.set()
        assert "interrupted" in str(errors[0])
        assert it.execute("print(1)") == "1"

    def test_a_guest_that_ignores_the_interrupt_is_killed(self, make: Make) -> None:
        it = make(limits=CellLimits(grace_s=0.5))
        code = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nrunning()\nwhile True: pass"
        thread, errors = self.run(it, code)
        it.interrupt()
        thread.join(20)
        assert isinstance(errors[0], CodeInterpreterError) and not isinstance(errors[0], CodeExecutionError)
        assert "did not stop" in str(errors[0])

    def test_interrupt_without_a_cell_does_nothing(self, make: Make) -> None:
        it = make()
        it.interrupt()
        it.execute("1")
        it.interrupt()
        assert it.execute("print(2)") == "2"

    def test_the_wall_limit_interrupts(self, make: Make) -> None:
        it = make(limits=CellLimits(wall_s=0.5))
        it.execute("keep = 1")
        with pytest.raises(CodeExecutionError, match=r"longer than its limit of 0.5 s"):
            it.execute("while True: pass")
        assert it.execute("print(keep)") == "1"

    def test_kill_ends_at_once(self, make: Make) -> None:
        it = make()
        thread, errors = self.run(it, "while True: pass")
        it.kill()
        thread.join(5)
        assert isinstance(errors[0], CodeInterpreterError) and "killed" in str(errors[0])

    def test_kill_while_a_tool_runs(self, make: Make) -> None:
        it, release = make(), threading.Event()
        it.tools["wait"] = lambda: release.wait(60)
        thread, errors = self.run(it, "wait()")
        it.kill()
        thread.join(5)
        release.set()
        assert isinstance(errors[0], CodeInterpreterError)

    def test_one_cell_at_a_time(self, make: Make) -> None:
        it = make()
        thread, _ = self.run(it, "import time\ntime.sleep(60)")
        with pytest.raises(CodeInterpreterError, match="already running"):
            it.execute("1")
        it.kill()
        thread.join(5)


class TestListener:
    def test_order_of_a_cell(self, make: Make) -> None:
        recorder = Recorder()
        it = make(listener=recorder)
        it.tools["t"] = lambda: 1
        it.execute("print(t())")
        it.shutdown()
        assert recorder.names() == [
            "requested",
            "ready",
            "started",
            "tool",
            "tool ended",
            "output",
            "finished",
            "released",
        ]

    def test_dspys_own_code_is_no_cell(self, make: Make) -> None:
        recorder = Recorder()
        it = make(listener=recorder)
        it.execute("import sys", variables={"__dspy_host_token": "t"})
        it.execute("x = _raw_x", variables={"_raw_x": "payload"})
        assert recorder.names() == ["requested", "ready"] and it.last_cell is None
        assert it.execute("print(x)") == "payload"

    def test_tools_end_before_their_cell(self, make: Make) -> None:
        recorder = Recorder()
        it = make(listener=recorder)

        def slow() -> None:
            time.sleep(0.5)

        it.tools["slow"] = slow
        it.execute("import threading\nthreading.Thread(target=slow, daemon=True).start()\nimport time\ntime.sleep(0.2)")
        names = recorder.names()
        assert names.index("tool ended") < names.index("finished")
