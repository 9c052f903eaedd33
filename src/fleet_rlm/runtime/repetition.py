"""The same command again. Its key names one command: what comes again under it is answered with the turn that it made,
and something else under it is refused, as HTTP APIs do with an idempotency key.

What a command leaves out is compared only where it means the same at any time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from fleet_rlm.errors import Conflict
from fleet_rlm.integrations.database import Database, Sessions
from fleet_rlm.runtime import again
from fleet_rlm.runtime.execution import events as ev
from fleet_rlm.runtime.execution.journal import Journal
from fleet_rlm.runtime.execution.limit_values import typed_limits
from fleet_rlm.runtime.execution.replay import Plan
from fleet_rlm.runtime.execution.requests import ForkEdit, Submitted, TurnRequest
from fleet_rlm.runtime.redaction import HIDDEN

if TYPE_CHECKING:
    import dspy

Begin = Callable[[TurnRequest, Plan | None], Submitted]


def fork(
    shop: again.Workshop,
    database: Database,
    turn: str,
    edit: ForkEdit,
    *,
    at: int | None,
    given: again.Given | None,
    command: str | None,
) -> Submitted:
    """See `again.fork`. Errors: also Conflict when the command made another fork of this turn before."""
    work = _Workshop(shop, shop.sessions, shop.begin)
    made = again.fork(work, turn, edit, at=at, given=given, command=command)
    if work.asked is None:
        rehearsal = _Workshop(shop, _Unfounded(database), lambda request, _: Submitted(request.session or "", "", 0))
        again.fork(rehearsal, turn, edit, at=at, given=given)
        assert rehearsal.asked is not None
        _check_fork(shop, made, edit, rehearsal.asked, at)
    return made


def check_resume(journal: Journal, made: Submitted, turn: str, limits: ev.Limits | None) -> None:
    """What a command made must be this resume. Errors: Conflict."""
    first = accepted_of(journal, made)
    origin = first.origin
    if origin is None or (origin.kind, origin.turn) != ("resume", turn):
        raise _other()
    if limits is not None and typed_limits(limits) != first.limits:
        raise _other()


def accepted_of(journal: Journal, made: Submitted) -> ev.TurnAccepted:
    """What was asked, as the journal has it. Errors: Conflict when it was deleted meanwhile."""
    found = journal.read(made.session, made.seq - 1, 1)
    if not found or not isinstance(found[0].data, ev.TurnAccepted):
        raise Conflict("what this command made was deleted", hint="use a new id for a new command")
    return found[0].data


def same_text(kept: str | None, now: str | None) -> bool:
    """Whether a text is the one that was kept. One with a secret was kept without it and cannot be compared."""
    return kept == now or (kept is not None and now is not None and HIDDEN in kept)


def _check_fork(shop: again.Workshop, made: Submitted, edit: ForkEdit, asked: TurnRequest, at: int | None) -> None:
    first = accepted_of(shop.journal, made)
    forked = next((event.data for event in shop.journal.read(made.session, 1, 1)), None)
    was, is_ = first.origin, asked.origin
    assert was is not None and is_ is not None
    same = isinstance(forked, ev.SessionForked) and forked.edit == (edit.words() or None)
    same = same and same_text(first.question, asked.question) and _same_edits(was.edits, is_.edits)
    models = ((edit.model, first.model), (edit.sub_model, first.sub_model))
    same = same and all(model is None or _name(model) == had for model, had in models)
    same = same and (edit.limits is None or typed_limits(edit.limits) == first.limits)
    # Without `at` it is the end of the turn, and that was elsewhere while the turn ran.
    same = same and (was.seq == is_.seq or (at is None and _ran_then(shop, made, is_.turn)))
    if not same:
        raise _other()


def _ran_then(shop: again.Workshop, made: Submitted, turn: str) -> bool:
    """Whether a turn had not ended when another was made of it."""
    end = shop.sessions.get_turn(turn).finished_ms
    return end is None or end > shop.sessions.get_turn(made.turn).accepted_ms


def _same_edits(kept: Sequence[ev.TurnEdit], now: Sequence[ev.TurnEdit]) -> bool:
    def same(one: ev.TurnEdit, two: ev.TurnEdit) -> bool:
        place = (one.path, one.cell, one.request, one.again) == (two.path, two.cell, two.request, two.again)
        texts = ((one.code, two.code), (one.prompt, two.prompt), (one.answer, two.answer))
        return place and all(same_text(*pair) for pair in texts)

    return len(kept) == len(now) and all(map(same, kept, now))


def _name(model: str | dspy.BaseLM) -> str:
    return model.strip() if isinstance(model, str) else str(model.model)


def _other() -> Conflict:
    return Conflict("this command id was used for something else", hint="use a new id for a new command")


class _Workshop:
    """A workshop that keeps what is asked in it, and does with that as `begin` does."""

    def __init__(self, shop: again.Workshop, sessions: Sessions, begin: Begin) -> None:
        self.journal, self.blobs, self.contexts = shop.journal, shop.blobs, shop.contexts
        self.sessions = sessions
        self.models = shop.models
        self.silent_model = shop.silent_model
        self.asked: TurnRequest | None = None
        self._begin = begin

    def begin(self, request: TurnRequest, plan: Plan | None = None) -> Submitted:
        """A turn is asked for."""
        self.asked = request
        return self._begin(request, plan)


class _Unfounded(Sessions):
    """The sessions of a rehearsal, which adds none."""

    def found(self, title: str, events_: Sequence[ev.Event]) -> None:
        """Nothing is written."""
