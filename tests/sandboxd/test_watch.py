"""Intervals, quotas and lost jails, over the fake jail with a clock that the test moves."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from fake_jail import FakeWarm

from fleet_rlm.sandboxd.errors import ApiError
from fleet_rlm.sandboxd.models import CreateSandbox, State, VolumeMount
from fleet_rlm.sandboxd.sandboxes import Sandboxes
from fleet_rlm.sandboxd.settings import Bounds, Settings
from fleet_rlm.sandboxd.store import Store
from fleet_rlm.sandboxd.volumes import READ_ONLY_LABEL, Volumes
from fleet_rlm.sandboxd.watch import Watch


class World:
    def __init__(self, data, bounds: Bounds) -> None:
        self.time = 1_000_000_000.0
        settings = Settings(host="127.0.0.1", port=1, api_key="k", data=data, bounds=bounds)
        self.store = Store(data)
        self.store.open()
        self.volumes = Volumes(self.store, bounds)
        self.sandboxes = Sandboxes(self.store, self.volumes, FakeWarm(), settings, now=lambda: self.time)
        self.watch = Watch(self.sandboxes, self.volumes, bounds)

    async def create(self, **fields):
        return await self.sandboxes.create(CreateSandbox(**fields))

    async def after(self, minutes: float) -> None:
        self.time += minutes * 60
        await self.watch.check_time()

    def states(self) -> dict[str, State]:
        return {s.record.name: s.state for s in self.sandboxes.all()}


@contextlib.asynccontextmanager
async def world(tmp_path, **bounds) -> AsyncIterator[World]:
    made = World(tmp_path / "data", replace(Bounds(), **bounds))
    yield made
    for sandbox in made.sandboxes.all():
        await made.sandboxes.delete(sandbox.record.id)
    await made.sandboxes.close()


def test_intervals_are_enforced(tmp_path):
    async def run() -> None:
        async with world(tmp_path) as w:
            await w.create(name="stops", auto_stop_interval=10)
            await w.create(name="stays", auto_stop_interval=0)
            await w.create(name="ephemeral", auto_stop_interval=10, auto_delete_interval=0)
            await w.create(name="deleted later", auto_stop_interval=10, auto_delete_interval=5)
            await w.create(name="short life", auto_stop_interval=0, ttl_minutes=12)
            busy = await w.create(name="busy", auto_stop_interval=10)
            busy.requests = 1  # a socket is open
            await w.after(9)
            assert set(w.states().values()) == {State.STARTED}
            await w.after(1.1)
            assert w.states() == {
                "stops": State.STOPPED,
                "stays": State.STARTED,
                "deleted later": State.STOPPED,
                "short life": State.STARTED,
                "busy": State.STARTED,
            }
            await w.after(2)
            assert "short life" not in w.states()
            await w.after(3)
            assert "deleted later" not in w.states()
            busy.requests, busy.last_activity = 0, w.time
            await w.after(9)
            assert w.states()["busy"] is State.STARTED
            await w.after(2)
            assert w.states()["busy"] is State.STOPPED

    asyncio.run(run())


def test_a_full_workspace_ends_the_sandbox_and_keeps_its_files(tmp_path):
    async def run() -> None:
        async with world(tmp_path, volume_size=1 << 20) as w:
            sandbox = await w.create(name="small", disk=1, auto_delete_interval=0)
            other = await w.create(name="other")
            await w.watch.check_disk()
            assert sandbox.state is State.STARTED
            folder = w.sandboxes.workspace(sandbox)
            (folder / "holes").write_bytes(b"")
            with (folder / "holes").open("r+b") as file:
                file.truncate(5 << 30)  # a sparse file takes no room
            await w.watch.check_disk()
            assert sandbox.state is State.STARTED
            sandbox.record.disk = 0
            (folder / "data").write_bytes(b"x" * 100_000)
            await w.watch.check_disk()
            assert sandbox.state is State.ERROR and "larger than" in sandbox.record.error_reason
            assert (folder / "data").exists() and other.state is State.STARTED
            with pytest.raises(ApiError):
                sandbox.running()
            await w.after(2)
            assert set(w.states()) == {"other"}, "an ephemeral sandbox that failed does not stay for ever"

    asyncio.run(run())


def test_a_full_volume_ends_only_who_can_write_it(tmp_path):
    async def run() -> None:
        async with world(tmp_path, volume_size=1 << 20) as w:
            volume = w.volumes.create("v")
            mounts = [VolumeMount(volume_id="v", mount_path="/data")]
            writer = await w.create(name="writer", volumes=mounts)
            reader = await w.create(name="reader", volumes=mounts, labels={READ_ONLY_LABEL: "/data"})
            (w.volumes.folder(volume) / "big").write_bytes(b"x" * (2 << 20))
            await w.watch.check_disk()
            assert (writer.state, reader.state) == (State.ERROR, State.STARTED)

    asyncio.run(run())


def test_a_jail_that_ends_by_itself_is_noticed(tmp_path):
    async def run() -> None:
        async with world(tmp_path) as w:
            sandbox = await w.create(name="lost")
            await sandbox.jail.kill()
            async with asyncio.timeout(10):
                while sandbox.state is State.STARTED:
                    await asyncio.sleep(0.01)
            assert sandbox.state is State.ERROR
            assert (await w.sandboxes.start("lost")).state is State.STARTED
            assert sandbox.record.error_reason is None

    asyncio.run(run())


def test_limits_of_number(tmp_path):
    async def run() -> None:
        async with world(tmp_path, sandboxes=3, running=2, volumes=1) as w:
            await w.create(name="1")
            await w.create(name="2")
            with pytest.raises(ApiError) as raised:
                await w.create(name="3")
            assert raised.value.code == "LIMIT_REACHED" and set(w.states()) == {"1", "2"}
            await w.sandboxes.stop("1")
            await w.create(name="3")
            with pytest.raises(ApiError):
                await w.create(name="4")
            w.volumes.create("a")
            with pytest.raises(ApiError):
                w.volumes.create("b")

    asyncio.run(run())


def test_a_full_disk_takes_no_sandbox(tmp_path):
    async def run() -> None:
        async with world(tmp_path, free_disk=1 << 60) as w:
            with pytest.raises(ApiError) as raised:
                await w.create()
            assert raised.value.status == 507 and w.states() == {}

    asyncio.run(run())
