"""The jail's first process has the hostile code's own user, and that code cannot hurt it."""

import asyncio
import os
import signal
import subprocess

import pytest
from jail_support import PATIENCE_S, output, python

from fleet_rlm.sandboxd.jail.spec import Rung
from fleet_rlm.sandboxd.jail.warm import Jail


async def test_no_signal_ends_the_first_process(jail: Jail) -> None:
    code = (
        "import os,signal,json\n"
        "for n in signal.valid_signals():\n"
        "    for _ in range(20):\n"
        "        try: os.kill(os.getppid(), n)\n"
        "        except PermissionError: pass\n"
        "print(json.dumps(os.getpid()))"
    )
    assert await python(jail, code) > 1
    assert await output(jail, "echo", "alive") == (0, "alive\n")
    assert not jail.closed.is_set()


async def test_kill_everything_spares_the_first_process(jail: Jail, rung: Rung) -> None:
    # kill(-1) reaches every process of the namespace but its first and the caller; without one, only what the
    # caller itself has started: nothing of the host, nothing of other requests.
    sleeper = await jail.run(["sleep", "600"])
    code = "import os,time\nchild=os.fork()\nif child == 0: time.sleep(600)\nos.kill(-1, 9)\nprint(os.waitpid(child, 0)[1])"
    outsider = subprocess.Popen(["sleep", "600"], preexec_fn=None if jail.uid is None else lambda: os.setuid(jail.uid))
    try:
        assert await output(jail, "python3", "-c", code) == (0, "9\n")
        assert outsider.poll() is None
    finally:
        outsider.kill()
        outsider.wait()
    if rung is Rung.LANDLOCK:
        sleeper.kill_group(signal.SIGKILL)
    assert await asyncio.wait_for(sleeper.wait(), PATIENCE_S) == 137
    sleeper.close()
    assert await output(jail, "echo", "alive") == (0, "alive\n")


async def test_fork_bomb_does_not_silence_the_first_process(jail: Jail) -> None:
    bomb = await jail.run(["python3", "-c", "import os\nwhile True:\n  try: os.fork()\n  except OSError: pass"])
    await asyncio.sleep(0.5)
    assert "kind" in await asyncio.wait_for(jail.file_op("stat", path="/workspace"), PATIENCE_S)
    await asyncio.wait_for(jail.kill(), PATIENCE_S)
    assert await bomb.wait() == 137
    bomb.close()


@pytest.mark.namespaces
async def test_stopped_child_does_not_hold_up_the_first_process(jail: Jail) -> None:
    """Hostile code may stop a process between its fork and its exec: other requests must go on."""
    stopper = await jail.run(
        [
            "python3",
            "-c",
            "import os\nfrom itertools import count\n"
            "me=os.getpid()\nprint('go', flush=True)\n"
            "while True:\n"
            "  for n in os.listdir('/proc'):\n"
            "    if n.isdigit() and int(n) not in (1, me):\n"
            "      try: os.kill(int(n), 19)\n"
            "      except OSError: pass\n",
        ]
    )
    attempts = [asyncio.create_task(output(jail, "echo", "x")) for _ in range(4)]
    await asyncio.wait_for(jail.file_op("stat", path="/workspace"), PATIENCE_S)
    stopper.kill_group(signal.SIGKILL)
    assert await asyncio.wait_for(stopper.wait(), PATIENCE_S) == 137
    stopper.close()
    await asyncio.wait_for(jail.kill(), PATIENCE_S)
    await asyncio.gather(*attempts, return_exceptions=True)


@pytest.mark.namespaces
async def test_signal_storm_is_harmless(jail: Jail) -> None:
    storm = await jail.run(
        ["python3", "-c", "import os\nwhile True:\n  os.kill(os.getppid(), 17); os.kill(os.getppid(), 10)"]
    )
    for _ in range(5):
        assert (await asyncio.wait_for(jail.file_op("stat", path="."), PATIENCE_S))["kind"] == "dir"
    storm.kill_group(signal.SIGKILL)
    assert await asyncio.wait_for(storm.wait(), PATIENCE_S) == 137
    storm.close()
