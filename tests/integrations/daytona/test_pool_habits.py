"""What the pool keeps ready: few by default, many where many were wanted at once, and not for longer than that lasts."""

import asyncio
import itertools
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from fleet_rlm.errors import SandboxUnavailable
from fleet_rlm.integrations.daytona.pool import Pool
from fleet_rlm.integrations.daytona.settings import PoolSizes
from fleet_rlm.integrations.daytona.source import SandboxHandle, SandboxSpec, VolumeMountSpec

SIZES = PoolSizes(bare=1, quiet_s=0.05, burst=6, habit_s=60.0)
BARE = SandboxSpec()
MOUNTED = SandboxSpec(mounts=(VolumeMountSpec("data", "/data"),))


class Place:
    """Makes handles in place of sandboxes, and counts."""

    def __init__(self, sizes: PoolSizes) -> None:
        self._numbers = itertools.count()
        self.deleted: list[str] = []
        self.broken = 0  # so many more cannot be made
        self.making = self.most_at_once = self.in_use = 0
        self.pool = Pool(sizes, self.make, self.alive, self.delete)

    async def make(self, spec: SandboxSpec) -> SandboxHandle:
        self.making += 1
        self.most_at_once = max(self.most_at_once, self.making)
        await asyncio.sleep(0.001)
        self.making -= 1
        if self.broken:
            self.broken -= 1
            raise SandboxUnavailable("not now")
        return SandboxHandle(f"sbx_{next(self._numbers)}", "http://localhost")

    def delete(self, handle: SandboxHandle) -> None:
        self.deleted.append(handle.id)
        self.pool.ended(handle.id)  # as the runtime tells it of every sandbox

    async def alive(self, handle: SandboxHandle) -> bool:
        return handle.id not in self.deleted

    async def burst(self, number: int, spec: SandboxSpec = BARE) -> int:
        """Ask for so many at once, and let them end soon after; how many were ready."""
        taken = await asyncio.gather(*(self.pool.take(spec) for _ in range(number)))
        ids = [handle.id if handle is not None else f"made {place}" for place, handle in enumerate(taken)]
        for id in ids:
            self.pool.given(id)
        await asyncio.sleep(0.1)
        self.in_use = self.pool.idle
        for id in ids:
            self.pool.ended(id)
        return sum(handle is not None for handle in taken)

    async def idle_is(self, number: int) -> bool:
        for _ in range(400):
            if self.pool.idle == number:
                await asyncio.sleep(0.1)
                return self.pool.idle == number
            await asyncio.sleep(0.01)
        return False


def run(test: Callable[[Place], Coroutine[Any, Any, None]], sizes: PoolSizes = SIZES) -> None:
    async def whole() -> None:
        place = Place(sizes)
        try:
            await test(place)
        finally:
            await place.pool.close()
        assert place.pool.idle == 0

    asyncio.run(whole())


@pytest.mark.parametrize("spec", [BARE, MOUNTED])
def test_as_many_as_were_wanted_at_once_are_kept_ready(spec: SandboxSpec) -> None:
    async def test(place: Place) -> None:
        assert await place.burst(4, spec) == 0
        assert place.in_use == (0 if spec.mounts else 1), "not while they are used"
        assert await place.idle_is(4)
        assert await place.burst(5, spec) == 4
        assert await place.idle_is(5)
        assert place.most_at_once <= 2

    run(test)


def test_one_at_a_time_needs_one() -> None:
    async def test(place: Place) -> None:
        for _ in range(3):
            await place.burst(1)
        assert await place.idle_is(1)

    run(test)


def test_some_are_ready_while_nobody_uses_one() -> None:
    async def test(place: Place) -> None:
        assert await place.burst(1) == 0
        assert place.in_use == 1
        assert await place.idle_is(3)
        assert await place.burst(1, MOUNTED) == 0, "of those with mounts none"
        assert place.in_use == 3

    run(test, PoolSizes(bare=1, quiet_s=0.05, ready=3, burst=6))


def test_what_is_expected_is_ready_before_anybody_asks() -> None:
    async def test(place: Place) -> None:
        place.pool.expect(BARE)
        assert await place.idle_is(3)
        assert await place.burst(1) == 1

    run(test, PoolSizes(bare=1, quiet_s=0.05, ready=3, burst=6))


def test_one_that_could_not_be_made_is_tried_again() -> None:
    async def test(place: Place) -> None:
        place.broken = 2
        assert await place.burst(1) == 0
        assert await place.idle_is(1)

    run(test, PoolSizes(bare=1, quiet_s=0.05, burst=6, pause_s=0.2))


def test_no_more_than_the_bound() -> None:
    async def test(place: Place) -> None:
        await place.burst(20)
        assert await place.idle_is(6)

    run(test)


def test_a_habit_ends() -> None:
    async def test(place: Place) -> None:
        await place.burst(4)
        assert await place.idle_is(4)
        assert await place.idle_is(1)
        assert len(place.deleted) == 3

    run(test, PoolSizes(bare=1, quiet_s=0.02, burst=6, habit_s=1.0))


def test_what_nobody_takes_is_given_up_and_not_made_again() -> None:
    async def test(place: Place) -> None:
        await place.burst(1)
        assert await place.idle_is(3)
        await asyncio.sleep(1.0)
        assert place.pool.idle == 0 and len(place.deleted) == 3
        assert await place.burst(1) == 0
        assert await place.idle_is(3), "until one is asked for again"

    run(test, PoolSizes(bare=1, quiet_s=0.05, ready=3, idle_s=0.5))


def test_all_kinds_together_stay_within_the_bound() -> None:
    async def test(place: Place) -> None:
        for name in ("a", "b", "c"):
            await place.burst(5, SandboxSpec(mounts=(VolumeMountSpec(name, "/data"),)))
            await asyncio.sleep(0.2)
        await place.burst(1)
        await asyncio.sleep(0.4)
        assert place.pool.idle == 7, "six, and the one that is usual"

    run(test)


def test_nothing_is_made_while_others_are_at_work() -> None:
    async def test(place: Place) -> None:
        await place.pool.take(BARE)
        for number in range(15):  # longer than the quiet time together, each far shorter
            await asyncio.sleep(0.1)
            place.pool.given(f"another {number}")
        assert place.pool.idle == 0
        assert await place.idle_is(1), "the one that is usual"

    run(test, PoolSizes(bare=1, quiet_s=1.0, burst=6))
