"""A process of its own that works one turn off, to be killed in the middle. Started by test_crash_and_resume.py.

Its one argument is JSON: native (the address of a server whose model calls tools, else the settings' model), home, settings (overrides), question, mode, limits, answers ({part of a question: answer}; a
person's answers, given as soon as they are asked for), change (limits to set once `change_after` calls are finished),
die_on (a type of event and n: the process kills itself when the nth of them is committed).
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.engine.sse_model import SseModel

from fleet_rlm.runtime.config import load_settings
from fleet_rlm.runtime.execution import events as ev
from fleet_rlm.runtime.execution.requests import TurnRequest
from fleet_rlm.runtime.factory import Workspace, open_workspace


def main(given: dict[str, Any]) -> None:
    """Submit the turn, print its id, answer what is asked, and wait until killed or done."""
    settings = load_settings(home=Path(given["home"]), environ={}, overrides=given["settings"])
    with open_workspace(settings) as workspace:
        if "die_on" in given:
            workspace.journal.listen(None, dying(*given["die_on"]))
        limits = ev.Limits(**given["limits"])
        native = SseModel(lambda _: [], address=given["native"]).lm() if "native" in given else None
        request = TurnRequest(question=given["question"], mode=given["mode"], limits=limits, model=native)
        submitted = workspace.submit(request)
        print(submitted.session, submitted.turn, flush=True)
        while workspace.active_turn(submitted.session) is not None:
            tend(workspace, submitted.session, submitted.turn, given)
            time.sleep(0.05)
        print(workspace.wait(submitted.turn, 10).status, flush=True)


def dying(kind: str, nth: int) -> Callable[[list[ev.Event]], None]:
    """A listener that ends the process."""
    seen: list[ev.Event] = []

    def look(events: list[ev.Event]) -> None:
        seen.extend(event for event in events if event.type == kind)
        if len(seen) >= nth:
            os.kill(os.getpid(), signal.SIGKILL)

    return look


def tend(workspace: Workspace, session: str, turn: str, given: dict[str, Any]) -> None:
    """Do once what a person would do by now."""
    events = [event.data for event in workspace.journal.read(session, 0, 100_000)]
    done = {data.id for data in events if isinstance(data, ev.ApprovalResolved)}
    for data in events:
        if isinstance(data, ev.ApprovalRequested) and data.id not in done:
            for part, answer in given.get("answers", {}).items():
                if part in data.question:
                    workspace.answer(turn, data.id, answer)
    change = given.get("change")
    if change and sum(isinstance(data, ev.CallFinished) for data in events) >= given["change_after"]:
        workspace.set_limits(turn, change)
        given["change"] = None


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
