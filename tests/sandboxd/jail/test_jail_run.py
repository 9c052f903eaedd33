"""Programs, terminals and warm scripts in a jail."""

import asyncio
import hashlib
import json
import os
import signal

import pytest
from jail_support import PATIENCE_S, WARM_SCRIPT, home_of, output, python, read_all, read_until

from fleet_rlm.sandboxd.jail.spec import JailClosed, Rung
from fleet_rlm.sandboxd.jail.warm import Jail, WarmServer

WARM_HASH = hashlib.sha256(WARM_SCRIPT.read_bytes()).hexdigest()


async def test_output_and_exit_code(jail: Jail) -> None:
    assert await output(jail, "sh", "-c", "echo out; echo err >&2; exit 3") == (3, "out\nerr\n")
    assert await output(jail, "sh", "-c", "kill -9 $$") == (137, "")
    assert await output(jail, "sh", "-c", "kill -TERM $$") == (143, "")


async def test_streams_apart_and_stdin(jail: Jail) -> None:
    process = await jail.run(["sh", "-c", "cat; echo err >&2"], stdin=True, merge=False)
    assert process.stdin is not None and process.stderr is not None
    os.write(process.stdin, b"hello\n")
    os.close(process.stdin)
    assert await read_all(process.stdout) == "hello\n"
    assert await read_all(process.stderr) == "err\n"
    assert await asyncio.wait_for(process.wait(), PATIENCE_S) == 0
    os.close(process.stdout)
    os.close(process.stderr)


async def test_without_stdin_reads_end_at_once(jail: Jail) -> None:
    assert await output(jail, "cat") == (0, "")


async def test_environment_cwd_and_python(jail: Jail, rung: Rung) -> None:
    home = home_of(jail, rung)
    await jail.file_op("mkdir", path="/workspace/sub")
    _, text = await output(jail, "sh", "-c", "pwd; echo $WORD; echo $HOME", env={"WORD": "x y"}, cwd="/workspace/sub")
    assert text == f"{home}/sub\nx y\n{home}\n"
    _, text = await output(jail, "sh", "-c", "pwd", cwd="sub")
    assert text == f"{home}/sub\n"
    code = "import json,sys,numpy,pandas; print(json.dumps([sys.prefix, int(numpy.arange(5).sum())]))"
    prefix, total = await python(jail, code)
    assert (prefix, total) == (os.path.realpath(prefix), 10)


async def test_environment_packages_are_not_exposed(jail: Jail) -> None:
    """numpy is offered; what else the server's own environment holds is not there."""
    import msgspec

    status, text = await output(jail, "ls", os.path.dirname(msgspec.__file__))
    assert status != 0 and ("No such file" in text or "Permission denied" in text)


@pytest.mark.parametrize(
    ("argv", "cwd", "error"),
    [
        (["no-such-program"], None, FileNotFoundError),
        (["/etc/passwd"], None, PermissionError),
        (["true"], "/nowhere", FileNotFoundError),
        (["true"], "/etc/passwd", NotADirectoryError),
    ],
)
async def test_what_cannot_start_raises(jail: Jail, argv: list[str], cwd: str | None, error: type[OSError]) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(error):
        await jail.run(argv, cwd=cwd)
    assert len(os.listdir("/proc/self/fd")) == before


async def test_what_did_not_start_or_was_given_up_leaves_nothing(jail: Jail) -> None:
    """Such starts were counted until the sandbox was ended for too many of them."""
    for _ in range(3):
        with pytest.raises(FileNotFoundError):
            await jail.run(["true"], cwd="/nowhere")
        start = asyncio.create_task(jail.run(["true"]))
        await asyncio.sleep(0)
        start.cancel()
    assert await output(jail, "echo", "alive") == (0, "alive\n")
    await jail.file_op("stat", path=".")
    assert not jail._exits


async def test_too_large_arguments_are_refused(jail: Jail) -> None:
    with pytest.raises(OSError, match="exceed"):
        await jail.run(["echo", "x" * 200_000])


async def test_much_output_streams(jail: Jail) -> None:
    code, text = await output(jail, "sh", "-c", "head -c 5000000 /dev/zero | tr '\\0' x")
    assert (code, len(text)) == (0, 5_000_000)


async def test_many_at_once(jail: Jail) -> None:
    results = await asyncio.gather(*(output(jail, "echo", str(n)) for n in range(30)))
    assert results == [(0, f"{n}\n") for n in range(30)]


async def test_standard_streams_can_be_opened_by_name(jail: Jail) -> None:
    assert await output(jail, "sh", "-c", "echo a > /dev/stdout; echo b > /dev/stderr") == (0, "a\nb\n")


async def test_kill_group_takes_the_whole_group(jail: Jail) -> None:
    process = await jail.run(["sh", "-c", "sleep 600 & sleep 600 & echo ready; wait"])
    await read_until(process.stdout, "ready")
    process.kill_group(signal.SIGKILL)
    assert await asyncio.wait_for(process.wait(), PATIENCE_S) == 137
    assert await read_all(process.stdout) == ""  # the sleepers held the pipe
    process.kill_group(signal.SIGKILL)  # gone: no error
    process.close()


async def test_calls_after_kill_raise(jail: Jail) -> None:
    process = await jail.run(["sleep", "600"])
    await jail.kill()
    assert jail.closed.is_set()
    assert await process.wait() == 137
    process.kill_group(signal.SIGTERM)
    process.close()
    with pytest.raises(JailClosed):
        await jail.run(["true"])
    with pytest.raises(JailClosed):
        await jail.file_op("stat", path=".")
    await jail.kill()


async def test_login_shell_on_a_terminal(jail: Jail) -> None:
    pty = await jail.pty(None, cols=100, rows=30, env={"WORD": "hey"})
    os.write(pty.master, b"stty size; echo $WORD-$((40+2)); tty; sleep 0.1 & jobs; exit 5\n")
    text = await read_all(pty.master)
    assert "30 100" in text and "hey-42" in text
    assert "no job control" not in text and "Running" in text
    assert await asyncio.wait_for(pty.wait(), PATIENCE_S) == 5
    pty.close()


async def test_resize_reaches_the_program(jail: Jail) -> None:
    pty = await jail.pty(["sh", "-c", "trap 'stty size; exit' WINCH; echo ready; while :; do sleep 0.05; done"])
    await read_until(pty.master, "ready")
    pty.resize(111, 44)
    assert "44 111" in await read_until(pty.master, "111")
    await asyncio.wait_for(pty.wait(), PATIENCE_S)
    with pytest.raises(ValueError, match="terminal"):
        pty.resize(0, 1)
    pty.close()


async def test_interrupt_character_reaches_the_foreground(jail: Jail) -> None:
    pty = await jail.pty(["python3", "-c", "import time; print('ready', flush=True); time.sleep(600)"])
    await read_until(pty.master, "ready")
    os.write(pty.master, b"\x03")
    assert await asyncio.wait_for(pty.wait(), PATIENCE_S) == 130
    pty.close()


async def test_warm_script_runs_as_main_on_a_raw_terminal(jail: Jail, warm: WarmServer, rung: Rung) -> None:
    assert warm.has_script(WARM_HASH)
    pty = await jail.pty(None, warm_script=WARM_HASH, env={"MARKER": "m"})
    said = json.loads(await read_until(pty.master, "}"))
    assert said == {
        "name": "__main__",
        "argv": ["<warm>"],
        "cwd": home_of(jail, rung),
        "marker": "m",
        "home": home_of(jail, rung),
        "numpy": "numpy" in warm.loaded,
        "inside": False,
        "tty": True,
        "leader": True,
        "fds": [0, 1, 2],
    }
    os.write(pty.master, b"one\n")
    assert await read_until(pty.master, "\n") == "got one\n"  # no echo, no carriage return: raw
    os.write(pty.master, b"quit\n")
    assert await asyncio.wait_for(pty.wait(), PATIENCE_S) == 7
    pty.close()


async def test_warm_script_that_raises_says_so(jail: Jail) -> None:
    pty = await jail.pty(None, warm_script=WARM_HASH)
    await read_until(pty.master, "}")
    os.write(pty.master, b"boom\n")
    assert "ValueError: boom" in await read_all(pty.master)
    assert await asyncio.wait_for(pty.wait(), PATIENCE_S) == 1
    pty.close()


async def test_unknown_hash_gives_the_shell(jail: Jail, warm: WarmServer) -> None:
    assert not warm.has_script("0" * 64)
    pty = await jail.pty(None, warm_script="0" * 64)
    os.write(pty.master, b"echo shell-$((40+2)); exit\n")
    assert "shell-42" in await read_all(pty.master)
    await asyncio.wait_for(pty.wait(), PATIENCE_S)
    pty.close()


async def test_warm_scripts_of_siblings_draw_different_numbers(spawn) -> None:
    """Forks share the warm process's memory, but not its random state or, in the shell, its environment."""
    code = "import json,random; print(json.dumps(random.random()))"
    one, two = await spawn(name="one"), await spawn(name="two")
    assert await python(one, code) != await python(two, code)
