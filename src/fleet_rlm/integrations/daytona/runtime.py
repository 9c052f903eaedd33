"""Sandboxes by the Daytona API: make them, stage contexts for them, sweep them up. Local server or Daytona alike."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from fleet_rlm.errors import SandboxError, SandboxLost, SandboxUnavailable
from fleet_rlm.integrations.daytona.client import DaytonaClient, LoopThread, load_sdk
from fleet_rlm.integrations.daytona.creation import CREATE_LABEL, Maker, state_of, unavailable
from fleet_rlm.integrations.daytona.direct import DirectTransport
from fleet_rlm.integrations.daytona.fallback import FallbackTransport, Passage
from fleet_rlm.integrations.daytona.owner import DEPLOYMENT_LABEL, deployment, is_orphan
from fleet_rlm.integrations.daytona.pool import IDLE_LABELS, Pool
from fleet_rlm.integrations.daytona.prepared import PreparedTerminal
from fleet_rlm.integrations.daytona.pty import PtyTransport
from fleet_rlm.integrations.daytona.retry import retried
from fleet_rlm.integrations.daytona.session_command import SessionTransport
from fleet_rlm.integrations.daytona.settings import DaytonaSettings
from fleet_rlm.integrations.daytona.source import (
    CONTEXTS_ROOT,
    CONTEXTS_VOLUME,
    ContextMount,
    SandboxHandle,
    SandboxInfo,
    SandboxSpec,
)
from fleet_rlm.integrations.daytona.staging import Stager, digest_of
from fleet_rlm.integrations.daytona.threads import DaemonThreads
from fleet_rlm.integrations.daytona.transport import Transport, TransportError

if TYPE_CHECKING:
    from daytona import AsyncSandbox

T = TypeVar("T")
_threads = DaemonThreads("fleet-sandboxes")
DELETE_S = 10.0
DELETE_AGAIN_S = (0.2, 0.5, 1.5, 4.0, 0.0)
CALL_S = 90.0
PROBE_S = 10.0
STAGE_S = 30 * 60.0
PARALLEL_DELETES = 16
TURN_LABEL = "fleet.turn"
RELABEL_S = 2.0
LAGGING_LIST_S = 5.0  # a real server's list may not know a sandbox yet that exists


class SandboxRuntime:
    """Implements `SandboxSource`. `settings` may be a callable, called at first use (it may start a server), and again
    when that server has ended by itself.

    Its methods are for ordinary threads and wait for their end, but `delete` does not; the coroutines run on `loop`.
    """

    contexts_root = CONTEXTS_ROOT

    def __init__(self, settings: DaytonaSettings | Callable[[], DaytonaSettings]) -> None:
        self._given = settings
        self._lock = threading.Lock()
        self._thread: LoopThread | None = None
        self._chosen: DaytonaSettings | None = None
        self._client: DaytonaClient | None = None
        self._sandboxes: dict[str, AsyncSandbox] = {}
        self._marks: dict[str, tuple[str, str]] = {}
        self._lasting: set[str] = set()  # these outlive us, stopped
        self._maker = Maker(lambda: self.client, self._sweep_soon)
        self._pool: Pool | None = None
        self._prepared: dict[str, PreparedTerminal] = {}
        self._passage = Passage()
        self._deletes: set[asyncio.Task[None]] = set()
        self._delete_slots = asyncio.Semaphore(PARALLEL_DELETES)
        self._retired: dict[str, asyncio.TimerHandle] = {}
        self._stager = Stager(self)
        self._closed = False

    # -- threads ------------------------------------------------------------------------------------------------

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop of the background thread; the server is known by then."""
        _ = self.settings
        return self._running().loop

    @property
    def settings(self) -> DaytonaSettings:
        """The server in use; the first call may start it."""
        thread = self._running()  # first, so that the SDK loads while a server starts
        with self._lock:
            if self._chosen is not None and self._has_ended():
                thread.soon(self._in_background, partial(self._leave, self._client, self._pool, list(self._sandboxes)))
                self._chosen, self._stager = None, Stager(self)
            if self._chosen is None:
                thread.soon(load_sdk)
                self._chosen = self._given if isinstance(self._given, DaytonaSettings) else self._given()
                self._client = DaytonaClient(self._chosen)
                self._pool = Pool(self._chosen.pool, self._make_ready, self.runs, self.delete)
                if self._chosen.provider == "daytona":
                    thread.soon(self._in_background, self._sweep_orphans)
            return self._chosen

    def _has_ended(self) -> bool:
        """Whether the server was a local one that was killed, and another can be had."""
        return callable(self._given) and self._chosen is not None and not self._chosen.runs

    async def _leave(self, client: DaytonaClient | None, pool: Pool | None, ids: list[str]) -> None:
        """A server is gone, and what it ran with it."""
        for id in ids:
            await self._let_go(id)
            self._prepared.pop(id, None)
        if pool is not None and client is not None:
            await pool.drop()
            await client.close()

    def begin(self) -> Future[None]:
        """Start the server in a thread, where that is to be done; has its result, or the error, when it is known."""
        begun: Future[None] = Future()
        if self._chosen is None or self._has_ended():
            _threads.run(lambda: self._begin_for(begun))
        else:
            begun.set_result(None)
        return begun

    def _begin_for(self, begun: Future[None]) -> None:
        try:
            _ = self.settings
        except BaseException as error:  # noqa: BLE001 - handed to who waits
            begun.set_exception(error)
        else:
            begun.set_result(None)

    @property
    def provider(self) -> str:
        """local or daytona."""
        return self.settings.provider

    @property
    def isolation(self) -> str:
        """The level that the local server proved, or "daytona"."""
        return self.settings.isolation

    @property
    def idle(self) -> int:
        """How many started sandboxes wait to be used."""
        return 0 if self._pool is None else self._pool.idle

    def make_ahead(self) -> None:
        """Let the pool begin before anybody asks: with sandboxes without mounts, and only on this machine. In the cloud
        what nobody may ever use costs money."""
        if self.provider == "local":
            self._running().soon(self._begin_pool)

    def create(self, spec: SandboxSpec) -> SandboxHandle:
        """A started sandbox. SandboxUnavailable when there is none to be had."""
        return self._wait(self.acquire(spec), CALL_S)

    def delete(self, handle: SandboxHandle) -> None:
        """Let a sandbox be deleted in the background; `close` waits for it."""
        thread = self._thread
        if thread is not None:
            thread.soon(self._delete_soon, handle.id)

    def retire(self, handle: SandboxHandle) -> None:
        """Let a sandbox that has done its work be deleted in the background. Where that takes this machine's own time
        it waits a little while others are in use, or until its turn is over."""
        thread, chosen = self._thread, self._chosen
        if chosen is None or not chosen.pool.retire_s:
            self.delete(handle)
        elif thread is not None:
            thread.soon(self._retire, handle.id)

    def forget(self, handle: SandboxHandle) -> None:
        """Answer for a sandbox no more; it goes on by itself."""
        self._wait(self._let_go(handle.id), CALL_S)

    def delete_now(self, handle: SandboxHandle) -> None:
        """Delete a sandbox and wait for it."""
        self._wait(self._delete(handle.id), CALL_S)

    def list(self, labels: Mapping[str, str]) -> list[SandboxInfo]:
        """The sandboxes that carry all of these labels."""
        return self._wait(self._list(labels), CALL_S)

    def delete_labelled(self, labels: Mapping[str, str]) -> int:
        """Delete every sandbox with these labels and wait for it; how many there were."""
        if not labels:
            raise ValueError("delete_labelled needs at least one label")
        return self._wait(self._delete_labelled(labels), CALL_S)

    def sweep(self) -> int:
        """Delete the sandboxes of dead processes that ran here; how many. Done by itself at the start on Daytona."""
        return self._wait(self._sweep_orphans(), CALL_S)

    def turn_over(self, turn: str) -> None:
        """Delete in the background what is left of a turn that has ended."""
        thread = self._thread
        if thread is not None and self._client is not None:
            thread.soon(self._in_background, lambda: self._delete_labelled({TURN_LABEL: turn}))

    def call(self, work: Coroutine[Any, Any, T], timeout: float = CALL_S) -> T:
        """Run a coroutine of this package on the loop and wait for it."""
        return self._wait(work, timeout)

    def stage_context(self, sha256: str, data: Path, index: Path) -> None:
        """Bring a context to the volume from which sandboxes mount it; nothing when it is there already."""
        if not self.settings.read_only_mounts and sha256 not in self._marks:
            self._marks[sha256] = (digest_of(index), digest_of(data))
        self._wait(self._stager.stage(sha256, data, index), STAGE_S)

    def close(self) -> None:
        """Delete the sandboxes made here, wait (bounded) for that, then end. Idempotent."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            thread = self._thread
        if thread is not None:
            with contextlib.suppress(TimeoutError):
                thread.run(self._finish(), 2 * DELETE_S + 2)
            thread.stop()

    def _running(self) -> LoopThread:
        with self._lock:
            if self._closed:
                raise SandboxUnavailable("the sandbox runtime is closed")
            if self._thread is None:
                self._thread = LoopThread()
            return self._thread

    def _wait(self, work: Coroutine[Any, Any, T], timeout: float) -> T:
        try:
            _ = self.settings
            thread = self._running()
        except BaseException:
            work.close()
            raise
        try:
            return thread.run(work, timeout)
        except TimeoutError:
            raise SandboxUnavailable(f"the sandbox server did not answer within {timeout:g} s") from None

    # -- on the loop --------------------------------------------------------------------------------------------

    def _begin_pool(self) -> None:
        if self._pool is not None:
            self._pool.expect(SandboxSpec())

    @property
    def client(self) -> DaytonaClient:
        """The connection to the server."""
        assert self._client is not None
        return self._client

    async def acquire(self, spec: SandboxSpec) -> SandboxHandle:
        """A started sandbox: one that waits for this, or a new one. SandboxLost when the server ends meanwhile."""
        try:
            return await self._acquired(spec)
        except SandboxUnavailable as error:
            if self._has_ended():
                raise SandboxLost("the local sandbox server has ended") from error
            raise

    async def _acquired(self, spec: SandboxSpec) -> SandboxHandle:
        assert self._pool is not None
        handle = await self._pool.take(spec) if spec.poolable else None
        if handle is None:
            handle = await self._make(spec)
            self._pool.given(handle.id)
            return handle
        self._label(handle.id, spec.labels)
        return handle

    async def _make(self, spec: SandboxSpec) -> SandboxHandle:
        sandbox = await self._maker.make(spec)
        return self.adopt(sandbox, lasting=not spec.ephemeral)

    async def _make_ready(self, spec: SandboxSpec) -> SandboxHandle:
        """A sandbox for the pool; here, where it costs memory only, with Python started in it."""
        handle = await self._make(spec)
        if self.settings.provider == "local":
            terminal = PreparedTerminal(self._new_terminal(handle))
            try:
                await terminal.prepare()
            except TransportError:  # whoever gets the sandbox opens one and hears the reason
                await terminal.close()
            else:
                self._prepared[handle.id] = terminal
        return handle

    def adopt(self, sandbox: AsyncSandbox, *, lasting: bool = False) -> SandboxHandle:
        """Answer for a sandbox from now on; a lasting one is stopped at the end, not deleted (on the loop)."""
        self._sandboxes[sandbox.id] = sandbox
        if lasting:
            self._lasting.add(sandbox.id)
        return SandboxHandle(sandbox.id, f"{sandbox.toolbox_proxy_url.rstrip('/')}/{sandbox.id}")

    async def _let_go(self, id: str) -> None:
        self._sandboxes.pop(id, None)
        if id in self._retired:
            self._retired.pop(id).cancel()
        self._lasting.discard(id)
        if self._pool is not None:
            self._pool.ended(id)

    def _label(self, id: str, labels: Mapping[str, str]) -> None:
        """A sandbox from the pool gets the labels of who uses it; the server hears of it when its work has begun."""
        sandbox = self._sandboxes.get(id)
        if sandbox is not None:
            sandbox.labels = {**{k: v for k, v in sandbox.labels.items() if k not in IDLE_LABELS}, **labels}
            asyncio.get_running_loop().call_later(RELABEL_S, self._in_background, lambda: self._relabel(id))

    async def _relabel(self, id: str) -> None:
        sandbox = self._sandboxes.get(id)
        if sandbox is not None:
            wanted = dict(sandbox.labels)
            await retried(lambda: sandbox.set_labels(wanted))

    async def runs(self, handle: SandboxHandle) -> bool:
        """Whether a sandbox is started (on the loop)."""
        from daytona import DaytonaError

        prepared = self._prepared.get(handle.id)
        if prepared is not None:
            return prepared.ready
        try:
            return state_of(await self.client.sdk().get(handle.id)) == "started"
        except (DaytonaError, OSError):
            return False

    def marks(self, spec: SandboxSpec) -> Mapping[str, tuple[str, str]]:
        """The marks of the contexts staged by this runtime that a sandbox mounts; none where mounts are read-only."""
        shas = [mount.sha256 for mount in spec.mounts if isinstance(mount, ContextMount)]
        return {sha: self._marks[sha] for sha in shas if sha in self._marks}

    def terminal(self, handle: SandboxHandle) -> Transport:
        """A terminal in a sandbox; by what passes to this server, or what the settings demand."""
        prepared = self._prepared.pop(handle.id, None)
        if prepared is not None and prepared.ready:
            return prepared
        if prepared is not None:
            self._in_background(prepared.close)
        return self._new_terminal(handle)

    def _new_terminal(self, handle: SandboxHandle) -> Transport:
        choice = self.settings.transport
        if choice == "session":
            return SessionTransport(self.sandbox(handle))
        if choice == "auto" and self.settings.door is not None:
            return DirectTransport(self.settings.door, handle.id)
        terminal = PtyTransport(self.client.http(), handle.toolbox_url, self.client.headers)
        if choice == "terminal" or handle.id not in self._sandboxes:
            return terminal
        return FallbackTransport(
            self._passage, terminal, lambda: SessionTransport(self.sandbox(handle)), lambda: self._answers(handle)
        )

    async def _answers(self, handle: SandboxHandle) -> bool:
        """Whether plain requests reach a sandbox."""
        from daytona import DaytonaError

        try:
            await asyncio.wait_for(self.sandbox(handle).get_work_dir(), PROBE_S)
        except (DaytonaError, SandboxError, OSError):  # TimeoutError is an OSError
            return False
        return True

    def sandbox(self, handle: SandboxHandle) -> AsyncSandbox:
        """The SDK's object of a sandbox made here."""
        found = self._sandboxes.get(handle.id)
        if found is None:
            raise SandboxLost(f"sandbox {handle.id} is not in use any more")
        return found

    @property
    def maker(self) -> Maker:
        """What makes sandboxes and volumes (on the loop)."""
        return self._maker

    def _retire(self, id: str) -> None:
        if id not in self._sandboxes or id in self._retired:
            return
        assert self._pool is not None and self._chosen is not None
        sizes = self._chosen.pool
        self._retired[id] = asyncio.get_running_loop().call_later(sizes.retire_s, self._delete_soon, id)
        self._pool.ended(id)
        most = sizes.burst if self._pool.in_use else 0  # the bound of what takes memory for nobody
        for over in list(self._retired)[: max(0, len(self._retired) - most)]:
            self._delete_soon(over)

    def _delete_soon(self, id: str) -> None:
        self._in_background(lambda: self._delete(id))

    def _in_background(self, work: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        """Begin something that nobody waits for, but for `close`; when it fails, the time to live has to do."""
        task = asyncio.ensure_future(self._quietly(work()))
        self._deletes.add(task)
        task.add_done_callback(self._deletes.discard)

    async def _quietly(self, work: Coroutine[Any, Any, Any]) -> None:
        from daytona import DaytonaError

        with contextlib.suppress(DaytonaError, SandboxError, OSError):
            await work

    async def _delete(self, id: str) -> None:
        """Delete one sandbox; a few tries, after which its time to live has to do."""
        from daytona import DaytonaError, DaytonaNotFoundError

        sandbox = self._sandboxes.pop(id, None)
        self._lasting.discard(id)
        waiting = self._retired.pop(id, None)
        if waiting is not None:
            waiting.cancel()
        prepared = self._prepared.pop(id, None)
        if prepared is not None:
            await prepared.close()
        if self._pool is not None:
            self._pool.ended(id)
        if sandbox is None:
            return
        async with self._delete_slots:
            client = self.client
            for delay in DELETE_AGAIN_S:
                try:
                    await client.sdk().delete(sandbox, timeout=DELETE_S)
                    return
                except DaytonaNotFoundError:
                    return
                except (DaytonaError, OSError):
                    if self._client is not client or self._has_ended():
                        return  # it went with its server
                    await asyncio.sleep(delay)

    async def _list(self, labels: Mapping[str, str]) -> list[SandboxInfo]:
        return [_info(sandbox) for sandbox in await self.find(labels)]

    async def find(self, labels: Mapping[str, str]) -> list[AsyncSandbox]:
        """The SDK's objects of all sandboxes that carry these labels."""
        from daytona import DaytonaError, ListSandboxesQuery

        async def listed() -> list[AsyncSandbox]:
            query = ListSandboxesQuery(labels=dict(labels))
            return [sandbox async for sandbox in self.client.sdk().list(query)]

        try:
            return await retried(listed)
        except (DaytonaError, OSError) as error:
            raise unavailable(error) from error

    async def _delete_labelled(self, labels: Mapping[str, str]) -> int:
        found = {sandbox.id: sandbox for sandbox in await self.find(labels)}
        known = self._sandboxes.items()  # a list may lag behind what we know
        found.update({id: sandbox for id, sandbox in known if labels.items() <= sandbox.labels.items()})
        self._sandboxes.update(found)
        await asyncio.gather(*(self._delete(id) for id in found))
        return len(found)

    async def _sweep_orphans(self) -> int:
        """Delete what processes left here that are dead."""
        found = [sandbox for sandbox in await self.find({DEPLOYMENT_LABEL: deployment()}) if is_orphan(sandbox.labels)]
        self._sandboxes.update({sandbox.id: sandbox for sandbox in found})
        await asyncio.gather(*(self._delete(sandbox.id) for sandbox in found))
        return len(found)

    def _sweep_soon(self, marker: str) -> None:
        self._in_background(lambda: self._sweep(marker))

    async def _sweep(self, marker: str) -> None:
        """After a failed creation: a sandbox may exist all the same, or come to exist."""
        await self._delete_labelled({CREATE_LABEL: marker})
        if self.provider == "daytona" and not self._closed:
            await asyncio.sleep(LAGGING_LIST_S)
            await self._delete_labelled({CREATE_LABEL: marker})

    async def _finish(self) -> None:
        """Delete what is still there, wait (bounded) for every deletion, close the connections."""
        if self._pool is not None:
            await self._pool.close()
        for id in list(self._sandboxes):
            if id in self._lasting:
                sandbox = self._sandboxes.pop(id)
                self._in_background(lambda sandbox=sandbox: sandbox.stop(timeout=DELETE_S))
            else:
                self._delete_soon(id)
        if self._deletes:
            await asyncio.wait(list(self._deletes), timeout=DELETE_S)
        if self._client is not None:
            await self._client.close()


def _info(sandbox: AsyncSandbox) -> SandboxInfo:
    return SandboxInfo(sandbox.id, state_of(sandbox), dict(sandbox.labels))


__all__ = ["CONTEXTS_VOLUME", "ContextMount", "SandboxHandle", "SandboxInfo", "SandboxRuntime", "SandboxSpec"]
