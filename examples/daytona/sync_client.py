"""Every group of the Daytona API by the Python SDK, synchronous."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from daytona import (
    CreateSandboxFromSnapshotParams,
    Daytona,
    DaytonaAuthenticationError,
    DaytonaConfig,
    DaytonaError,
    DaytonaFileNotFoundError,
    DaytonaNotFoundError,
    DaytonaProcessExecutionTimeoutError,
    FileDownloadRequest,
    FileUpload,
    ListSandboxesQuery,
    Sandbox,
    SessionExecuteRequest,
    VolumeMount,
)
from daytona.common.pty import PtySize

LABELS = {"example": "sync"}
PROBE = """
import socket
try:
    socket.create_connection(("1.1.1.1", 53), 2)
    print("open")
except OSError:
    print("closed")
"""


def life(daytona: Daytona, box: Sandbox) -> str:
    box.set_labels({**LABELS, "step": "life"})
    found = [each.id for each in daytona.list(ListSandboxesQuery(labels={"step": "life", **LABELS}))]
    assert found == [box.id], found
    box.set_autostop_interval(30)
    box.set_ttl(60)
    box.stop()
    assert daytona.get(box.id).state == "stopped"
    box.start()
    box.refresh_data()
    return f"{box.state} again with its files in {box.get_work_dir()}"


def files(_: Daytona, box: Sandbox) -> str:
    box.fs.create_folder("data/deep", "755")
    box.fs.upload_file(b"alpha\nbeta\n", "data/one.txt")
    box.fs.upload_files([FileUpload(b"gamma", "data/deep/two.txt"), FileUpload(b"\x00\xff" * 1000, "data/bin")])
    assert box.fs.download_file("data/one.txt") == b"alpha\nbeta\n"
    with tempfile.TemporaryDirectory() as folder:
        box.fs.download_file("data/bin", f"{folder}/bin")
        assert Path(f"{folder}/bin").read_bytes() == b"\x00\xff" * 1000
    several = box.fs.download_files([FileDownloadRequest(source="data/one.txt"), FileDownloadRequest(source="no")])
    assert [bool(each.error) for each in several] == [False, True]
    assert {info.name for info in box.fs.list_files("data")} == {"one.txt", "deep", "bin"}
    assert [match.line for match in box.fs.find_files("data", "bet")] == [2]
    assert len(box.fs.search_files("data", "*.txt").files) == 2
    box.fs.replace_in_files(["data/one.txt"], "beta", "delta")
    box.fs.set_file_permissions("data/one.txt", mode="600")
    box.fs.move_files("data/one.txt", "data/three.txt")
    assert box.fs.get_file_info("data/three.txt").permissions.endswith("600")
    assert b"".join(box.fs.download_file_stream("data/three.txt")) == b"alpha\ndelta\n"
    box.fs.delete_file("data", recursive=True)
    return "written, searched, replaced, moved, streamed, deleted"


def programs(_: Daytona, box: Sandbox) -> str:
    done = box.process.exec("echo $GREETING; exit 3", env={"GREETING": "hello"})
    assert (done.result.strip(), done.exit_code) == ("hello", 3)
    assert box.process.code_run("print(6 * 7)").result.strip() == "42"
    try:
        box.process.exec("sleep 30", timeout=1)
    except DaytonaProcessExecutionTimeoutError:
        return "a command, a program, a time-out of the precise class"
    raise AssertionError("the time limit did not hold")


def sessions(_: Daytona, box: Sandbox) -> str:
    box.process.create_session("work")
    box.process.execute_session_command("work", SessionExecuteRequest(command="cd /tmp; export KEPT=yes"))
    kept = box.process.execute_session_command("work", SessionExecuteRequest(command="echo $KEPT in $PWD"))
    assert "yes in /tmp" in str(kept.stdout)
    waiting = box.process.execute_session_command(
        "work", SessionExecuteRequest(command="read line; echo got $line; echo oops >&2", run_async=True)
    )
    box.process.send_session_command_input("work", str(waiting.cmd_id), "a line\n")
    while box.process.get_session_command("work", str(waiting.cmd_id)).exit_code is None:
        time.sleep(0.05)
    logs = box.process.get_session_command_logs("work", str(waiting.cmd_id))
    assert "got a line" in str(logs.stdout) and "oops" in str(logs.stderr)
    assert [each.session_id for each in box.process.list_sessions()] == ["work"]
    box.process.delete_session("work")
    return "state between commands, input, both logs"


def terminal(_: Daytona, box: Sandbox) -> str:
    seen = bytearray()
    pty = box.process.create_pty_session(id="term", pty_size=PtySize(cols=100, rows=30))
    pty.resize(PtySize(cols=120, rows=40))
    pty.send_input("stty size; exit 5\n")
    pty.wait(on_data=seen.extend)
    assert b"40 120" in seen and pty.exit_code == 5, (bytes(seen), pty.exit_code)
    return "resized, its exit status 5"


def contexts(_: Daytona, box: Sandbox) -> str:
    context = box.code_interpreter.create_context()
    box.code_interpreter.run_code("x = 41", context=context)
    assert box.code_interpreter.run_code("print(x + 1)", context=context).stdout.strip() == "42"
    failed = box.code_interpreter.run_code("1 / 0", context=context)
    assert failed.error is not None and failed.error.name == "ZeroDivisionError"
    box.code_interpreter.delete_context(context)
    return "variables stay, errors come typed"


def git(_: Daytona, box: Sandbox) -> str:
    box.process.exec(
        "git init -q -b main origin && cd origin && "
        "git -c user.name=A -c user.email=a@b.c commit -q --allow-empty -m first"
    )
    home = box.get_work_dir()
    box.git.clone(f"file://{home}/origin", "clone")
    box.fs.upload_file(b"text\n", "clone/new.txt")
    assert [each.name for each in box.git.status("clone").file_status] == ["new.txt"]
    box.git.add("clone", ["new.txt"])
    box.git.commit("clone", "second", "B", "b@c.d")
    box.git.create_branch("clone", "side")
    box.git.checkout_branch("clone", "side")
    assert box.git.status("clone").current_branch == "side"
    assert {"main", "side"} <= set(box.git.branches("clone").branches)
    return "cloned, committed, branched"


def volumes(daytona: Daytona, _: Sandbox) -> str:
    volume = daytona.volume.get("example-sync", create=True)
    for text in ("", "kept"):
        mount = VolumeMount(volume_id=volume.id, mount_path="/shared", subpath="a")
        box = daytona.create(CreateSandboxFromSnapshotParams(language="python", labels=LABELS, volumes=[mount]))
        if text:
            assert box.fs.download_file("/shared/file") == b"kept"
        else:
            box.fs.upload_file(b"kept", "/shared/file")
        box.delete(wait=True)
    daytona.volume.delete(daytona.volume.get("example-sync"))
    return "a file outlives its sandbox"


def network(_: Daytona, box: Sandbox) -> str:
    box.update_network_settings(network_block_all=True)
    assert box.process.code_run(PROBE).result.strip() == "closed"
    return "blocked"


def errors(daytona: Daytona, box: Sandbox) -> str:
    for expected, act in (
        (DaytonaNotFoundError, lambda: daytona.get("no-such-sandbox")),
        (DaytonaFileNotFoundError, lambda: box.fs.get_file_info("no/such/file")),
    ):
        try:
            act()
        except expected:
            continue
        raise AssertionError(f"{expected.__name__} was expected")
    stranger = Daytona(DaytonaConfig(api_key="not-the-key-0000", api_url=daytona._api_url, target=daytona._target))
    try:
        list(stranger.list())
    except DaytonaAuthenticationError:
        return "of the precise classes"
    raise AssertionError("a wrong key was accepted")


GROUPS: tuple[Callable[[Daytona, Sandbox], str], ...] = (
    life, files, programs, sessions, terminal, contexts, git, volumes, network, errors,
)  # fmt: skip


def main() -> int:
    """Run every group in one sandbox; 1 when one failed."""
    daytona = Daytona()
    box = daytona.create(CreateSandboxFromSnapshotParams(language="python", labels=LABELS, ttl_minutes=30))
    failed = 0
    try:
        for group in GROUPS:
            try:
                print(f"{group.__name__}: {group(daytona, box)}", flush=True)
            except DaytonaError as error:
                if error.status_code != 501:
                    raise
                print(f"{group.__name__}: not served here: {error}", flush=True)
                failed += 1
    finally:
        box.delete(wait=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
