"""At the soft deadline a cell that computes is interrupted, and its run still says what it found."""

import time

import pytest
from tests.engine.conftest import events_of
from tests.engine.test_at_limit import seen
from tests.engine.test_turns import ask, check_journal, task_of
from tests.scripted import action, field, scripted

from fleet_rlm.runtime.execution.events import Limits
from fleet_rlm.runtime.execution.requests import TurnRequest
from fleet_rlm.runtime.factory import Workspace


@pytest.fixture(scope="module", autouse=True)
def warm(workspace: Workspace) -> None:
    """The server's start is not part of any time limit here."""
    assert ask(workspace, mode="rlm", model=scripted(lambda _: action("SUBMIT(answer='x')"))).answer == "x"


SPIN = "import time\nuntil = time.monotonic() + 30\nwhile time.monotonic() < until:\n    pass"
SLEEP = "import time\ntime.sleep(30)"


def slow(prompt: str, code: str = SPIN) -> str:
    return field("answer", "said at last") if "extract the final outputs" in prompt else action(code)


@pytest.mark.parametrize("code", [SPIN, SLEEP], ids=["spins", "sleeps"])
def test_a_cell_that_goes_on_for_ever_leaves_its_run_the_last_word(workspace: Workspace, code: str) -> None:
    model = scripted(lambda prompt: slow(prompt, code))
    began = time.monotonic()
    result = ask(workspace, "slow", mode="rlm", model=model, limits=Limits(wall_s=15))
    assert (result.status, result.limit) == ("limit", "wall") and time.monotonic() - began < 60
    assert result.answer is not None and "said at last" in result.answer, result
    events = events_of(workspace, result.session)
    check_journal(events)
    (cell,) = [e.data for e in events if e.type == "cell.finished"]
    assert cell.status == "interrupted", cell
    assert not [e for e in events if e.type == "sandbox.lost"], "and its sandbox is not killed for it"


DEAF = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nprint('found', 4711, flush=True)\nwhile True: pass"


def test_a_cell_that_hears_no_interrupt_leaves_the_last_word_too(workspace: Workspace) -> None:
    """The grace of a cell is longer than the seconds that are held back of a short time limit."""
    model = scripted(lambda prompt: slow(prompt, DEAF))
    result = ask(workspace, "slow", mode="rlm", model=model, limits=Limits(wall_s=18))
    assert (result.status, result.limit, result.usage.calls) == ("limit", "wall", 2)
    assert result.answer is not None and "said at last" in result.answer, result
    assert "found 4711" in model.engine.prompts[-1], "what it printed is not lost with its sandbox"
    check_journal(events_of(workspace, result.session))


def test_a_child_is_interrupted_and_its_parent_gets_what_it_says(workspace: Workspace) -> None:
    def reply(prompt: str) -> str:
        if "child" in task_of(prompt):
            return slow(prompt)
        if "extract the final outputs" in prompt:
            return field("answer", "the child " + ("said at last" if "said at last" in prompt else "said nothing"))
        return action("got = rlm_query('child')\nprint(got)")

    result = ask(workspace, "go", mode="rlm", model=scripted(reply), limits=Limits(wall_s=15))
    assert (result.status, result.limit) == ("limit", "wall")
    assert result.answer is not None and "the child said at last" in result.answer, result
    check_journal(events_of(workspace, result.session))


def test_a_person_is_asked_before_a_cell_is_interrupted(workspace: Workspace) -> None:
    code = "import time\nfor n in range(60):\n    time.sleep(0.1)\nSUBMIT(answer='in the end')"
    model = scripted(lambda prompt: action(code))
    submitted = workspace.submit(
        TurnRequest(question="q", mode="rlm", model=model, limits=Limits(wall_s=3), at_limit="ask", title="t")
    )
    (asked,) = seen(workspace, submitted, "approval.requested")
    assert "The limit of 3 seconds is reached" in asked.data.question
    workspace.set_limits(submitted.turn, {"wall_s": 60})
    result = workspace.wait(submitted.turn, 60)
    assert (result.status, result.answer) == ("ok", "in the end"), result
    check_journal(events_of(workspace, submitted.session))
