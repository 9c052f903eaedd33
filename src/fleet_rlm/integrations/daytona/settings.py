"""Which sandbox server to use, and with which key."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Self

CLOUD_API_URL = "https://app.daytona.io/api"


TransportChoice = Literal["auto", "terminal", "session"]


@dataclass(frozen=True, slots=True)
class PoolSizes:
    """How many started sandboxes wait to be used: `bare` without mounts, `mounted` per set of mounts in use.

    They are made when nobody has asked for a sandbox for `quiet_s` seconds.
    """

    bare: int = 0
    mounted: int = 0
    quiet_s: float = 0.0


CLOUD_POOL = PoolSizes(bare=1, mounted=2)  # there a start takes longer than most cells
# Here a start takes some 50 ms of this machine's processors: made ahead for the next turn, never beside a turn's own.
LOCAL_POOL = PoolSizes(bare=1, quiet_s=0.3)


@dataclass(frozen=True, slots=True)
class DaytonaSettings:
    """One server. `isolation` is the level it proved, or who is trusted to isolate; the key is never printed.

    `transport`: how to talk to the Python in a sandbox: by a terminal's WebSocket, by plain requests of a session
    command, or (auto) by the second where the first cannot be opened. Where mounts cannot be made read-only, each
    sandbox checks the contexts that it finds before it uses them.
    """

    api_key: str = field(repr=False)
    api_url: str
    target: str | None
    provider: Literal["local", "daytona"]
    isolation: str
    pool: PoolSizes = PoolSizes()
    transport: TransportChoice = "auto"
    read_only_mounts: bool = False

    @classmethod
    def cloud(cls, *, api_key: str, api_url: str | None = None, target: str | None = None) -> Self:
        """Daytona itself, or a server of one's own that speaks its API."""
        return cls(api_key, api_url or CLOUD_API_URL, target, "daytona", "daytona", CLOUD_POOL)
