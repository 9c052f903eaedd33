"""All doors of this server: opened when a preview link is asked for, closed when their sandbox is deleted."""

from __future__ import annotations

import asyncio
import ipaddress
from typing import Final

from fleet_rlm.sandboxd.door_keys import Keys
from fleet_rlm.sandboxd.doors import Door
from fleet_rlm.sandboxd.errors import ApiError, bad_request, conflict
from fleet_rlm.sandboxd.feed import Change
from fleet_rlm.sandboxd.models import State
from fleet_rlm.sandboxd.sandboxes import Sandbox, Sandboxes
from fleet_rlm.sandboxd.settings import Settings

_NETWORK: Final = ipaddress.ip_network("127.64.0.0/10")
_PORTS: Final = 65_535
_SECONDS: Final = 86_400


class Previews:
    """Doors by sandbox and port; every sandbox with a door has a loopback address of its own."""

    def __init__(self, sandboxes: Sandboxes, settings: Settings) -> None:
        self._sandboxes = sandboxes
        self._settings = settings
        self._doors: dict[str, dict[int, Door]] = {}
        self._addresses: dict[str, str] = {}
        self._next = 1
        self._opening = asyncio.Lock()
        sandboxes.feed.add(self._changed)

    async def door(self, sandbox: Sandbox, port: int) -> Door:
        """The door to a port, opened when it is asked for the first time."""
        if not 1 <= port <= _PORTS:
            raise bad_request(f"port is {port}; it must be between 1 and {_PORTS}")
        async with self._opening:
            doors = self._doors.setdefault(sandbox.record.id, {})
            if port not in doors:
                if len(doors) >= self._settings.bounds.previews:
                    raise conflict(f"{len(doors)} ports of this sandbox have previews already", "LIMIT_REACHED")
                door = Door(sandbox, port, Keys(self._settings.api_key, self._sandboxes.now))
                try:
                    await door.open(self._address(sandbox.record.id))
                except OSError as error:
                    raise ApiError(503, f"no address for a preview: {error.strerror or error}") from error
                doors[port] = door
                if sandbox.state is State.DESTROYED:  # while the door was being opened
                    self._close(sandbox.record.id)
            return doors[port]

    async def sign(self, sandbox: Sandbox, port: int, seconds: int) -> tuple[Door, str]:
        """A door and a token that opens it for a while."""
        if not 1 <= seconds <= _SECONDS:
            raise bad_request(f"expiresInSeconds is {seconds}; it must be between 1 and {_SECONDS}")
        door = await self.door(sandbox, port)
        return door, door.keys.sign(seconds)

    def expire(self, sandbox: Sandbox, port: int, token: str) -> bool:
        """Let a signed token open nothing from now on; whether it was one."""
        door = self._doors.get(sandbox.record.id, {}).get(port)
        return door is not None and door.keys.signed.pop(token, None) is not None

    def close(self) -> None:
        """Close every door."""
        self._sandboxes.feed.remove(self._changed)
        for name in tuple(self._doors):
            self._close(name)

    def _changed(self, change: Change) -> None:
        if change.sandbox.state is State.DESTROYED:
            self._close(change.sandbox.record.id)

    def _close(self, name: str) -> None:
        for door in self._doors.pop(name, {}).values():
            door.close()
        self._addresses.pop(name, None)

    def _address(self, name: str) -> str:
        """An address that no other living sandbox has; one is not given again before all others were."""
        taken = set(self._addresses.values())
        while name not in self._addresses:
            address = str(_NETWORK[self._next])
            self._next = self._next % (_NETWORK.num_addresses - 2) + 1
            if address not in taken:
                self._addresses[name] = address
        return self._addresses[name]
