"""Reading from jails in tests."""

import asyncio
import json
import os
import time
from pathlib import Path
from typing import Any

from fleet_rlm.sandboxd.jail.spec import Rung
from fleet_rlm.sandboxd.jail.warm import Jail

PATIENCE_S = 40.0
WARM_SCRIPT = Path(__file__).parent / "warm_probe.py"


def let_others_enter(folder: Path) -> None:
    """Without a mount namespace jails that root started walk through pytest's folders."""
    for part in (folder, *folder.parents):
        if part.stat().st_uid == os.geteuid() == 0 and not part.stat().st_mode & 0o001:
            part.chmod(part.stat().st_mode | 0o011)


def home_of(jail: Jail, rung: Rung) -> str:
    """What the processes of a jail see as their workspace."""
    return "/workspace" if rung is Rung.NAMESPACES else str(jail.spec.workspace)


async def read_some(fd: int) -> bytes:
    """The next bytes of a non-blocking fd; empty at its end."""
    loop = asyncio.get_running_loop()
    while True:
        try:
            return os.read(fd, 65536)
        except BlockingIOError:
            ready = asyncio.Event()
            loop.add_reader(fd, ready.set)
            try:
                await asyncio.wait_for(ready.wait(), PATIENCE_S)
            finally:
                loop.remove_reader(fd)
        except OSError:
            return b""  # a terminal whose other side is closed


async def read_all(fd: int) -> str:
    out = b""
    while data := await read_some(fd):
        out += data
    return out.decode()


async def read_until(fd: int, word: str) -> str:
    out = b""
    while word.encode() not in out:
        data = await read_some(fd)
        assert data, f"ended before {word!r}: {out!r}"
        out += data
    return out.decode()


async def output(jail: Jail, *argv: str, **options: Any) -> tuple[int, str]:
    """Run to the end: exit code and merged output."""
    process = await jail.run(list(argv), **options)
    try:
        text = await read_all(process.stdout)
        return await asyncio.wait_for(process.wait(), PATIENCE_S), text
    finally:
        process.close()


async def python(jail: Jail, code: str, *args: str) -> Any:
    """Run Python in the jail; the JSON value that it prints last."""
    status, text = await output(jail, "python3", "-c", code, *args)
    assert status == 0, text
    return json.loads(text.strip().splitlines()[-1])


def alive(marker: str) -> list[int]:
    """Host processes whose command line has the marker (not this one)."""
    found: list[int] = []
    for name in os.listdir("/proc"):
        try:
            with open(f"/proc/{name}/cmdline", "rb") as file:
                if name.isdigit() and int(name) != os.getpid() and marker.encode() in file.read():
                    found.append(int(name))
        except OSError:
            continue
    return found


async def gone(marker: str, within_s: float) -> bool:
    until = time.monotonic() + within_s
    while alive(marker):
        if time.monotonic() > until:
            return False
        await asyncio.sleep(0.02)
    return True


async def here(marker: str, count: int = 1) -> list[int]:
    """Wait until that many marked processes run: their pids."""
    until = time.monotonic() + PATIENCE_S
    while len(found := alive(marker)) < count:
        assert time.monotonic() < until, f"{marker} never ran"
        await asyncio.sleep(0.02)
    return found
