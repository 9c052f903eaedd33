"""The channel by session commands: chosen where no WebSocket passes, whole over lost requests and full logs."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from dspy.primitives.code_interpreter import CodeExecutionError, CodeInterpreterError

from fleet_rlm.integrations.daytona.interpreter import DaytonaInterpreter
from fleet_rlm.integrations.daytona.runtime import SandboxRuntime
from fleet_rlm.integrations.daytona.source import SandboxSpec, VolumeMountSpec
from integrations.daytona.flaky_api import FlakyApi

Make = Callable[..., DaytonaInterpreter]


@pytest.fixture
def proxy(runtime: SandboxRuntime) -> Iterator[FlakyApi]:
    api = FlakyApi(runtime.settings, toolbox=True)
    runtime.call(api.start())
    yield api
    runtime.call(api.stop())


@pytest.fixture
def behind(proxy: FlakyApi) -> Iterator[SandboxRuntime]:
    found = SandboxRuntime(proxy.settings)
    yield found
    found.close()


def upgrades(proxy: FlakyApi) -> int:
    return sum(path.endswith("/process/pty/create-connect") for _, path in proxy.seen)


def test_it_is_chosen_where_no_socket_passes_and_remembered(
    behind: SandboxRuntime, proxy: FlakyApi, make: Make
) -> None:
    it = make(runtime=behind)
    it.tools["double"] = lambda n: 2 * n
    assert it.execute("print(double(21))") == "42"
    tried = upgrades(proxy)
    assert tried == 2
    assert make(runtime=behind).execute("print(1)") == "1"
    assert upgrades(proxy) == tried


def test_a_terminal_alone_fails_there(proxy: FlakyApi) -> None:
    only = SandboxRuntime(replace(proxy.settings, transport="terminal"))
    try:
        it = DaytonaInterpreter(runtime=only)
        with pytest.raises(Exception, match="terminal cannot be opened"):
            it.start()
    finally:
        only.close()


@pytest.mark.parametrize("fault", ["drop", "lost"])
def test_lost_requests_lose_and_double_nothing(behind: SandboxRuntime, proxy: FlakyApi, make: Make, fault: str) -> None:
    it, calls = make(runtime=behind), list[int]()
    it.tools["tool"] = lambda n: calls.append(n) or n
    it.execute("1")
    number = itertools.count(1)
    proxy.fault = lambda method, path: fault if path.endswith(("/input", "/logs")) and not next(number) % 9 else None
    lines = str(it.execute("for n in range(30):\n    print(tool(n), 'x' * 5000)")).splitlines()
    proxy.fault = lambda method, path: None
    assert [int(line.split()[0]) for line in lines] == list(range(30)) == calls
    assert all(len(line.split()[1]) == 5000 for line in lines)
    assert next(number) > 20


def test_more_output_than_a_log_holds(session_runtime: SandboxRuntime, make: Make) -> None:
    it = make(runtime=session_runtime)
    text = str(it.execute("for n in range(300):\n    print(n, 'y' * 20_000)"))
    assert [int(line.split()[0]) for line in text.splitlines()] == list(range(300))
    assert it.execute("print(2)") == "2"


def test_old_relays_are_cleared_away(session_runtime: SandboxRuntime, make: Make) -> None:
    labels = {"test": "relays"}
    it = make(runtime=session_runtime, labels=labels)
    it.execute("print('z' * 4_000_000)")
    box = session_runtime.call(session_runtime.find(labels))[0]
    deadline = time.monotonic() + 20
    while len(session_runtime.call(box.process.list_sessions())) > 1:
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_a_deleted_sandbox_is_a_lost_session(session_runtime: SandboxRuntime, make: Make) -> None:
    labels = {"test": "lost by session"}
    it = make(runtime=session_runtime, labels=labels)
    it.tools["cut"] = lambda: session_runtime.delete_labelled(labels)
    with pytest.raises(CodeInterpreterError) as caught:
        it.execute("cut()\nimport time\ntime.sleep(60)")
    assert not isinstance(caught.value, CodeExecutionError)


def test_what_passes_the_relay_is_out_of_reach(session_runtime: SandboxRuntime, make: Make) -> None:
    """The worker's key went through the relay and the keeper: neither may be read by the code of the sandbox."""
    code = """
import os
refused = []
for pid in filter(str.isdigit, os.listdir('/proc')):
    try:
        line = open(f'/proc/{pid}/cmdline').read()
        if 'base64' in line and 'b64decode' in line:
            open(f'/proc/{pid}/mem', 'rb').read(1)
    except PermissionError:
        refused.append(pid)
    except OSError:
        pass
print(len(refused))
"""
    assert int(str(make(runtime=session_runtime).execute(code))) >= 2


class TestStrict:
    def test_no_creation_leaks(self, strict_runtime: SandboxRuntime) -> None:
        labels = {"test": "strict leaks"}
        handles = [strict_runtime.create(SandboxSpec(labels=labels)) for _ in range(25)]
        for handle in handles:
            strict_runtime.delete(handle)
        deadline = time.monotonic() + 60
        while strict_runtime.list(labels):
            assert time.monotonic() < deadline
            time.sleep(0.5)

    def test_long_conversations_survive_dropped_sockets(self, strict_runtime: SandboxRuntime, make: Make) -> None:
        it, calls = make(runtime=strict_runtime), list[int]()
        it.tools["tool"] = lambda n: calls.append(n) or n
        code = "import time\nfor n in range(80):\n    print(tool(n), 'x' * 60_000)\n    time.sleep(0.02)"
        text = str(it.execute(code))
        assert [int(line.split()[0]) for line in text.splitlines()] == list(range(80)) == calls

    def test_a_sandbox_lost_on_purpose_is_told_and_replaced(self, strict_runtime: SandboxRuntime, make: Make) -> None:
        it = make(runtime=strict_runtime, labels={"sandboxd.lose-after-ms": "1500"}, restarts=1)
        ran: list[int] = []
        it.tools["ran"] = lambda: ran.append(1)
        it.execute("x = 1")
        with pytest.raises(CodeExecutionError, match="variables are gone: x"):
            it.execute("ran()\nimport time; time.sleep(60)")
        assert ran == [1]

    def test_volumes_take_whole_objects_without_renames(self, strict_runtime: SandboxRuntime) -> None:
        from daytona import DaytonaError

        handle = strict_runtime.create(SandboxSpec(mounts=(VolumeMountSpec("strict", "/v"),)))
        box: Any = strict_runtime.sandbox(handle)
        for _ in range(3):
            try:
                strict_runtime.call(box.fs.upload_file(b"1", "/v/a"))
            except DaytonaError:
                continue
        with pytest.raises(DaytonaError, match="rename"):
            strict_runtime.call(box.fs.move_files("/v/a", "/v/b"))
        strict_runtime.delete(handle)
