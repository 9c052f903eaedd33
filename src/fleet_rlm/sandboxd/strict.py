"""Strict mode, for tests: the faults that clients of a far server meet, on purpose and often.

- a new sandbox answers its first requests with 502;
- of the control API's requests some end in 503, 429 or half an answer, and some creations in 502 though they worked;
- a terminal's first control message comes 100 to 500 ms late, its socket is dropped every few seconds or megabytes
  (close 1011), and closed as a slow consumer's after a few more (close 1008);
- files on volumes cannot be renamed;
- a sandbox with the label LOSE_LABEL is lost so many milliseconds after its first terminal was opened.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import re
import time
from typing import Final

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fleet_rlm.sandboxd.errors import ApiError
from fleet_rlm.sandboxd.sandboxes import Sandboxes

LOSE_LABEL: Final = "sandboxd.lose-after-ms"
_FRESH_FAILURES: Final = 2
_LATE_S: Final = (0.1, 0.5)
_LIVES_S: Final = (0.5, 4.0)
_LIVES_BYTES: Final = (100_000, 4_000_000)
_SLOW_BYTES: Final = 3_000_000
_EVERY: Final = 6  # of the control API's requests, one fails
_TOOLBOX: Final = re.compile("/toolbox/([^/]+)(/.*)")


class Strict:
    """ASGI middleware between the gate and the routes."""

    def __init__(self, app: ASGIApp, sandboxes: Sandboxes, seed: int = 0) -> None:
        self._app = app
        self._sandboxes = sandboxes
        self._random = random.Random(seed)  # noqa: S311 - faults are no secret
        self._asked: dict[str, int] = {}  # sandbox -> toolbox requests so far
        self._turn = itertools.cycle(["unavailable", "limited", "half", "made"])
        self._count = 0
        self._losing: set[asyncio.Task[None]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        toolbox = _TOOLBOX.fullmatch(scope["path"])
        if toolbox is not None:
            self._check_fresh(toolbox[1])
            self._check_rename(scope, toolbox[1], toolbox[2])
            if scope["type"] == "websocket" and toolbox[2].startswith("/process/pty/"):
                self._lose_later(toolbox[1])
                send = _Line(send, self._random).send
        elif scope["type"] == "http" and scope["path"].startswith("/api/"):
            await self._control(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _check_fresh(self, id: str) -> None:
        self._asked[id] = asked = self._asked.get(id, 0) + 1
        if asked <= _FRESH_FAILURES:
            raise ApiError(502, f"strict: sandbox {id} does not answer yet")

    def _check_rename(self, scope: Scope, id: str, path: str) -> None:
        if path != "/files/move":
            return
        query = HTTPConnection(scope).query_params
        mounts = [mount.mount_path.rstrip("/") + "/" for mount in self._sandboxes.find(id).record.volumes]
        if any(query.get(name, "").startswith(mount) for name in ("source", "destination") for mount in mounts):
            raise ApiError(500, "strict: rename: operation not supported on a volume")

    async def _control(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._count += 1
        fault = next(self._turn) if self._count % _EVERY == 0 else ""
        creates = (scope["method"], scope["path"]) == ("POST", "/api/sandbox")
        if fault == "half" and scope["method"] == "GET":
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"100")]})
            await send({"type": "http.response.body", "body": b"{", "more_body": False})
        elif fault == "limited":
            raise ApiError(429, "strict: too many requests")
        elif fault in ("half", "made") and creates:
            await self._app(scope, receive, _nowhere)
            raise ApiError(502, "strict: the answer to the creation was lost")
        elif fault and (creates or scope["method"] in ("GET", "DELETE")):
            raise ApiError(503, "strict: not now")
        else:
            await self._app(scope, receive, send)

    def _lose_later(self, id: str) -> None:
        sandbox = self._sandboxes.find(id)
        after = sandbox.record.labels.get(LOSE_LABEL, "")
        if not after.isdecimal() or self._asked[id] != _FRESH_FAILURES + 1:
            return

        async def lose() -> None:
            await asyncio.sleep(int(after[:6]) / 1000)
            await self._sandboxes.fail(sandbox, "strict: lost on purpose")

        task = asyncio.create_task(lose())
        self._losing.add(task)
        task.add_done_callback(self._losing.discard)


class _Line:
    """One terminal's socket: late, then dropped."""

    def __init__(self, send: Send, chance: random.Random) -> None:
        self._send = send
        self._late = chance.uniform(*_LATE_S)
        self._until = time.monotonic() + chance.uniform(*_LIVES_S)
        self._left = chance.randint(*_LIVES_BYTES)
        self._sent = 0
        self._dropped = False

    async def send(self, message: Message) -> None:
        """Pass a message on, or drop the line."""
        if self._dropped:
            raise OSError("strict: this socket was dropped")
        if message["type"] == "websocket.send":
            if self._late:
                await asyncio.sleep(self._late)
                self._late = 0.0
            self._sent += len(message.get("bytes") or b"")
            if self._sent > min(self._left, _SLOW_BYTES) or time.monotonic() > self._until:
                self._dropped = True
                slow = self._sent > _SLOW_BYTES
                reason = "slow consumer" if slow else "strict: dropped"
                message = {"type": "websocket.close", "code": 1008 if slow else 1011, "reason": reason}
        await self._send(message)


async def _nowhere(_: Message) -> None:
    """Where a lost answer goes."""
