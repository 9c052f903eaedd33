"""Turns run again: resume, replay and fork. Shared by the HTTP routes and the socket, so that both answer alike."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from fleet_rlm.api.runtime_services.chat_runtime import MAX_COMMAND
from fleet_rlm.api.runtime_services.leftovers import close_leftovers
from fleet_rlm.api.runtime_services.ports import Workspace
from fleet_rlm.errors import InvalidInput
from fleet_rlm.integrations.database import TurnRow
from fleet_rlm.runtime.execution.events import BudgetUpdated, Limits, TurnAccepted
from fleet_rlm.runtime.execution.requests import Change, ForkEdit, Submitted


@dataclass(frozen=True, slots=True, kw_only=True)
class Edited:
    """What a client wants to be otherwise in a fork; its limits by name, each of them in place of the turn's."""

    question: str | None = None
    model: str | None = None
    sub_model: str | None = None
    limits: Mapping[str, Any]
    cell: Change | None = None
    prompt: Change | None = None
    answer: Change | None = None


class TurnAgain:
    """Resume, replay and fork of the turns of one workspace. All are idempotent by `command`, where one is given.

    `session`: where the client says that the turn is. Errors of each: NotFound (turn); InvalidInput (another session,
    a command id that is none); Conflict (a command id that was used for something else); those of runtime/again.py.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    async def resume(
        self, turn: str, limits: Mapping[str, Any], *, command: str | None, session: str | None = None
    ) -> Submitted:
        """Go on with a turn that did not come to its end. `limits` by name; what is left out stays as it was."""

        # They may have been raised while the turn ran: the newest count.
        told = await self._workspace.journal.alatest(turn, BudgetUpdated.type)
        base = told.data.limits if told is not None and isinstance(told.data, BudgetUpdated) else None

        def begin(row: TurnRow) -> Submitted:
            changed = self._limits(row, limits, base)
            return self._workspace.resume(turn, changed, command=command)

        return await asyncio.to_thread(self._again, turn, session, command, begin)

    async def replay(self, turn: str, *, command: str | None, session: str | None = None) -> Submitted:
        """A finished turn once more from its journal alone, in a session of its own."""

        def begin(_row: TurnRow) -> Submitted:
            return self._workspace.replay(turn, command=command)

        return await asyncio.to_thread(self._again, turn, session, command, begin)

    async def fork(
        self, turn: str, edited: Edited, *, at: int | None, command: str | None, session: str | None = None
    ) -> Submitted:
        """A new session with the turn's past that differs by `edited`, or goes its own way from the event `at` on."""

        def begin(row: TurnRow) -> Submitted:
            edit = ForkEdit(
                question=edited.question,
                model=edited.model,
                sub_model=edited.sub_model,
                limits=self._limits(row, edited.limits),
                cell=edited.cell,
                prompt=edited.prompt,
                answer=edited.answer,
            )
            if not edit.words() and at is None:
                raise InvalidInput(
                    "nothing is different in this fork",
                    hint="edit the question, a cell, a prompt, the models or the limits, or replay the turn",
                )
            return self._workspace.fork(turn, edit, at=at, command=command)

        return await asyncio.to_thread(self._again, turn, session, command, begin)

    def _again(
        self, turn: str, session: str | None, command: str | None, begin: Callable[[TurnRow], Submitted]
    ) -> Submitted:
        if command is not None and not (0 < len(command) <= MAX_COMMAND and command.isprintable()):
            raise InvalidInput(f"a command id has 1 to {MAX_COMMAND} printable characters")
        row = self._workspace.sessions.get_turn(turn)
        if session is not None and row.sid != session:
            raise InvalidInput(f"turn {turn[:80]!r} is not of this session")
        close_leftovers(self._workspace, row.sid)
        return begin(self._workspace.sessions.get_turn(turn))

    def _limits(self, row: TurnRow, changes: Mapping[str, Any], base: Limits | None = None) -> Limits | None:
        """These limits (None: those the turn was accepted with) with these changes; None without any."""
        if not changes:
            return None
        return msgspec.structs.replace(base or self._accepted(row.sid, row.accepted_seq).limits, **changes)

    def _accepted(self, sid: str, seq: int) -> TurnAccepted:
        data = self._workspace.journal.read(sid, seq - 1, 1)[0].data
        assert isinstance(data, TurnAccepted)
        return data
