"""A sandbox that is taken away at each kind of moment: a typed event, a run that goes on or says why, nothing left."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest
from tests.scripted import action, field, scripted

from fleet_rlm.runtime.execution import events as ev
from fleet_rlm.runtime.factory import Workspace

FIRST = "You have not interacted"


class Thief:
    """Deletes the sandboxes of one session behind the engine's back."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self.session = workspace.sessions.create("robbed").sid

    def steal(self) -> None:
        """All that there are; waits until there is one."""
        deadline = time.monotonic() + 60
        while not self._workspace.sandboxes.delete_labelled({"fleet.session": self.session}):
            assert time.monotonic() < deadline, "there was no sandbox to steal"
            time.sleep(0.01)

    def steal_when(self, event_type: str, delay_s: float = 0.0) -> Callable[[], None]:
        """Once, after an event of this type has been seen. Returns what ends the watch."""
        seen = threading.Event()

        def hear(events: object) -> None:
            if any(event.type == event_type for event in events):  # pyright: ignore
                seen.set()

        def work() -> None:
            if seen.wait(60):
                time.sleep(delay_s)
                self.steal()

        threading.Thread(target=work, daemon=True).start()
        return self._workspace.journal.listen(self.session, hear)


@pytest.fixture
def thief(workspace: Workspace) -> Thief:
    return Thief(workspace)


def types(events: list[ev.Event]) -> list[str]:
    return [event.type for event in events]


def test_before_the_first_cell(thief: Thief, ask) -> None:
    """While the model thinks. The cell has not begun, so it may be run in another sandbox."""

    def reply(prompt: str) -> str:
        if FIRST in prompt:
            thief.steal()
            return action("x = 20 + 1")
        return action("SUBMIT(answer=str(x * 2) if 'x' in globals() else 'x was lost')")

    result, events = ask(None, mode="rlm", model=scripted(reply), session=thief.session)
    assert result.status == "ok" and result.answer in ("42", "x was lost"), result.error
    assert "sandbox.lost" in types(events)


def test_between_two_cells(thief: Thief, ask) -> None:
    """The variables are gone; the model is told so and can make them again."""
    prompts: list[str] = []

    def reply(prompt: str) -> str:
        prompts.append(prompt)
        if FIRST in prompt:
            return action("precious = 1")
        if len(prompts) == 2:
            thief.steal()
            return action("print(precious)")
        return action("SUBMIT(answer=str('precious' in globals()))")

    result, events = ask(None, mode="rlm", model=scripted(reply), session=thief.session)
    assert (result.status, result.answer) == ("ok", "False"), result.error
    assert "precious" in prompts[-1] and "sandbox.lost" in types(events)


def test_in_a_cell(thief: Thief, ask) -> None:
    """Code whose outcome is unknown is not run again by itself: the model decides."""
    ran: list[str] = []

    def reply(prompt: str) -> str:
        if FIRST in prompt:
            return action("llm_query('count me')\nimport time; time.sleep(60)")
        return action("SUBMIT(answer='told')")

    def count(prompt: str) -> str:
        ran.append(prompt)
        threading.Timer(0.3, thief.steal).start()
        return "counted"

    result, events = ask(None, mode="rlm", model=scripted(reply), sub_model=scripted(count), session=thief.session)
    assert (result.status, result.answer) == ("ok", "told"), result.error
    assert len(ran) == 1 and "sandbox.lost" in types(events)
    cells = [event.data.status for event in events if isinstance(event.data, ev.CellFinished)]
    assert cells == ["lost", "submitted"]


def test_while_the_host_works_for_it(thief: Thief, ask) -> None:
    """In a sub-call: the call's answer has nobody to go to, and its price is counted all the same."""

    def reply(prompt: str) -> str:
        return action("llm_query('slow')") if FIRST in prompt else action("SUBMIT(answer='after')")

    def slow(prompt: str) -> str:
        thief.steal()
        return "too late"

    result, events = ask(None, mode="rlm", model=scripted(reply), sub_model=scripted(slow), session=thief.session)
    assert (result.status, result.answer) == ("ok", "after"), result.error
    assert result.usage.calls == 3
    assert types(events).count("call.finished") == 3


def test_while_the_host_works_for_it_for_longer_than_the_run(thief: Thief, ask) -> None:
    """The run goes on without that answer, and does not end before all of its calls have."""
    answer = threading.Event()

    def reply(prompt: str) -> str:
        return action("llm_query('slow')") if FIRST in prompt else action("SUBMIT(answer='after')")

    def slow(prompt: str) -> str:
        thief.steal()
        assert answer.wait(60)
        return "too late"

    result, events = ask(None, mode="rlm", model=scripted(reply), sub_model=scripted(slow), session=thief.session)
    answer.set()
    assert (result.status, result.answer) == ("ok", "after"), result.error
    assert [e.data.status for e in events if isinstance(e.data, ev.CallFinished)] == ["ok", "ok", "cancelled"]
    assert result.usage.calls == 3, "what was sent is spent"


def test_while_it_starts(thief: Thief, ask) -> None:
    leave = thief.steal_when("sandbox.requested")
    result, _ = ask(None, mode="rlm", model=scripted(lambda _: action("SUBMIT(answer='in')")), session=thief.session)
    leave()
    assert (result.status, result.answer) == ("ok", "in") or (result.error and "sandbox" in result.error.code)


def test_again_and_again(thief: Thief, ask) -> None:
    """A run gets one new sandbox, not one after the other for ever."""

    def reply(prompt: str) -> str:
        thief.steal()
        return action("print(1)")

    result, events = ask(None, mode="rlm", model=scripted(reply), session=thief.session)
    assert result.status == "failed" and result.error is not None and result.error.code == "sandbox_lost"
    assert types(events).count("sandbox.lost") == 2


def test_of_a_child(thief: Thief, ask) -> None:
    """The parent's own sandbox goes as well here; both runs go on in new ones."""

    def reply(prompt: str) -> str:
        if "child task" in prompt and "parent task" not in prompt:
            if FIRST in prompt:
                return action("import time; time.sleep(60)")
            return action("SUBMIT(answer='child is back')")
        if FIRST in prompt:
            return action("got = rlm_query('child task')\nSUBMIT(answer=str(got))")
        return action("SUBMIT(answer='parent is back')")

    leave = thief.steal_when("cell.started", delay_s=1.0)
    result, events = ask(None, "parent task", mode="rlm", model=scripted(reply), session=thief.session)
    leave()
    assert result.status == "ok" and "is back" in (result.answer or ""), result.error
    assert "sandbox.lost" in types(events)


def test_children_that_lose_theirs_fail_alone(workspace, ask) -> None:
    """Children whose sandbox is gone twice are Failures; the parent, whose own is left, reads which."""
    session = workspace.sessions.create("robbed children").sid

    def reply(prompt: str) -> str:
        if "victim" in prompt.split("Your task:")[-1]:
            for box in workspace.sandboxes.list({"fleet.session": session}):
                if box.labels.get("fleet.run") != root_run(workspace, session):
                    workspace.sandboxes.delete_labelled({"fleet.run": box.labels["fleet.run"]})
            return action("print('still here')")
        if "extract the final outputs" in prompt:
            return field("answer", "partial")
        return action("got = rlm_query('victim')\nSUBMIT(answer=f'{bool(got)} {got.error if not got else got}')")

    result, _ = ask(None, mode="rlm", model=scripted(reply), session=session, limits=ev.Limits(calls=15))
    assert result.status in ("ok", "limit") and (result.answer or "").split()[0] in ("False", "True", "Partial")


def root_run(workspace: Workspace, session: str) -> str | None:
    started = [e for e in workspace.journal.read(session, 0, 1000) if e.type == "run.started"]
    return started[0].run if started else None
