"""The same command at once in two processes that share a data folder: one turn, which both are told.

Two workspaces on one folder stand for the processes: each has a journal, an owner and locks of its own.
"""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.scripted import scripted

from fleet_rlm.errors import Conflict
from fleet_rlm.runtime.config import load_settings
from fleet_rlm.runtime.execution.events import Limits
from fleet_rlm.runtime.execution.requests import ForkEdit, Submitted, TurnRequest
from fleet_rlm.runtime.factory import Workspace, open_workspace

EACH = 3
ONE = Limits(calls=1, depth=1)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Workspace, Workspace]]:
    home: Path = tmp_path_factory.mktemp("shared") / "home"
    settings = load_settings(home=home, environ={})
    with open_workspace(settings) as one, open_workspace(settings) as other:
        yield one, other


@pytest.mark.parametrize("kind", ["submit", "resume", "replay", "fork"])
def test_one_command_makes_one_turn(two: tuple[Workspace, Workspace], kind: str) -> None:
    lm = scripted(lambda _: "hello")
    first = two[0].submit(TurnRequest(question="q", mode="rlm" if kind == "resume" else "direct", model=lm, limits=ONE))
    assert two[0].wait(first.turn, 60).status == ("limit" if kind == "resume" else "ok")
    together = threading.Barrier(2 * EACH)

    def make(n: int) -> Submitted:
        workspace = two[n % 2]
        together.wait(30)
        match kind:
            case "submit":
                again = TurnRequest(question="more", session=first.session, mode="direct", model=lm, command="once")
                return workspace.submit(again)
            case "resume":
                return workspace.resume(first.turn, Limits(calls=2, depth=1), lm=lm, command="once")
            case "replay":
                return workspace.replay(first.turn, command="once")
            case _:
                return workspace.fork(first.turn, ForkEdit(question="other"), lm=lm, command="once")

    before = len(two[0].sessions.list())
    with ThreadPoolExecutor(2 * EACH) as pool:
        made = list(pool.map(make, range(2 * EACH)))
    assert len({(each.session, each.turn, each.seq) for each in made}) == 1
    new = kind in ("replay", "fork")
    assert len(two[1].sessions.list()) == before + new
    assert len(two[1].sessions.turns_of(made[0].session)) == (1 if new else 2)
    for workspace in two:
        if workspace.active_turn(made[0].session):
            workspace.wait(made[0].turn, 60)


def test_another_question_at_once_is_refused_in_one_clear_line(two: tuple[Workspace, Workspace]) -> None:
    release = threading.Event()
    lm = scripted(lambda _: "hello" if release.wait(60) else "")
    session = two[0].sessions.create("s").sid
    together = threading.Barrier(2)

    def make(n: int) -> Submitted | str:
        together.wait(30)
        try:
            return two[n].submit(TurnRequest(question=f"q{n}", session=session, mode="direct", model=lm))
        except Conflict as error:
            return error.message

    with ThreadPoolExecutor(2) as pool:
        made = list(pool.map(make, range(2)))
    release.set()
    (turn,) = (each for each in made if isinstance(each, Submitted))
    two[made.index(turn)].wait(turn.turn, 60)
    assert "a turn of this session is still running" in made


def test_nothing_is_kept_of_a_command_that_is_done(two: tuple[Workspace, Workspace]) -> None:
    lm = scripted(lambda _: "hello")
    first = two[0].submit(TurnRequest(question="q", mode="direct", model=lm))
    two[0].wait(first.turn, 60)
    for n in range(3):
        made = two[n % 2].fork(first.turn, ForkEdit(question=f"q{n}"), lm=lm, command=f"c{n}")
        two[n % 2].wait(made.turn, 60)
    assert list((two[0].settings.home / "locks").iterdir()) == []
