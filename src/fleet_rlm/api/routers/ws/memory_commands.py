"""The socket's commands on a session's memory. Both may be sent again: what was done already changes nothing."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from fleet_rlm.api.routers.ws.frames import Command, MemorySet, MemoryUndo
from fleet_rlm.api.runtime_services.ports import Workspace

MEMORY_OPS = frozenset({"memory.set", "memory.undo"})
_set_decoder = msgspec.json.Decoder(MemorySet)
_undo_decoder = msgspec.json.Decoder(MemoryUndo)


async def edit_memory(workspace: Workspace, command: Command) -> dict[str, Any]:
    """Perform one. Errors: msgspec.ValidationError (arguments), FleetError as the workspace raises them."""
    if command.op == "memory.set":
        edit = _set_decoder.decode(command.args)
        change = await asyncio.to_thread(workspace.set_memory, command.sid, edit.block, edit.text)
    else:
        seq = _undo_decoder.decode(command.args).seq
        change = await asyncio.to_thread(workspace.undo_memory, command.sid, seq)
    return {"block": change.block, "text": change.text, "seq": change.seq}
