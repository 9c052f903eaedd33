"""What a person does to a running turn: stop one of its runs, answer one of its questions."""

from __future__ import annotations

import asyncio

from fleet_rlm.api.runtime_services.ports import Workspace
from fleet_rlm.errors import InvalidInput


class RunControl:
    """Shared by the HTTP routes and the socket, so that both answer alike."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    async def cancel(self, turn: str, run: str, session: str | None = None) -> bool:
        """Stop one run with everything below it; False when it had ended.

        Errors: NotFound; InvalidInput when the turn is of another session; Conflict (see TurnControl.cancel_run).
        """
        await self._check(turn, session)
        return await asyncio.to_thread(self._workspace.cancel_run, turn, run)

    async def answer(self, turn: str, approval: str, text: str, session: str | None = None) -> None:
        """Answer a question. Errors: as above; InvalidInput for no such choice (see TurnControl.answer)."""
        await self._check(turn, session)
        await asyncio.to_thread(self._workspace.answer, turn, approval, text)

    async def _check(self, turn: str, session: str | None) -> None:
        row = await self._workspace.sessions.aget_turn(turn)
        if session is not None and row.sid != session:
            raise InvalidInput(f"turn {turn[:80]!r} is not of this session")
