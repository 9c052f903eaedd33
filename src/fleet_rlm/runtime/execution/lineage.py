"""The first events of a session that begins with another one's past."""

from __future__ import annotations

import secrets
from collections.abc import Iterable

import msgspec

from fleet_rlm.runtime.execution import events as ev
from fleet_rlm.runtime.execution.ids import new_id
from fleet_rlm.runtime.execution.journal import now_ms

_OF_THE_SESSION = ("session.created", "session.renamed", "session.forked", "session.restored", "session.imported")
_FIRST = 3
"""The seq of the first event that is copied."""


def first_events(sid: str | None, title: str, shared: ev.SessionForked, past: Iterable[ev.Event]) -> list[ev.Event]:
    """`session.created`, `session.forked` and a copy of the past as the events of a new session, from seq 1 on."""
    sid, epoch = sid or f"ses_{secrets.token_hex(10)}", secrets.token_hex(6)
    copies = _copied(past, sid)
    begin = copies[0].ts if copies else now_ms()
    created = ev.place(ev.Draft(ev.SessionCreated(title=title)), epoch=epoch, sid=sid, seq=1, ts=begin)
    forked = ev.place(ev.Draft(shared), epoch=epoch, sid=sid, seq=2, ts=begin)
    rest = [msgspec.structs.replace(event, epoch=epoch, sid=sid, seq=seq) for seq, event in enumerate(copies, _FIRST)]
    return [created, forked, *rest]


def _copied(past: Iterable[ev.Event], sid: str) -> list[ev.Event]:
    """Events of another session as a new one holds them: under turn and artifact ids of their own, already paid for."""
    turns: dict[str, str] = {}
    copied = [event for event in past if is_copied(event)]
    seqs = {event.seq: seq for seq, event in enumerate(copied, _FIRST)}
    return [
        msgspec.structs.replace(event, turn=_renamed(turns, event.turn), data=_data(event.data, turns, sid, seqs))
        for event in copied
    ]


def is_copied(event: ev.Event) -> bool:
    """Whether an event is the past of other sessions too: those of the session itself are its own."""
    return event.type not in _OF_THE_SESSION


def _renamed(turns: dict[str, str], turn: str | None) -> str | None:
    return None if turn is None else turns.setdefault(turn, new_id("trn"))


def _data(data: ev.EventData, turns: dict[str, str], sid: str, seqs: dict[int, int]) -> ev.EventData:
    match data:
        case ev.TurnFinished():  # the session that asked has paid
            return msgspec.structs.replace(data, before=data.usage)
        case ev.TurnAccepted():
            return msgspec.structs.replace(data, command=None, origin=_moved(data.origin, turns, sid, seqs))
        case ev.ArtifactPublished():
            return msgspec.structs.replace(data, id=new_id("art"))
        case _:
            return data


def _moved(origin: ev.Origin | None, turns: dict[str, str], sid: str, seqs: dict[int, int]) -> ev.Origin | None:
    """A turn that went on from one that is copied too goes on from that one's copy."""
    if origin is None:
        return None
    if origin.knew is not None:
        knew = next((new for old, new in seqs.items() if old >= origin.knew), None)
        origin = msgspec.structs.replace(origin, knew=knew)
    if origin.turn not in turns:
        return origin
    return msgspec.structs.replace(origin, session=sid, turn=turns[origin.turn])
