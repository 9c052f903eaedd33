"""What others may do to a turn while it runs, and what they hear when it does not run here any more."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fleet_rlm.errors import Conflict, NotFound
from fleet_rlm.integrations.database import Sessions, TurnRow
from fleet_rlm.runtime.execution import events as ev
from fleet_rlm.runtime.execution.approvals import check_same
from fleet_rlm.runtime.execution.executor import TurnExecutor
from fleet_rlm.runtime.execution.journal import Journal
from fleet_rlm.runtime.execution.limit_values import checked_limits

PAGE = 1_000


class TurnControl:
    """Reaches into running turns; ended ones are looked up in the journal."""

    def __init__(self, executor: TurnExecutor, journal: Journal, sessions: Sessions) -> None:
        self._executor = executor
        self._journal = journal
        self._sessions = sessions

    def cancel_run(self, turn: str, run: str) -> bool:
        """Stop one run and everything below it; its parent goes on. False when it had ended.

        Errors: NotFound (no such turn, no such run in it), Conflict (another process runs the turn).
        """
        live = self._executor.live(turn)
        if live is not None and live.cancel_run(run):
            return True
        row = self._sessions.get_turn(turn)
        if not any(event.type == "run.started" and event.run == run for event in self._events(row)):
            raise NotFound(f"no run {run[:80]!r} in this turn")
        if live is None and self._sessions.get_turn(turn).finished_seq is None:
            raise Conflict("another fleet process runs this turn", hint="stop it there")
        return False

    def set_limits(self, turn: str, limits: Mapping[str, Any]) -> ev.Limits:
        """Other limits for a running turn, by their names in `Limits`; None takes one away. Returns all of them.

        Errors: NotFound (no such turn), Conflict (it is over, or another process runs it), InvalidInput (a value out of
        range, or below what is spent).
        """
        checked = checked_limits(limits)
        live = self._executor.live(turn)
        if live is not None:
            return live.set_limits(checked)
        if self._sessions.get_turn(turn).finished_seq is None:
            raise Conflict("another fleet process runs this turn", hint="change its limits there")
        raise Conflict("this turn is over", hint="start another with larger limits")

    def answer(self, turn: str, approval: str, text: str | None) -> None:
        """A person's answer to a question of the turn. The first one stands; the same again is fine.

        None: nobody will answer, so the rule takes effect now, unless the question is over.

        Errors: NotFound (no such turn, no such question in it), InvalidInput (not among the choices), Conflict (the
        question is over with another answer, or another process waits for it).
        """
        live = self._executor.live(turn)
        if live is not None:
            live.answer(approval, text)
            return
        row = self._sessions.get_turn(turn)
        asked, end = self._question(row, approval)
        if not asked:
            raise NotFound(f"no question {approval[:80]!r} in this turn")
        if end is None:
            raise Conflict("another fleet process waits for this answer", hint="answer there")
        if text is not None:
            check_same(end, text)

    def _question(self, row: TurnRow, approval: str) -> tuple[bool, ev.ApprovalResolved | None]:
        asked = False
        for event in self._events(row):
            if isinstance(event.data, ev.ApprovalRequested) and event.data.id == approval:
                asked = True
            if isinstance(event.data, ev.ApprovalResolved) and event.data.id == approval:
                return True, event.data
        return asked, None

    def _events(self, row: TurnRow) -> Iterator[ev.Event]:
        after = row.accepted_seq - 1
        while page := self._journal.read(row.sid, after, PAGE, row.tid):
            yield from page
            after = page[-1].seq
