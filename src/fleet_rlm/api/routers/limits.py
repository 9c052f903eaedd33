"""The limits of a running turn."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter

from fleet_rlm.api.schemas.values import Limits, LimitsBody
from fleet_rlm.api.services import Served

router = APIRouter(tags=["turns"])


@router.patch("/turns/{tid}/limits", response_model=Limits)
async def set_limits(tid: str, body: LimitsBody, served: Served) -> Any:
    """Change limits while the turn runs: what waits for more goes on at once. What is left out stays, null takes a
    limit away; one below what is spent already is refused."""
    return await asyncio.to_thread(served.workspace.set_limits, tid, body.model_dump(exclude_unset=True))
