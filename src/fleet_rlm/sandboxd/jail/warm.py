"""The warm process seen from the server: start it, prove the jail, spawn jails, let everything die with it."""

import asyncio
import contextlib
import logging
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fleet_rlm.sandboxd.disk import remove_tree
from fleet_rlm.sandboxd.jail import identity, memory, proof, system
from fleet_rlm.sandboxd.jail.handle import Jail, JailProcess, JailPty
from fleet_rlm.sandboxd.jail.inside import boot, wire
from fleet_rlm.sandboxd.jail.inside.plan import TEMPORARY, Plan, Shape, System
from fleet_rlm.sandboxd.jail.link import Link
from fleet_rlm.sandboxd.jail.spares import FirstProcess, Spares
from fleet_rlm.sandboxd.jail.spec import Isolation, JailClosed, JailSpec, Limits, NoIsolation, Rung, SpecError

__all__ = ["Jail", "JailProcess", "JailPty", "WarmServer", "prove_isolation"]

_log = logging.getLogger("sandboxd")
_BOOT_S = 60.0
_SPAWN_S = 30.0
_REVIVAL_PAUSES_S = (0.0, 1.0, 5.0, 30.0)  # before each attempt to start the warm process again
_GROUP_SPARE = 64 << 20  # bytes of a memory group beyond the limit that the watchdog keeps


class WarmServer:
    """Owns the warm process from which jails are forked, and starts it again should it die. One per server.

    `scripts` are the warm scripts, `preload` the packages that are loaded before the fork and offered to the
    jails, where installed. `allow_degraded`: where namespaces cannot be had, Landlock will do.
    `unsafe_no_sandbox` runs code without isolation. Nothing else turns these on. `rung` asks for exactly one.
    `spares`: so many first processes are begun ahead of the jails that will need them.
    """

    def __init__(
        self,
        *,
        data_dir: Path,
        scripts: Sequence[Path] = (),
        preload: Sequence[str] = ("numpy", "pandas"),
        allow_degraded: bool = False,
        unsafe_no_sandbox: bool = False,
        rung: Rung | None = None,
        spares: int = 0,
    ) -> None:
        self._data_dir = data_dir.absolute()
        self._scripts = tuple(scripts)
        self._preload = tuple(preload)
        self._rungs = [Rung.NAMESPACES, *([Rung.LANDLOCK] if allow_degraded else [])]
        if rung is not None or unsafe_no_sandbox:
            self._rungs = [rung or Rung.NONE]
        self._rung = self._rungs[0]
        self._identities = identity.Identities()
        self._jails: set[Jail] = set()
        self._spares = Spares(spares, self._fork)
        self._groups: memory.MemoryGroups | None = None
        self._system: System | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._link: Link | None = None
        self._reviving: asyncio.Task[None] | None = None
        self._closing = False
        self.loaded: tuple[str, ...] = ()

    @property
    def pid(self) -> int:
        """The warm process's pid."""
        if self._process is None:
            raise JailClosed("the warm process is not running")
        return self._process.pid

    @property
    def has_mounts(self) -> bool:
        """Whether jails have a file tree of their own, so that a mount is seen at its target."""
        return self._rung is Rung.NAMESPACES

    def has_script(self, sha256: str) -> bool:
        """Whether a warm script with this hash was loaded at start."""
        return self._system is not None and sha256 in self._system.scripts

    async def start(self) -> Isolation:
        """Start the warm process and prove the jail. NoIsolation when it cannot be had."""
        if not sys.platform.startswith("linux"):
            raise NoIsolation("sandboxes need Linux namespaces: use Linux, a Linux container or Daytona's cloud")
        if self._rung is Rung.NONE and os.geteuid() == 0:
            raise NoIsolation("model-written code never runs as root: start the server as a normal user")
        self._data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._system = await asyncio.to_thread(system.describe, self._data_dir, self._preload, self._scripts)
        self._groups = await asyncio.to_thread(memory.find)
        try:
            await self._boot(self._system)
            proved = await self._prove()
        except BaseException:
            await self.close()
            raise
        self._spares.open()
        return proved

    async def spawn(self, spec: JailSpec) -> Jail:
        """A new jail over `spec.workspace` (made when missing; as root it is given to the jail's own uid, and
        writable mounts to the group that jails share). SpecError, NoIsolation or OSError when it fails."""
        if self._reviving is not None:
            await asyncio.wait_for(asyncio.shield(self._reviving), _BOOT_S)
        if self._system is None or self._link is None:
            raise JailClosed("the warm process is not running")
        for mount in spec.mounts:
            if not mount.source.is_dir():
                raise SpecError(f"mount source {mount.source} is not a directory")
        spec.workspace.mkdir(mode=0o700, parents=True, exist_ok=True)
        uid = self._identities.take(spec.id, spec.workspace) if os.geteuid() == 0 else None
        jail = Jail(spec, self._environment(spec, self._system), uid, self._rung)
        group = self._memory_group(spec)
        self._jails.add(jail)
        try:
            door = None if group is None or self._groups is None else self._groups.door(group)
            plan = await asyncio.to_thread(_plan, spec, uid, self._rung, self._data_dir, door)
            await asyncio.wait_for(self._spawn(jail, plan, group), _SPAWN_S)
        except BaseException:
            self._forget(jail, group)
            raise
        return jail

    async def close(self) -> None:
        """Kill every jail and the warm process."""
        self._closing = True
        if self._reviving is not None:
            self._reviving.cancel()
            await asyncio.wait((self._reviving,))
        self._spares.close()
        await asyncio.gather(*(jail.kill() for jail in tuple(self._jails)))
        if self._link is not None:
            self._link.close()  # the warm process ends when its socket does
        await self._reap()
        self._link = None

    async def _reap(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        try:
            await asyncio.to_thread(process.wait, 3)
        except subprocess.TimeoutExpired:
            process.kill()
            await asyncio.to_thread(process.wait)

    async def _prove(self) -> Isolation:
        """The first rung that holds."""
        for rung in self._rungs:
            self._rung = rung
            if rung is Rung.NONE:
                return proof.unsafe()
            try:
                if rung is Rung.LANDLOCK:
                    proof.check_landlock(self._data_dir)
                return await proof.prove(self.spawn, self._data_dir, rung, self._groups)
            except NoIsolation as error:
                if rung is self._rungs[-1]:
                    raise
                _log.warning("%s", error)
        raise AssertionError("no rung was wanted")

    async def _revive(self, description: System) -> None:
        """Start the warm process again. Its jails died with it; new ones wait for this."""
        _log.error("the warm process ended by itself; it is started again")
        await self._reap()
        for pause in _REVIVAL_PAUSES_S:
            await asyncio.sleep(pause)
            try:
                await self._boot(description)
            except (NoIsolation, OSError, TimeoutError) as error:
                _log.error("the warm process did not start: %s", error)
                await self._reap()
            else:
                self._reviving = None
                self._spares.open()
                return

    async def _boot(self, description: System) -> None:
        ready: asyncio.Future[wire.Message] = asyncio.get_running_loop().create_future()

        def on_event(message: wire.Message, _fds: list[int]) -> None:
            if not ready.done():
                ready.set_result(message)

        def on_end() -> None:
            self._link = None
            if not ready.done():
                ready.set_exception(NoIsolation("the warm process ended while it started; its own words are above"))
            elif not self._closing:
                self._reviving = asyncio.get_running_loop().create_task(self._revive(description))

        own, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # As isolated as with -I, which would not read the seed: all its forks go through sets in the same order.
        command = [system.EXECUTABLE, "-P", "-s", "-S", "-X", "utf8", boot.__file__, str(other.fileno())]
        with contextlib.closing(other), tempfile.TemporaryFile(dir=self._data_dir) as file:
            self._process = subprocess.Popen(  # noqa: ASYNC220  starting is quick; nothing is read from it
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env={"LANG": "C.UTF-8", "PATH": "/usr/bin:/bin", "PYTHONHASHSEED": "0", **system.ONE_THREAD},
                cwd="/",
                pass_fds=(other.fileno(),),
                start_new_session=True,
            )
            self._link = Link(own, on_event, on_end)
            text = description.write().encode()
            file.write(text)
            file.flush()
            file.seek(0)
            self._link.post({"size": len(text)}, [file.fileno()])
        answer = await asyncio.wait_for(ready, _BOOT_S)
        self.loaded = tuple(answer["loaded"])

    async def _spawn(self, jail: Jail, plan: Plan, group: Path | None) -> None:
        """Ask for the jail and wait until its first process is ready."""
        if self._link is None:
            raise JailClosed("the warm process ended while the sandbox started")
        spare = self._spares.take() if plan.shape == self._usual_shape() else None
        process = spare or FirstProcess(self._link, plan.shape)
        await process.become(jail, plan, lambda: self._forget(jail, group))

    def _usual_shape(self) -> Shape:
        """Of the jails that nobody asked anything unusual of."""
        own_users = self._rung is Rung.NAMESPACES and os.geteuid() != 0
        return Shape(self._rung, own_users, Limits().tmp_mb)

    def _fork(self, on_end: Callable[[FirstProcess], None]) -> FirstProcess:
        if self._link is None:
            raise JailClosed("the warm process is not running")
        return FirstProcess(self._link, self._usual_shape(), on_end)

    def _environment(self, spec: JailSpec, description: System) -> dict[str, str]:
        path = description.import_path
        if self._rung is Rung.NAMESPACES:
            return system.environment(path, spec.env, "/workspace", system.PROGRAMS)
        own = system.environment(path, spec.env, str(spec.workspace), description.programs)
        return own if self._rung is Rung.NONE else {**own, "TMPDIR": str(spec.workspace) + TEMPORARY}

    def _memory_group(self, spec: JailSpec) -> Path | None:
        if self._groups is None or self._rung is Rung.NONE:
            return None
        tmpfs = 2 * spec.limits.tmp_mb if self._rung is Rung.NAMESPACES else 0
        try:
            return self._groups.make((spec.limits.memory_mb + tmpfs << 20) + _GROUP_SPARE)
        except OSError as error:
            _log.warning("no memory group for sandbox %s (%s): it is watched only", spec.id, error)
            return None

    def _forget(self, jail: Jail, group: Path | None) -> None:
        if jail in self._jails:
            self._jails.discard(jail)
            if jail.uid is not None:
                self._identities.give_back(jail.uid)
            if group is not None and self._groups is not None:
                self._groups.remove(group)


async def prove_isolation(data_dir: Path, *, allow_degraded: bool = False) -> Isolation:
    """What this machine can do, by a real start that is ended again. NoIsolation when it can do nothing."""
    server = WarmServer(data_dir=data_dir, preload=(), allow_degraded=allow_degraded)
    isolation = await server.start()
    await server.close()
    return isolation


def _plan(spec: JailSpec, uid: int | None, rung: Rung, data_dir: Path, door: Path | None) -> Plan:
    """The warm process's orders, after the host side of the folders is in order."""
    shared = [mount.source for mount in spec.mounts if not mount.read_only]
    temporary = spec.workspace.with_name(spec.workspace.name + TEMPORARY)
    if rung is Rung.LANDLOCK:  # what stands for /tmp is empty at every start
        remove_tree(temporary)
        temporary.mkdir(mode=0o700)
    if uid is not None:
        identity.own(spec.workspace, uid)
        for folder in shared:
            identity.share(folder)
    groups = [identity.SHARED_GROUP] if uid is not None and shared else []
    if uid is not None and rung is Rung.LANDLOCK:
        os.chown(temporary, uid, uid, follow_symlinks=False)
        groups.append(identity.PASSAGE_GROUP)
        for folder in (spec.workspace, *(mount.source for mount in spec.mounts)):
            identity.let_pass(folder.parent, data_dir)
    limits: dict[str, Any] = asdict(spec.limits)
    return Plan(
        id=spec.id,
        rung=rung,
        uid=uid,
        groups=groups,
        shared=uid is not None and bool(shared),
        control_group=None if door is None else str(door),
        workspace=str(spec.workspace),
        mounts=[(str(mount.source), mount.target, mount.read_only) for mount in spec.mounts],
        **limits,
    )
