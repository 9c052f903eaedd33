"""The local sandbox server is killed: turns go on in the sandboxes of another, as long as a lost sandbox is no end."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.engine.conftest import events_of
from tests.engine.test_again import finished, of_kind, of_turn
from tests.engine.test_turns import task_of
from tests.scripted import action, scripted

from faults.conftest import check_orderly
from fleet_rlm.runtime.config import load_settings
from fleet_rlm.runtime.execution import events as ev
from fleet_rlm.runtime.execution.requests import TurnRequest
from fleet_rlm.runtime.factory import Workspace, open_workspace

FIRST = "You have not interacted"


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    with open_workspace(load_settings(home=tmp_path, environ={})) as opened:
        yield opened


def kill_server(home: Path) -> None:
    """All servers of this data folder."""
    killed = False
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (words := _words(entry)) and "serve" in words and str(home) in words:
            os.kill(int(entry.name), signal.SIGKILL)
            killed = True
    assert killed
    time.sleep(0.1)


def _words(process: Path) -> list[str]:
    try:
        return (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return []


def ask(workspace: Workspace, reply) -> list[ev.Event]:
    lm = scripted(reply)
    result = finished(workspace, workspace.submit(TurnRequest(question="go", mode="rlm", model=lm, sub_model=lm)))
    assert result.status == "ok", result.error
    check_orderly(events_of(workspace, result.session))
    return of_turn(workspace, result)


def test_between_two_turns(workspace: Workspace, tmp_path: Path) -> None:
    def reply(prompt: str) -> str:
        return action("SUBMIT(answer='in')")

    ask(workspace, reply)
    kill_server(tmp_path)
    assert not of_kind(ask(workspace, reply), ev.SandboxLost)


def test_between_two_cells_and_in_one(workspace: Workspace, tmp_path: Path) -> None:
    def reply(prompt: str) -> str:
        if "Your task:" not in prompt:
            kill_server(tmp_path)
            return "too late"
        return action("llm_query('now')" if FIRST in prompt else "SUBMIT(answer='went on')")

    assert of_kind(ask(workspace, reply), ev.SandboxLost)


def test_while_many_children_begin(workspace: Workspace, tmp_path: Path) -> None:
    """Each of them and their parent loses one sandbox at most."""
    killed: list[bool] = []

    def reply(prompt: str) -> str:
        if "child" in task_of(prompt):
            if not killed:
                killed.append(True)
                kill_server(tmp_path)
            return action("SUBMIT(answer='x')")
        if "all there" in prompt:
            return action("SUBMIT(answer=str(len(got)))")
        return action("got = rlm_query_batched([f'child {i}' for i in range(12)])\nprint('all ' + 'there')")

    events = ask(workspace, reply)
    assert of_kind(events, ev.SandboxLost)
    assert of_kind(events, ev.TurnFinished)[0].answer == "12"


def test_a_sandbox_that_cannot_be_had_has_its_end(tmp_path: Path) -> None:
    nowhere = {"DAYTONA_API_KEY": "none-of-yours", "DAYTONA_API_URL": "http://127.0.0.1:9/api"}
    with open_workspace(load_settings(home=tmp_path, environ=nowhere)) as workspace:
        lm = scripted(lambda _: action("SUBMIT(answer='in')"))
        result = finished(workspace, workspace.submit(TurnRequest(question="go", mode="rlm", model=lm)))
        assert result.status == "failed"
        check_orderly(events_of(workspace, result.session))
