"""A turn whose process was killed, or that failed for want of a sandbox, is replayed as far as it came."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from tests.scripted import action, scripted

from faults.broken_model import BrokenModel, Reply, says
from faults.conftest import check_orderly
from faults.test_crash_and_resume import events_of, opened, running, task_of
from fleet_rlm.runtime.config import load_settings
from fleet_rlm.runtime.execution import events as ev
from fleet_rlm.runtime.execution.normalised import first_difference
from fleet_rlm.runtime.execution.requests import TurnRequest
from fleet_rlm.runtime.factory import open_workspace

FLEET = Path(sys.executable).parent / "fleet"


def family(prompt: str) -> str:
    """A root with two children, each with a call and a file of its own."""
    if "Preview:" not in prompt:
        return f"answer to {prompt.strip()[-20:]}"
    if "kid" in task_of(prompt):
        if "You have not interacted" in prompt:
            return action("print('kid')\na = llm_query('look ' + task)\nsave_artifact(a, task + '.txt')\nprint(a)")
        return action("SUBMIT(answer=a)")
    if "got" in prompt:
        return action("SUBMIT(answer=str(got))")
    return action("got = rlm_query_batched(['kid 1', 'kid 2'])\nprint('got')")


MOMENTS = [
    ("call.started", 2),
    ("cell.started", 2),
    ("artifact.published", 1),
    ("run.finished", 1),
    ("cell.finished", 5),
]


@pytest.mark.parametrize("moment", MOMENTS, ids=lambda moment: moment[0])
def test_a_replay_of_an_interrupted_turn_is_the_turn(tmp_path: Path, moment: tuple[str, int]) -> None:
    begun = threading.Event()

    def script(_number: int, prompt: str) -> Reply:
        begun.wait(60)
        return says(family(prompt))

    with BrokenModel(script) as model:
        with running(tmp_path, model, "go", die_on=moment) as victim:
            begun.set()
            victim.died()
        made = len(model.prompts)
        with opened(tmp_path, model) as workspace:
            dead = events_of(workspace, victim.session, victim.turn)
            replay = workspace.replay(victim.turn)
            assert workspace.wait(replay.turn, 60).status == "cancelled"
            again = events_of(workspace, replay.session)
            check_orderly(again)
            assert first_difference(dead, [event for event in again if event.turn == replay.turn]) is None
        if moment == MOMENTS[1]:
            environment = {**os.environ, "FLEET_HOME": str(tmp_path)}
            words = [FLEET, "replay", victim.turn, "--quiet"]
            done = subprocess.run(words, capture_output=True, text=True, timeout=110, env=environment)
            assert (done.returncode, done.stderr) == (0, "")
        assert len(model.prompts) == made, "nothing is asked"


def test_a_replay_of_a_turn_that_had_no_sandbox_fails_as_it_did(tmp_path: Path, closed: str) -> None:
    """Also where there is one now: its cell goes well, and then nothing more is recorded."""
    lm = scripted(lambda prompt: action("x = llm_query('more')"))
    nowhere = {"DAYTONA_API_KEY": "none-of-yours", "DAYTONA_API_URL": closed}
    with open_workspace(load_settings(home=tmp_path, environ=nowhere)) as workspace:
        turn = workspace.submit(TurnRequest(question="go", mode="rlm", model=lm))
        first = workspace.wait(turn.turn, 100)
        assert first.status == "failed" and first.error is not None
    with open_workspace(load_settings(home=tmp_path, environ={})) as workspace:
        again = workspace.wait(workspace.replay(turn.turn).turn, 100)
        assert (again.status, again.error) == ("failed", first.error)
        ends = [e.data for e in events_of(workspace, again.session) if isinstance(e.data, ev.RunFinished)]
        assert [end.status for end in ends] == ["failed"]
