"""Questions to a person: each ends exactly once, and while it waits the wall clock stands still."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future

import pytest

from fleet_rlm.errors import Conflict, InvalidInput, NotFound, StorageError, TreeStopped
from fleet_rlm.runtime.execution import events as ev
from fleet_rlm.runtime.execution.approvals import MAX_QUESTIONS, Approvals
from fleet_rlm.runtime.execution.budget import TreeBudget
from fleet_rlm.runtime.execution.observer import RunScope, TurnObserver


class Ledger:
    """An event sink and text store in memory."""

    def __init__(self) -> None:
        self.events: list[ev.EventData] = []
        self.durable: list[str] = []
        self.full = False
        self.waiting: list[ev.EventData] = []
        """What a full disk has not yet taken: durable or never, all else later."""

    def append(self, sid: str, drafts: list[ev.Draft], *, durable: bool = False) -> None:
        if self.full and durable:
            raise StorageError("the disk is full")
        if self.full:
            self.waiting += [draft.data for draft in drafts]
            return
        self.events += [draft.data for draft in drafts]
        self.durable += [draft.data.type for draft in drafts if durable]

    def put_text(self, text: str) -> ev.Text:
        return ev.Text(head=text, bytes=len(text.encode()))


class Asking:
    """A turn with one run, and what is asked in it."""

    def __init__(self, limits: ev.Limits | None = None) -> None:
        self.ledger = Ledger()
        self.budget = TreeBudget(limits or ev.Limits())
        hide: Callable[[str], str] = lambda text: text.replace("s3cret", "•••")  # noqa: E731
        observer = TurnObserver(self.ledger, self.ledger, sid="s", turn="t", redact=hide)
        self.approvals = Approvals(self.budget, observer)
        self.scope = RunScope(id="run", lease=self.budget.root())

    def ask(self, scope: RunScope | None = None, **options: object) -> "Future[str | None]":
        """Ask in a thread; returns when the question stands."""
        future: Future[str | None] = Future()
        before = len(self.asked)
        options = {"kind": "question", "question": "which?", **options}

        def work() -> None:
            try:
                future.set_result(self.approvals.ask(scope or self.scope, **options))
            except BaseException as error:
                future.set_exception(error)

        threading.Thread(target=work, daemon=True).start()
        until(lambda: len(self.asked) > before or future.done())
        return future

    @property
    def asked(self) -> list[ev.ApprovalRequested]:
        return [event for event in self.ledger.events if isinstance(event, ev.ApprovalRequested)]

    @property
    def ended(self) -> list[ev.ApprovalResolved]:
        return [event for event in self.ledger.events if isinstance(event, ev.ApprovalResolved)]

    def answer(self, text: str) -> None:
        """Answer the newest question, once its run waits."""
        until(lambda: self._try(text))

    def _try(self, text: str) -> bool:
        try:
            self.approvals.answer(self.asked[-1].id, text)
        except NotFound:
            return False
        return True


def until(true: Callable[[], bool], timeout: float = 10) -> None:
    deadline = time.monotonic() + timeout
    while not true():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.005)


def test_an_answer_reaches_the_run_that_asked() -> None:
    turn = Asking()
    answer = turn.ask(question="s3cret or not?", choices=["left", "right"], detail="s3cret map", otherwise="left")
    turn.answer("right")
    assert answer.result(10) == "right"
    (asked,), (ended,) = turn.asked, turn.ended
    assert (asked.question, asked.choices, asked.detail.head) == ("••• or not?", ["left", "right"], "••• map")
    assert asked.deadline is None and asked.otherwise == "left"
    assert (ended.status, ended.answer, ended.who) == ("answered", "right", "person")
    assert turn.ledger.durable == ["approval.requested", "approval.resolved"]


def test_the_first_answer_stands() -> None:
    turn = Asking()
    answer = turn.ask()
    turn.answer("yes")
    turn.answer("yes")
    with pytest.raises(Conflict, match="answered 'yes'"):
        turn.approvals.answer(turn.asked[0].id, "no")
    assert answer.result(10) == "yes" and len(turn.ended) == 1


def test_of_many_answers_at_once_one_stands() -> None:
    turn = Asking()
    answer = turn.ask()
    turn._try("warm up")  # the run waits now, or this was the first answer
    outcomes: list[str] = []

    def say(text: str) -> None:
        try:
            turn.approvals.answer(turn.asked[0].id, text)
            outcomes.append(text)
        except Conflict:
            outcomes.append("conflict")

    threads = [threading.Thread(target=say, args=(str(n),)) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    taken = answer.result(10)
    assert len(turn.ended) == 1 and turn.ended[0].answer == taken
    assert outcomes.count("conflict") == (20 if taken == "warm up" else 19)


def test_the_rule_answers_at_the_deadline() -> None:
    turn = Asking()
    answer = turn.ask(kind="tool", choices=["allow", "deny"], seconds=0.05, otherwise="deny")
    assert answer.result(10) == "deny"
    assert (turn.ended[0].status, turn.ended[0].who) == ("expired", "rule")
    assert turn.asked[0].deadline is not None and turn.asked[0].seconds == 0.05
    with pytest.raises(Conflict, match="nobody answered in time"):
        turn.approvals.answer(turn.asked[0].id, "allow")


def test_the_end_of_the_tree_ends_the_wait() -> None:
    turn = Asking()
    answer = turn.ask(otherwise="x")
    turn.budget.stop(TreeStopped("cancelled"))
    with pytest.raises(TreeStopped):
        answer.result(10)
    assert (turn.ended[0].status, turn.ended[0].answer) == ("cancelled", None)
    with pytest.raises(TreeStopped):
        turn.approvals.ask(turn.scope, kind="question", question="again?")


def test_the_stop_of_one_run_ends_its_questions_only() -> None:
    turn = Asking()
    left = RunScope(id="left", lease=turn.scope.lease.child(), parent=turn.scope)
    below = RunScope(id="below", lease=turn.scope.lease.child(), parent=left)
    right = RunScope(id="right", lease=turn.scope.lease.child(), parent=turn.scope)
    stopped, goes_on = turn.ask(below), turn.ask(right)
    assert left.stop.set(TreeStopped("cancelled")) and left.stop.own and not below.stop.own
    with pytest.raises(TreeStopped):
        stopped.result(10)
    turn.answer("fine")
    assert goes_on.result(10) == "fine" and not turn.scope.stop.done
    late = RunScope(id="late", lease=turn.scope.lease, parent=left)
    assert late.stop.done, "what is opened below a stopped run is stopped"


def test_bad_answers_change_nothing() -> None:
    turn = Asking()
    answer = turn.ask(choices=["a", "b"])
    until(lambda: _refused(turn, InvalidInput, "c"))
    with pytest.raises(NotFound):
        turn.approvals.answer("apr_nope", "a")
    assert not answer.done()
    turn.answer("a")
    assert answer.result(10) == "a"
    free = turn.ask()
    until(lambda: _refused(turn, InvalidInput, "  "))
    until(lambda: _refused(turn, InvalidInput, "x" * 100_000))
    turn.answer("fine")
    assert free.result(10) == "fine"


def _refused(turn: Asking, kind: type[Exception], text: str) -> bool:
    try:
        turn.approvals.answer(turn.asked[-1].id, text)
    except NotFound:
        return False
    except kind:
        return True
    raise AssertionError(f"{text!r:.20} was taken")


def test_bad_questions_are_refused() -> None:
    turn = Asking()
    for wrong in ({"question": " "}, {"choices": ["x"] * 21}, {"choices": [" "]}, {"choices": ["y" * 300]}):
        with pytest.raises(InvalidInput):
            turn.approvals.ask(turn.scope, **{"kind": "question", "question": "q", **wrong})
    for _ in range(MAX_QUESTIONS):
        turn.approvals.ask(turn.scope, kind="question", question="q", seconds=0)
    with pytest.raises(InvalidInput, match="questions"):
        turn.approvals.ask(turn.scope, kind="question", question="q", seconds=0)


def test_a_question_that_the_journal_refuses_is_not_asked() -> None:
    turn = Asking()
    turn.ledger.full = True
    asked: list[str] = []
    with pytest.raises(StorageError, match="full"):
        turn.approvals.ask(turn.scope, kind="question", question="q", seconds=0, opened=asked.append)
    assert not turn.ledger.events and not turn.ledger.waiting and not asked and not turn.approvals._asked
    turn.ledger.full = False
    assert turn.ask(seconds=0.01, otherwise="on").result(10) == "on"


def test_an_answer_that_the_journal_refuses_can_be_given_again() -> None:
    turn = Asking()
    answer = turn.ask()
    until(lambda: turn.asked[0].id in turn.approvals._asked)
    turn.ledger.full = True
    for text in ("yes", "yes", "no"):
        with pytest.raises(StorageError):
            turn.approvals.answer(turn.asked[0].id, text)
    assert not answer.done()
    turn.ledger.full = False
    turn.answer("no")
    assert answer.result(10) == "no" and [end.answer for end in turn.ended] == ["no"] and not turn.ledger.waiting


def test_an_end_by_the_rule_that_the_journal_refuses_is_written_later_and_stands() -> None:
    """What was asked must not stay open, and ends once."""
    turn = Asking()
    answer = turn.ask(otherwise="on")
    until(lambda: turn.asked[0].id in turn.approvals._asked)
    turn.ledger.full = True
    with pytest.raises(StorageError):
        turn.approvals.answer(turn.asked[0].id, None)
    assert answer.result(10) == "on"
    turn.ledger.full = False
    with pytest.raises(Conflict, match="the rule took 'on'"):
        turn.approvals.answer(turn.asked[0].id, "off")
    (later,) = turn.ledger.waiting
    assert isinstance(later, ev.ApprovalResolved) and (later.status, later.answer) == ("expired", "on")
    assert not turn.ended


def test_wall_time_stands_still_while_a_person_is_waited_for() -> None:
    now = [0.0]
    budget = TreeBudget(ev.Limits(wall_s=100.0), clock=lambda: now[0])
    budget.start_clock()
    now[0] = 10
    with budget.paused():
        now[0] = 500
        with budget.paused():  # two wait at once
            now[0] = 600
        now[0] = 1000
        assert budget.snapshot().left_wall_s == 90
    assert budget.snapshot().left_wall_s == 90
    now[0] = 1020
    assert budget.snapshot().left_wall_s == 70 and budget.usage().wall_s == 30
    budget.close()


def test_the_hard_deadline_waits_with_the_person_and_comes_after() -> None:
    turn = Asking(ev.Limits(wall_s=1.5))
    turn.budget.start_clock()
    answer = turn.ask()
    time.sleep(2.0)
    assert not turn.budget.stopped.done()
    turn.answer("here")
    assert answer.result(10) == "here"
    assert turn.budget.stopped.result(10).limit == "wall"
    turn.budget.close()
