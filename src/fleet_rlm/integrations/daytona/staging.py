"""Bringing contexts to the volume from which sandboxes mount them.

A short-lived sandbox mounts the context's folder writable, takes the files and runs no code. `index.json` goes
last and is the mark that the context is whole; volumes can neither rename nor append.
"""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from fleet_rlm.errors import SandboxUnavailable
from fleet_rlm.integrations.daytona.source import CONTEXTS_VOLUME, SandboxHandle, SandboxSpec, VolumeMountSpec

if TYPE_CHECKING:
    from daytona import AsyncSandbox

STAGE_PATH = "/stage"
TTL_MINUTES = 60


class Sandboxes(Protocol):
    """What the stager needs of a runtime."""

    async def acquire(self, spec: SandboxSpec) -> SandboxHandle: ...
    def sandbox(self, handle: SandboxHandle) -> AsyncSandbox: ...
    def delete(self, handle: SandboxHandle) -> None: ...


class Stager:
    """Stages each context once; concurrent callers wait for the first."""

    def __init__(self, sandboxes: Sandboxes) -> None:
        self._sandboxes = sandboxes
        self._done: set[str] = set()
        self._locks: dict[str, asyncio.Lock] = {}

    async def stage(self, sha256: str, data: Path, index: Path) -> None:
        """Make sure that the volume has this context, whole. SandboxUnavailable when it cannot be brought there."""
        async with self._locks.setdefault(sha256, asyncio.Lock()):
            if sha256 in self._done:
                return
            mount = VolumeMountSpec(CONTEXTS_VOLUME, STAGE_PATH, sha256)
            spec = SandboxSpec(labels={"fleet.purpose": "stage"}, mounts=(mount,), ttl_minutes=TTL_MINUTES)
            handle = await self._sandboxes.acquire(spec)
            try:
                await self._fill(self._sandboxes.sandbox(handle).fs, sha256, data, index)
            finally:
                self._sandboxes.delete(handle)
            self._done.add(sha256)

    async def _fill(self, fs: Any, sha256: str, data: Path, index: Path) -> None:
        from daytona import DaytonaError

        wanted = ((data, f"{STAGE_PATH}/data"), (index, f"{STAGE_PATH}/index.json"))
        sizes = [path.stat().st_size for path, _ in wanted]
        if [await _size(fs, target) for _, target in wanted] == sizes:
            return
        try:
            for (source, target), size in zip(wanted, sizes, strict=True):
                await fs.upload_file(str(source), target)
                arrived = await _size(fs, target)
                if arrived != size:
                    raise SandboxUnavailable(
                        f"context {sha256[:12]} was not staged: {target} has {arrived} of {size} bytes"
                    )
        except (DaytonaError, OSError) as error:
            raise SandboxUnavailable(f"context {sha256[:12]} was not staged: {error}") from error


def digest_of(path: Path) -> str:
    """The SHA-256 of a file, as the sandbox computes it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


async def _size(fs: Any, path: str) -> int | None:
    from daytona import DaytonaError

    try:
        return int((await fs.get_file_info(path)).size)
    except DaytonaError:
        return None
