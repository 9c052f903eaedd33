"""Without isolation the server refuses, in one sentence; the unsafe rung is only had by asking for it."""

import asyncio
import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from jail_support import PATIENCE_S, gone, here, output, python, read_until

from fleet_rlm.sandboxd.jail import proof
from fleet_rlm.sandboxd.jail.spec import JailSpec, Limits, NoIsolation, Rung
from fleet_rlm.sandboxd.jail.warm import WarmServer

TRY = """
import asyncio, pathlib, sys
from fleet_rlm.sandboxd.jail import proof
from fleet_rlm.sandboxd.jail.spec import NoIsolation
from fleet_rlm.sandboxd.jail.warm import WarmServer
async def main():
    server = WarmServer(data_dir=pathlib.Path(sys.argv[1]), preload=())
    try:
        print(await server.start())
    except NoIsolation as error:
        print('REFUSED', error)
asyncio.run(main())
"""
# The kernel itself refuses: a filter without unshare and mount (as in a container), or no namespaces left.
UNDER_FILTER = "from fleet_rlm.sandboxd.jail.inside import seccomp; seccomp.apply()\n" + TRY
NONE_LEFT = """
import os
from fleet_rlm.sandboxd.jail.inside import kernel
uid = os.getuid()
if uid != 0:
    kernel.unshare(kernel.CLONE_NEWUSER)
    for name, text in (('setgroups', 'deny'), ('uid_map', f'{uid} {uid} 1')):
        open(f'/proc/self/{name}', 'w').write(text)
    open('/proc/sys/user/max_user_namespaces', 'w').write('0')
"""


def refusal(code: str, folder: Path) -> str:
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("REFUSED"), done.stdout
    assert done.stdout.count("\n") == 1 and "Traceback" not in done.stdout + done.stderr
    return done.stdout


def test_refused_under_a_filter_without_namespaces(tmp_path: Path) -> None:
    text = refusal(UNDER_FILTER, tmp_path)
    assert "unshare" in text and "--unsafe-no-sandbox" in text and "Daytona" in text


@pytest.mark.as_user
def test_refused_without_user_namespaces(tmp_path: Path) -> None:
    assert "user.max_user_namespaces" in refusal(NONE_LEFT + TRY, tmp_path)


def test_the_cure_fits_the_machine() -> None:
    def machine(**settings: str):
        return lambda name: settings.get(name.rpartition("/")[2], "")

    ubuntu = proof.cure(13, machine(apparmor_restrict_unprivileged_userns="1", max_user_namespaces="0"))
    assert "apparmor_parser" in ubuntu and "userns," in ubuntu and "AppArmor (Ubuntu" in ubuntu
    assert os.path.realpath(sys.base_prefix) in ubuntu
    assert "max_user_namespaces" in proof.cure(0, machine(max_user_namespaces="0"))
    assert "max_user_namespaces" in proof.cure(28, machine())
    assert "unprivileged_userns_clone" in proof.cure(1, machine(unprivileged_userns_clone="0"))
    assert "container" in proof.cure(1, machine())


@pytest.mark.as_root
async def test_root_never_runs_unsafe(tmp_path: Path) -> None:
    with pytest.raises(NoIsolation, match="normal user"):
        await WarmServer(data_dir=tmp_path, unsafe_no_sandbox=True).start()


@pytest.mark.as_user
async def test_unsafe_runs_with_limits_and_dies_whole(tmp_path: Path) -> None:
    server = WarmServer(data_dir=tmp_path / "data", preload=(), unsafe_no_sandbox=True)
    isolation = await server.start()
    assert (isolation.rung, isolation.name, isolation.ok) == (4, Rung.NONE, False)
    try:
        jail = await server.spawn(
            JailSpec(f"a-{os.getpid()}", tmp_path / "ws", limits=Limits(file_size_mb=1, memory_mb=128))
        )
        assert await output(jail, "pwd") == (0, f"{tmp_path / 'ws'}\n")
        await jail.file_op("mkdir", path="/workspace/d")
        assert (tmp_path / "ws" / "d").is_dir()
        os.close(await jail.open("d/f", os.O_CREAT | os.O_WRONLY))
        code = "import json,os,resource; print(json.dumps([resource.getrlimit(resource.RLIMIT_FSIZE)[0], os.environ.get('SECRET')]))"
        os.environ["SECRET"] = "x"
        assert await python(jail, code) == [1 << 20, None]
        pty = await jail.pty(["sh", "-c", "echo ready; cat"])
        await read_until(pty.master, "ready")
        pty.close()
        marker = f"marker-{uuid.uuid4().hex}"
        daemon = f"import os,time\nif os.fork() == 0:\n  os.setsid()\n  if os.fork() == 0: time.sleep(900)\ntime.sleep(900) # {marker}"
        (await jail.run(["python3", "-c", daemon])).close()
        await here(marker, 3)
        await asyncio.wait_for(jail.kill(), PATIENCE_S)
        assert await gone(marker, 0)
    finally:
        await server.close()
