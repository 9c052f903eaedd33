"""Direct lines: a warm script on a socket of the process that started this server, with no server in between.

That process may keep one end of a SOCK_SEQPACKET pair, whose other end this server is given at its start. A message
there names a sandbox and a warm script and carries one to four sockets: the first becomes the script's standard input
and output, those after it its descriptors from 3 on. Nothing of what passes on them is seen here. Only the processes
that were given the door have it, so it needs no key. A refusal is one line of JSON on the first socket, `{"status",
"code", "error"}`; else the script speaks first.
"""

from __future__ import annotations

import asyncio
import os
import socket
from typing import Final

import msgspec

from fleet_rlm.sandboxd.activity import in_use
from fleet_rlm.sandboxd.errors import ApiError, bad_request
from fleet_rlm.sandboxd.jail.inside import wire
from fleet_rlm.sandboxd.jail.spec import JailClosed
from fleet_rlm.sandboxd.sandboxes import Sandboxes

_TURN: Final = 64  # requests read before others are served
_MOST: Final = 4  # sockets with one request


class _Request(msgspec.Struct):
    sandbox: str
    script: str


class Lines:
    """The door of direct lines. It takes the socket over."""

    def __init__(self, door: socket.socket, sandboxes: Sandboxes) -> None:
        door.setblocking(False)
        self._door = door
        self._sandboxes = sandboxes
        self._open: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Begin to take requests, on the running loop."""
        asyncio.get_running_loop().add_reader(self._door.fileno(), self._read)

    def close(self) -> None:
        """Take no more. The lines that are open end with their sandboxes."""
        asyncio.get_running_loop().remove_reader(self._door.fileno())
        self._door.close()

    def _read(self) -> None:
        for _ in range(_TURN):
            try:
                received = wire.receive(self._door)
            except BlockingIOError:
                return
            except (OSError, ValueError):
                received = None
            if received is None:  # nobody has the other end any more
                asyncio.get_running_loop().remove_reader(self._door.fileno())
                return
            task = asyncio.get_running_loop().create_task(self._serve(*received))
            self._open.add(task)
            task.add_done_callback(self._open.discard)

    async def _serve(self, message: wire.Message, fds: list[int]) -> None:
        """One line, from the request to the end of its script. The sandbox is in use meanwhile."""
        try:
            await self._run(message, fds)
        except (ApiError, OSError) as error:
            refusal = error if isinstance(error, ApiError) else bad_request(f"the line could not be opened: {error}")
            if fds:
                _tell(fds[0], refusal)
        finally:
            for fd in fds:
                os.close(fd)

    async def _run(self, message: wire.Message, fds: list[int]) -> None:
        try:
            asked = msgspec.convert(message, _Request)
        except msgspec.ValidationError as error:
            raise bad_request(f"a line is asked for with a sandbox and a script: {error}") from error
        if not 1 <= len(fds) <= _MOST:
            raise bad_request(f"a line is asked for with one to {_MOST} sockets")
        with in_use(self._sandboxes, asked.sandbox) as sandbox:
            if not self._sandboxes.has_script(asked.script):
                raise bad_request("there is no warm script with this hash")
            try:
                process = await sandbox.running().line(asked.script, fds)
            except JailClosed:  # the script may have spoken already: after that there is nothing to be told
                return
            while fds:
                os.close(fds.pop())  # the script's alone: its end is the end of the line
            await process.wait()


def _tell(fd: int, refusal: ApiError) -> None:
    told = {"status": refusal.status, "code": refusal.code, "error": refusal.message}
    try:
        os.write(fd, msgspec.json.encode(told) + b"\n")
    except OSError:
        return  # who asked is gone
