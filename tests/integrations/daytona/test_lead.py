"""Quick calls one after the other, whose thread reads the next one itself."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from dspy.primitives.code_interpreter import CodeInterpreterError

from fleet_rlm.integrations.daytona.interpreter import DaytonaInterpreter
from fleet_rlm.integrations.daytona.runtime import SandboxRuntime

Make = Callable[..., DaytonaInterpreter]
LOOP = "for n in range(300):\n    assert echo(n) == n\n"


@pytest.fixture
def jailed(runtime: SandboxRuntime, make: Make) -> DaytonaInterpreter:
    made = make(runtime=runtime)
    made.tools["echo"] = lambda value: value
    return made


def test_each_call_gets_its_own_answer(jailed: DaytonaInterpreter) -> None:
    assert jailed.execute(LOOP + "print('all')") == "all"
    code = (
        "import threading\n"
        "wrong = []\n"
        "def work(k):\n"
        "    for n in range(150):\n"
        "        if echo([k, n, 'x' * n * 100]) != [k, n, 'x' * n * 100]: wrong.append((k, n))\n"
        "threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]\n"
        "[t.start() for t in threads]\n" + LOOP + "[t.join() for t in threads]\nprint(wrong)"
    )
    assert jailed.execute(code) == "[]"


def test_a_call_that_lasts_lets_others_be_read(jailed: DaytonaInterpreter) -> None:
    """Else this would wait for ever: the call that is being served ends when the one behind it does."""
    release = threading.Event()
    jailed.tools["waits"] = lambda: release.wait(60)
    jailed.tools["frees"] = release.set
    code = (
        "import threading, time\n" + LOOP + "found = []\n"
        "waiting = threading.Thread(target=lambda: found.append(waits()))\n"
        "waiting.start()\ntime.sleep(0.002)\nfrees()\nwaiting.join()\nprint(found)"
    )
    for _ in range(5):
        release.clear()
        assert jailed.execute(code) == "[True]"


def test_a_cell_ends_as_ever_after_its_calls(jailed: DaytonaInterpreter) -> None:
    for n in range(20):
        assert jailed.execute(LOOP + f"{n}") == str(n)
        assert jailed.execute("1") == "1"


def test_a_process_that_ends_in_the_middle_is_lost(jailed: DaytonaInterpreter) -> None:
    with pytest.raises(CodeInterpreterError, match="exit status 3"):
        jailed.execute("import os\n" + LOOP + "os._exit(3)")


def test_it_can_be_killed_and_interrupted_in_the_middle(jailed: DaytonaInterpreter) -> None:
    endless = "while True:\n    echo(1)"
    jailed.execute(LOOP)
    threading.Timer(0.3, jailed.interrupt).start()
    with pytest.raises(CodeInterpreterError, match="interrupted"):
        jailed.execute(endless)
    assert jailed.execute("print(echo(2))") == "2"
    threading.Timer(0.3, jailed.kill).start()
    with pytest.raises(CodeInterpreterError):
        jailed.execute(endless)
