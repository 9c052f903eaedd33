"""Sandboxes do not see, signal or read each other, and the warm process they come from holds no secret."""

import asyncio
import json
import os
import re
import secrets
import subprocess
import sys
from pathlib import Path

import pytest
from jail_support import PATIENCE_S, here, let_others_enter, output, python, read_until

from fleet_rlm.sandboxd.jail.spec import Rung

SIGNALS = """
import json, os, sys
reached = []
for pid in json.loads(sys.argv[1]):
    try:
        os.kill(pid, 0)
        reached.append(pid)
    except OSError:
        pass
print(json.dumps([pid for pid in reached if pid != os.getpid()]))
"""
READS = """
import json, os, sys
def can(path):
    try:
        os.close(os.open(path, os.O_RDONLY)); return True
    except OSError:
        return False
print(json.dumps([p for p in sys.argv[1:] if can(p)]))
"""
# A server with a secret in its environment and memory, and a jail: prints its warm process's pid, then waits.
HOLDER = """
import asyncio, os, sys
from pathlib import Path
from fleet_rlm.sandboxd.jail.spec import JailSpec, Rung
from fleet_rlm.sandboxd.jail.warm import WarmServer
async def main():
    folder, secret = Path(sys.argv[1]), os.environ["FLEET_TEST_SECRET"]
    server = WarmServer(data_dir=folder / "data", preload=(), rung=Rung(sys.argv[2]))
    await server.start()
    jail = await server.spawn(JailSpec("a", folder / "ws"))
    print(server.pid, jail.pid, flush=True)
    await asyncio.sleep(900)
    print(secret)
asyncio.run(main())
"""


async def test_jails_are_apart(spawn, rung: Rung) -> None:
    one, two = await spawn(name="one"), await spawn(name="two")
    if os.geteuid() == 0:
        assert one.uid != two.uid
    marker = secrets.token_hex(8)
    sleeper = await two.run(["python3", "-c", "import time; print('up', flush=True); time.sleep(600)", marker])
    await read_until(sleeper.stdout, "up")
    await output(two, "sh", "-c", "echo secret > f; echo secret > $TMPDIR/f")
    (pid,) = await here(marker)
    # Pids mean something else in a namespace: the one of the other jail is none of its own there, or hidden.
    targets = [pid, two.pid] if rung is Rung.LANDLOCK else list(range(2, 4000))
    assert await python(one, SIGNALS, json.dumps(targets)) == []
    hidden = [f"{two.spec.workspace}/f", f"{two.spec.workspace}.tmp/f", f"/proc/{pid}/environ", f"/proc/{pid}/cmdline"]
    assert await python(one, READS, *hidden, "/tmp/f", "/dev/shm/f") == []
    _, text = await output(one, "sh", "-c", "ls /proc | grep -c '^[0-9]'")
    assert int(text.split()[-1]) < 8  # only its own processes, or none
    sleeper.kill_group(9)
    assert await asyncio.wait_for(sleeper.wait(), PATIENCE_S) == 137
    sleeper.close()


def memory_of(pid: int) -> bytes:
    found: list[bytes] = []
    with open(f"/proc/{pid}/maps", encoding="utf-8") as maps, open(f"/proc/{pid}/mem", "rb", 0) as memory:
        for line in maps:
            low, high = (int(part, 16) for part in re.match(r"(\w+)-(\w+)", line).groups())
            if line.split()[1].startswith("r") and "[v" not in line:
                try:
                    memory.seek(low)
                    found.append(memory.read(high - low))
                except (OSError, ValueError):
                    continue
    return b"".join(found)


def test_no_secret_in_the_warm_process(rung: Rung, tmp_path: Path) -> None:
    let_others_enter(tmp_path)
    secret = f"canary-{secrets.token_hex(16)}"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path), rung],
        env={**os.environ, "FLEET_TEST_SECRET": secret},
        stdout=subprocess.PIPE,
    )
    try:
        assert holder.stdout is not None
        warm, first = map(int, holder.stdout.readline().split())
        assert secret.encode() in memory_of(holder.pid)  # the control: this way of looking finds it
        assert secret.encode() not in memory_of(warm)
        assert secret.encode() not in Path(f"/proc/{warm}/environ").read_bytes()
        if os.geteuid() == 0:  # the first process is unreadable to its own user, code in the jail included
            assert secret.encode() not in memory_of(first)
        else:
            with pytest.raises(PermissionError):
                memory_of(first)
    finally:
        holder.kill()
        holder.wait()
        if holder.stdout is not None:
            holder.stdout.close()
