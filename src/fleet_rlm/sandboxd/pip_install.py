"""Python packages brought into a folder by pip on the host, as wheels only: nothing of a package is run here."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from fleet_rlm.sandboxd.jail.inside import kernel
from fleet_rlm.sandboxd.jail.system import EXECUTABLE

_TIMEOUT_S: Final = 1800.0
_LINE: Final = 64 * 1024
_OPTIONS: Final = (
    "--only-binary=:all:",
    "--no-input",
    "--disable-pip-version-check",
    "--no-compile",
    "--no-warn-script-location",
    "--progress-bar=off",
)


class InstallFailed(Exception):
    """The packages could not be had; the text is pip's last word."""


async def install(packages: Sequence[str], target: Path, say: Callable[[str], None]) -> None:
    """Install packages with what they require, from the index that this machine's pip is set up for.

    `say` gets the log, line by line. InstallFailed when pip fails or takes longer than half an hour.
    """
    process = await asyncio.create_subprocess_exec(
        EXECUTABLE,
        *("-m", "pip", "install", *_OPTIONS, "--target", str(target), "--", *packages),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        limit=_LINE,
        start_new_session=True,
        preexec_fn=functools.partial(kernel.prctl, kernel.PR_SET_PDEATHSIG, signal.SIGKILL),  # dies with the server
    )
    assert process.stdout is not None
    last = ""
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            while line := await process.stdout.readline():
                text = line.decode(errors="replace").rstrip()
                say(text)
                last = text if text.startswith("ERROR") else last or text
            if await process.wait() != 0:
                raise InstallFailed(f"pip could not install {', '.join(packages)[:200]}: {last[:400]}")
    except TimeoutError as error:
        raise InstallFailed("pip did not end within half an hour") from error
    except ValueError as error:
        raise InstallFailed("pip said a line that is too long") from error
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
