"""The border to the jail without a jail: nothing runs in it. For tests of what lies above the border only, where
isolation and processes do not matter: intervals, quotas, limits of number."""

from __future__ import annotations

import asyncio

from fleet_rlm.sandboxd.jail.spec import Isolation, JailSpec, Rung


class FakeJail:
    def __init__(self, spec: JailSpec) -> None:
        self.spec = spec
        self.closed = asyncio.Event()

    async def kill(self) -> None:
        self.closed.set()


class FakeWarm:
    def has_script(self, sha256: str) -> bool:
        return False

    async def start(self) -> Isolation:
        return Isolation(rung=4, name=Rung.NONE, detail="a fake for tests", ok=False)

    async def spawn(self, spec: JailSpec) -> FakeJail:
        return FakeJail(spec)

    async def close(self) -> None:
        return None
