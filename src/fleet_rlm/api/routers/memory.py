"""/sessions/{sid}/memory: the blocks that the agent and the person edit, and the edits."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Path

from fleet_rlm.api.runtime_services.ports import Workspace
from fleet_rlm.api.schemas.memory import MemoryAnswer, MemoryChange, MemoryText, MemoryUndone
from fleet_rlm.api.services import Served
from fleet_rlm.runtime.agent.memory import TOTAL_CHARS, Change, block_of, names
from fleet_rlm.runtime.execution import events as ev

router = APIRouter(prefix="/sessions/{sid}/memory", tags=["memory"])
SHOWN_EDITS = 200
BlockName = Annotated[str, Path(pattern=r"^[a-z][a-z0-9_-]{0,31}$")]


@router.get("", response_model=MemoryAnswer)
async def get_memory(sid: str, served: Served) -> dict[str, Any]:
    """All blocks, also the empty ones, and the newest edits."""
    return await asyncio.to_thread(_memory, served.workspace, sid)


@router.put("/{block}", response_model=MemoryChange)
async def set_block(sid: str, block: BlockName, body: MemoryText, served: Served) -> dict[str, Any]:
    """Give a block another text."""
    return _answer(await asyncio.to_thread(served.workspace.set_memory, sid, block, body.text))


@router.delete("/{block}", response_model=MemoryChange)
async def clear_block(sid: str, block: BlockName, served: Served) -> dict[str, Any]:
    """Empty a block."""
    return _answer(await asyncio.to_thread(served.workspace.set_memory, sid, block, None))


@router.post("/undo", response_model=MemoryChange)
async def undo_edit(sid: str, body: MemoryUndone, served: Served) -> dict[str, Any]:
    """Give a block the text that it had before an edit; this is an edit too."""
    return _answer(await asyncio.to_thread(served.workspace.undo_memory, sid, body.seq))


def _memory(workspace: Workspace, sid: str) -> dict[str, Any]:
    memory = workspace.memory(sid)
    saved, edits = memory.saved(), memory.edits()
    blocks = [
        {"name": name, "text": saved.get(name, ""), "limit": block_of(name).limit, "about": block_of(name).about}
        for name in names(saved)
    ]
    return {"blocks": blocks, "limit": TOTAL_CHARS, "edits": [_edit(event) for event in edits[-SHOWN_EDITS:]]}


def _edit(event: ev.Event) -> dict[str, Any]:
    data = event.data
    assert isinstance(data, ev.MemoryChanged)
    return {
        "seq": event.seq,
        "ts": event.ts,
        "block": data.block,
        "before": data.before,
        "after": data.after,
        "who": data.who,
    }


def _answer(change: Change) -> dict[str, Any]:
    return {"block": change.block, "text": change.text, "seq": change.seq}
