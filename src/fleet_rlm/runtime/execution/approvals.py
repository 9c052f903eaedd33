"""Questions to a person, asked while a turn runs.

`ask` blocks the run that asks: it holds no place for a model call, and the wall limit's clock stands still. The
question is an event, so it is a state of the run on every screen; it ends exactly once: a person answered, the rule
took `otherwise` at the deadline, or what waited was stopped.

    ask ── approval.requested ──> open ──┬─ answer()   -> approval.resolved(answered, who=person)  -> the text
                                         ├─ deadline   -> approval.resolved(expired, who=rule)     -> `otherwise`
                                         └─ stop       -> approval.resolved(cancelled, who=rule)   -> TreeStopped
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextvars import ContextVar
from dataclasses import dataclass, field

import msgspec

from fleet_rlm.errors import Conflict, InvalidInput, NotFound, StorageError
from fleet_rlm.runtime.execution import events as ev
from fleet_rlm.runtime.execution.budget import TreeBudget
from fleet_rlm.runtime.execution.ids import new_id
from fleet_rlm.runtime.execution.observer import RunScope, TurnObserver
from fleet_rlm.runtime.execution.record import AT_CALLS
from fleet_rlm.runtime.execution.replay import Replay

MAX_QUESTION_CHARS = 4_000
MAX_CHOICES = 20
MAX_CHOICE_CHARS = 200
MAX_ANSWER_CHARS = 20_000
MAX_QUESTIONS = 200
"""Per turn, of models and of the policy each: model-written code may ask, and a loop must not fill a person's screen,
nor take from the policy what it would ask."""

ASKING_TOOL: ContextVar[str | None] = ContextVar("fleet_asking_tool", default=None)
"""The call of a host tool that this thread works for."""


@dataclass(slots=True)
class _Open:
    """A question of this turn and, once it is set, how it ended. The lock keeps its one end one."""

    scope: RunScope
    request: ev.ApprovalRequested
    ended: Future[ev.ApprovalResolved] = field(default_factory=Future[ev.ApprovalResolved])
    lock: threading.Lock = field(default_factory=threading.Lock)


class Approvals:
    """The questions of one turn. Thread-safe.

    `patience_s`: how long a question waits that names no time of its own; None waits until the run is stopped.
    """

    def __init__(
        self,
        budget: TreeBudget,
        observer: TurnObserver,
        replay: Replay | None = None,
        *,
        patience_s: float | None = None,
    ) -> None:
        self._patience_s = patience_s
        self._budget = budget
        self._observer = observer
        self._replay = replay
        self._asked: dict[str, _Open] = {}
        self._counts = {True: 0, False: 0}
        self._lock = threading.Lock()

    def ask(
        self,
        scope: RunScope,
        *,
        kind: ev.ApprovalKind,
        question: str,
        choices: Sequence[str] = (),
        detail: str | None = None,
        seconds: float | None = None,
        otherwise: str | None = None,
        unit: ev.Unit | None = None,
        opened: Callable[[str], None] | None = None,
    ) -> str | None:
        """Ask, and wait for the answer.

        Args:
            choices: what may be answered; none means free text.
            detail: what a person may want to read first (arguments, code).
            seconds: how long to wait; None: as long as the policy says.
            otherwise: the rule's answer at the deadline.
            unit: the limit that it is about, if it is about one.
            opened: told the question's id once it can be answered.
        Errors: InvalidInput (empty or too many questions, too many choices), TreeStopped when the run is stopped.
        """
        scope.stop.check()
        seconds = self._patience_s if seconds is None else seconds
        entry, request = self._open(scope, kind, question, tuple(choices), detail, seconds, otherwise, unit)
        known = None if self._replay is None else self._replay.approval(scope, kind, request.question)
        if known is not None:  # answered before, in the turn that this one goes on from
            if known.tool is None:  # of a journal that does not tell
                request = msgspec.structs.replace(request, tool=None)
            again = msgspec.structs.replace(known, id=request.id, tool=request.tool, replayed=True)
            self._observer.emit_all([request, again], scope)
            return again.answer
        with self._budget.paused():
            with self._lock:
                self._asked[request.id] = entry  # before anyone can know of it: an answer may come at once
            try:
                self._observer.emit(request, scope, durable=True)
            except StorageError:  # it is not asked
                with self._lock:
                    del self._asked[request.id]
                raise
            if opened is not None:
                opened(request.id)
            scope.stop.race(entry.ended, seconds)
        end = self._end(entry, _by_rule(request, stopped=scope.stop.done))
        scope.stop.check()
        return end.answer

    def answer(self, approval: str, text: str | None) -> None:
        """A person's answer, from any thread. The first one stands; the same again is fine.

        None: nobody will answer, so the rule takes effect now; nothing happens to a question that is over.
        Errors: NotFound (no such question in this turn), InvalidInput (not among the choices, too long), Conflict
        (another answer stands, or the question is over).
        """
        with self._lock:
            entry = self._asked.get(approval)
        if entry is None:
            raise NotFound(f"no question {approval[:80]!r} in this turn")
        if text is None:
            self._end(entry, _by_rule(entry.request, stopped=entry.scope.stop.done))
            return
        text = self._observer.clean(checked_answer(text, entry.request.choices))
        tool = entry.request.tool
        end = self._end(entry, ev.ApprovalResolved(id=approval, status="answered", answer=text, tool=tool))
        check_same(end, text)

    def _open(
        self,
        scope: RunScope,
        kind: ev.ApprovalKind,
        question: str,
        choices: tuple[str, ...],
        detail: str | None,
        seconds: float | None,
        otherwise: str | None,
        unit: ev.Unit | None,
    ) -> tuple[_Open, ev.ApprovalRequested]:
        if not question.strip():
            raise InvalidInput("a question must be a text that is not empty")
        if len(choices) > MAX_CHOICES or any(not c.strip() or len(c) > MAX_CHOICE_CHARS for c in choices):
            raise InvalidInput(f"a question has at most {MAX_CHOICES} choices of 1 to {MAX_CHOICE_CHARS} characters")
        clean = self._observer.clean
        request = ev.ApprovalRequested(
            id=new_id("apr"),
            kind=kind,
            question=clean(question)[:MAX_QUESTION_CHARS],
            choices=[clean(choice) for choice in choices],
            detail=None if detail is None else self._observer.text(detail),
            deadline=None if seconds is None else int((time.time() + seconds) * 1000),
            seconds=seconds,
            otherwise=otherwise,
            unit=unit,
            tool=None if kind in AT_CALLS else ASKING_TOOL.get(),
        )
        with self._lock:
            own = kind == "question"
            if self._counts[own] >= MAX_QUESTIONS:
                raise InvalidInput(f"this turn has asked {MAX_QUESTIONS} questions", hint="go on without asking")
            self._counts[own] += 1
        return _Open(scope, request), request

    def _end(self, entry: _Open, end: ev.ApprovalResolved) -> ev.ApprovalResolved:
        """The end of the question: `end`, written durably, or the one that came before it.

        Errors: StorageError; a person's answer can be given again then, and the rule's stands.
        """
        with entry.lock:
            if not entry.ended.done():
                if end.who == "person":
                    self._observer.emit(end, entry.scope, durable=True)
                    entry.ended.set_result(end)
                else:
                    try:
                        self._observer.emit_end(end, entry.scope)
                    finally:
                        entry.ended.set_result(end)
        return entry.ended.result()


def _by_rule(request: ev.ApprovalRequested, *, stopped: bool) -> ev.ApprovalResolved:
    if stopped:
        return ev.ApprovalResolved(id=request.id, status="cancelled", who="rule", tool=request.tool)
    return ev.ApprovalResolved(id=request.id, status="expired", answer=request.otherwise, who="rule", tool=request.tool)


def checked_answer(text: str, choices: Sequence[str]) -> str:
    """A person's answer. Errors: InvalidInput when it is no text, not among the choices, empty or too long."""
    if not isinstance(text, str):  # pyright: ignore[reportUnnecessaryIsInstance] - of a callable of the program
        raise InvalidInput(f"an answer is a text, not a {type(text).__name__}")
    if choices:
        if text not in choices:
            raise InvalidInput(f"{text[:80]!r} is not a choice", hint="choose one of " + ", ".join(choices))
    elif not text.strip():
        raise InvalidInput("the answer is empty")
    elif len(text) > MAX_ANSWER_CHARS:
        raise InvalidInput(f"the answer has {len(text):,} characters, more than {MAX_ANSWER_CHARS:,}")
    return text


def check_same(end: ev.ApprovalResolved, text: str) -> None:
    """Errors: Conflict when a question ended otherwise than with this answer of a person."""
    if end.status == "answered" and end.answer == text:
        return
    how = {
        "answered": f"it was answered {end.answer!r:.80}",
        "expired": f"nobody answered in time, so the rule took {end.answer!r:.80}",
        "cancelled": "what asked it was stopped",
    }
    raise Conflict(f"this question is over: {how[end.status]}", hint="an answer cannot be changed")
