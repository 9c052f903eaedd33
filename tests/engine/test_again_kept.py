"""What runs leave beside their values is there when they are taken whole: files that they saved, texts that they read."""

from __future__ import annotations

import pytest
from tests.engine.test_again import finished, of_kind, of_turn
from tests.engine.test_turns import task_of
from tests.scripted import action, scripted

from fleet_rlm.runtime.execution import events as ev
from fleet_rlm.runtime.execution.requests import ForkEdit, TurnRequest, TurnResult
from fleet_rlm.runtime.factory import Workspace

FIRST = "You have not interacted"


class Family:
    """A root, its child, and the child's child: the two below each read 300 characters and save a file."""

    def __init__(self, workspace: Workspace, *, broken: int) -> None:
        """The root's calls after its first fail `broken` times."""
        self.broken = broken
        text = "\n".join(f"line {number} of the text" for number in range(400))
        self.lm = scripted(self.reply)
        contexts = (workspace.contexts.add_text("big.txt", text),)
        limits = ev.Limits(depth=3)
        request = TurnRequest(question="go", mode="rlm", model=self.lm, contexts=contexts, limits=limits)
        self.first = finished(workspace, workspace.submit(request))

    def reply(self, prompt: str) -> str:
        task = task_of(prompt)
        if task == "leaf":
            return action("save_artifact(context[300:600], 'leaf.txt')\nSUBMIT(answer='read')")
        if task == "branch":
            return action(
                "save_artifact(context[:300], 'branch.txt')\n"
                "SUBMIT(answer=rlm_query('leaf', context=context[300:1000]))"
            )
        if FIRST in prompt:
            return action("got = rlm_query('branch', context=context[:1000])\nprint(got)")
        if self.broken:
            self.broken -= 1
            raise ValueError("down")
        return action("save_artifact('root', 'root.txt')\nSUBMIT(answer=got)")


def left(result: TurnResult) -> tuple[set[tuple[str, int]], list[int]]:
    """The artifacts of a turn with their versions, and how much it read of each context."""
    assert (result.status, result.answer) == ("ok", "read"), result.error
    return {(each.name, each.version) for each in result.artifacts}, [each.read for each in result.coverage]


ALL = {("branch.txt", 1), ("leaf.txt", 1), ("root.txt", 1)}


@pytest.mark.parametrize("resumes", [1, 2])
def test_a_resumed_turn_has_what_finished_runs_left(workspace: Workspace, resumes: int) -> None:
    family = Family(workspace, broken=resumes)
    result = family.first
    for _ in range(resumes):
        assert result.status == "failed"
        result = finished(workspace, workspace.resume(result.turn, lm=family.lm))
    assert left(result) == (ALL, [600])
    told = [each.name for each in of_kind(of_turn(workspace, result), ev.ArtifactPublished)]
    assert told == ["root.txt"], "the session has the others already"
    assert left(finished(workspace, workspace.replay(result.turn))) == (ALL, [600])


def test_a_fork_has_what_finished_runs_left(workspace: Workspace) -> None:
    family = Family(workspace, broken=0)
    assert left(family.first) == (ALL, [600])
    edit = ForkEdit(limits=ev.Limits(depth=3, calls=99))
    forked = finished(workspace, workspace.fork(family.first.turn, edit, lm=family.lm))
    assert left(forked) == (ALL, [600])
    told = [each.name for each in of_kind(of_turn(workspace, forked), ev.ArtifactPublished)]
    assert sorted(told) == ["branch.txt", "leaf.txt", "root.txt"], "each is in its session, once"


def test_a_file_that_is_saved_again_in_a_resumed_turn_is_the_same_artifact(workspace: Workspace) -> None:
    broken = [True]

    def reply(prompt: str) -> str:
        if FIRST in prompt:
            return action("save_artifact('one', 'a.txt')\nsave_artifact('two', 'a.txt')\nprint('saved')")
        if broken:
            broken.clear()
            raise ValueError("down")
        return action("SUBMIT(answer='read')")

    lm = scripted(reply)
    first = finished(workspace, workspace.submit(TurnRequest(question="go", mode="rlm", model=lm)))
    made = workspace.journal.artifacts(first.session)
    assert (first.status, [each.version for each in made]) == ("failed", [1, 2])
    resumed = finished(workspace, workspace.resume(first.turn, lm=lm))
    assert left(resumed) == ({("a.txt", 1), ("a.txt", 2)}, [])
    told = workspace.journal.artifacts(first.session)
    assert [each.id for each in told] == [each.id for each in made] * 2, "for a list of the session it is one"
    assert [each.id for each in resumed.artifacts] == [each.id for each in made]
