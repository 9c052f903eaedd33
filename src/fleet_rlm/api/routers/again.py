"""Turns run again: resume, replay, fork; and two turns compared."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Header

from fleet_rlm.api.runtime_services.turn_again import Edited
from fleet_rlm.api.schemas.again import CallEdit, ForkBody, ResumeBody
from fleet_rlm.api.schemas.compare import TurnDiff
from fleet_rlm.api.schemas.resources import TurnAccepted
from fleet_rlm.api.services import Served
from fleet_rlm.runtime.execution.requests import Change

router = APIRouter(tags=["turns"])
Key = Annotated[str | None, Header()]


@router.post("/turns/{tid}/resume", status_code=202, response_model=TurnAccepted)
async def resume_turn(tid: str, served: Served, body: ResumeBody | None = None, idempotency_key: Key = None) -> Any:
    """Go on with a turn that did not come to its end, in its session. Nothing that was answered is asked again."""
    limits = body.limits.model_dump(exclude_unset=True) if body is not None and body.limits is not None else {}
    return await served.again.resume(tid, limits, command=idempotency_key)


@router.post("/turns/{tid}/replay", status_code=202, response_model=TurnAccepted)
async def replay_turn(tid: str, served: Served, idempotency_key: Key = None) -> Any:
    """A finished turn once more from its journal alone, in a new session: no model is called."""
    return await served.again.replay(tid, command=idempotency_key)


@router.post("/sessions/{sid}/fork", status_code=202, response_model=TurnAccepted)
async def fork_session(sid: str, body: ForkBody, served: Served, idempotency_key: Key = None) -> Any:
    """A new session with the past of a turn of this one, in which the turn goes on otherwise."""
    edit = body.edit
    edited = Edited(
        question=edit.question,
        model=edit.model,
        sub_model=edit.sub_model,
        limits=edit.limits.model_dump(exclude_unset=True) if edit.limits is not None else {},
        cell=Change(edit.cell.id, edit.cell.code) if edit.cell is not None else None,
        prompt=_change(edit.prompt),
        answer=_change(edit.answer),
    )
    return await served.again.fork(body.turn, edited, at=body.at, command=idempotency_key, session=sid)


@router.get("/turns/{tid}/diff/{other}", response_model=TurnDiff)
async def diff_turns(tid: str, other: str, served: Served) -> Any:
    """Two turns beside each other: numbers, answers, and their trees run by run, by the place of each run."""
    return await asyncio.to_thread(served.workspace.diff, tid, other)


def _change(edit: CallEdit | None) -> Change | None:
    return Change(edit.call, edit.text) if edit is not None else None
