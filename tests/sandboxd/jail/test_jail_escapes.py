"""Nothing that hostile code tries reaches the host or the jail's first process."""

import contextlib
import json
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from jail_support import home_of, output, python, read_all

from fleet_rlm.sandboxd.jail.spec import Isolation, Rung
from fleet_rlm.sandboxd.jail.warm import Jail, WarmServer

PROBES_FILE = Path(__file__).with_name("escape_probes.py")
PROBES = PROBES_FILE.read_text()


@pytest.fixture
def aims(tmp_path: Path) -> Iterator[dict[str, object]]:
    import socket

    canary = tmp_path / "canary"
    canary.write_text("secret")
    secret = secrets.token_hex(12)
    victim = subprocess.Popen(["sleep", "300"], env={"SECRET": secret})
    abstract = f"jail-test-{secret}"
    path_socket = f"/tmp/s-{secret}"
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.socket(socket.AF_UNIX) as by_name,
        socket.socket(socket.AF_UNIX) as by_path,
    ):
        by_name.bind("\0" + abstract)
        by_name.listen()
        by_path.bind(path_socket)
        by_path.listen()
        os.chmod(path_socket, 0o777)
        yield {
            "abstract": abstract,
            "path_socket": path_socket,
            "canary": str(canary),
            "port": listener.getsockname()[1],
            "victim": victim.pid,
            "secret": secret,
            "process": victim,
        }
    os.unlink(path_socket)
    victim.kill()
    victim.wait()


def as_argument(aims: dict[str, object], **more: object) -> str:
    return json.dumps({name: value for name, value in {**aims, **more}.items() if name != "process"})


async def test_start_proves_the_rung(started: tuple[WarmServer, Isolation], rung: Rung) -> None:
    isolation = started[1]
    number = {Rung.NAMESPACES: 1, Rung.LANDLOCK: 2}[rung]
    assert (isolation.rung, isolation.name, isolation.ok) == (number, rung, True)
    assert "\n" not in isolation.detail


async def test_no_probe_gets_out(jail: Jail, aims: dict[str, object]) -> None:
    reached = await python(jail, PROBES, as_argument(aims))
    assert len(reached) > 40
    assert [name for name, out in reached.items() if out] == []
    assert aims["process"].poll() is None
    # The first process still serves, so no probe hurt it.
    assert await output(jail, "echo", "alive") == (0, "alive\n")


def test_probes_can_get_out_without_a_jail(aims: dict[str, object]) -> None:
    """The control: outside a jail these probes do reach their aims, so a pass above means something."""
    only = ["host file", "host environment", "host loopback", "host process visible", "memfd", "terminals"]
    only += ["socket of the host by its path", "socket of the host by its abstract name", "host process killed"]
    done = subprocess.run(
        [sys.executable, "-c", PROBES, as_argument(aims, only=only)], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == dict.fromkeys(only, True)


async def test_environment_is_clean(jail: Jail, rung: Rung) -> None:
    os.environ["HOST_SECRET_CANARY"] = "x"
    try:
        env = await python(jail, "import json,os; print(json.dumps(dict(os.environ)))")
    finally:
        del os.environ["HOST_SECRET_CANARY"]
    assert "HOST_SECRET_CANARY" not in env
    assert env["HOME"] == home_of(jail, rung)
    known = {"PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "TMPDIR", "PYTHONPATH", "LC_CTYPE", "MALLOC_ARENA_MAX"}
    assert {name for name in env if not name.endswith("_NUM_THREADS")} <= known


async def test_no_open_files_come_along(jail: Jail) -> None:
    code = (
        "import json,os\n"
        "def is_open(fd):\n"
        "    try: return bool(os.fstat(fd))\n"
        "    except OSError: return False\n"
        "print(json.dumps([fd for fd in range(4096) if is_open(fd)]))"
    )
    assert await python(jail, code) == [0, 1, 2]


async def test_identity_is_unprivileged(jail: Jail, rung: Rung) -> None:
    status = Path(f"/proc/{jail.pid}/status").read_text()
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert "0" not in fields["Uid"].split()
    assert fields["CapEff"].strip("0") == fields["CapPrm"].strip("0") == fields["CapAmb"].strip("0") == ""
    if rung is Rung.NAMESPACES or os.geteuid() == 0:  # a user cannot empty it; without privileges it gives none
        assert fields["CapBnd"].strip("0") == ""
    assert fields["NoNewPrivs"] == "1"
    if rung is Rung.NAMESPACES:  # elsewhere that process is the keeper, which runs no code and opens no file
        assert fields["Seccomp"] == "2"


@pytest.mark.namespaces
async def test_only_few_places_are_writable(jail: Jail) -> None:
    code = (
        "import json,os\n"
        "places=[l.split()[4] for l in open('/proc/self/mountinfo') if not 'ro' in l.split()[5].split(',')]\n"
        "print(json.dumps([p for p in places if not p.startswith('/dev/') or p == '/dev/shm']))"
    )
    assert sorted(await python(jail, code)) == ["/dev/shm", "/tmp", "/workspace"]


@pytest.mark.landlock
async def test_only_own_folders_are_writable(jail: Jail, tmp_path: Path) -> None:
    places = ["/tmp", "/var/tmp", "/dev/shm", str(tmp_path), "/run", "/etc", "/", os.path.dirname(PROBES_FILE)]
    places += [jail.spec.workspace.as_posix(), jail.spec.workspace.as_posix() + ".tmp"]
    code = (
        "import json,os,sys\n"
        "def can(p):\n"
        "    try: os.mkdir(p + '/made'); os.rmdir(p + '/made'); return True\n"
        "    except OSError: return False\n"
        "print(json.dumps([p for p in json.loads(sys.argv[1]) if can(p)]))"
    )
    assert await python(jail, code, json.dumps(places)) == places[-2:]


def sysctls() -> dict[str, bytes]:
    """What the host's kernel is set to, counters left out by their changing on their own (read twice)."""
    found: dict[str, bytes] = {}
    for path in Path("/proc/sys").glob("*/*"):
        with contextlib.suppress(OSError):
            if path.is_file():
                found[str(path)] = path.read_bytes()
    return found


async def test_host_sysctls_are_unchanged(jail: Jail) -> None:
    first, before = sysctls(), sysctls()
    steady = [name for name in before if first.get(name) == before[name] and "random" not in name]
    assert len(steady) > 50
    # Only opened: a jail with a hole must not harm the machine that tests it.
    code = (
        "import json,os,sys\nopened=[]\n"
        "for name in json.loads(sys.stdin.read()):\n"
        "    try: os.close(os.open(name, os.O_WRONLY)); opened.append(name)\n"
        "    except OSError: pass\n"
        "print(json.dumps(opened))"
    )
    process = await jail.run(["python3", "-c", code], stdin=True)
    os.write(process.stdin, json.dumps(steady).encode()[:60000].rpartition(b",")[0] + b"]")
    os.close(process.stdin)
    assert json.loads(await read_all(process.stdout)) == []
    os.close(process.stdout)
    after = sysctls()
    changed = [name for name in steady if after.get(name) != before[name]]
    assert [name for name in changed if not Path(name).name.endswith(("nr", "state", "count", "pid"))] == []
