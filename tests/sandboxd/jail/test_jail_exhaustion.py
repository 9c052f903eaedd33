"""Hostile code takes all that it can get of what the kernel counts: the jail and its neighbours go on."""

import asyncio
import os
import signal

import pytest
from jail_support import PATIENCE_S, output, python, read_all, read_until

from fleet_rlm.sandboxd.jail.inside.watchdog import Watchdog
from fleet_rlm.sandboxd.jail.spec import Limits, Rung
from fleet_rlm.sandboxd.jail.warm import Jail

HOG_FILES = """
import os, time
for _ in range(20):
    if os.fork() == 0:
        break
held = []
try:
    while True:
        held.append(os.pipe())
except OSError:
    pass
print("held", flush=True)
time.sleep(600)
"""


async def test_open_files_of_many_processes(spawn) -> None:
    one, two = await spawn(name="one"), await spawn(name="two")
    hog = await one.run(["python3", "-c", HOG_FILES])
    await read_until(hog.stdout, "held")
    assert (await asyncio.wait_for(one.file_op("stat", path="."), PATIENCE_S))["kind"] == "dir"
    assert await output(two, "echo", "alive") == (0, "alive\n")
    hog.kill_group(9)
    hog.close()
    assert await output(one, "echo", "alive") == (0, "alive\n")


@pytest.mark.namespaces
async def test_entries_of_the_temporary_folder(jail: Jail) -> None:
    code = (
        "import json,os\nn=0\nos.mkdir('/tmp/d')\n"
        "try:\n  while n < 100000: os.mknod(f'/tmp/d/{n}'); n+=1\nexcept OSError as e: print(json.dumps([n,e.errno]))"
    )
    count, error = await python(jail, code)
    assert count < 16384 and error == 28
    assert await output(jail, "sh", "-c", "rm -rf /tmp/d; echo x > /tmp/f; cat /tmp/f") == (0, "x\n")


@pytest.mark.namespaces
async def test_watches_of_files(jail: Jail) -> None:
    """Also the user who started the server is left with some: as a user, the jail's count against theirs."""
    code = (
        "import ctypes,json\nlibc=ctypes.CDLL(None)\nn=0\n"
        "while n < 5000 and libc.inotify_init1(0) >= 0: n+=1\nprint(json.dumps(n))"
    )
    assert await python(jail, code) <= (16 if os.geteuid() else 256)
    assert await output(jail, "echo", "alive") == (0, "alive\n")


@pytest.mark.landlock
async def test_no_watches_of_files(jail: Jail) -> None:
    code = "import ctypes,json; print(json.dumps(ctypes.CDLL(None).inotify_init1(0)))"
    assert await python(jail, code) == -1


async def test_timers(jail: Jail) -> None:
    code = (
        "import ctypes,json\nlibc=ctypes.CDLL(None)\nn=0\nt=ctypes.c_void_p()\n"
        "while n < 100000 and libc.timer_create(1, None, ctypes.byref(t)) == 0: n+=1\nprint(json.dumps(n))"
    )
    assert await python(jail, code) <= 256
    assert await output(jail, "echo", "alive") == (0, "alive\n")


async def test_fork_bomb_ends(spawn) -> None:
    """By the kernel's count, or, on the second rung as a user, by the keeper's."""
    jail = await spawn(limits=Limits(processes=20))
    bomb = await jail.run(["python3", "-c", "import os\nwhile True:\n  try: os.fork()\n  except OSError: pass"])
    await asyncio.sleep(1)
    await asyncio.wait_for(jail.kill(), PATIENCE_S)
    assert await asyncio.wait_for(bomb.wait(), PATIENCE_S) == 137
    bomb.close()
    again = await spawn(name="again")
    assert await output(again, "echo", "alive") == (0, "alive\n")


@pytest.mark.landlock
async def test_too_many_processes_are_killed(spawn) -> None:
    if os.geteuid() == 0:
        return  # there the kernel refuses them, see test_processes
    jail = await spawn(limits=Limits(processes=20))
    many = await jail.run(
        ["python3", "-c", "import os,time\nfor _ in range(60):\n  if os.fork() == 0: break\ntime.sleep(600)"]
    )
    assert await asyncio.wait_for(many.wait(), PATIENCE_S) == 137
    many.close()
    assert await output(jail, "echo", "alive") == (0, "alive\n")


async def test_much_output_is_not_kept(jail: Jail) -> None:
    """Without a reader the pipe fills and the writer waits; nothing is gathered on the way."""
    process = await jail.run(["sh", "-c", "while :; do echo xxxxxxxxxxxxxxxxxxxxxxxx; done"])
    await asyncio.sleep(0.5)
    process.kill_group(9)
    assert await asyncio.wait_for(process.wait(), PATIENCE_S) == 137
    assert len(await read_all(process.stdout)) <= 1 << 20
    process.close()


async def test_memory_group(jail: Jail, started, rung: Rung) -> None:
    """Where the kernel counts (told by the proof), the group is the jail's own, bounded, and goes with it."""
    with open(f"/proc/{jail.pid}/cgroup", encoding="ascii") as file:
        groups = file.read()
    assert ("fleet-jail-" in groups) == ("cgroup" in started[1].detail)
    assert "watchdog" in started[1].detail


HOLD_MUCH = """
import os, sys
print("up", flush=True)
sys.stdin.readline()
for _ in range(14):
    if os.fork() == 0:
        held = b"x" * (30 << 20)
        sys.stdin.close()
        os.read(3, 1)
ended = os.wait()[1]
print("ended by", ended, flush=True)
"""


async def test_the_kernel_bounds_memory_without_the_watchdog(spawn, started) -> None:
    """The watchdog is stopped from outside; together the processes want more than the group may have."""
    if "cgroup" not in started[1].detail:
        assert "watchdog" in started[1].detail, "the proof says who bounds memory where there are no groups"
        return
    jail = await spawn(limits=Limits(memory_mb=64, tmp_mb=16))
    reading, writing = os.pipe()
    process = await jail.run(["python3", "-c", HOLD_MUCH], stdin=True, extra=[reading])
    os.close(reading)
    await read_until(process.stdout, "up")
    os.kill(jail.pid, signal.SIGSTOP)
    try:
        os.write(process.stdin, b"go\n")
        await read_until(process.stdout, "ended by 9")
    finally:
        os.kill(jail.pid, signal.SIGCONT)
        os.close(writing)
        process.close()


def test_the_watchdog_looks_sooner_near_the_limit_and_under_growth() -> None:
    own = [os.getpid()]
    calm = Watchdog(1 << 40)
    assert calm.look(own) is None
    assert calm.pause_s == 0.5
    with open("/proc/self/statm", encoding="ascii") as file:
        resident = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    near = Watchdog(resident + (96 << 20))
    assert near.look(own) is None
    assert near.pause_s <= 0.05
    near.look(own)
    assert near.pause_s <= 0.05
    growing = Watchdog(8 << 30)
    growing.look(own)
    ballast = b"x" * (300 << 20)
    assert growing.look(own) is None and growing.pause_s <= 0.05
    del ballast
