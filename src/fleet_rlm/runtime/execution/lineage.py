"""The first events of a session that begins with another one's past."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence

import msgspec

from fleet_rlm.runtime.execution import events as ev
from fleet_rlm.runtime.execution.ids import new_id
from fleet_rlm.runtime.execution.journal import now_ms

_OF_THE_SESSION = ("session.created", "session.renamed", "session.forked", "session.restored", "session.imported")


def copied(past: Iterable[ev.Event]) -> list[ev.Event]:
    """Events of another session as a new one holds them: under turn and artifact ids of their own, already paid for."""
    turns: dict[str, str] = {}
    return [
        msgspec.structs.replace(event, turn=_renamed(turns, event.turn), data=_data(event.data))
        for event in past
        if event.type not in _OF_THE_SESSION
    ]


def first_events(sid: str | None, title: str, shared: ev.SessionForked, past: Sequence[ev.Event]) -> list[ev.Event]:
    """`session.created`, `session.forked` and the copied past as the events of a new session, from seq 1 on."""
    sid, epoch, now = sid or f"ses_{secrets.token_hex(10)}", secrets.token_hex(6), now_ms()
    begin = past[0].ts if past else now
    created = ev.place(ev.Draft(ev.SessionCreated(title=title)), epoch=epoch, sid=sid, seq=1, ts=begin)
    forked = ev.place(ev.Draft(shared), epoch=epoch, sid=sid, seq=2, ts=begin)
    rest = [msgspec.structs.replace(event, epoch=epoch, sid=sid, seq=seq) for seq, event in enumerate(past, 3)]
    return [created, forked, *rest]


def _renamed(turns: dict[str, str], turn: str | None) -> str | None:
    return None if turn is None else turns.setdefault(turn, new_id("trn"))


def _data(data: ev.EventData) -> ev.EventData:
    match data:
        case ev.TurnFinished():  # the session that asked has paid
            return msgspec.structs.replace(data, before=data.usage)
        case ev.TurnAccepted():
            return msgspec.structs.replace(data, command=None)
        case ev.ArtifactPublished():
            return msgspec.structs.replace(data, id=new_id("art"))
        case _:
            return data
