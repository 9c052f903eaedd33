"""First processes that are begun ahead: jails come out of them, no other way of making one differs, none survives."""

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from jail_support import PATIENCE_S, let_others_enter, output, python

from fleet_rlm.sandboxd.jail.spec import JailSpec, Limits, Mount, Rung
from fleet_rlm.sandboxd.jail.warm import WarmServer

SPARES = 3


@pytest.fixture
async def server(rung: Rung, tmp_path: Path) -> AsyncIterator[WarmServer]:
    let_others_enter(tmp_path)
    server = WarmServer(data_dir=tmp_path / "data", preload=(), rung=rung, spares=SPARES)
    await server.start()
    yield server
    await server.close()


def forked(server: WarmServer) -> set[int]:
    """The processes below the warm one: spares and the first, or outermost, processes of jails."""
    path = Path(f"/proc/{server.pid}/task/{server.pid}/children")
    return set(map(int, path.read_text().split()))


async def until(count: int, server: WarmServer) -> set[int]:
    end = time.monotonic() + PATIENCE_S
    while len(found := forked(server)) != count:
        assert time.monotonic() < end, found
        await asyncio.sleep(0.02)
    return found


async def ended(pids: set[int]) -> None:
    end = time.monotonic() + PATIENCE_S
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        assert time.monotonic() < end
        await asyncio.sleep(0.02)


def spec(folder: Path, name: str, **options) -> JailSpec:
    return JailSpec(f"{name}-{os.getpid()}", folder / name, **options)


async def test_jails_come_out_of_them_and_more_are_begun(server: WarmServer, tmp_path: Path) -> None:
    waiting = await until(SPARES, server)
    jails = [await server.spawn(spec(tmp_path, f"n{number}")) for number in range(SPARES + 1)]
    assert waiting <= {jail.pid for jail in jails}  # and one more, which was made when none was left
    assert [await output(jail, "echo", "here") for jail in jails] == [(0, "here\n")] * len(jails)
    await until(len(jails) + SPARES, server)
    await asyncio.gather(*(jail.kill() for jail in jails))
    await until(SPARES, server)


async def test_what_is_the_jails_own_comes_with_the_plan(server: WarmServer, tmp_path: Path, rung: Rung) -> None:
    waiting = await until(SPARES, server)
    shown = tmp_path / "data" / "shown"
    shown.mkdir()
    (shown / "note").write_text("read me")
    let_others_enter(shown)
    target = "/mnt/shown" if rung is Rung.NAMESPACES else str(shown)
    jail = await server.spawn(spec(tmp_path, "own", mounts=(Mount(shown, "/mnt/shown", read_only=True),)))
    assert jail.pid in waiting
    seen = await python(jail, f"import json, os; print(json.dumps([os.getuid(), open('{target}/note').read()]))")
    own = os.geteuid() if rung is Rung.LANDLOCK else 1000  # in its user namespace
    assert seen == [own if jail.uid is None else jail.uid, "read me"]
    with pytest.raises(OSError):
        await jail.open(f"{target}/note", os.O_WRONLY)


@pytest.mark.namespaces
async def test_an_unusual_jail_is_made_anew(server: WarmServer, tmp_path: Path) -> None:
    waiting = await until(SPARES, server)
    jail = await server.spawn(spec(tmp_path, "small", limits=Limits(tmp_mb=2)))
    assert jail.pid not in waiting
    code = "import json, os; s = os.statvfs('/tmp'); print(json.dumps(s.f_frsize * s.f_blocks))"
    assert await python(jail, code) == 2 << 20


@pytest.mark.namespaces
async def test_a_jail_out_of_a_spare_sees_no_name_of_the_host(server: WarmServer, tmp_path: Path) -> None:
    await until(SPARES, server)
    jail = await server.spawn(spec(tmp_path, "names"))
    code = "import json; print(json.dumps([open('/proc/self/cgroup').read(), open('/proc/self/mountinfo').read()]))"
    groups, mounts = await python(jail, code)
    assert all(line.endswith(":/") for line in groups.splitlines()), groups
    assert "master:" not in mounts and "shared:" not in mounts  # no mount of the host comes in later
    assert str(tmp_path / "data" / "stage") not in mounts


@pytest.mark.namespaces
@pytest.mark.as_root
async def test_what_is_mounted_later_is_there(server: WarmServer, tmp_path: Path) -> None:
    waiting = await until(SPARES, server)
    disk = tmp_path / "data" / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", disk], check=True)
    try:
        (disk / "late").write_text("mounted after the spares were begun")
        jail = await server.spawn(spec(tmp_path, "late", mounts=(Mount(disk, "/mnt/disk"),)))
        assert jail.pid not in waiting
        assert await output(jail, "cat", "/mnt/disk/late") == (0, "mounted after the spares were begun")
        await jail.kill()
        waiting = await until(SPARES, server)
        jail = await server.spawn(spec(tmp_path, "next", mounts=(Mount(disk, "/mnt/disk"),)))
        assert jail.pid in waiting
        await jail.kill()
    finally:
        subprocess.run(["umount", disk], check=True)


async def test_one_that_died_is_replaced(server: WarmServer, tmp_path: Path) -> None:
    waiting = await until(SPARES, server)
    os.kill(min(waiting), signal.SIGKILL)
    await ended(waiting & {min(waiting)})
    jails = [await server.spawn(spec(tmp_path, f"n{number}")) for number in range(SPARES)]
    assert min(waiting) not in {jail.pid for jail in jails}
    assert await output(jails[-1], "echo", "here") == (0, "here\n")


async def test_none_survives_the_warm_process(server: WarmServer) -> None:
    waiting = await until(SPARES, server)
    os.kill(server.pid, signal.SIGKILL)
    await ended(waiting)


async def test_none_survives_the_server(rung: Rung, tmp_path: Path) -> None:
    let_others_enter(tmp_path)
    server = WarmServer(data_dir=tmp_path / "data", preload=(), rung=rung, spares=SPARES)
    await server.start()
    waiting = await until(SPARES, server)
    await server.close()
    assert not any(Path(f"/proc/{pid}").exists() for pid in waiting)
