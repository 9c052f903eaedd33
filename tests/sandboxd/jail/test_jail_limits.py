"""Every limit of a jail holds."""

import asyncio

import pytest
from jail_support import PATIENCE_S, output, python

from fleet_rlm.sandboxd.jail.spec import Limits


@pytest.mark.hard_process_limit
async def test_processes(spawn) -> None:
    jail = await spawn(limits=Limits(processes=20))
    code = """
import json, os, time
n = 0
try:
    while n < 200:
        if os.fork() == 0:
            time.sleep(60)
            os._exit(0)
        n += 1
except BlockingIOError:
    pass
print(json.dumps(n))
os.kill(-1, 9)
"""
    count = await python(jail, code)
    assert 10 < count < 20


@pytest.mark.hard_process_limit
async def test_threads_count_as_processes(spawn) -> None:
    jail = await spawn(limits=Limits(processes=20))
    code = """
import json, threading
done, started = threading.Event(), []
try:
    for _ in range(200):
        t = threading.Thread(target=done.wait); t.start(); started.append(t)
except RuntimeError:
    pass
done.set(); print(json.dumps(len(started)))
"""
    assert 10 < await python(jail, code) < 20


async def test_memory_of_one_process(spawn) -> None:
    jail = await spawn(limits=Limits(memory_mb=128))
    code = "import json\ntry: x = bytearray(400 << 20); print(json.dumps('got it'))\nexcept MemoryError: print(json.dumps('refused'))"
    assert await python(jail, code) == "refused"


async def test_memory_of_the_tree(spawn) -> None:
    """Each process stays below its own limit; together they are over it, and the watchdog ends that."""
    jail = await spawn(limits=Limits(memory_mb=128))
    holder = "import time; x = bytearray(b'x') * (60 << 20); print('held', flush=True); time.sleep(120)"
    processes = [await jail.run(["python3", "-c", holder]) for _ in range(5)]
    codes = [asyncio.create_task(process.wait()) for process in processes]
    done, _ = await asyncio.wait(codes, timeout=PATIENCE_S, return_when=asyncio.FIRST_COMPLETED)
    assert {task.result() for task in done} == {137}
    async with asyncio.timeout(PATIENCE_S):
        while jail.over_memory == 0:
            await asyncio.sleep(0.05)
    assert await output(jail, "echo", "alive") == (0, "alive\n")
    for process in processes:
        process.close()
    for task in codes:
        task.cancel()


async def test_warm_pages_do_not_count_against_the_tree(spawn) -> None:
    """Forks share the warm process's pages: many idle ones must not look like many times that memory."""
    jail = await spawn(limits=Limits(memory_mb=128))
    ptys = [await jail.pty(["sleep", "600"]) for _ in range(12)]
    await asyncio.sleep(1.2)
    assert jail.over_memory == 0
    for pty in ptys:
        pty.close()


async def test_file_size(spawn) -> None:
    jail = await spawn(limits=Limits(file_size_mb=2))
    status, _ = await output(jail, "sh", "-c", "head -c 4000000 /dev/zero > big; stat -c %s big")
    _, text = await output(jail, "stat", "-c", "%s", "big")
    assert int(text) == 2 << 20


async def test_open_files(spawn) -> None:
    jail = await spawn(limits=Limits(open_files=40))
    code = (
        "import json,os\nn=0\ntry:\n  while n<500: os.dup(0); n+=1\nexcept OSError as e: print(json.dumps([n,e.errno]))"
    )
    count, error = await python(jail, code)
    assert 30 <= count < 40 and error == 24


@pytest.mark.namespaces
async def test_tmp_and_shared_memory_size(spawn) -> None:
    jail = await spawn(limits=Limits(tmp_mb=2))
    for place in ("/tmp", "/dev/shm"):
        status, text = await output(jail, "sh", "-c", f"head -c 5000000 /dev/zero > {place}/big")
        assert "No space left" in text
        assert (await jail.file_op("stat", path=f"{place}/big"))["size"] <= 2 << 20


async def test_cpu_seconds(spawn) -> None:
    jail = await spawn(limits=Limits(cpu_s=1))
    status, _ = await asyncio.wait_for(output(jail, "python3", "-c", "while True: pass"), PATIENCE_S)
    assert status in (128 + 24, 137)
    assert await output(jail, "echo", "alive") == (0, "alive\n")


async def test_limits_cannot_be_raised(spawn) -> None:
    jail = await spawn(limits=Limits(processes=20))
    status, text = await output(jail, "sh", "-c", "ulimit -u 100")
    assert status != 0 and "ulimit" in text
