"""The socket's commands that run a turn again: `turn.resume`, `turn.replay`, `fork`. The same id, the same turn."""

from __future__ import annotations

from typing import Any

import msgspec

from fleet_rlm.api.routers.ws.frames import CallEdit, Command, Fork, TurnReplay, TurnResume
from fleet_rlm.api.runtime_services.turn_again import Edited, TurnAgain
from fleet_rlm.runtime.execution.requests import Change, Submitted

AGAIN_OPS = frozenset({"turn.resume", "turn.replay", "fork"})
_resume_decoder = msgspec.json.Decoder(TurnResume)
_replay_decoder = msgspec.json.Decoder(TurnReplay)
_fork_decoder = msgspec.json.Decoder(Fork)


async def run_again(again: TurnAgain, command: Command) -> dict[str, Any]:
    """Perform one. Errors: msgspec.ValidationError (arguments), FleetError as `TurnAgain` raises them."""
    made = await _submitted(again, command)
    return {"session": made.session, "turn": made.turn, "seq": made.seq}


async def _submitted(again: TurnAgain, command: Command) -> Submitted:
    if command.op == "turn.resume":
        args = _resume_decoder.decode(command.args)
        limits = msgspec.to_builtins(args.limits)
        return await again.resume(args.turn, limits, command=command.id, session=command.sid)
    if command.op == "turn.replay":
        turn = _replay_decoder.decode(command.args).turn
        return await again.replay(turn, command=command.id, session=command.sid)
    fork = _fork_decoder.decode(command.args)
    edit = fork.edit
    edited = Edited(
        question=edit.question,
        model=edit.model,
        sub_model=edit.sub_model,
        limits=msgspec.to_builtins(edit.limits),
        cell=Change(edit.cell.id, edit.cell.code) if edit.cell is not None else None,
        prompt=_change(edit.prompt),
        answer=_change(edit.answer),
    )
    return await again.fork(fork.turn, edited, at=fork.at, command=command.id, session=command.sid)


def _change(edit: CallEdit | None) -> Change | None:
    return Change(edit.call, edit.text) if edit is not None else None
