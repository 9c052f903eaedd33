"""One at a time under a name: threads, processes, and what a process leaves that is killed while it is at it."""

import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fleet_rlm.errors import StorageError
from fleet_rlm.runtime.execution.turnstiles import Turnstiles

COUNT = """
import sys
from pathlib import Path
from fleet_rlm.runtime.execution.turnstiles import Turnstiles
home = Path(sys.argv[1])
turnstiles = Turnstiles(home)
print("ready", flush=True)
sys.stdin.readline()
for _ in range(int(sys.argv[2])):
    with turnstiles.alone("count"):
        seen = int((home / "count").read_text())
        (home / "count").write_text(str(seen + 1))
"""
HOLD = """
import sys, time
from pathlib import Path
from fleet_rlm.runtime.execution.turnstiles import Turnstiles
with Turnstiles(Path(sys.argv[1])).alone("held"):
    print("ready", flush=True)
    time.sleep(60)
"""


def start(code: str, *args: object) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", code, *map(str, args)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    return process


def kill(process: "subprocess.Popen[str]") -> None:
    process.kill()
    process.communicate(timeout=10)


def test_no_two_are_at_it_in_threads_and_processes(tmp_path: Path) -> None:
    (tmp_path / "count").write_text("0")
    turnstiles = Turnstiles(tmp_path)
    processes = [start(COUNT, tmp_path, 200) for _ in range(2)]

    def count(_: int) -> None:
        for _ in range(200):
            with turnstiles.alone("count"):
                seen = int((tmp_path / "count").read_text())
                (tmp_path / "count").write_text(str(seen + 1))

    with ThreadPoolExecutor(2) as pool:
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        list(pool.map(count, range(2)))
    for process in processes:
        process.communicate(timeout=60)
    assert [process.returncode for process in processes] == [0, 0]
    assert (tmp_path / "count").read_text() == "800"
    assert list((tmp_path / "locks").iterdir()) == []


def test_other_names_do_not_wait_and_an_error_lets_go(tmp_path: Path) -> None:
    turnstiles = Turnstiles(tmp_path)
    with turnstiles.alone("a"), turnstiles.alone("b"), pytest.raises(ValueError), turnstiles.alone("c \ud800"):
        raise ValueError
    with turnstiles.alone("c \ud800"):
        pass


def test_a_killed_process_keeps_nobody_waiting_and_leaves_nothing(tmp_path: Path) -> None:
    holder = start(HOLD, tmp_path)
    passed = threading.Event()

    def through() -> None:
        with Turnstiles(tmp_path).alone("held"):
            passed.set()

    waiting = threading.Thread(target=through, daemon=True)
    waiting.start()
    time.sleep(0.2)
    assert not passed.is_set() and len(list((tmp_path / "locks").iterdir())) == 1, "opening takes nothing from a holder"
    kill(holder)
    assert passed.wait(10)
    waiting.join(10)
    holder = start(HOLD, tmp_path)
    kill(holder)
    assert len(list((tmp_path / "locks").iterdir())) == 1
    Turnstiles(tmp_path)
    assert list((tmp_path / "locks").iterdir()) == []


def test_a_folder_that_cannot_hold_it_is_one_clear_line(tmp_path: Path) -> None:
    turnstiles = Turnstiles(tmp_path)
    (tmp_path / "locks").rmdir()
    with pytest.raises(StorageError, match="cannot hold a lock: No such file"), turnstiles.alone("a"):
        pass
    (tmp_path / "locks").write_text("")
    with pytest.raises(StorageError, match="cannot hold a lock"):
        Turnstiles(tmp_path)
