"""The socket's commands on a running turn. Both may be sent again: what was done already changes nothing."""

from __future__ import annotations

from typing import Any

import msgspec

from fleet_rlm.api.routers.ws.frames import Approve, Command, RunCancel
from fleet_rlm.api.runtime_services.run_control import RunControl

RUN_OPS = frozenset({"run.cancel", "approve"})
_cancel_decoder = msgspec.json.Decoder(RunCancel)
_approve_decoder = msgspec.json.Decoder(Approve)


async def act_on_run(control: RunControl, command: Command) -> dict[str, Any]:
    """Perform one. Errors: msgspec.ValidationError (arguments), FleetError as the workspace raises them."""
    if command.op == "run.cancel":
        args = _cancel_decoder.decode(command.args)
        return {
            "turn": args.turn,
            "run": args.run,
            "cancelling": await control.cancel(args.turn, args.run, command.sid),
        }
    said = _approve_decoder.decode(command.args)
    await control.answer(said.turn, said.approval, said.answer, command.sid)
    return {"turn": said.turn, "approval": said.approval}
