"""Which sandbox server to use, and with which key."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal, Self

from fleet_rlm.integrations.daytona.direct import Door

CLOUD_API_URL = "https://app.daytona.io/api"


TransportChoice = Literal["auto", "terminal", "session"]


@dataclass(frozen=True, slots=True)
class PoolSizes:
    """How many started sandboxes wait to be used: `bare` without mounts, `mounted` per set of mounts in use.

    They are made when no sandbox has been asked for, started or ended for `quiet_s` seconds. `ready`: so many of the
    bare ones while nobody uses a sandbox. `burst`: so many at most, made then too, are kept for `habit_s` seconds after
    as many were asked for at once. All kinds together stay within the larger of the two. What nobody takes for `idle_s`
    is given up. One that could not be made is tried again after `pause_s`, as long as somebody asked within `idle_s`.
    One that has done its work is deleted `retire_s` seconds later while others are in use (up to `burst`
    of them wait for that).
    """

    bare: int = 0
    mounted: int = 0
    quiet_s: float = 0.0
    ready: int = 0
    burst: int = 0
    habit_s: float = 120.0
    idle_s: float = 300.0
    retire_s: float = 0.0
    pause_s: float = 15.0


CLOUD_POOL = PoolSizes(bare=1, mounted=2)  # there a start takes longer than most cells
# Here a start takes some 50 ms of this machine's processors, an end 10: made ahead for the next turn, never beside a
# turn's own, and ended when the turn's runs have their answers.
# `burst`: as many as a turn may have, unless its limits say otherwise.
LOCAL_POOL = PoolSizes(bare=1, quiet_s=0.3, ready=32, burst=64, retire_s=1.0)
IDLE_SANDBOX_BYTES = 10_000_000  # docs/performance.md
IDLE_SANDBOX_PROCESSES = 3
MOST_SPARES, SPARE_BYTES = 64, 4 << 20  # page tables and the kernel's own memory included
READY_SHARE, BURST_SHARE = 64, 32  # what waits takes these parts of the memory, and of the processes, at most


def local_pool(memory: int, processes: int | None = None) -> PoolSizes:
    """What can be kept waiting where sandboxes may use so many bytes of memory and (None: any number of) processes."""
    most = LOCAL_POOL.burst if processes is None else processes // BURST_SHARE // IDLE_SANDBOX_PROCESSES
    ready = min(LOCAL_POOL.ready, most, memory // READY_SHARE // IDLE_SANDBOX_BYTES)
    burst = min(LOCAL_POOL.burst, most, memory // BURST_SHARE // IDLE_SANDBOX_BYTES)
    return replace(LOCAL_POOL, ready=ready, burst=burst)


def local_spares(memory: int, processes: int | None = None) -> int:
    """How many sandboxes the local server begins before anybody asks for one, see `local_pool`."""
    most = MOST_SPARES if processes is None else processes // BURST_SHARE
    return min(MOST_SPARES, most, memory // READY_SHARE // SPARE_BYTES)


@dataclass(frozen=True, slots=True)
class DaytonaSettings:
    """One server. `isolation` is the level it proved, or who is trusted to isolate; the key is never printed.

    `transport`: how to talk to the Python in a sandbox: by a terminal's WebSocket, by plain requests of a session
    command, or (auto) by the second where the first cannot be opened, and past a local server where it has a `door`.
    Where mounts cannot be made read-only, each sandbox checks the contexts that it finds before it uses them. `alive`
    looks after a server of our own.
    """

    api_key: str = field(repr=False)
    api_url: str
    target: str | None
    provider: Literal["local", "daytona"]
    isolation: str
    pool: PoolSizes = PoolSizes()
    door: Door | None = field(default=None, repr=False, compare=False)
    transport: TransportChoice = "auto"
    read_only_mounts: bool = False
    alive: Callable[[], bool] | None = field(default=None, repr=False, compare=False)

    @property
    def runs(self) -> bool:
        """Whether the server runs, as far as we can know."""
        return self.alive is None or self.alive()

    @classmethod
    def cloud(cls, *, api_key: str, api_url: str | None = None, target: str | None = None) -> Self:
        """Daytona itself, or a server of one's own that speaks its API."""
        return cls(api_key, api_url or CLOUD_API_URL, target, "daytona", "daytona", CLOUD_POOL)
