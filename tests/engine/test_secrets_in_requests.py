"""A secret of the settings that a person types into a request stands nowhere in the journal."""

from __future__ import annotations

from pathlib import Path

from tests.engine.conftest import events_of
from tests.scripted import action, scripted

from fleet_rlm.runtime.config import load_settings
from fleet_rlm.runtime.execution import events as ev
from fleet_rlm.runtime.execution.requests import Change, ForkEdit, TurnRequest
from fleet_rlm.runtime.factory import open_workspace

KEY = "sk-secret-0123456789"


def test_neither_the_question_nor_a_title_nor_an_edit_of_a_fork_keeps_it(tmp_path: Path) -> None:
    lm = scripted(lambda _: action("print(1)\nSUBMIT(answer='fine')"))
    with open_workspace(load_settings(home=tmp_path, environ={"OPENAI_API_KEY": KEY})) as opened:
        made = opened.sessions.create("empty").sid
        asked = [
            opened.submit(TurnRequest(question=f"what is {KEY}?", mode="rlm", model=lm, limits=ev.Limits())),
            opened.submit(TurnRequest(question=f"and {KEY}?", mode="rlm", model=lm, limits=ev.Limits(), session=made)),
        ]
        for submitted in asked:
            assert opened.wait(submitted.turn, 60).status == "ok"
        cell = next(e.data.id for e in events_of(opened, asked[0].session) if isinstance(e.data, ev.CellStarted))
        edit = ForkEdit(cell=Change(cell, f"key = '{KEY}'\nSUBMIT(answer='forked')"))
        forked = opened.fork(asked[0].turn, edit, lm=lm)
        assert opened.wait(forked.turn, 60).answer == "forked"
        for session in (asked[0].session, made, forked.session):
            assert KEY not in opened.sessions.get(session).title
            for event in events_of(opened, session):
                assert KEY not in str(event.data), event.type
