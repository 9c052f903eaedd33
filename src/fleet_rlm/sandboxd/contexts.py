"""One interpreter context: a Python process that stays, and runs given to it one after the other."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from enum import Enum, auto
from typing import Any, Final

from fleet_rlm.sandboxd.context_worker import Emit, Gone, Worker
from fleet_rlm.sandboxd.errors import ApiError
from fleet_rlm.sandboxd.jail.spec import JailClosed
from fleet_rlm.sandboxd.jail.warm import Jail
from fleet_rlm.sandboxd.models import timestamp
from fleet_rlm.sandboxd.process_models import ContextDto
from fleet_rlm.sandboxd.settings import WORKSPACE

_GRACE_S: Final = 2.0  # from SIGINT to SIGKILL


class Outcome(Enum):
    """How a run ended."""

    COMPLETED = auto()
    TIMED_OUT = auto()
    LOST = auto()


class Context:
    """A context by its id. Runs wait for each other; one that loses the process says so, the next starts afresh."""

    def __init__(self, name: str, jail: Jail, cwd: str | None, waiting_limit: int) -> None:
        self.name = name
        self._jail = jail
        self._cwd = cwd
        self._created = time.time()
        self._worker: Worker | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._lost = False  # the process ended between two runs, and nobody was told yet
        self._lock = asyncio.Lock()
        self._waiting = 0
        self._waiting_limit = waiting_limit
        self._closed = False

    def dto(self) -> ContextDto:
        """As the API shows it."""
        return ContextDto(self.name, self._cwd or WORKSPACE, timestamp(self._created), not self._closed)

    async def start(self) -> None:
        """Start the process ahead of the first run. OSError when it cannot be."""
        async with self._lock:
            await self._live()

    async def run(self, code: str, envs: Mapping[str, str], timeout: float | None, emit: Emit) -> Outcome:
        """One run; `timeout` in seconds counts from its own start. ApiError 409 when too many wait."""
        if self._waiting >= self._waiting_limit:
            raise ApiError(409, f"{self._waiting} runs wait in this context already", code="LIMIT_REACHED")
        self._waiting += 1
        try:
            async with self._lock:
                if self._lost:
                    self._lost = False
                    return Outcome.LOST
                return await self._run(await self._live(), code, envs, timeout, emit)
        finally:
            self._waiting -= 1

    async def close(self) -> None:
        """End the context; a run in it is lost."""
        self._closed = True
        if self._worker is not None:
            self._worker.kill()  # a run that waits for it then ends
        async with self._lock:
            await self._lose()

    async def _run(
        self, worker: Worker, code: str, envs: Mapping[str, str], timeout: float | None, emit: Emit
    ) -> Outcome:
        try:
            try:
                async with asyncio.timeout(timeout):
                    await worker.run(code, envs, emit)
                return Outcome.COMPLETED
            except TimeoutError:
                worker.interrupt()
            try:
                async with asyncio.timeout(_GRACE_S):
                    await worker.finish(_nowhere)
            except TimeoutError:
                await self._lose()
            return Outcome.TIMED_OUT
        except (Gone, JailClosed):
            await self._lose()
            return Outcome.LOST

    async def _live(self) -> Worker:
        if self._closed:
            raise ApiError(404, f"interpreter context {self.name!r} was deleted")
        if self._worker is None:
            self._worker = await Worker.start(self._jail, self._cwd)
            self._watcher = asyncio.create_task(self._watch(self._worker))
        return self._worker

    async def _watch(self, worker: Worker) -> None:
        """Let go of a process that ended by itself, the whole sandbox with it perhaps."""
        await worker.ended()
        async with self._lock:
            if self._worker is worker:
                await self._lose()
                self._lost = True

    async def _lose(self) -> None:
        worker, self._worker = self._worker, None
        if worker is not None:
            await worker.close()


async def _nowhere(_frame: Mapping[str, Any]) -> None:
    """Output after the time is over."""
