"""The socket's command `budget.set`. It may be sent again: limits that are set already stay as they are."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from fleet_rlm.api.routers.ws.frames import BudgetSet, Command
from fleet_rlm.api.runtime_services.ports import Workspace
from fleet_rlm.errors import InvalidInput

LIMIT_OPS = frozenset({"budget.set"})
_decoder = msgspec.json.Decoder(BudgetSet)


async def change_limits(workspace: Workspace, command: Command) -> dict[str, Any]:
    """Perform it. Errors: msgspec.ValidationError (arguments), FleetError as the workspace raises them."""
    args = _decoder.decode(command.args)
    row = await workspace.sessions.aget_turn(args.turn)
    if row.sid != command.sid:
        raise InvalidInput(f"turn {args.turn[:80]!r} is not of this session")
    limits = await asyncio.to_thread(workspace.set_limits, args.turn, msgspec.to_builtins(args.limits))
    return {"turn": args.turn, "limits": msgspec.structs.asdict(limits)}
