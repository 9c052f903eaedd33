"""Running a turn again: resume, replay and fork, from a turn's id (or a file of its events) to a new turn.

A resumed turn stands in the same session, after the one it goes on from. A replay and a fork get a session of their own
that begins with a copy of what came before the turn, so that neither changes the origin and the origin may be deleted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from fleet_rlm.errors import Conflict, FleetError, InvalidInput, NotConfigured, NotFound
from fleet_rlm.integrations.database import Sessions, TurnRow
from fleet_rlm.runtime.content.blobs import BlobStore
from fleet_rlm.runtime.content.contexts import ContextStore
from fleet_rlm.runtime.execution import events as ev
from fleet_rlm.runtime.execution.journal import Journal
from fleet_rlm.runtime.execution.limit_values import typed_limits
from fleet_rlm.runtime.execution.lineage import first_events
from fleet_rlm.runtime.execution.record import Past, Record
from fleet_rlm.runtime.execution.replay import Plan
from fleet_rlm.runtime.execution.requests import ForkEdit, Submitted, TurnRequest
from fleet_rlm.runtime.past import (
    Chain,
    accepted_of,
    began,
    chain_of,
    check_whole,
    end_of,
    keep,
    session_before,
    session_events,
    turn_events,
)

if TYPE_CHECKING:
    import dspy

    from fleet_rlm.runtime.models.registry import ModelRegistry

MAX_EDIT_CHARS = 400_000
RESUMABLE = ("interrupted", "limit", "failed", "cancelled")


class Workshop(Protocol):
    """What this needs of a workspace."""

    journal: Journal
    sessions: Sessions
    blobs: BlobStore
    contexts: ContextStore

    @property
    def models(self) -> ModelRegistry: ...
    def begin(self, request: TurnRequest, plan: Plan | None = None) -> Submitted: ...
    def silent_model(self, name: str) -> dspy.BaseLM: ...


@dataclass(frozen=True, slots=True)
class Given:
    """The turn's models passed again, where they were Python objects; None: by their names."""

    lm: str | dspy.BaseLM | None = None
    sub_lm: str | dspy.BaseLM | None = None


def resume(
    shop: Workshop,
    turn: str,
    *,
    limits: ev.Limits | None = None,
    given: Given | None = None,
    command: str | None = None,
) -> Submitted:
    """Go on with a turn that did not come to its end, in the same session.

    Errors: NotFound; Conflict (it runs, it is finished, another turn goes on from it); InvalidInput (its limit would
    stop it at once, its model was a Python object); NotConfigured.
    """
    row = shop.sessions.get_turn(turn)
    if command is not None and (again := shop.sessions.find_turn_by_command(row.sid, command)) is not None:
        return Submitted(row.sid, again.tid, again.accepted_seq)
    events = turn_events(shop.journal, row)
    accepted, end = accepted_of(events), end_of(events)
    if end is None:
        raise Conflict("this turn is still running", hint="wait for it or stop it")
    if end.status not in RESUMABLE:
        raise Conflict("this turn came to its end", hint="replay it, or fork it to change something")
    if (later := _successor(shop, row)) is not None:
        raise Conflict(f"turn {later} goes on from this one already", hint="resume that one")
    last, limits = _last_limits(events, accepted), None if limits is None else typed_limits(limits)
    if end.status == "limit" and not _raised(end.limit, limits or last, last):
        raise InvalidInput(
            f"this turn ended at its {end.limit} limit and would end there again", hint="give a higher limit"
        )
    origin = ev.Origin(kind="resume", session=row.sid, turn=turn, edits=_edits(accepted))
    request = replace(_request(accepted, given), session=row.sid, limits=limits or last, command=command)
    chain = chain_of(shop, accepted, counts=True)
    record = Record.read([Past(events), *chain.turns])
    # What a limit refused then is given now, so cells see something else: that is meant.
    quiet, told = end.status == "limit", _first_limits(accepted, chain)
    plan = Plan("resume", record, _edits(accepted), quiet=quiet, limits=told, memory_seq=began(events, chain))
    return shop.begin(replace(request, origin=origin), plan)


def replay(shop: Workshop, turn: str, *, given: Given | None = None, command: str | None = None) -> Submitted:
    """A finished turn once more from its journal alone, in a session of its own. Errors: NotFound, Conflict."""
    row = shop.sessions.get_turn(turn)
    events = turn_events(shop.journal, row)
    if end_of(events) is None:
        raise Conflict("this turn is still running", hint="wait for it or stop it")
    return _replayed(shop, events, session_events(shop.journal, row), given, command)


def replay_events(shop: Workshop, events: Iterable[ev.Event], *, given: Given | None = None) -> Submitted:
    """The newest turn of a file of events once more; large texts and contexts come from this data folder.

    Errors: InvalidInput when there is no whole turn; NotFound for a context or a text that is not here.
    """
    everything = list(events)
    last = next((event for event in reversed(everything) if event.type == ev.TurnAccepted.type), None)
    if last is None:
        raise InvalidInput("these events have no turn in them", hint="use what `fleet run --events FILE` wrote")
    mine = [event for event in everything if event.turn == last.turn]
    if end_of(mine) is None:
        raise InvalidInput("the turn in these events has no end", hint="the file was cut; resume the turn by its id")
    _check_texts(shop.blobs, mine)
    past: Iterable[ev.Event] = [event for event in everything if event.seq < last.seq and event.sid == last.sid]
    if not past and last.seq > 1:  # the file begins with the turn; what came before it may be here
        with suppress(NotFound):
            past = session_events(shop.journal, shop.sessions.get_turn(last.turn or ""))
    return _replayed(shop, mine, past, given, None)


def fork(
    shop: Workshop,
    turn: str,
    edit: ForkEdit,
    *,
    at: int | None = None,
    given: Given | None = None,
    command: str | None = None,
) -> Submitted:
    """A new session that shares the past of a turn, and of its events those up to seq `at`; then it differs by `edit`.

    Errors: NotFound (turn, or the cell or call of the edit), InvalidInput, NotConfigured.
    """
    row = shop.sessions.get_turn(turn)
    events = turn_events(shop.journal, row)
    accepted, shared = accepted_of(events), _up_to(at, events, row)
    chain = chain_of(shop, accepted, counts=False)
    record = Record.read([Past(events, counts=False), *chain.turns])
    edits = [*_edits(accepted), *_new_edits(record, edit)]
    if at is not None:
        record = Record.read([Past(shared, counts=False), *chain.turns])
    sid = _new_sid("fork", turn, command)
    if sid is not None and (found := _made_before(shop, sid, "fork", turn)) is not None:
        return found
    other = edit.model is not None or edit.sub_model is not None
    same = given or Given()
    base = _request(accepted, Given(edit.model or same.lm, edit.sub_model or same.sub_lm), edit)
    last = _last_limits(events, accepted)
    limits = edit.limits or last
    anew = edit.question is not None or not _as_deep(limits, last)
    title = f"Fork: {shop.sessions.get(row.sid).title}"[:200]
    forked = ev.SessionForked(session=row.sid, seq=row.accepted_seq - 1, turn=turn, edit=edit.words() or None)
    past = session_before(session_events(shop.journal, row), events, chain)
    session, knew = _found(shop, sid, title, forked, past)
    origin = ev.Origin(
        kind="fork",
        session=row.sid,
        turn=turn,
        seq=at or events[-1].seq,
        edits=edits,
        anew=anew,
        kept=keep(shop.blobs, shared, chain),
        knew=knew if edit.question is None else None,  # a new question is asked with what is known now
    )
    attended = None if other or anew else base.attended
    request = replace(base, session=session, limits=limits, origin=origin, attended=attended)
    plan = Plan(
        "fork",
        record,
        edits=edits,
        same_models=not other,
        quiet=other or anew,
        limits=_first_limits(accepted, chain),
        memory_seq=origin.knew,
        anew=anew,
    )
    return _begun(shop, request, plan)


def changed_limits(shop: Workshop, turn: str, changes: Mapping[str, Any]) -> ev.Limits | None:
    """The limits that a turn had at its end with these changes, by name; None without any. Errors: NotFound."""
    row = shop.sessions.get_turn(turn)
    if not changes:
        return None
    events = turn_events(shop.journal, row)
    return msgspec.structs.replace(_last_limits(events, accepted_of(events)), **changes)


def turns_before(journal: Journal, sessions: Sessions, sid: str, origin: ev.Origin | None) -> list[TurnRow]:
    """The turns of a session that came before the one to be run: for a resumed turn, before the first of its chain.

    Of a turn that was resumed only the newest counts.
    """
    rows = sessions.turns_of(sid)
    origins = {row.tid: _origin(journal, row) for row in rows}
    begin: int | None = None
    while origin is not None and origin.kind == "resume":
        begin, origin = sessions.get_turn(origin.turn).accepted_seq, origins.get(origin.turn)
    begin = origin.knew if origin is not None and origin.knew is not None else begin
    if begin is not None:
        rows = [row for row in rows if row.accepted_seq < begin]
    resumed = {found.turn for row in rows if (found := origins[row.tid]) is not None and found.kind == "resume"}
    return [row for row in rows if row.tid not in resumed]


def _origin(journal: Journal, row: TurnRow) -> ev.Origin | None:
    found = journal.read(row.sid, row.accepted_seq - 1, 1)
    return found[0].data.origin if found and isinstance(found[0].data, ev.TurnAccepted) else None


# -- parts ----------------------------------------------------------------------------------------------------------


def _replayed(
    shop: Workshop,
    events: list[ev.Event],
    before: Iterable[ev.Event],
    given: Given | None,
    command: str | None,
) -> Submitted:
    accepted, first = accepted_of(events), events[0]
    chain = chain_of(shop, accepted, counts=False)
    sid = _new_sid("replay", first.turn or "", command)
    if sid is not None and (found := _made_before(shop, sid, "replay", first.turn or "")) is not None:
        return found
    check_whole(events, chain)
    for context in accepted.contexts:
        _check_context(shop.contexts, context)
    silent = Given(_silent(shop, accepted, accepted.model), _silent(shop, accepted, accepted.sub_model))
    forked = ev.SessionForked(session=first.sid, seq=first.seq - 1, turn=first.turn, edit="replay")
    title = f"Replay: {accepted.question}"[:80]
    session, knew = _found(shop, sid, title, forked, session_before(before, events, chain))
    origin = ev.Origin(
        kind="replay",
        session=first.sid,
        turn=first.turn or "",
        edits=_edits(accepted),
        kept=keep(shop.blobs, events, chain),
        knew=knew,
    )
    same = _request(accepted, given or silent)
    request = replace(same, session=session, limits=accepted.limits, origin=origin, setup=accepted.setup)
    plan = Plan(
        "replay",
        Record.read([Past(events, counts=False), *chain.turns]),
        edits=_edits(accepted),
        limits=_first_limits(accepted, chain),
        memory_seq=knew,
        room=_room(events, accepted),
    )
    return _begun(shop, request, plan)


def _silent(shop: Workshop, accepted: ev.TurnAccepted, name: str) -> str | dspy.BaseLM:
    """A model for a turn that calls none: by its name, or one that refuses where the name means nothing here."""
    if name in accepted.known:
        return name
    try:
        shop.models.resolve(name)
    except (NotConfigured, InvalidInput):
        return shop.silent_model(name)
    return name


def _request(accepted: ev.TurnAccepted, given: Given | None, edit: ForkEdit | None = None) -> TurnRequest:
    """The turn's request once more. Errors: InvalidInput where its model was a Python object and none is given."""
    lm = given.lm if given is not None else None
    sub = given.sub_lm if given is not None else None
    same = accepted.sub_model == accepted.model
    if same and sub is None:
        sub = lm
    for role, model, name in (("model", lm, accepted.model), ("sub_model", sub, accepted.sub_model)):
        if model is None and role in accepted.objects:
            raise InvalidInput(
                f"the {role} of this turn, {name}, was a Python object and cannot be made from its name",
                hint="pass it again: lm=... (sub_lm=...) in Python",
            )
    return TurnRequest(
        question=edit.question if edit is not None and edit.question is not None else accepted.question,
        contexts=tuple(accepted.contexts),
        mode=accepted.mode,
        model=lm or accepted.model,
        sub_model=sub or accepted.sub_model,
        known=accepted.known,
        attended=accepted.setup.attended if accepted.setup is not None else None,
    )


def _new_edits(record: Record, edit: ForkEdit) -> Iterator[ev.TurnEdit]:
    for text in (edit.cell and edit.cell.text, edit.prompt and edit.prompt.text, edit.answer and edit.answer.text):
        if text is not None and not 0 < len(text) <= MAX_EDIT_CHARS:
            raise InvalidInput(f"an edited text has 1 to {MAX_EDIT_CHARS:,} characters")
    if edit.cell is not None:
        path, ordinal = _known(record.ids.get(edit.cell.id), "cell", edit.cell.id)
        run = record.runs.get(path)
        if run is not None and run.started.signature == "dspy.RLM":
            raise InvalidInput("a cell of a sub-agent that model-written code built cannot be edited")
        yield ev.TurnEdit(path=path, cell=ordinal, code=edit.cell.text)
    for change, field in ((edit.prompt, "prompt"), (edit.answer, "answer")):
        if change is not None:
            path, request, again = _known(record.keys.get(change.id), "call", change.id)
            yield msgspec.structs.replace(ev.TurnEdit(path=path, request=request, again=again), **{field: change.text})


def _up_to(at: int | None, events: list[ev.Event], row: TurnRow) -> list[ev.Event]:
    """The turn's events as far as a fork shares them. Errors: InvalidInput where there is no such event."""
    last = row.finished_seq or events[-1].seq
    if at is not None and not row.accepted_seq <= at <= last:
        raise InvalidInput(f"event {at} is not of this turn", hint=f"it has {row.accepted_seq} to {last}")
    return events if at is None else [event for event in events if event.seq <= at]


def _known(found: Any, what: str, id: str) -> Any:
    if found is None:
        raise NotFound(f"this turn has no {what} {id[:80]!r}")
    return found


def _edits(accepted: ev.TurnAccepted) -> list[ev.TurnEdit]:
    return list(accepted.origin.edits) if accepted.origin is not None else []


def _last_limits(events: list[ev.Event], accepted: ev.TurnAccepted) -> ev.Limits:
    """The limits as they were at the end: they may have been raised while the turn ran."""
    told = (event.data.limits for event in reversed(events) if isinstance(event.data, ev.BudgetUpdated))
    return next(told, accepted.limits)


def _room(events: list[ev.Event], accepted: ev.TurnAccepted) -> ev.Limits:
    """The turn's limits with room for all that lived at any time; what was refused then is refused by the record."""
    all_ = [accepted.limits, *(event.data.limits for event in events if isinstance(event.data, ev.BudgetUpdated))]
    depth, sandboxes = max(each.depth for each in all_), max(each.sandboxes for each in all_)
    met = any(isinstance(event.data, ev.BudgetExhausted) and event.data.unit == "wall" for event in events)
    wall_s = all_[-1].wall_s if met else None  # a turn that met no deadline meets none in a slower replay
    return msgspec.structs.replace(accepted.limits, depth=depth, sandboxes=sandboxes, wall_s=wall_s)


def _as_deep(limits: ev.Limits, others: ev.Limits) -> bool:
    """Whether runs may do the same under both."""
    return (limits.depth, limits.sandboxes) == (others.depth, others.sandboxes)


def _first_limits(accepted: ev.TurnAccepted, chain: Chain) -> ev.Limits:
    """The limits of the oldest turn of the chain."""
    return accepted_of(chain.turns[-1].events).limits if chain.turns else accepted.limits


def _raised(unit: str | None, new: ev.Limits, old: ev.Limits) -> bool:
    """Whether the limit that was met is higher now (wall time begins anew, steps are not a limit of the turn)."""
    name = {"cost": "cost_usd", "wall": "wall_s"}.get(unit or "", unit or "")
    if name in ("wall_s", "iterations", "") or not hasattr(new, name):
        return True
    mine, before = getattr(new, name), getattr(old, name)
    return mine is None or (before is not None and mine > before)


def _successor(shop: Workshop, row: TurnRow) -> str | None:
    """The turn of the same session that resumed this one."""
    for later in shop.sessions.turns_of(row.sid):
        if later.accepted_seq <= row.accepted_seq:
            continue
        origin = _origin(shop.journal, later)
        if origin is not None and origin.turn == row.tid:
            return later.tid
    return None


def _new_sid(kind: str, of: str, command: str | None) -> str | None:
    """The id of the session to be made: the same for the same command."""
    if command is None:
        return None
    return f"ses_{hashlib.sha256(f'{kind}:{of}:{command}'.encode()).hexdigest()[:20]}"


def _made_before(shop: Workshop, sid: str, kind: str, turn: str) -> Submitted | None:
    """What the same command made before. A session without its turn is what a crash left: it is removed."""
    try:
        shop.sessions.get(sid)
    except NotFound:
        return None
    for row in shop.sessions.turns_of(sid):
        origin = _origin(shop.journal, row)
        if origin is not None and (origin.kind, origin.turn) == (kind, turn):
            return Submitted(sid, row.tid, row.accepted_seq)
    shop.journal.delete(sid)
    return None


def _begun(shop: Workshop, request: TurnRequest, plan: Plan) -> Submitted:
    """Begin the turn of a session that was made for it; refused, it leaves no session behind."""
    try:
        return shop.begin(request, plan)
    except FleetError:
        assert request.session is not None
        shop.journal.delete(request.session)
        raise


def _found(
    shop: Workshop,
    sid: str | None,
    title: str,
    forked: ev.SessionForked,
    before: tuple[list[ev.Event], list[ev.Event]],
) -> tuple[str, int | None]:
    """A new session with what came before; its id, and where in it stands what came since, if anything did."""
    past, since = before
    events = first_events(sid, title, forked, [*past, *since])
    shop.sessions.found(title, events)
    return events[0].sid, len(events) - len(since) + 1 if since else None


def _check_context(contexts: ContextStore, ref: ev.ContextRef) -> None:
    try:
        contexts.get(ref.sha256)
    except NotFound:
        raise NotFound(
            f"the context {ref.name!r} of this turn is not in this data folder",
            hint="replay it where it ran, or add the same file as a context first",
        ) from None


def _check_texts(blobs: BlobStore, events: list[ev.Event]) -> None:
    """Errors: NotFound when a text that the replay needs is not in this data folder."""
    for event in events:
        match event.data:
            case ev.CallFinished(record=record, response=response):
                texts = (record, response)
            case ev.ToolFinished(result=result):
                texts = (result,)
            case ev.ToolsOffered(tools=tools):
                texts = (tools,)
            case _:
                continue
        for text in texts:
            if text is not None and text.ref is not None:
                try:
                    blobs.path(text.ref)
                except NotFound:
                    raise NotFound(
                        f"the answer of event {event.seq} is not in this data folder",
                        hint="replay the file on the machine that wrote it, or copy its blobs folder",
                    ) from None
