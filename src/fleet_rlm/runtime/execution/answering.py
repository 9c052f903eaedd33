"""Answers to the questions of one turn from whoever started it: a person at a terminal, a callable of a program.

Questions are heard from the journal, where every screen reads them. They are put one after another in a thread of
their own, so neither the turn nor the journal waits for the one who answers.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from fleet_rlm.errors import Conflict, FleetError
from fleet_rlm.runtime.execution import events as ev
from fleet_rlm.runtime.execution.requests import Submitted

PAGE = 1_000
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked. `ended` is set when it is over, by this answer or otherwise."""

    asked: ev.ApprovalRequested
    ended: Future[ev.ApprovalResolved] = field(default_factory=Future[ev.ApprovalResolved])


Answerer = Callable[[Question], str | None]
"""Gives the answer; None: none will come, so the rule of the question takes effect at once."""


class _Journal(Protocol):
    def listen(self, sid: str | None, listener: Callable[[Sequence[ev.Event]], None]) -> Callable[[], None]: ...

    def read(self, sid: str, after: int = 0, limit: int = 500) -> list[ev.Event]: ...


class _Turns(Protocol):
    """The part of a workspace that is needed here."""

    @property
    def journal(self) -> _Journal: ...

    def answer(self, turn: str, approval: str, answer: str | None) -> None: ...


class _Asked:
    """The questions of one turn, and the thread that puts them."""

    def __init__(self, workspace: _Turns, turn: str, answerer: Answerer) -> None:
        self._workspace = workspace
        self._turn = turn
        self._answerer = answerer
        self._waiting: queue.SimpleQueue[Question | None] = queue.SimpleQueue()
        self._questions: dict[str, Question] = {}
        self._ends: dict[str, ev.ApprovalResolved] = {}
        self._lock = threading.Lock()
        self.thread = threading.Thread(target=self._put_all, name="fleet-asking", daemon=True)

    def hear(self, events: Sequence[ev.Event]) -> None:
        """Takes events in any order, also twice; never waits."""
        for event in events:
            if event.turn != self._turn:
                continue
            if isinstance(event.data, ev.ApprovalRequested):
                self._requested(event.data)
            elif isinstance(event.data, ev.ApprovalResolved):
                self._resolved(event.data)

    def close(self) -> None:
        """The turn is over, and so is whatever was asked in it."""
        with self._lock:
            left = list(self._questions.values())
        for question in left:
            self._resolved(ev.ApprovalResolved(id=question.asked.id, status="cancelled", who="rule"))
        self._waiting.put(None)

    def _requested(self, asked: ev.ApprovalRequested) -> None:
        with self._lock:
            if asked.id in self._questions:
                return
            question = self._questions[asked.id] = Question(asked)
            if asked.id in self._ends:
                question.ended.set_result(self._ends[asked.id])
        self._waiting.put(question)

    def _resolved(self, end: ev.ApprovalResolved) -> None:
        with self._lock:
            question = self._questions.get(end.id)
            if end.id in self._ends:
                return
            self._ends[end.id] = end
            if question is not None:
                question.ended.set_result(end)

    def _put_all(self) -> None:
        while (question := self._waiting.get()) is not None:
            if not question.ended.done():
                self._put(question)

    def _put(self, question: Question) -> None:
        try:
            answer = self._answerer(question)
        except Exception:  # supervisor: a fault of the caller's code must not leave a run waiting
            log.exception("no answer to %r: what was asked for one failed; the rule decides", question.asked.question)
            answer = None
        try:
            self._workspace.answer(self._turn, question.asked.id, answer)
        except Conflict:
            return  # it ended meanwhile: that stands
        except FleetError as error:
            log.warning("the answer to %r was not taken: %s; the rule decides", question.asked.question, error)
            if answer is not None:
                self._put_rule(question)

    def _put_rule(self, question: Question) -> None:
        try:
            self._workspace.answer(self._turn, question.asked.id, None)
        except FleetError as error:
            log.info("the question %r is over: %s", question.asked.question, error)


@contextmanager
def answering(
    workspace: _Turns, submitted: Submitted, answerer: Answerer | None, *, leave_s: float = 0.0
) -> Generator[None]:
    """While the block runs, questions of the turn go to `answerer` (None: to nobody here).

    `leave_s`: how long its end waits for an answerer that is still at it.
    """
    if answerer is None:
        yield
        return
    asked = _Asked(workspace, submitted.turn, answerer)
    leave = workspace.journal.listen(None, asked.hear)
    asked.thread.start()
    try:
        after = submitted.seq - 1
        while page := workspace.journal.read(submitted.session, after, PAGE):  # before anyone listened
            asked.hear(page)
            after = page[-1].seq
        yield
    finally:
        leave()
        asked.close()
        asked.thread.join(leave_s)
