"""A workspace that plays a script instead of an engine, behind the real journal.

It has exactly the part of `Workspace` that `fleet run` speaks to, so that screens and exit statuses can be driven into
every corner. The same commands are run on the real engine in test_run_real.py.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from fleet_rlm.runtime.config import load_settings
from fleet_rlm.runtime.execution import events as ev

SESSION, TURN = "ses_1", "trn_1"


@dataclass
class ScriptedJournal:
    """Commits in the caller's thread; listeners hear of it as from the real one."""

    log: list[ev.Event] = field(default_factory=list)
    listeners: list[Callable[[Sequence[ev.Event]], None]] = field(default_factory=list)

    def append(self, *drafts: ev.Draft) -> None:
        new = [
            ev.place(draft, epoch="e1", sid=SESSION, seq=len(self.log) + n, ts=1_000 * (len(self.log) + n))
            for n, draft in enumerate(drafts, 1)
        ]
        self.log += new
        for listener in list(self.listeners):
            listener(new)

    def listen(self, sid: str | None, listener: Callable[[Sequence[ev.Event]], None]) -> Callable[[], None]:
        assert sid is None
        self.listeners.append(listener)
        return lambda: self.listeners.remove(listener)

    def read(self, sid: str, after: int = 0, limit: int = 500) -> list[ev.Event]:
        return [event for event in self.log if event.sid == sid and event.seq > after][:limit]

    def flush(self) -> None: ...


@dataclass
class ScriptedWorkspace:
    """`script(workspace)` is the turn; what it returns overrides fields of the result."""

    script: Callable[[ScriptedWorkspace], dict[str, Any]]
    home: Path
    journal: ScriptedJournal = field(default_factory=ScriptedJournal)
    cancelled: threading.Event = field(default_factory=threading.Event)
    requests: list[Any] = field(default_factory=list)
    answers: queue.SimpleQueue[tuple[str, str | None]] = field(default_factory=queue.SimpleQueue)
    contexts: Any = None
    blobs: Any = None

    def __post_init__(self) -> None:
        self.settings = load_settings(home=self.home)

    def prepare(self, *, ahead: bool = False) -> None: ...

    def submit(self, request: Any) -> SimpleNamespace:
        self.requests.append(request)
        self.journal.append(ev.Draft(ev.SessionCreated(title=request.question)))
        accepted = ev.TurnAccepted(
            question=request.question, mode="auto", model="m/x", sub_model="m/x", limits=ev.Limits()
        )
        self.journal.append(ev.Draft(accepted, turn=TURN))
        return SimpleNamespace(session=SESSION, turn=TURN, seq=2)

    def cancel(self, turn: str) -> bool:
        assert turn == TURN
        self.cancelled.set()
        return True

    def answer(self, turn: str, approval: str, answer: str | None) -> None:
        """What the engine does with it: the end of the question is an event."""
        assert turn == TURN
        by = ("answered", answer, "person") if answer is not None else ("expired", "the rule", "rule")
        self.answers.put((approval, answer))
        self.journal.append(ev.Draft(ev.ApprovalResolved(approval, *by), turn=TURN))

    def wait(self, turn: str, timeout: float | None = None) -> SimpleNamespace:
        assert turn == TURN
        fields = {"status": "ok", "answer": "forty-two", "limit": None, "error": None, "artifacts": (), "coverage": ()}
        fields |= self.script(self)
        usage = ev.Usage(calls=7, prompt_tokens=100, completion_tokens=20, wall_s=1.5)
        finished = ev.TurnFinished(
            status=fields["status"], answer=fields["answer"], usage=usage, runs=3, max_depth_reached=1
        )
        self.journal.append(ev.Draft(finished, turn=TURN))
        return SimpleNamespace(
            session=SESSION,
            turn=TURN,
            usage=usage,
            runs=3,
            max_depth_reached=1,
            citations=(),
            sandbox=SimpleNamespace(provider="local", isolation="namespaces"),
            model="m/x",
            **fields,
        )


def run_started(
    run: str, task: str, *, parent: str | None = None, depth: int = 0, kind: ev.RunKind = "rlm"
) -> ev.Draft:
    data = ev.RunStarted(kind=kind, task=task, signature="task -> answer", model="m/x")
    return ev.Draft(data, turn=TURN, run=run, parent=parent, depth=depth)


def run_finished(run: str, status: ev.RunStatus = "ok", *, calls: int = 1, parent: str | None = None) -> ev.Draft:
    return ev.Draft(ev.RunFinished(status=status, usage=ev.Usage(calls=calls)), turn=TURN, run=run, parent=parent)
