"""Dropped connections: the cell goes on, nothing is lost or doubled; a terminal that is gone is a lost sandbox."""

from __future__ import annotations

import hashlib
import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from dspy.primitives.code_interpreter import CodeExecutionError, CodeInterpreterError

from fleet_rlm.errors import SandboxUnavailable
from fleet_rlm.integrations.daytona.interpreter import DaytonaInterpreter
from integrations.daytona.local_pty import LocalPty, LocalPtySource

Make = Callable[..., DaytonaInterpreter]


def drop(source: LocalPtySource, *, lose_output: bool) -> None:
    """Cut the newest terminal's connection, from any thread."""
    terminal = source.terminals[-1]
    done = threading.Event()

    def cut() -> None:
        terminal.lose_output = lose_output
        terminal.drop()
        done.set()

    source.loop.call_soon_threadsafe(cut)
    assert done.wait(10)


@pytest.mark.parametrize("lose_output", [False, True])
def test_calls_are_made_exactly_once(make: Make, pty_source: LocalPtySource, lose_output: bool) -> None:
    it, calls = make(), list[int]()

    def tool(n: int) -> int:
        calls.append(n)
        if n % 10 == 5:
            drop(pty_source, lose_output=lose_output)
        return n * 2

    it.tools["tool"] = tool
    assert it.execute("print(sum(tool(n) for n in range(60)))") == str(sum(2 * n for n in range(60)))
    assert calls == list(range(60))


@pytest.mark.parametrize("lose_output", [False, True])
def test_output_is_whole(make: Make, pty_source: LocalPtySource, lose_output: bool) -> None:
    it = make()
    it.tools["cut"] = lambda: drop(pty_source, lose_output=lose_output)
    code = "for n in range(40):\n    print(n, 'x' * 20_000)\n    if n in (3, 17, 30): cut()"
    text = str(it.execute(code))
    assert [int(line.split()[0]) for line in text.splitlines()] == list(range(40))
    assert all(len(line.split()[1]) == 20_000 for line in text.splitlines())


@pytest.mark.parametrize("lose_output", [False, True])
def test_a_big_variable_arrives_whole(make: Make, pty_source: LocalPtySource, lose_output: bool) -> None:
    it = make()
    it.start()
    errors: list[BaseException] = []

    def disturb() -> None:
        try:
            for _ in range(5):
                time.sleep(0.02)
                drop(pty_source, lose_output=lose_output)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=disturb)
    thread.start()
    big = "".join(f"{n:07d}" for n in range(500_000))
    code = "import hashlib\nprint(hashlib.sha256(big.encode()).hexdigest())"
    assert it.execute(code, variables={"big": big}) == hashlib.sha256(big.encode()).hexdigest()
    thread.join(20)
    assert not errors


def test_a_terminal_that_is_gone_is_a_lost_sandbox(make: Make, pty_source: LocalPtySource) -> None:
    it = make()
    it.start()
    terminal: LocalPty = pty_source.terminals[-1]
    it.tools["cut"] = lambda: os.killpg(terminal.process.pid, signal.SIGKILL)
    with pytest.raises(CodeInterpreterError) as caught:
        it.execute("cut()\nimport time\ntime.sleep(60)")
    assert not isinstance(caught.value, CodeExecutionError)
    with pytest.raises(CodeInterpreterError):
        it.execute("1")


def test_a_shell_without_python_is_told_apart(pty_source: LocalPtySource, monkeypatch: Any) -> None:
    it = DaytonaInterpreter(runtime=pty_source)
    monkeypatch.setenv("PATH", "/nonexistent")  # the shell of this terminal finds no python3
    with pytest.raises(SandboxUnavailable, match="terminal"):
        it.start()
    it.shutdown()
