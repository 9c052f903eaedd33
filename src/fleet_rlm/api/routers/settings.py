"""/settings/models: which models are used, and whether they work."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from fleet_rlm.api.schemas.resources import ModelChange, ModelSettings, TestAnswer
from fleet_rlm.api.services import Served

router = APIRouter(prefix="/settings/models", tags=["settings"])


@router.get("", response_model=ModelSettings)
async def get_models(served: Served) -> dict[str, Any]:
    """The present values; a key shows its last four characters only."""
    return await served.settings.read()


@router.put("", response_model=ModelSettings)
async def put_models(body: ModelChange, served: Served) -> dict[str, Any]:
    """Save and use at once; 409 where the environment decides the value."""
    return await served.settings.change(body.model_dump(exclude_unset=True))


@router.post("/test", response_model=TestAnswer)
async def test_models(served: Served, body: ModelChange | None = None) -> dict[str, Any]:
    """Try the model with these values in place of the saved ones; nothing is saved."""
    steps = await served.settings.test(body.model_dump(exclude_unset=True) if body else {})
    return {"ok": all(step.ok for step in steps), "steps": steps}
