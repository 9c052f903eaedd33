"""Turns: start, look up, cancel, follow."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Header, Response

from fleet_rlm.api.routers.event_stream import event_source, parse_cursor
from fleet_rlm.api.runtime_services.chat_runtime import Asked
from fleet_rlm.api.schemas.resources import NewTurn, TurnAccepted, TurnAnswer, TurnCancel
from fleet_rlm.api.services import Served

router = APIRouter(tags=["turns"])


@router.post("/sessions/{sid}/turns", status_code=202, response_model=TurnAccepted)
async def start_turn(
    sid: str, body: NewTurn, served: Served, idempotency_key: Annotated[str | None, Header()] = None
) -> Any:
    """Accept a question. The same Idempotency-Key in a session gives the same turn again."""
    asked = Asked(
        session=sid,
        question=body.question,
        mode=body.mode,
        model=body.model,
        sub_model=body.sub_model,
        limits=body.limits.model_dump(exclude_unset=True) if body.limits else {},
        contexts=body.contexts,
        command=idempotency_key,
    )
    return await served.chat.start(asked)


@router.get("/turns/{tid}", response_model=TurnAnswer)
async def get_turn(tid: str, served: Served) -> Any:
    """A turn's state, and its answer once it ended."""
    return await served.chat.info(tid)


@router.post("/turns/{tid}/cancel", status_code=202, response_model=TurnCancel)
async def cancel_turn(tid: str, served: Served) -> dict[str, Any]:
    """Ask a turn to stop. Its end comes as `turn.finished`."""
    return {"turn": tid, "cancelling": await served.chat.cancel(tid)}


@router.get("/turns/{tid}/events", response_model=None, responses={204: {"description": "Nothing is left to come"}})
async def turn_events(tid: str, served: Served, last_event_id: Annotated[str | None, Header()] = None) -> Any:
    """The turn's events as server-sent events, from its acceptance to its end; 204 after a cursor at its end."""
    sid = (await served.workspace.sessions.aget_turn(tid)).sid
    head = await served.workspace.journal.ahead(sid)
    # Read after the head: a turn that has no end yet gets one beyond it, so that the stream is sure to meet it.
    row = await served.workspace.sessions.aget_turn(tid)
    after = min(max(parse_cursor(last_event_id, head), row.accepted_seq - 1), head.seq)
    if row.finished_seq is not None and after >= row.finished_seq:
        return Response(status_code=204)  # an EventSource comes back after every other end
    return event_source(served, sid, after, tid)
