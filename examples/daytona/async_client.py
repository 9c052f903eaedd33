"""The Daytona API by the asynchronous Python SDK: many sandboxes at once, streamed logs, a terminal, contexts."""

from __future__ import annotations

import asyncio
import sys

from daytona import (
    AsyncDaytona,
    AsyncSandbox,
    CreateSandboxFromSnapshotParams,
    DaytonaConflictError,
    DaytonaFileNotFoundError,
    DaytonaNotFoundError,
    ListSandboxesQuery,
    SessionExecuteRequest,
    VolumeMount,
)

LABELS = {"example": "async"}
PARAMS = CreateSandboxFromSnapshotParams(language="python", labels=LABELS, ephemeral=True, ttl_minutes=30)


async def life(daytona: AsyncDaytona, box: AsyncSandbox) -> str:
    others = await asyncio.gather(*(daytona.create(PARAMS) for _ in range(5)))
    found = {each.id async for each in daytona.list(ListSandboxesQuery(labels=LABELS, limit=2))}
    assert found == {box.id, *(each.id for each in others)}, found
    await asyncio.gather(*(each.delete(wait=True) for each in others))
    return "five more at once, listed page by page, deleted"


async def files(_: AsyncDaytona, box: AsyncSandbox) -> str:
    data = bytes(range(256)) * 8192
    await box.fs.upload_file(data, "big.bin")
    assert b"".join([piece async for piece in await box.fs.download_file_stream("big.bin")]) == data
    await asyncio.gather(*(box.fs.upload_file(str(n).encode(), f"many/{n}") for n in range(20)))
    assert len(await box.fs.list_files("many")) == 20
    await box.fs.delete_file("many", recursive=True)
    return "2 MiB there and back, 20 at once"


async def programs(_: AsyncDaytona, box: AsyncSandbox) -> str:
    answers = await asyncio.gather(*(box.process.code_run(f"print({n} * {n})") for n in range(8)))
    assert [int(answer.result) for answer in answers] == [n * n for n in range(8)]
    assert (await box.process.exec("pwd", cwd="/usr")).result.strip() == "/usr"
    return "eight at once"


async def sessions(_: AsyncDaytona, box: AsyncSandbox) -> str:
    await box.process.create_session("stream")
    ticking = await box.process.execute_session_command(
        "stream", SessionExecuteRequest(command="for n in 1 2 3; do echo out $n; echo err $n >&2; done", run_async=True)
    )
    out, err = list[str](), list[str]()
    await box.process.get_session_command_logs_async("stream", str(ticking.cmd_id), out.append, err.append)
    assert "".join(out).split() == ["out", "1", "out", "2", "out", "3"] and "err 3" in "".join(err)
    await box.process.delete_session("stream")
    return "both streams followed to their end"


async def terminal(_: AsyncDaytona, box: AsyncSandbox) -> str:
    seen = bytearray()
    pty = await box.process.create_pty_session(id="first", on_data=seen.extend)
    await pty.wait_for_connection()
    await pty.send_input("echo $((40 + 2)); exit\n")
    await pty.wait()
    assert b"42" in seen and pty.exit_code == 0
    return "typed into, exited"


async def contexts(_: AsyncDaytona, box: AsyncSandbox) -> str:
    one, two = await asyncio.gather(box.code_interpreter.create_context(), box.code_interpreter.create_context())
    await box.code_interpreter.run_code("x = 1", context=one)
    told = await box.code_interpreter.run_code("print('x' in globals())", context=two)
    assert told.stdout.strip() == "False"
    return "two, each with its own variables"


async def volumes(daytona: AsyncDaytona, _: AsyncSandbox) -> str:
    volume = await daytona.volume.get("example-async", create=True)
    mounts = [VolumeMount(volume_id=volume.id, mount_path="/shared", subpath=name) for name in ("a", "b")]
    boxes = await asyncio.gather(*(daytona.create(PARAMS.model_copy(update={"volumes": [m]})) for m in mounts))
    await boxes[0].fs.upload_file(b"mine", "/shared/file")
    try:
        await boxes[1].fs.get_file_info("/shared/file")
        raise AssertionError("a subpath leaked into another")
    except DaytonaFileNotFoundError:
        pass
    await asyncio.gather(*(box.delete(wait=True) for box in boxes))
    await daytona.volume.delete(await daytona.volume.get("example-async"))
    return "two subpaths kept apart"


async def errors(daytona: AsyncDaytona, box: AsyncSandbox) -> str:
    await box.process.create_session("twice")
    try:
        await box.process.create_session("twice")
        raise AssertionError("a second session of the same id was made")
    except DaytonaConflictError:
        pass
    try:
        await daytona.get("no-such-sandbox")
        raise AssertionError("found what is not there")
    except DaytonaNotFoundError:
        return "of the precise classes"


async def main() -> int:
    """Run every group in one sandbox."""
    async with AsyncDaytona() as daytona:
        box = await daytona.create(PARAMS)
        try:
            for group in (life, files, programs, sessions, terminal, contexts, volumes, errors):
                print(f"{group.__name__}: {await group(daytona, box)}", flush=True)
        finally:
            await box.delete(wait=True)
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
