"""Making sandboxes and volumes by the SDK: every try carries a label of its own, so that nothing leaks."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from pydantic import ValidationError

from fleet_rlm.errors import SandboxUnavailable
from fleet_rlm.integrations.daytona.client import DaytonaClient
from fleet_rlm.integrations.daytona.owner import own_labels
from fleet_rlm.integrations.daytona.retry import retried
from fleet_rlm.integrations.daytona.said import first_line
from fleet_rlm.integrations.daytona.source import ContextMount, SandboxSpec, VolumeMountSpec

if TYPE_CHECKING:
    from daytona import AsyncSandbox, CreateSandboxFromSnapshotParams
    from daytona.common.volume import Volume

CREATE_S = 60.0
RETRY_CREATE_S = 25.0
VOLUME_READY_S = 30.0
READ_ONLY_LABEL = "sandboxd.read-only-mounts"  # sandboxd's own; Daytona takes it for an ordinary label
CREATE_LABEL = "fleet.create"  # finds a sandbox whose creation was answered by something unreadable
_NOT_MADE = frozenset({400, 401, 403, 404, 409, 422, 429})  # refused before anything was made


class Maker:
    """Everything here runs on one event loop. `leaked(marker)` is told of creations that may have left a sandbox."""

    def __init__(self, client: Callable[[], DaytonaClient], leaked: Callable[[str], None]) -> None:
        self._client = client
        self._leaked = leaked
        self._volumes: dict[str, str] = {}

    async def make(self, spec: SandboxSpec) -> AsyncSandbox:
        """A started sandbox. SandboxUnavailable when there is none to be had after a few tries."""
        from daytona import DaytonaError

        try:
            return await retried(lambda: self._try(spec), give_up_s=RETRY_CREATE_S)
        except (DaytonaError, ValidationError, OSError) as error:
            raise unavailable(error) from error

    async def _try(self, spec: SandboxSpec) -> AsyncSandbox:
        params = await self._params(spec)
        marker = (params.labels or {})[CREATE_LABEL]
        try:
            return await self._client().sdk().create(params, timeout=CREATE_S)
        except BaseException as error:
            if getattr(error, "status_code", None) not in _NOT_MADE:
                self._leaked(marker)
            raise

    async def _params(self, spec: SandboxSpec) -> CreateSandboxFromSnapshotParams:
        from daytona import CreateSandboxFromSnapshotParams, VolumeMount

        mounts = [m.volume_mount() if isinstance(m, ContextMount) else m for m in spec.mounts]
        volumes = [
            VolumeMount(volume_id=await self.volume_id(m.volume), mount_path=m.path, subpath=m.subpath) for m in mounts
        ]
        return CreateSandboxFromSnapshotParams(
            language="python",
            labels=labels_of(spec.labels, mounts, uuid.uuid4().hex),
            volumes=volumes,
            ephemeral=spec.ephemeral,
            auto_stop_interval=spec.auto_stop_minutes,
            ttl_minutes=spec.ttl_minutes,
            network_block_all=spec.network_block_all,
        )

    async def volume_id(self, name: str) -> str:
        """The id of a volume, made when there is none of that name."""
        if name not in self._volumes:
            self._volumes[name] = (await self._volume(name)).id
        return self._volumes[name]

    def forget_volume(self, name: str) -> None:
        """It was deleted."""
        self._volumes.pop(name, None)

    async def _volume(self, name: str) -> Volume:
        from daytona import DaytonaConflictError

        service = self._client().sdk().volume
        try:
            volume = await retried(lambda: service.get(name, create=True))
        except DaytonaConflictError:  # somebody else made it at this moment
            volume = await retried(lambda: service.get(name))
        async with asyncio.timeout(VOLUME_READY_S):
            while state_of(volume) != "ready":
                await asyncio.sleep(0.1)
                volume = await retried(lambda: service.get(name))
        return volume


def labels_of(labels: Mapping[str, str], mounts: Sequence[VolumeMountSpec], marker: str) -> dict[str, str]:
    """All labels of a new sandbox: the caller's, its maker's, and what the server or a search needs."""
    read_only = ",".join(mount.path for mount in mounts if mount.read_only)
    found = {**own_labels(), **labels, CREATE_LABEL: marker}
    return {**found, READ_ONLY_LABEL: read_only} if read_only else found


def state_of(thing: AsyncSandbox | Volume) -> str:
    """The state of a sandbox or volume as a word."""
    return str(getattr(thing.state, "value", thing.state))


def unavailable(error: Exception) -> SandboxUnavailable:
    """What the SDK raised, as one line for a person."""
    text = first_line(error, 500) or type(error).__name__
    status = getattr(error, "status_code", None)
    hint = "check DAYTONA_API_KEY and its permissions" if status in (401, 403) else None
    if isinstance(error, ValidationError):
        text = f"the server's answer does not fit this version of the Daytona SDK: {text}"
    return SandboxUnavailable(f"no sandbox: {text}", hint=hint)
