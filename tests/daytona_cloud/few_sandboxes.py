"""A source that gets along with a handful of sandboxes: what an interpreter gives back, the next one takes."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace

from daytona import DaytonaError

from fleet_rlm.integrations.daytona.runtime import SandboxRuntime
from fleet_rlm.integrations.daytona.source import SandboxHandle, SandboxSpec
from fleet_rlm.integrations.daytona.transport import Transport

CLEAR = "pkill -9 python3; cd ~ && find . -mindepth 1 -maxdepth 1 -not -name '.*' -exec rm -rf {} + ; true"


class FewSandboxes:
    """Implements `SandboxSource` with at most `most` sandboxes over its whole life."""

    def __init__(self, runtime: SandboxRuntime, labels: Mapping[str, str], most: int) -> None:
        self._runtime = runtime
        self._labels = dict(labels)
        self._left = most
        self._free: list[SandboxHandle] = []
        self._given_back: asyncio.Event | None = None
        self.made = 0
        self.contexts_root = runtime.contexts_root
        self.loop, self.provider, self.isolation = runtime.loop, runtime.provider, runtime.isolation

    async def acquire(self, spec: SandboxSpec) -> SandboxHandle:
        self._given_back = self._given_back or asyncio.Event()
        while not self._free and not self._left:
            self._given_back.clear()
            await self._given_back.wait()
        if self._free:
            return self._free.pop()
        self._left -= 1
        self.made += 1
        return await self._runtime.acquire(replace(spec, labels=self._labels, ttl_minutes=60))

    def marks(self, spec: SandboxSpec) -> Mapping[str, tuple[str, str]]:
        return self._runtime.marks(spec)

    def terminal(self, handle: SandboxHandle) -> Transport:
        return self._runtime.terminal(handle)

    def delete(self, handle: SandboxHandle) -> None:
        asyncio.run_coroutine_threadsafe(self._take_back(handle), self.loop)

    def retire(self, handle: SandboxHandle) -> None:
        self.delete(handle)

    async def _take_back(self, handle: SandboxHandle) -> None:
        """End what still runs in it and keep it; one that does not answer any more is not used again."""
        try:
            await self._runtime.sandbox(handle).process.exec(CLEAR, timeout=30)
        except DaytonaError:
            return
        self._free.append(handle)
        if self._given_back is not None:
            self._given_back.set()
