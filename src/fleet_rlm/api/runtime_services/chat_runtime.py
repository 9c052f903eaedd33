"""Turns: start, cancel, look up. Shared by the HTTP routes and the socket, so that both answer alike."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from fleet_rlm.api.runtime_services.leftovers import close_leftovers
from fleet_rlm.api.runtime_services.ports import Workspace
from fleet_rlm.errors import Conflict, InvalidInput
from fleet_rlm.runtime.content.names import distinct
from fleet_rlm.runtime.execution.events import (
    BudgetUpdated,
    Citation,
    ErrorInfo,
    Mode,
    TurnFinished,
    Unit,
    Usage,
)
from fleet_rlm.runtime.execution.requests import Submitted, TurnRequest
from fleet_rlm.runtime.repetition import accepted_of, same_text

MAX_COMMAND = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A validated question of a client, before its contexts are looked up."""

    session: str
    question: str
    mode: Mode
    model: str | None
    sub_model: str | None
    limits: Mapping[str, Any]
    contexts: Sequence[str]
    command: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnInfo:
    """A turn as its journal tells it."""

    turn: str
    session: str
    status: str
    answer: str | None
    usage: Usage
    limit: Unit | None
    error: ErrorInfo | None
    citations: Sequence[Citation]


class ChatRuntime:
    """Turns of one workspace."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    async def start(self, asked: Asked) -> Submitted:
        """Accept a turn; durable when it returns.

        Errors: those of Workspace.submit; NotFound for an unknown context; Conflict for a command used otherwise.
        """
        return await asyncio.to_thread(self._start, asked)

    def _start(self, asked: Asked) -> Submitted:
        if asked.command is not None and not (0 < len(asked.command) <= MAX_COMMAND and asked.command.isprintable()):
            raise InvalidInput(f"a command id has 1 to {MAX_COMMAND} printable characters")
        workspace = self._workspace
        close_leftovers(workspace, asked.session)
        request = TurnRequest(
            question=asked.question,
            session=asked.session,
            contexts=tuple(workspace.contexts.get(sha256) for sha256 in asked.contexts),
            mode=asked.mode,
            model=asked.model,
            sub_model=asked.sub_model,
            limits=msgspec.structs.replace(workspace.settings.limits, **asked.limits) if asked.limits else None,
            command=asked.command,
        )
        row = workspace.sessions.find_turn_by_command(asked.session, asked.command) if asked.command else None
        if row is not None:  # said first, whatever the settings of now refuse
            self._check_repetition(request, asked, Submitted(row.sid, row.tid, row.accepted_seq))
        submitted = workspace.submit(request)
        if submitted.made_before:  # also by one who used the command in this moment
            self._check_repetition(request, asked, submitted)
        return submitted

    def _check_repetition(self, request: TurnRequest, asked: Asked, made: Submitted) -> None:
        """The same command must ask the same. Errors: Conflict."""
        first = accepted_of(self._workspace.journal, made)
        other = first.origin is not None or not same_text(first.question, request.question)
        other = other or first.mode != request.mode or distinct(first.contexts) != distinct(request.contexts)
        # What a request leaves to the settings is not compared: they may say something else by now.
        models = ((asked.model, first.model), (asked.sub_model, first.sub_model))
        other = other or any(name is not None and name.strip() != had for name, had in models)
        other = other or any(getattr(first.limits, name) != value for name, value in asked.limits.items())
        if other:
            raise Conflict("this command id was used for another question", hint="use a new id for a new question")

    async def cancel(self, turn: str, session: str | None = None) -> bool:
        """Ask a turn to stop; False when it had ended.

        Errors: NotFound; InvalidInput when it is of another session; Conflict when another process runs it.
        """
        row = await self._workspace.sessions.aget_turn(turn)
        if session is not None and row.sid != session:
            raise InvalidInput(f"turn {turn[:80]!r} is not of this session")
        if await asyncio.to_thread(self._workspace.cancel, turn):
            return True
        await asyncio.to_thread(close_leftovers, self._workspace, row.sid)
        if (await self._workspace.sessions.aget_turn(turn)).finished_seq is None:
            raise Conflict("another fleet process runs this turn", hint="stop it there")
        return False

    async def info(self, turn: str) -> TurnInfo:
        """A turn's state; while it runs, its usage is that of the newest budget event. Errors: NotFound."""
        row = await self._workspace.sessions.aget_turn(turn)
        finished = await self._workspace.journal.alatest(turn, TurnFinished.type)
        if finished is not None and isinstance(end := finished.data, TurnFinished):
            return TurnInfo(
                turn=turn,
                session=row.sid,
                status=end.status,
                answer=end.answer,
                usage=end.usage,
                limit=end.limit,
                error=end.error,
                citations=end.citations,
            )
        budget = await self._workspace.journal.alatest(turn, BudgetUpdated.type)
        spent = budget.data.spent if budget is not None and isinstance(budget.data, BudgetUpdated) else Usage()
        return TurnInfo(
            turn=turn,
            session=row.sid,
            status=row.status,
            answer=None,
            usage=spent,
            limit=None,
            error=None,
            citations=(),
        )
