"""Sessions through the SDK, sync and async, and their frames through a raw socket."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
import uuid

import aiohttp
import pytest
from daytona import (
    CreateSandboxFromSnapshotParams,
    DaytonaBadRequestError,
    DaytonaCommandAlreadyCompletedError,
    DaytonaConflictError,
    DaytonaNotFoundError,
    DaytonaSessionEndedError,
    SessionExecuteRequest,
)

PATIENCE_S = 60


@pytest.fixture
def session(sandbox):
    name = f"s-{uuid.uuid4()}"
    sandbox.process.create_session(name)
    yield name
    with contextlib.suppress(DaytonaNotFoundError):
        sandbox.process.delete_session(name)


def run(sandbox, session, command, **options):
    return sandbox.process.execute_session_command(session, SessionExecuteRequest(command=command, **options))


def wait_for_end(sandbox, session, command_id):
    deadline = time.monotonic() + PATIENCE_S
    while (command := sandbox.process.get_session_command(session, command_id)).exit_code is None:
        assert time.monotonic() < deadline, "the command never ended"
        time.sleep(0.02)
    return command


def test_commands_share_a_shell_and_streams_are_apart(sandbox, session):
    assert run(sandbox, session, "mkdir -p deep && cd deep; export WORD='a b'").exit_code == 0
    done = run(sandbox, session, 'pwd; echo "$WORD" >&2; (exit 7)')
    assert (done.stdout, done.stderr, done.exit_code) == ("/workspace/deep\n", "a b\n", 7)
    raw = sandbox.process._api_client.session_execute_command(
        session_id=session, request=SessionExecuteRequest(command="echo out; echo err >&2")
    )
    assert "\x01\x01\x01out\n" in raw.output and "\x02\x02\x02err\n" in raw.output
    assert [c.exit_code for c in sandbox.process.get_session(session).commands] == [0, 7, 0]
    assert session in [s.session_id for s in sandbox.process.list_sessions()]


def test_quotes_syntax_errors_and_many_lines_leave_the_shell_alive(sandbox, session):
    assert run(sandbox, session, "echo \"it's\"\ncat <<'END'\n$HOME\nEND").stdout == "it's\n$HOME\n"
    broken = run(sandbox, session, "echo 'never closed")
    assert broken.exit_code != 0 and "unexpected EOF" in broken.stderr
    assert run(sandbox, session, "echo x; printf 'no newline'").stdout == "x\nno newline"
    large = "x" * 200_000
    assert run(sandbox, session, f"echo {large}").stdout == large + "\n"


def test_a_large_output_is_complete(sandbox, session):
    done = run(sandbox, session, "head -c 3000000 /dev/zero | tr '\\0' y; echo end")
    assert len(done.stdout) == 3_000_004 and done.stdout.endswith("yend\n")


def test_asynchronous_commands_run_one_after_the_other(sandbox, session):
    first = run(sandbox, session, "read line; echo got $line", run_async=True)
    second = run(sandbox, session, "echo second", run_async=True)
    assert first.exit_code is None
    assert sandbox.process.get_session_command(session, first.cmd_id).exit_code is None
    with pytest.raises(DaytonaConflictError, match="not started"):
        sandbox.process.send_session_command_input(session, second.cmd_id, "early")
    sandbox.process.send_session_command_input(session, first.cmd_id, "hello")
    assert wait_for_end(sandbox, session, first.cmd_id).exit_code == 0
    assert sandbox.process.get_session_command_logs(session, first.cmd_id).stdout == "hello\ngot hello\n"
    wait_for_end(sandbox, session, second.cmd_id)
    assert sandbox.process.get_session_command_logs(session, second.cmd_id).stdout == "second\n"
    with pytest.raises(DaytonaCommandAlreadyCompletedError):
        sandbox.process.send_session_command_input(session, first.cmd_id, "late")


def test_input_is_not_echoed_when_asked_and_not_left_to_the_next(sandbox, session):
    quiet = run(sandbox, session, "read line; echo got $line", run_async=True, suppress_input_echo=True)
    sandbox.process.send_session_command_input(session, quiet.cmd_id, "secret\nleft over\n")
    wait_for_end(sandbox, session, quiet.cmd_id)
    assert sandbox.process.get_session_command_logs(session, quiet.cmd_id).stdout == "got secret\n"
    next_one = run(sandbox, session, 'read -t 0.3 line; echo "[$line]"')
    assert next_one.stdout == "[]\n"


def test_logs_are_followed_from_the_first_byte(sandbox, session):
    command = run(sandbox, session, "echo one; echo two >&2; read x; printf 'thr\\303\\251\\n'", run_async=True)
    out: list[str] = []
    err: list[str] = []

    async def follow():
        await asyncio.wait_for(
            sandbox.process.get_session_command_logs_async(session, command.cmd_id, out.append, err.append), PATIENCE_S
        )

    follower = threading.Thread(target=asyncio.run, args=(follow(),))
    follower.start()
    deadline = time.monotonic() + PATIENCE_S
    while not (out and err):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    sandbox.process.send_session_command_input(session, command.cmd_id, "go on")
    follower.join(PATIENCE_S)
    assert "".join(out) == "one\ngo on\nthré\n" and "".join(err) == "two\n"
    out.clear(), err.clear()
    asyncio.run(follow())  # again, after its end
    assert "".join(out) == "one\ngo on\nthré\n" and "".join(err) == "two\n"


def demuxed(data: bytes) -> dict[int, bytes]:
    """What each stream said, by the byte that three times announces it."""
    streams = {1: b"", 2: b""}
    now = 0
    while data:
        if data[:3] in (b"\x01" * 3, b"\x02" * 3):
            now, data = data[0], data[3:]
        else:
            streams[now] += data[:1]
            data = data[1:]
    return streams


async def test_the_frames_of_a_followed_log(server, sandbox, session):
    command = run(sandbox, session, "printf a; printf b >&2; sleep 0.2; printf c >&2; printf d", run_async=True)
    url = f"/toolbox/{sandbox.id}/process/session/{session}/command/{command.cmd_id}/logs?follow=true"
    headers = {"Authorization": f"Bearer {server.key}"}
    async with aiohttp.ClientSession(server.api.removesuffix("/api"), headers=headers) as http:
        async with http.ws_connect(url) as socket:
            data = b""
            while (message := await asyncio.wait_for(socket.receive(), PATIENCE_S)).type is aiohttp.WSMsgType.BINARY:
                data += message.data
            assert socket.close_code == 1000
        assert demuxed(data) == {1: b"ad", 2: b"bc"}
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await http.ws_connect(url.replace(command.cmd_id, "nothing"))
        assert refused.value.status == 404
        plain = url.partition("?")[0]
        async with http.get(plain, headers={"X-Daytona-SDK-Version": "0.100.1"}) as old:
            assert demuxed(await old.read()) == {1: b"ad", 2: b"bc"}
        async with http.get(plain) as oldest:
            assert sorted(await oldest.read()) == [*b"abcd"]


def test_exit_ends_the_session_and_says_so(sandbox, session):
    done = run(sandbox, session, "echo last; exit 5")
    assert (done.stdout, done.exit_code) == ("last\n", 5)
    with pytest.raises(DaytonaSessionEndedError):
        run(sandbox, session, "echo more")
    assert [c.exit_code for c in sandbox.process.get_session(session).commands] == [5]


def test_deleting_a_session_ends_everything_in_it(sandbox, session):
    run(sandbox, session, "trap '' TERM; (trap '' TERM; exec sleep 300) & echo started")
    waiting = run(sandbox, session, "sleep 300", run_async=True)
    sandbox.process.delete_session(session)
    assert "sleep" not in sandbox.process.exec("cat /proc/[0-9]*/comm").result
    with pytest.raises(DaytonaNotFoundError):
        sandbox.process.get_session_command(session, waiting.cmd_id)


def test_what_is_refused(sandbox, session):
    with pytest.raises(DaytonaConflictError):
        sandbox.process.create_session(session)
    with pytest.raises(DaytonaBadRequestError):
        sandbox.process.create_session("a/b")
    with pytest.raises(DaytonaBadRequestError):
        run(sandbox, session, "  ")
    with pytest.raises(DaytonaNotFoundError):
        run(sandbox, "nobody", "true")
    with pytest.raises(DaytonaNotFoundError, match="entrypoint"):
        sandbox.process.get_entrypoint_session()
    with pytest.raises(DaytonaNotFoundError, match="entrypoint"):
        sandbox.process.get_entrypoint_logs()


def test_a_flood_is_bounded_and_the_session_goes_on(sandbox, session):
    done = run(sandbox, session, "head -c 40000000 /dev/zero | tr '\\0' z")
    assert 16_000_000 < len(done.stdout) <= 16 * 1024 * 1024
    assert "output cut off" in done.stderr
    assert run(sandbox, session, "echo still here").stdout == "still here\n"


def test_code_that_forges_the_shells_reports_ends_its_own_command_only(sandbox, session):
    forged = "for fd in /proc/$PPID/fd/* /proc/$$/fd/*; do echo 'nonsense 0' > $fd; done 2>/dev/null; echo over"
    run(sandbox, session, f"timeout 5 bash -c {forged!r} </dev/null")
    other = f"o-{uuid.uuid4()}"
    sandbox.process.create_session(other)
    assert run(sandbox, other, "echo fine").stdout == "fine\n"
    sandbox.process.delete_session(other)


def test_a_stopped_sandbox_has_no_sessions(make):
    sandbox = make()
    sandbox.process.create_session("one")
    run(sandbox, "one", "sleep 300", run_async=True)
    sandbox.stop()
    with pytest.raises(DaytonaBadRequestError):
        sandbox.process.list_sessions()
    sandbox.start()
    assert sandbox.process.list_sessions() == []


async def test_the_asynchronous_client(server):
    async with server.async_sdk() as client:
        sandbox = await client.create(CreateSandboxFromSnapshotParams(ephemeral=True))
        try:
            await sandbox.process.create_session("s")
            request = SessionExecuteRequest(command="read a; echo $((a * 2)); echo bad >&2; (exit 3)", run_async=True)
            command = await sandbox.process.execute_session_command("s", request)
            out: list[str] = []
            err: list[str] = []
            following = asyncio.create_task(
                sandbox.process.get_session_command_logs_async("s", command.cmd_id, out.append, err.append)
            )
            await sandbox.process.send_session_command_input("s", command.cmd_id, "21")
            await asyncio.wait_for(following, PATIENCE_S)
            assert "".join(out) == "21\n42\n" and "".join(err) == "bad\n"
            assert (await sandbox.process.get_session_command("s", command.cmd_id)).exit_code == 3
            await sandbox.process.delete_session("s")
        finally:
            await sandbox.delete()
