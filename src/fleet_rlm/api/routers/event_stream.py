"""Events as server-sent events: `id: <epoch>:<seq>`, so that a client resumes with Last-Event-ID."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator

from fastapi import Request
from fastapi.responses import StreamingResponse

from fleet_rlm.api.routers.ws.stream import Chunk, Following
from fleet_rlm.api.services import Services
from fleet_rlm.errors import InvalidInput
from fleet_rlm.integrations.database import Head

HEARTBEAT_SECONDS = 15.0
_CURSOR = re.compile(r"([0-9a-z]{1,32}):(\d{1,15})")


def wants_stream(request: Request) -> bool:
    """Whether the client asked for server-sent events."""
    return "text/event-stream" in request.headers.get("accept", "")


def parse_cursor(last_event_id: str | None, head: Head, after: int = 0) -> int:
    """Where to go on. A cursor of another epoch means nothing any more: from the start. Errors: InvalidInput."""
    if last_event_id is None:
        return after
    match = _CURSOR.fullmatch(last_event_id)
    if match is None:
        raise InvalidInput("Last-Event-ID must be <epoch>:<seq>")
    return int(match[2]) if match[1] == head.epoch else 0


def event_source(served: Services, sid: str, after: int, turn: str | None = None) -> StreamingResponse:
    """All events after a seq, then live; those of one turn, up to its end, when it is given."""
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(_lines(served, sid, after, turn), media_type="text/event-stream", headers=headers)


async def _lines(served: Services, sid: str, after: int, turn: str | None) -> AsyncGenerator[str]:
    async with served.feed.follow(sid, after, turn) as following:
        while not following.ended:
            chunk = await following.next(HEARTBEAT_SECONDS)
            if not chunk.events:
                yield ": heartbeat\n\n"
                continue
            yield _format(following, chunk)
            if turn is not None and any(event.type == "turn.finished" for event in chunk.events):
                return


def _format(following: Following, chunk: Chunk) -> str:
    return "".join(f"id: {following.epoch}:{event.seq}\ndata: {event.raw}\n\n" for event in chunk.events)
