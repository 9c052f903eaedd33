"""Durable volumes: listed, made, deleted, and browsed through one small sandbox per volume that stops by itself."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

from fleet_rlm.errors import InvalidInput
from fleet_rlm.integrations.daytona.creation import state_of
from fleet_rlm.integrations.daytona.filesystem import Files, file_errors
from fleet_rlm.integrations.daytona.retry import retried
from fleet_rlm.integrations.daytona.runtime import SandboxRuntime
from fleet_rlm.integrations.daytona.source import SandboxHandle, SandboxSpec, VolumeMountSpec

VOLUME_PATH = "/volume"
IDLE_MINUTES = 5  # then the server stops the helper, which deletes it
CHECK_S = 60.0  # a helper that was used within this time is taken to be alive
PURPOSE = {"fleet.purpose": "browse"}


@dataclass(frozen=True, slots=True)
class VolumeInfo:
    """A volume as the server lists it. `used` is RFC 3339 or None."""

    id: str
    name: str
    state: str
    used: str | None


class Volumes:
    """The volumes of one server."""

    def __init__(self, runtime: SandboxRuntime) -> None:
        self._runtime = runtime
        self._lock = threading.Lock()
        self._helpers: dict[str, tuple[SandboxHandle, float]] = {}

    def list(self) -> list[VolumeInfo]:
        """Every volume, by name."""
        with file_errors("volumes"):
            found = self._runtime.call(retried(lambda: self._runtime.client.sdk().volume.list()))
        infos = [VolumeInfo(v.id, v.name, state_of(v), str(v.last_used_at) if v.last_used_at else None) for v in found]
        return sorted(infos, key=lambda info: info.name)

    def make(self, name: str) -> str:
        """The id of the volume of this name, which is made when there is none."""
        if not name or len(name) > 100 or "/" in name:
            raise InvalidInput("a volume's name has 1 to 100 characters and no '/'")
        with file_errors(f"volume {name}"):
            return self._runtime.call(self._runtime.maker.volume_id(name))

    def delete(self, name: str) -> None:
        """Delete a volume that no sandbox uses. NotFound, or Conflict when one does."""
        self.close(name)
        service = self._runtime.client.sdk().volume

        async def remove() -> None:
            await service.delete(await retried(lambda: service.get(name)))

        with file_errors(f"volume {name}"):
            self._runtime.call(remove())
        self._runtime.maker.forget_volume(name)

    def browse(self, name: str) -> Files:
        """The files of a volume (which must be there). The first call starts its helper, later ones find it."""
        with self._lock:
            known = self._helpers.get(name)
            if known is None or not self._lives(known):
                with file_errors(f"volume {name}"):
                    self._runtime.call(retried(lambda: self._runtime.client.sdk().volume.get(name)))
                known = (self._start(name), 0.0)
            handle = known[0]
            self._helpers[name] = (handle, time.monotonic())
        return Files(self._runtime, handle, VOLUME_PATH, whole_objects=True)

    def close(self, name: str | None = None) -> None:
        """Let go of the helper of one volume, or of all."""
        with self._lock:
            names = list(self._helpers) if name is None else [name] if name in self._helpers else []
            handles = [self._helpers.pop(each)[0] for each in names]
        for handle in handles:
            self._runtime.delete_now(handle)

    def _start(self, name: str) -> SandboxHandle:
        labels = {**PURPOSE, "fleet.volume": name}
        mount = VolumeMountSpec(name, VOLUME_PATH)
        return self._runtime.create(
            SandboxSpec(labels=labels, mounts=(mount,), ttl_minutes=12 * 60, auto_stop_minutes=IDLE_MINUTES)
        )

    def _lives(self, known: tuple[SandboxHandle, float]) -> bool:
        handle, used = known
        return time.monotonic() - used < CHECK_S or self._runtime.call(self._runtime.runs(handle))
