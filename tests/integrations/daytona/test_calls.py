"""The guest's end of the socket to its parent: whoever waits reads, for others too."""

from __future__ import annotations

import random
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from fleet_rlm.integrations.daytona.worker.calls import MAX_LIVE_CALLS, MESSAGE_HEAD, Control
from fleet_rlm.integrations.daytona.worker.frames import CH_CALL, CH_EXEC
from fleet_rlm.integrations.daytona.worker.values import from_json, to_json


class Parent:
    """The other end: keeps calls until it is told to answer them."""

    def __init__(self, sock: socket.socket, calls: socket.socket) -> None:
        self._commands = sock
        self._socket = calls

    def take(self) -> dict[str, Any]:
        length, channel = MESSAGE_HEAD.unpack(self._exactly(MESSAGE_HEAD.size))
        assert channel == CH_CALL
        return from_json(self._exactly(length))

    def is_asked(self) -> bool:
        return bool(select.select([self._socket], [], [], 0.01)[0])

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            data += self._socket.recv(size - len(data))
        return data

    def answer(self, call: dict[str, Any], value: Any = None) -> None:
        self.say(CH_CALL, to_json({"id": call["id"], "value": call["args"] if value is None else value}))

    def say(self, channel: int, payload: bytes) -> None:
        line = self._socket if channel == CH_CALL else self._commands
        line.sendall(MESSAGE_HEAD.pack(len(payload), channel) + payload)


@pytest.fixture(params=["one socket", "calls have their own"])
def ends(request: pytest.FixtureRequest) -> Iterator[tuple[Control, Parent]]:
    near, far = socket.socketpair()
    near_calls, far_calls = socket.socketpair() if request.param != "one socket" else (near, far)
    control = Control(near)
    if near_calls is not near:
        control.go_direct(near_calls)
    far.settimeout(30)
    far_calls.settimeout(30)
    yield control, Parent(far, far_calls)
    for each in (far, far_calls, near, near_calls):
        each.close()


def test_each_thread_gets_its_own_reply_in_whatever_order_they_come(ends: tuple[Control, Parent]) -> None:
    control, parent = ends
    threads, rounds, wrong = 16, 40, list[Any]()

    def work(number: int) -> None:
        for n in range(rounds):
            reply = control.call("tool", [number, n, "x" * (n * 700)], {})
            if reply["value"] != [number, n, "x" * (n * 700)]:
                wrong.append((number, n))

    workers = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(threads)]
    for worker in workers:
        worker.start()
    chance, kept, answered = random.Random(1), list[dict[str, Any]](), 0
    while answered < threads * rounds:
        if parent.is_asked():
            kept.append(parent.take())
        elif kept:
            parent.answer(kept.pop(chance.randrange(len(kept))))
            answered += 1
    for worker in workers:
        worker.join(30)
        assert not worker.is_alive()
    assert not wrong


def test_a_command_reaches_the_main_thread_past_a_thread_that_reads(ends: tuple[Control, Parent]) -> None:
    control, parent = ends
    got: list[Any] = []
    caller = threading.Thread(target=lambda: got.append(control.call("tool", ["a"], {})), daemon=True)
    caller.start()
    call = parent.take()
    time.sleep(0.05)  # it reads by now
    threading.Timer(0.05, lambda: parent.say(CH_EXEC, b"cell")).start()
    assert control.commands.get() == (CH_EXEC, b"cell")
    parent.answer(call)
    caller.join(30)
    assert got[0]["value"] == ["a"]


def test_who_leaves_lets_another_read(ends: tuple[Control, Parent]) -> None:
    control, parent = ends
    got: dict[str, Any] = {}
    callers = [
        threading.Thread(target=lambda n=n: got.setdefault(n, control.call("tool", [n], {})), daemon=True)
        for n in ("first", "second", "third")
    ]
    calls = []
    for caller in callers:
        caller.start()
        calls.append(parent.take())
        time.sleep(0.03)
    for call in calls:  # the one that reads gets its own first
        parent.answer(call)
        time.sleep(0.03)
    for caller in callers:
        caller.join(30)
    assert sorted(got) == ["first", "second", "third"]


def test_a_call_beyond_the_most_waits_for_a_place_though_nobody_else_reads(ends: tuple[Control, Parent]) -> None:
    control, parent = ends
    ahead = [control.begin("tool", [n], {}, ahead=True) for n in range(MAX_LIVE_CALLS)]
    assert all(ahead) and control.begin("tool", ["more"], {}, ahead=True) is None
    calls = [parent.take() for _ in ahead]
    got: list[Any] = []
    caller = threading.Thread(target=lambda: got.append(control.call("tool", ["last"], {})), daemon=True)
    caller.start()
    time.sleep(0.05)
    assert not got
    parent.answer(calls[0])
    parent.answer(parent.take())
    caller.join(30)
    assert got[0]["value"] == ["last"]
    answering = threading.Thread(target=lambda: [parent.answer(call) for call in calls[1:]], daemon=True)
    answering.start()
    assert [waiting.get()["value"] for waiting in ahead if waiting] == [[n] for n in range(MAX_LIVE_CALLS)]


INTERRUPTED = """
import os, random, signal, socket, sys, threading, time
from fleet_rlm.integrations.daytona.worker.calls import MESSAGE_HEAD, Control
from fleet_rlm.integrations.daytona.worker.values import from_json, to_json
near, far = socket.socketpair()
control = Control(near)
signal.signal(signal.SIGINT, lambda *_: None)
raised = 0

def parent():
    stream = far.makefile("rb")
    while True:
        head = stream.read(8)
        if len(head) < 8:
            return
        call = from_json(stream.read(MESSAGE_HEAD.unpack(head)[0]))
        if random.random() < 0.3:
            time.sleep(random.random() / 500)
        payload = to_json({"id": call["id"], "value": call["args"]})
        far.sendall(MESSAGE_HEAD.pack(len(payload), 3) + payload)

def on_interrupt(*_):
    if not control.put_off_interrupt():
        raise KeyboardInterrupt

def disturb():
    while True:
        time.sleep(random.random() / 400)
        os.kill(os.getpid(), signal.SIGINT)

threading.Thread(target=parent, daemon=True).start()
other = []
def work():
    for n in range(3000):
        assert control.call("tool", ["thread", n], {})["value"] == ["thread", n]
        other.append(n)
worker = threading.Thread(target=work, daemon=True)
worker.start()
threading.Thread(target=disturb, daemon=True).start()
done = 0
until = time.monotonic() + 60
while done < 3000 and time.monotonic() < until:
    try:
        signal.signal(signal.SIGINT, on_interrupt)
        reply = control.call("tool", ["main", done], {})
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        raised += 1
        continue
    assert reply["value"] == ["main", done], reply
    done += 1
worker.join(60)
assert done == 3000 and len(other) == 3000, (done, len(other))
print("ok", raised > 20)
os._exit(0)
"""


def test_interrupts_at_any_moment_lose_no_message_and_no_right_to_read() -> None:
    done = subprocess.run([sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, timeout=200)
    assert (done.returncode, done.stdout) == (0, "ok True\n"), done.stderr


def test_more_callers_than_places_all_get_theirs(ends: tuple[Control, Parent]) -> None:
    """Each call that ends makes room for another, also for one that found a place while it lined up."""
    control, parent = ends
    callers, rounds, done = MAX_LIVE_CALLS + 60, 6, list[int]()

    def work(number: int) -> None:
        for n in range(rounds):
            assert control.call("tool", [number, n], {})["value"] == [number, n]
        done.append(number)

    def echo() -> None:
        for _ in range(callers * rounds):
            parent.answer(parent.take())

    threading.Thread(target=echo, daemon=True).start()
    workers = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(callers)]
    for worker in workers:
        worker.start()
    until = time.monotonic() + 60
    while len(done) < callers and time.monotonic() < until:
        time.sleep(0.02)
    assert sorted(done) == list(range(callers))


LINED_UP = """
import os, signal, socket, threading, time
from fleet_rlm.integrations.daytona.worker.calls import MAX_LIVE_CALLS, MESSAGE_HEAD, Control
from fleet_rlm.integrations.daytona.worker.values import from_json, to_json
near, far = socket.socketpair()
control, stream = Control(near), far.makefile("rb")

def take():
    return from_json(stream.read(MESSAGE_HEAD.unpack(stream.read(8))[0]))

def on_interrupt(*_):
    if not control.put_off_interrupt():
        raise KeyboardInterrupt

signal.signal(signal.SIGINT, on_interrupt)
ahead = [control.begin("tool", [n], {}, ahead=True) for n in range(MAX_LIVE_CALLS)]
calls = [take() for _ in ahead]
threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    control.call("tool", ["given up"], {})
except KeyboardInterrupt:
    pass
threading.Thread(target=lambda: control.call("tool", ["next"], {}), daemon=True).start()
time.sleep(0.2)
payload = to_json({"id": calls[0]["id"], "value": 0})
far.sendall(MESSAGE_HEAD.pack(len(payload), 3) + payload)
far.settimeout(20)
print(take()["args"])
os._exit(0)
"""


def test_who_gives_up_a_place_in_line_keeps_nobody_waiting() -> None:
    done = subprocess.run([sys.executable, "-c", LINED_UP], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "['next']\n"), done.stderr
