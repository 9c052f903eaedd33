"""/sessions: list, create, rename, delete, and their events."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response

from fleet_rlm.api.routers.event_stream import event_source, parse_cursor, wants_stream
from fleet_rlm.api.schemas.resources import EventPage, NewSession, SessionAnswer, SessionChange, SessionList
from fleet_rlm.api.services import Served
from fleet_rlm.integrations.database import SessionRow

router = APIRouter(prefix="/sessions", tags=["sessions"])


def _answer(row: SessionRow) -> dict[str, Any]:
    return {
        "id": row.sid,
        "title": row.title,
        "created_ms": row.created_ms,
        "updated_ms": row.updated_ms,
        "head": row.head,
        "epoch": row.epoch,
        "active_turn": row.active_turn,
        "turns": row.turns,
        "cost_usd": row.cost_usd,
    }


@router.get("", response_model=SessionList)
async def list_sessions(served: Served) -> dict[str, Any]:
    """All sessions, newest change first."""
    return {"sessions": [_answer(row) for row in await served.workspace.sessions.alist()]}


@router.post("", status_code=201, response_model=SessionAnswer)
async def create_session(served: Served, body: NewSession | None = None) -> dict[str, Any]:
    """A new, empty session."""
    row = await served.persistence.create(body.title if body else None)
    served.feed.created(row.sid, row.head)
    return _answer(row)


@router.get("/{sid}", response_model=SessionAnswer)
async def get_session(sid: str, served: Served) -> dict[str, Any]:
    """One session."""
    return _answer(await served.workspace.sessions.aget(sid))


@router.patch("/{sid}", response_model=SessionAnswer)
async def rename_session(sid: str, body: SessionChange, served: Served) -> dict[str, Any]:
    """Give a session another title."""
    return _answer(await served.persistence.rename(sid, body.title))


@router.delete("/{sid}", status_code=204)
async def delete_session(sid: str, served: Served) -> Response:
    """Delete a session with its journal; 409 while a turn is active."""
    await served.persistence.delete(sid)
    served.feed.remove(sid)
    served.feed.announce()
    return Response(status_code=204)


@router.get("/{sid}/events", response_model=EventPage)
async def session_events(
    sid: str,
    request: Request,
    served: Served,
    after: Annotated[int, Query(ge=0)] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 500,
    last_event_id: Annotated[str | None, Header()] = None,
) -> Any:
    """A page of events; with `Accept: text/event-stream` all events from there on, and then live ones."""
    head = await served.workspace.journal.ahead(sid)
    if wants_stream(request):
        return event_source(served, sid, parse_cursor(last_event_id, head, after))
    events = await served.workspace.journal.aread_raw(sid, min(after, head.seq), limit)
    raw = f'{{"epoch":"{head.epoch}","head":{head.seq},"events":[{",".join(event.raw for event in events)}]}}'
    return Response(raw, media_type="application/json")
