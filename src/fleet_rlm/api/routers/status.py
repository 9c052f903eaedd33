"""/health, /ready and /status."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response

from fleet_rlm.api.schemas.resources import Health, Ready, StatusAnswer
from fleet_rlm.api.services import Served

root = APIRouter(tags=["status"])
router = APIRouter(tags=["status"])


@root.get("/health", response_model=Health)
async def health() -> dict[str, str]:
    """The process answers."""
    return {"status": "ok"}


@root.get("/ready", response_model=Ready, responses={503: {"model": Ready}})
async def ready(served: Served, response: Response) -> dict[str, Any]:
    """Whether turns can be accepted now; 503 when not."""
    state = await served.diagnostics.ready()
    response.status_code = 200 if state["ready"] else 503
    return state


@router.get("/status", response_model=StatusAnswer)
async def status(served: Served) -> dict[str, Any]:
    """How the workspace stands."""
    return await served.diagnostics.status()
