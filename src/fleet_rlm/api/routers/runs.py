"""Runs of a running turn: stop one, answer its questions, list them."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query

from fleet_rlm.api.schemas.runs import ApprovalList, ApprovalReplied, ApprovalReply, RunCancel
from fleet_rlm.api.services import Served

router = APIRouter(tags=["runs"])


@router.post("/turns/{tid}/runs/{run}/cancel", status_code=202, response_model=RunCancel)
async def cancel_run(tid: str, run: str, served: Served) -> dict[str, Any]:
    """Stop one run with everything below it; its parent gets a failure and goes on."""
    return {"turn": tid, "run": run, "cancelling": await served.control.cancel(tid, run)}


@router.post("/turns/{tid}/approvals/{approval}", response_model=ApprovalReplied)
async def answer_approval(tid: str, approval: str, body: ApprovalReply, served: Served) -> dict[str, Any]:
    """Answer a question that a run waits for. The first answer stands; the same again is fine, another is 409."""
    await served.control.answer(tid, approval, body.answer)
    return {"turn": tid, "approval": approval, "answer": body.answer}


@router.get("/sessions/{sid}/approvals", response_model=ApprovalList)
async def session_approvals(
    sid: str, served: Served, open: Annotated[bool, Query(description="only those that wait")] = False
) -> dict[str, Any]:
    """The questions of a session's runs."""
    return {"approvals": await served.persistence.approvals(sid, only_open=open)}
