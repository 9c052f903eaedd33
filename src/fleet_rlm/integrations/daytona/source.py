"""Where an interpreter's sandboxes come from: the part of a runtime that an interpreter uses."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from fleet_rlm.integrations.daytona.transport import Transport

CONTEXTS_ROOT = "/contexts"
CONTEXTS_VOLUME = "fleet-contexts"


@dataclass(frozen=True, slots=True)
class VolumeMountSpec:
    """A folder of a named volume, seen at `path` in the sandbox."""

    volume: str
    path: str
    subpath: str | None = None
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class ContextMount:
    """A context by its content, mounted read-only at /contexts/<sha256>."""

    sha256: str

    def volume_mount(self) -> VolumeMountSpec:
        """The same as a plain volume mount."""
        return VolumeMountSpec(CONTEXTS_VOLUME, f"{CONTEXTS_ROOT}/{self.sha256}", self.sha256, read_only=True)


@dataclass(frozen=True, slots=True)
class SandboxSpec:
    """What a sandbox should be. `ttl_minutes` is absolute: it is deleted then, whatever happens (0: never).

    `ephemeral`: it is deleted when it stops. `auto_stop_minutes` 0: it does not stop by itself, because waiting for
    a model is no activity.
    """

    labels: Mapping[str, str] = field(default_factory=dict[str, str])
    mounts: tuple[ContextMount | VolumeMountSpec, ...] = ()
    ttl_minutes: int = 24 * 60
    network_block_all: bool = True
    ephemeral: bool = True
    auto_stop_minutes: int = 0

    @property
    def poolable(self) -> bool:
        """Whether any sandbox of the same mounts and network does as well."""
        return self.ephemeral and not self.auto_stop_minutes


@dataclass(frozen=True, slots=True)
class SandboxHandle:
    """A sandbox that exists. `toolbox_url` is the address of its own API."""

    id: str
    toolbox_url: str


@dataclass(frozen=True, slots=True)
class SandboxInfo:
    """A sandbox as the server lists it."""

    id: str
    state: str
    labels: Mapping[str, str]


class SandboxSource(Protocol):
    """Makes sandboxes and terminals in them. The coroutines run on `loop`."""

    contexts_root: str

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop of the background thread on which everything asynchronous runs."""
        ...

    @property
    def provider(self) -> str:
        """local or daytona."""
        ...

    @property
    def isolation(self) -> str:
        """One word or sentence for a person on how the sandboxes are kept apart."""
        ...

    async def acquire(self, spec: SandboxSpec) -> SandboxHandle:
        """A started sandbox. SandboxUnavailable when there is none to be had."""
        ...

    def marks(self, spec: SandboxSpec) -> Mapping[str, tuple[str, str]]:
        """Context -> SHA-256 of its index.json and data, where the sandbox has to check what it finds mounted."""
        ...

    def terminal(self, handle: SandboxHandle) -> Transport:
        """A terminal in it, not yet opened."""
        ...

    def delete(self, handle: SandboxHandle) -> None:
        """Any thread: let it be deleted in the background."""
        ...

    def retire(self, handle: SandboxHandle) -> None:
        """Any thread: as `delete`, but it has done its work, nothing runs in it, and its end may wait a little."""
        ...
