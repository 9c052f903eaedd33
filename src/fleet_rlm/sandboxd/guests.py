"""Asking a program that the server brings into a sandbox. What it says is hostile text: bounded and checked."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from fleet_rlm.sandboxd.errors import ApiError, from_os_error
from fleet_rlm.sandboxd.jail.spec import JailClosed
from fleet_rlm.sandboxd.jail.warm import Jail
from fleet_rlm.sandboxd.pipes import collect, feed

SEARCH: Final = (Path(__file__).parent / "guest" / "search.py").read_text(encoding="utf-8")
_ERRORS_LIMIT: Final = 256 * 1024  # bytes kept of standard error
_Answer = TypeVar("_Answer")


class Finished(msgspec.Struct):
    """A program that has ended: its exit code, what it wrote to standard output and to standard error, both cut."""

    exit_code: int
    output: str
    errors: str


async def run_to_end(
    jail: Jail,
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: str | None = None,
    stdin: bytes = b"",
    timeout: float,
    limit: int,
) -> Finished:
    """Run a program of the sandbox to its end. 408 after `timeout` seconds; output above `limit` bytes is cut."""
    try:
        process = await jail.run(argv, env=env, cwd=cwd, stdin=True, merge=False)
    except JailClosed:
        raise
    except OSError as error:
        raise from_os_error(error, cwd or argv[0]) from error
    stderr = process.stderr
    assert stderr is not None  # it was not merged
    typing = asyncio.create_task(feed(process.stdin, stdin))
    ended = False
    try:
        async with asyncio.timeout(timeout):
            output, errors = await asyncio.gather(collect(process.stdout, limit), collect(stderr, _ERRORS_LIMIT))
            exit_code = await process.wait()
            ended = True
    except TimeoutError as error:
        message = f"{argv[0]} did not end within {timeout:.0f} s and was killed"
        raise ApiError(408, message, code="REQUEST_TIMEOUT") from error
    finally:
        if not ended:
            process.kill_group(signal.SIGKILL)
        typing.cancel()
        await asyncio.wait((typing,))
        os.close(process.stdout)
        os.close(stderr)
    return Finished(exit_code, output, errors)


async def ask(
    jail: Jail, source: str, request: Mapping[str, Any], kind: type[_Answer], *, timeout: float, limit: int
) -> _Answer:
    """The answer of a guest program (its source text) to a request. The file's error when it tells one."""
    argv = ["python3", "-I", "-S", "-c", source]
    done = await run_to_end(jail, argv, stdin=msgspec.json.encode(request), timeout=timeout, limit=limit)
    with contextlib.suppress(msgspec.MsgspecError):
        failure = msgspec.json.decode(done.output, type=_Failure)
        raise from_os_error(OSError(failure.errno, failure.text), failure.path)
    try:
        return msgspec.json.decode(done.output, type=kind)
    except msgspec.MsgspecError as error:
        message = f"the work inside the sandbox failed with exit code {done.exit_code}"
        raise ApiError(500, message, code="FILE_READ_FAILED") from error


class _Failure(msgspec.Struct):
    errno: int
    text: str
    path: str
