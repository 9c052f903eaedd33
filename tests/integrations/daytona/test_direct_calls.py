"""Tool calls on a socket of their own, from the process that runs model-written code straight to the host."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

import pytest
from dspy.primitives.code_interpreter import CodeInterpreterError

from fleet_rlm.integrations.daytona.channel import Channel, ChannelOptions
from fleet_rlm.integrations.daytona.interpreter import DaytonaInterpreter
from fleet_rlm.integrations.daytona.runtime import SandboxRuntime
from fleet_rlm.integrations.daytona.worker.calls import MESSAGE_HEAD
from fleet_rlm.integrations.daytona.worker.frames import (
    CH_CALL,
    CH_EXEC,
    HELLO,
    IN_WINDOW_BYTES,
    KEY,
    OUT_WINDOW_BYTES,
    Link,
)

Make = Callable[..., DaytonaInterpreter]


@pytest.fixture
def jailed(runtime: SandboxRuntime, make: Make) -> DaytonaInterpreter:
    made = make(runtime=runtime)
    made.tools["echo"] = lambda value: value
    assert made.execute("import os, socket, stat\nprint(stat.S_ISSOCK(os.fstat(3).st_mode))") == "True"
    return made


def test_large_values_go_both_ways_at_once(jailed: DaytonaInterpreter) -> None:
    code = (
        "import threading\n"
        "sent = [chr(97 + n) * 3_000_000 for n in range(6)]\n"
        "got = [None] * 6\n"
        "def ask(n):\n    got[n] = echo(sent[n])\n"
        "threads = [threading.Thread(target=ask, args=(n,)) for n in range(6)]\n"
        "[t.start() for t in threads]\n[t.join() for t in threads]\n"
        "print(got == sent)"
    )
    assert jailed.execute(code) == "True"


@pytest.mark.parametrize(
    "garbage",
    [
        "b'\\xff' * 64",  # longer than anything may be
        "(2).to_bytes(4, 'big') + (0).to_bytes(4, 'big') + b'{}'",  # a result, which only the parent may tell
    ],
)
def test_what_is_no_call_ends_the_session(jailed: DaytonaInterpreter, garbage: str) -> None:
    with pytest.raises(CodeInterpreterError, match="broke the control protocol"):
        jailed.execute(f"os.write(3, {garbage})\nimport time\ntime.sleep(60)")


def test_who_closes_the_socket_loses_the_session_and_holds_up_nobody(jailed: DaytonaInterpreter) -> None:
    with pytest.raises(CodeInterpreterError):
        jailed.execute("os.close(3)\necho(1)")
        jailed.execute("1")


def test_a_program_that_a_cell_starts_does_not_inherit_it(jailed: DaytonaInterpreter) -> None:
    told = jailed.execute(
        "import subprocess\nprint(subprocess.run(['ls', '/proc/self/fd'], capture_output=True, text=True).stdout)"
    )
    names = str(told).split()
    assert {"0", "1", "2"} <= set(names)
    told = jailed.execute(
        "print(subprocess.run(['sh', '-c', 'test -S /proc/self/fd/3 && echo held || echo free'],"
        " capture_output=True, text=True, close_fds=False).stdout)"
    )
    assert str(told).strip() == "free"


class FarEnd:
    """A worker as the channel sees it, in memory: a transport, and the way of its calls."""

    any_thread = True
    reopens = False

    def __init__(self) -> None:
        self._link = Link(OUT_WINDOW_BYTES, IN_WINDOW_BYTES)
        self._arrived: list[bytes] = []
        self.calls = self

    async def open(self, receive: Callable[[bytes], None], closed: Callable[[str], None]) -> None:
        self._receive = receive
        self._link.control(HELLO, b"{}")
        receive(self._link.pump())

    async def reopen(self) -> None: ...

    async def close(self) -> None: ...

    def write(self, data: bytes) -> None:
        for frame in self._link.receive(data):
            if frame.type == KEY:
                self._link.use_key(bytes.fromhex(json.loads(frame.payload)["key"]))

    def listen(self, receive: Callable[[bytes], None]) -> None:
        self._receive_calls = receive

    def take(self) -> None:
        while self._arrived:
            self._receive_calls(self._arrived.pop(0))

    def calls_and_ends(self, call: bytes, result: bytes) -> None:
        """Both were sent, in this order; the loop finds the result first."""
        self._arrived.append(MESSAGE_HEAD.pack(len(call), CH_CALL) + call)
        self._link.send(CH_EXEC, result)
        self._receive(self._link.pump())


def test_what_a_cell_called_is_heard_before_its_end() -> None:
    """Else a call that was made in time would be refused: no cell is running."""
    heard: list[tuple[int, bytes]] = []

    async def run() -> None:
        far = FarEnd()
        channel = Channel(
            far, ChannelOptions(), on_message=lambda *message: heard.append(message), on_lost=lambda _: None
        )
        await channel.open()
        far.calls_and_ends(b"a call", b"the end")
        await channel.close()

    asyncio.run(run())
    assert heard == [(CH_CALL, b"a call"), (CH_EXEC, b"the end")]
