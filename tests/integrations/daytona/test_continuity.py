"""One sandbox for a session: files always continue, variables by a checkpoint, what is lost is listed."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet_rlm.errors import FleetError, InvalidInput, NotFound
from fleet_rlm.integrations.daytona.continuity import Repository, SessionSandboxes
from fleet_rlm.integrations.daytona.runtime import SandboxRuntime
from sandboxd.git_server import GitServer


@pytest.fixture
def sandboxes(runtime: SandboxRuntime) -> SessionSandboxes:
    return SessionSandboxes(runtime)


@pytest.fixture
def session(sandboxes: SessionSandboxes) -> Iterator[str]:
    name = f"s_{uuid.uuid4().hex}"
    yield name
    sandboxes.release(name)


CELL = """
import csv, math as m
numbers = [1, {"a": (2, 3)}]

def scaled(x, by=2):
    return x * by

class Point:
    def __init__(self, x):
        self.x = x

point = Point(7)
bad = (n for n in range(3))
_private = "kept too"
"""


def test_variables_continue_over_a_pause(sandboxes: SessionSandboxes, session: str) -> None:
    box = sandboxes.create(session)
    it, none = box.open()
    assert none.kept == [] == none.lost
    it.execute(CELL, {"question": "q"})
    it.execute("open('note.txt', 'w').write('kept')")
    told = sandboxes.pause(box)
    assert set(told.kept) == {"csv", "m", "numbers", "scaled", "Point", "point", "_private", "question"}
    assert [(lost.name, "generator" in lost.reason) for lost in told.lost] == [("bad", True)]
    assert [info.state for info in sandboxes._runtime.list({"fleet.session": session})] == ["stopped"]

    again = sandboxes.resume(session)
    it, back = again.open()
    assert set(back.kept) == set(told.kept) and back.lost == told.lost
    code = "print(numbers, scaled(m.floor(2.5)), point.x, Point(1).x, _private, question, open('note.txt').read())"
    assert it.execute(code) == "[1, {'a': (2, 3)}] 4 7 1 kept too q kept"
    assert it.execute("print('bad' in globals())") == "False"
    assert it.execute("print(isinstance(point, Point))") == "True"
    assert "scaled" in sandboxes.pause(again).kept  # once more, from restored source
    third, back = sandboxes.resume(session).open()
    assert third.execute("print(scaled(21))") == "42" and "Point" in back.kept


def test_an_interpreter_ends_and_the_sandbox_stays(sandboxes: SessionSandboxes, session: str) -> None:
    box = sandboxes.create(session)
    it, _ = box.open()
    it.execute("x = 1")
    it.shutdown()
    assert box.files.write("still.txt", b"here").size == 4
    it, _ = box.open()
    assert it.execute("print('x' in globals(), open('still.txt').read())") == "False here"


def test_one_that_is_too_large_does_not_hinder_the_rest(sandboxes: SessionSandboxes, session: str) -> None:
    box = sandboxes.create(session)
    it, _ = box.open()
    it.execute(
        "big = bytes(70 << 20)\nsmall = 1\nclass Odd:\n    def __reduce__(self): raise KeyError('no')\nodd = Odd()"
    )
    told = box.checkpoint()
    assert {"small", "Odd"} <= set(told.kept)
    assert {lost.name: lost.reason for lost in told.lost} == {
        "big": "ValueError: it is larger than 64 MiB",
        "odd": "KeyError: 'no'",
    }


def test_what_was_released_is_gone(sandboxes: SessionSandboxes, session: str) -> None:
    sandboxes.create(session)
    assert sandboxes.release(session) == 1
    with pytest.raises(NotFound):
        sandboxes.resume(session)
    assert sandboxes.release(session) == 0


def test_it_outlives_its_maker(runtime: SandboxRuntime, session: str) -> None:
    first = SandboxRuntime(runtime.settings)
    SessionSandboxes(first).create(session).files.write("a", b"1")
    first.close()
    again = SessionSandboxes(runtime).resume(session)
    assert again.files.read("a") == b"1"


def test_paths_are_staged(sandboxes: SessionSandboxes, session: str, tmp_path: Path) -> None:
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "in" / "a.txt").write_text("a")
    (tmp_path / "in" / "deep" / "b.txt").write_text("b")
    (tmp_path / "in" / "link").symlink_to("/etc/passwd")
    box = sandboxes.create(session)
    assert box.stage(tmp_path / "in", "data") == 2
    assert [entry.path for entry in box.files.tree("data")] == ["data/deep", "data/deep/b.txt", "data/a.txt"]
    assert box.stage(tmp_path / "in" / "a.txt", "one.txt") == 1
    with pytest.raises(NotFound):
        box.stage(tmp_path / "none", "x")
    with pytest.raises(InvalidInput):
        box.stage(tmp_path / "in" / "a.txt", "../out")


class TestRepository:
    @pytest.fixture
    def hub(self, tmp_path: Path) -> Iterator[GitServer]:
        (tmp_path / "hub").mkdir()
        server = GitServer(tmp_path / "hub")
        yield server
        server.close()

    def test_at_a_ref_and_then_without_network(self, sandboxes: SessionSandboxes, session: str, hub: GitServer) -> None:
        hub.repository("open.git")
        box = sandboxes.create(session)
        box.check_out(Repository(hub.url("open.git"), ref="side"))
        assert box.files.read("repository/readme.txt") == b"first\n"
        assert box.files.read("repository/.git/HEAD") == b"ref: refs/heads/side\n"
        it, _ = box.open()
        probe = f"import socket\ntry: socket.create_connection(('127.0.0.1', {hub.port}), 2); print('open')\nexcept OSError: print('closed')"
        assert it.execute(probe) == "closed"
        with pytest.raises(FleetError, match="nowhere"):
            box.check_out(Repository(hub.url("open.git"), ref="nowhere"), "other")

    def test_a_token_stays_outside(self, sandboxes: SessionSandboxes, session: str, hub: GitServer) -> None:
        hub.repository("private/p.git")
        box = sandboxes.create(session)
        repository = Repository(hub.url("private/p.git"), username="user", token="secret word")
        assert "secret" not in repr(repository)
        box.check_out(repository)
        it, _ = box.open()
        found = it.execute(
            "import subprocess\nprint(subprocess.run('grep -ral secret.word . ; true', shell=True, capture_output=True, text=True).stdout)"
        )
        assert str(found or "").strip() == ""
        with pytest.raises(FleetError) as caught:
            box.check_out(Repository(hub.url("private/p.git"), username="user", token="wrong-token"), "x")
        assert "wrong-token" not in str(caught.value)

    @pytest.mark.parametrize("url", ["ftp://x/y", "https://user:pw@example.com/x.git", "file:///etc", "nonsense"])
    def test_bad_addresses(self, sandboxes: SessionSandboxes, session: str, url: str) -> None:
        box = sandboxes.create(session)
        with pytest.raises(InvalidInput):
            box.check_out(Repository(url))
