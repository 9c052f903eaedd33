"""The socket by which cells and tool calls pass the worker's own process by."""

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
    CH_LATER,
    CH_LOST,
    CH_STDOUT,
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
        "(2).to_bytes(4, 'big') + (6).to_bytes(4, 'big') + b'{}'",  # a loss, which only the parent may tell
        "((2).to_bytes(4, 'big') + (8).to_bytes(4, 'big') + b'{}') * 2",  # two results of one cell
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
    """A worker as the channel sees it, in memory: a transport, and the direct way to the process in it."""

    any_thread = True
    reopens = False

    def __init__(self) -> None:
        self._link = Link(OUT_WINDOW_BYTES, IN_WINDOW_BYTES)
        self._arrived: list[bytes] = []
        self.direct = self

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
        self._receive_directly = receive

    def await_room(self, most: int) -> None: ...

    def read(self, patience_s: float) -> bytes:
        return self._arrived.pop(0) if self._arrived else b""

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    def take(self) -> None:
        while self._arrived:
            self._receive_directly(self._arrived.pop(0))

    def parent(self, channel: int, payload: bytes) -> None:
        """A frame of the worker's own process, which the loop finds at once."""
        self._link.send(channel, payload)
        self._receive(self._link.pump())

    def child(self, channel: int, payload: bytes) -> None:
        """A message of the process that runs the code, which the loop finds at the next `take`."""
        self._arrived.append(MESSAGE_HEAD.pack(len(payload), channel) + payload)


Heard = list[tuple[int, bytes]]


def heard_of(speak: Callable[[FarEnd, Channel], None], after: Callable[[Channel], None] = lambda _: None) -> Heard:
    """What is heard of a worker that speaks; `after` the channel was closed, too."""
    heard: Heard = []

    async def run() -> None:
        far = FarEnd()
        channel = Channel(
            far, ChannelOptions(), on_message=lambda *message: heard.append(message), on_lost=lambda _: None
        )
        await channel.open()
        speak(far, channel)
        far.take()
        await channel.close()
        after(channel)

    asyncio.run(run())
    return heard


def test_what_a_thread_that_reads_calls_leaves_is_heard_before_the_loss() -> None:
    def speak(far: FarEnd, channel: Channel) -> None:
        way = channel.lend()
        assert way is not None and channel.lend() is None
        far.child(CH_CALL, b"a call")
        far.child(CH_EXEC, b"result")
        assert way.next_call(1.0) == b"a call"
        far.parent(CH_LOST, b"{}")
        assert way.next_call(0.0) is None, "no call"
        channel.go_on()

    assert heard_of(speak) == [(CH_EXEC, b"result"), (CH_LOST, b"{}")]


def test_nothing_is_heard_of_a_channel_that_was_closed_while_a_thread_read() -> None:
    def speak(far: FarEnd, channel: Channel) -> None:
        assert channel.lend()
        far.parent(CH_LOST, b"{}")

    assert not heard_of(speak, after=Channel.go_on)


@pytest.mark.parametrize("first", ["parent", "child"])
def test_a_result_comes_after_all_that_its_cell_printed(first: str) -> None:
    def speak(far: FarEnd, _: Channel) -> None:
        if first == "child":
            far.child(CH_LATER, b"result")
            far.take()
        far.parent(CH_STDOUT, b"printed")
        far.parent(CH_EXEC, b"1")
        if first == "parent":
            far.child(CH_LATER, b"result")

    assert heard_of(speak) == [(CH_STDOUT, b"printed"), (CH_EXEC, b"result")]


def test_a_result_of_a_cell_that_printed_nothing_waits_for_nobody() -> None:
    assert heard_of(lambda far, _: far.child(CH_EXEC, b"result")) == [(CH_EXEC, b"result")]


def test_what_a_process_said_before_its_end_is_heard_before_the_loss() -> None:
    def speak(far: FarEnd, _: Channel) -> None:
        far.child(CH_CALL, b"a call")
        far.child(CH_EXEC, b"result")
        far.parent(CH_LOST, b"{}")

    assert heard_of(speak) == [(CH_CALL, b"a call"), (CH_EXEC, b"result"), (CH_LOST, b"{}")]


def test_output_never_comes_after_its_cell(jailed: DaytonaInterpreter) -> None:
    """Whoever printed it: the code itself, past Python, or a program that it started."""
    ways = [
        "print('{0}')",
        "os.write(1, b'{0}\\n')",
        "subprocess.run(['echo', '{0}'])",
        "os.write(2, b'{0}\\n')",
        "x = '{0}'",
    ]
    jailed.execute("import subprocess")
    for n in range(100):
        way = ways[n % len(ways)]
        jailed.execute(way.format(f"cell {n}"))
        cell = jailed.last_cell
        assert cell is not None
        told = (cell.stdout + cell.stderr).strip()
        assert told == ("" if way.startswith("x") else f"cell {n}")


@pytest.mark.parametrize("channel", [CH_CALL, CH_EXEC])
def test_a_message_too_deep_to_be_read_ends_the_session(jailed: DaytonaInterpreter, channel: int) -> None:
    body = "b'[' * 200_000 + b']' * 200_000"
    with pytest.raises(CodeInterpreterError, match="cannot be read"):
        jailed.execute(
            f"deep = {body}\nos.write(3, len(deep).to_bytes(4, 'big') + ({channel}).to_bytes(4, 'big') + deep)\n"
            "import time\ntime.sleep(60)"
        )
