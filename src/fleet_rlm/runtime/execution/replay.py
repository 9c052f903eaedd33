"""Running a turn again over what a journal knows of it: the answers come from there, as long as the questions match.

Three kinds (`Origin.kind`): **resume** goes on where a dead process, a limit or a failure left the turn; **replay**
does the same once more and may ask nobody; **fork** goes its own way from an edit. In all of them cells run again, in
fresh sandboxes, and every request is looked up under (run path, what is asked, how often it was asked there before).
What is found is not asked again. What is not found is asked live; where the journal should have known it, a `warning`
with the code "replay.diverged" says so, once per run.

What was paid: a resume counts all that its earlier turns spent before it begins (`Record.paid`, with calls that were
sent and never came back), so a replayed call is not counted again; in the other kinds a replayed call counts when it
comes, as it did then.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from fleet_rlm.errors import NotFound, TreeStopped
from fleet_rlm.runtime.execution import events as ev
from fleet_rlm.runtime.execution.budget import LimitReached, TreeBudget
from fleet_rlm.runtime.execution.leases import Lease
from fleet_rlm.runtime.execution.losses import FAILED_THEN, Ask, Loss, LossesAgain, begun, ended, losing, refuse_more
from fleet_rlm.runtime.execution.observer import RunScope, TurnObserver
from fleet_rlm.runtime.execution.record import (
    Key,
    Record,
    RecordedCall,
    RecordedRun,
    RecordedTool,
    approval_key,
    call_key,
    tool_key,
    with_answer,
)
from fleet_rlm.runtime.execution.spending import Cost, Share
from fleet_rlm.runtime.execution.stop_again import StopsAgain
from fleet_rlm.runtime.execution.told_again import ToldAgain

Kind = Literal["resume", "replay", "fork"]
DIVERGED = "replay.diverged"
MISSING = "replay.missing"


@dataclass(frozen=True, slots=True)
class Plan:
    """From what a turn is run again, and how. `same_models`: a finished run may stand for a run of this turn.

    `quiet`: differences are meant (another question, another model), so nothing is said of them. `limits`: those of the
    first turn of the chain, which stand in its prompts. `memory_seq`: its agent knew what the memory said before that.
    `anew`: known runs are offered what the limits of now say, and not what they were when they began. `room`: the
    limits that hold from the start, where those of the request are those of a turn that changed them later.
    """

    kind: Kind
    record: Record
    edits: Sequence[ev.TurnEdit] = ()
    same_models: bool = True
    quiet: bool = False
    limits: ev.Limits | None = None
    memory_seq: int | None = None
    anew: bool = False
    room: ev.Limits | None = None


class Replay:
    """The journal's answers for one turn that is run again. Thread-safe."""

    def __init__(
        self, plan: Plan, budget: TreeBudget, observer: TurnObserver, text_of: Callable[[ev.Text], str]
    ) -> None:
        self.kind = plan.kind
        self.text = text_of
        self.missing: ev.ErrorInfo | None = None
        """What a replay did not find, after which it failed."""
        self.told = plan.limits or budget.limits
        """The limits that prompts speak of: with other numbers in them they would be other requests."""
        self.memory_seq = plan.memory_seq
        self._record = plan.record
        self._edits = plan.edits
        self._same_models = plan.same_models
        self._budget = budget
        self._observer = observer
        self._quiet = plan.quiet
        self._anew = plan.anew
        self._warned: set[str] = set()
        self._lock = threading.Lock()
        self._replayed = ev.Usage(cost_usd=0.0)
        self._taken: set[Key] = set()
        self._answered: set[Key] = set()
        self._parted: set[str] = set()
        self._losses: dict[str, LossesAgain] = {}
        self._alike: dict[tuple[str, str], list[Key]] = {}
        for key, call in plan.record.calls.items():
            self._alike.setdefault((call.path, call.started.request), []).append(key)
        self._told_again = ToldAgain(plan.record, budget, observer) if plan.kind == "replay" else None
        self.stops = StopsAgain(
            plan.record,
            budget,
            lambda key: key in self._taken,
            self._edited,
            replays=plan.kind == "replay",
            same_models=plan.same_models,
        )
        if plan.kind == "resume":
            budget.carry(plan.record.paid)
        if plan.room is not None:
            budget.set_limits(plan.room)

    # -- what a run asks for ------------------------------------------------------------------------------------

    def call(self, scope: RunScope, request: str, place: str = "", *, ahead: bool = False) -> RecordedCall | str | None:
        """The recorded call for this request; the text that is to be sent in its place; None when it is to be made.

        One that was cancelled is given where its run is to be stopped again (see `stops`). `ahead`: the code has not
        asked it yet, so it is refused where it is not known: near a limit it was refused then, too.
        Errors: TreeStopped when none may be made.
        """
        key, stage = self._claimed(scope, request, place), scope.places.stage
        found = self._record.calls.get(key) or self._last_word(scope)
        edit = next((e for e in self._edits if (e.path, e.request, e.again) == key), None)
        if edit is not None and not (found is not None and edit in found.edits):
            self._quiet = True  # from here on differences are meant
            if edit.answer is not None and found is not None and found.finished is not None:
                return with_answer(found, found.finished, edit.answer)
            return edit.prompt
        if found is not None and self._holds(found):
            self._tell_before(scope, found.after)
            return found
        if found is not None and found.cut is not None and (self.stops.stopped_in(scope, stage) or losing(scope)):
            self._tell_before(scope, found.after)
            return replace(found, finished=found.cut)
        if ahead and self.kind == "replay":
            raise TreeStopped("limit", "calls")
        self._not_found(scope, stage, "a request to the model")
        return None

    def prompt(self, call: RecordedCall, text: str) -> ev.Text:
        """What a recorded call asked, which is `text` but for what stood in it of the budget of that moment."""
        mine, then = self._observer.text(text), call.started.prompt
        if mine == then:
            return mine
        try:
            self.text(then)
        except NotFound:  # a file of events does not bring its prompts
            return mine
        return then

    def _claimed(self, scope: RunScope, request: str, place: str) -> Key:
        """The key of what is asked now: that of the same place; else of any that asked the same and is not taken yet.

        The latter is for code that asks in another order than it did, and for journals that tell no places.
        """
        asked = call_key(request, place)
        key = (scope.path, asked, scope.places.occurrence(asked))
        loss = losing(scope)
        known = self._record.calls if loss is None else loss.asked
        with self._lock:
            if key not in known or key in self._taken:
                alike = self._alike.get((scope.path, request), ())
                key = next((each for each in alike if each in known and each not in self._taken), key)
            if loss is None or key in known:
                self._taken.add(key)
                return key
        refuse_more(scope)
        return key

    def _last_word(self, scope: RunScope) -> RecordedCall | None:
        """What a run said last that a limit ended. It was shown the cell which that cut, as far as the clock let it
        come (and in older journals without its variables), so its replay may ask in other words."""
        run = self._record.runs.get(scope.path)
        cut = run is not None and run.finished is not None and run.finished.status == "limit"
        if self.kind != "replay" or not scope.final or not cut:
            return None
        with self._lock:
            own = (
                key for key, call in self._record.calls.items() if call.path == scope.path and not call.started.place
            )
            left = [key for key in own if key not in self._taken]
            self._taken.update(left[-1:])
        return self._record.calls[left[-1]] if left else None

    def _holds(self, call: RecordedCall) -> bool:
        """Whether the recorded end still counts. A failure after which the run did not go on is tried again."""
        if call.finished is None or (call.finished.record is None and call.finished.status == "ok"):
            return False
        run = self._record.runs.get(call.path)
        return call.finished.status == "ok" or self.kind == "replay" or (run is not None and call.stage <= run.done)

    def tool_asked(self, scope: RunScope, name: str, arguments: ev.Text) -> Key:
        """The key of a host tool that is called now. Errors: TreeStopped where the sandbox was lost before."""
        asked = tool_key(name, arguments)
        loss = losing(scope)
        if loss is not None and (scope.path, asked, scope.places.count(asked)) not in loss.asked:
            refuse_more(scope)
        key = (scope.path, asked, scope.places.occurrence(asked))
        with self._lock:
            self._taken.add(key)
        return key

    def tool(self, scope: RunScope, name: str, key: Key) -> RecordedTool | None:
        """The recorded call of a host tool, or None when it is to be run. Errors: TreeStopped in a replay.

        One without its end is given where what it did to the session still stands.
        """
        found = self._record.tools.get(key)
        if found is None or (found.finished is None and self.kind != "resume"):
            self._not_found(scope, scope.places.stage, f"the tool {name}")
            return None
        return found

    def offered(self, scope: RunScope) -> ev.ToolsOffered | None:
        """What a replay offers of MCP servers; None where they are asked, or where the journal does not tell."""
        return self._record.offered.get(scope.path) if self.kind == "replay" else None

    def approval(self, scope: RunScope, kind: str, question: str) -> ev.ApprovalResolved | None:
        """The recorded answer of a person, or None when it is to be asked for. Errors: TreeStopped in a replay."""
        if kind == "cost" and self.kind == "resume":
            return None  # how far earlier answers go is known from `allowed_costs`
        found = self.used_answer(scope, kind, question)
        if found is None:
            self._not_found(scope, scope.places.stage, "a question to a person")
        return found

    def used_answer(self, scope: RunScope, kind: str, question: str) -> ev.ApprovalResolved | None:
        """The next recorded answer to this, of which each counts once.

        Of a "question" the run's own. What the policy asks is asked once for all runs of a turn, by whichever comes
        first: there another's will do, when the run has none.
        """
        asked = approval_key(kind, question)
        with self._lock:
            left = [key for key in self._record.approvals if key[1] == asked and key not in self._answered]
            left.sort(key=lambda key: key[2])
            mine = [key for key in left if key[0] == scope.path]
            key = next(iter(mine or (left if kind != "question" else ())), None)
            if key is None:
                return None
            self._answered.add(key)
        return self._record.approvals[key]

    def allowed_costs(self) -> list[tuple[str, str]]:
        """The questions about money that were answered, with the answers."""
        start = approval_key("cost", "")
        known = self._record.approvals.items()
        return [(key[1][len(start) :], end.answer or "") for key, end in known if key[1].startswith(start)]

    def code(self, scope: RunScope, code: str) -> str:
        """The code of the cell that comes next: the model's, or what a fork put in its place."""
        here = (scope.path, scope.places.cells + 1)
        edit = next((edit for edit in self._edits if (edit.path, edit.cell) == here), None)
        if edit is None or edit.code is None:
            return code
        self._quiet = True
        return edit.code

    def knows(self, path: str) -> bool:
        """Whether a run is recorded."""
        return path in self._record.runs

    def limits_of(self, path: str) -> ev.Limits | None:
        """The limits under which a run first began; None where those of now say what it may do."""
        run = self._record.runs.get(path)
        return run.limits if run is not None and not self._anew else None

    # -- child runs ---------------------------------------------------------------------------------------------

    def lease(self, parent: RunScope, path: str, share: Share | None) -> Lease:
        """A lease for a child: one that the journal knows is opened again whatever is left.

        Errors: LimitReached, TreeStopped.
        """
        loss = losing(parent)
        if loss is not None and begun(path) not in loss.asked:
            refuse_more(parent)
        if path in self._record.runs:
            self._tell_before(parent, self._record.runs[path].after)
            return self._budget.open_lease(depth=parent.depth + 1, parent=parent.lease, share=share, again=True)
        refused = self._record.refused.get(path) if self.kind == "replay" else None
        if refused is not None:
            self.tell_so_far(parent)
            of_the_turn = refused.unit in self._record.exhausted  # and not of one that it went on from
            raise LimitReached(refused.unit, refused.message, own=refused.own or not of_the_turn)
        try:
            lease = parent.lease.child(share)
        except LimitReached:
            self.tell_so_far(parent)
            raise
        if self.kind == "replay":
            lease.close()
            if self._record.exhausted:  # it was refused then, by a limit that is met a little later this time
                unit = self._record.exhausted[0]
                raise LimitReached(unit, f"the limit of {unit} is reached")
            self._not_found(parent, parent.places.stage, "a child run")
        return lease

    def check_begins(self, scope: RunScope) -> None:
        """Errors: TreeStopped in a replay of a run that failed before its first step: it could not have its sandbox."""
        run = self._record.runs.get(scope.path)
        end = None if run is None or run.begun or run.cells else run.finished
        if self.kind == "replay" and end is not None and end.status == "failed":
            scope.failed = end.error
            raise TreeStopped("limit")

    def whole(self, path: str, model: str) -> RecordedRun | None:
        """A finished run that may stand for the one that begins: then no sandbox is made and no cell is run for it.

        Its effects on the rest are its value and its artifacts. Not in a replay, which shows everything again; not
        when its models are others, and not when an edit lies in it.
        """
        run = self._record.runs.get(path)
        if self.kind == "replay" or not self._same_models or run is None or run.finished is None:
            return None
        if run.finished.status != "ok" or run.finished.output is None or run.started.model != model:
            return None
        return None if self._edited(path) else run

    def _edited(self, path: str) -> bool:
        """Whether an edit lies in the run or below it."""
        return any(f"{edit.path}/".startswith(f"{path}/") for edit in self._edits)

    def kept(self, run: RecordedRun) -> tuple[list[ev.EventData], list[ev.EventData]]:
        """What stays of a run that is not run again: its children, as a number; what it and those below it read and
        published. And what is told of that once more: what it read itself; in another session the artifacts too."""
        below = self._record.below(run.path)
        self._budget.count_children(len(below))
        with self._lock:  # what a person allowed in there was used
            self._answered |= {key for key in self._record.approvals if f"{key[0]}/".startswith(f"{run.path}/")}
        kept = [data for each in (run, *below) for data in each.kept]
        read = [data for data in run.kept if isinstance(data, ev.ContextRead)]
        new = (each for each in (run, *below) if self.kind != "resume" or each.elsewhere)
        return kept, [*read, *(data for each in new for data in each.kept if isinstance(data, ev.ArtifactPublished))]

    def published(self) -> Mapping[tuple[str, str], ev.ArtifactPublished]:
        """What the session of a resumed turn has of it already, by name and SHA-256."""
        return self._record.published if self.kind == "resume" else {}

    def value(self, run: RecordedRun, *, is_text: bool) -> tuple[Any, Any]:
        """The value of a finished run, and what its parent's code got in its place (or None)."""
        assert run.finished is not None and run.finished.output is not None
        text, passed = self.text(run.finished.output), run.finished.passed
        value = text if is_text else _value(text, run.finished.json)
        return value, None if passed is None else json.loads(self.text(passed))

    # -- what was lost --------------------------------------------------------------------------------------------

    def loss(self, scope: RunScope, computes: Callable[[], bool], code: str) -> Loss | None:
        """The loss of the run's sandbox that is to come in the cell that begins with this code, or before it."""
        again = self._losses_of(scope)
        loss = None if again is None else again.next(lambda: self._observer.text(code))
        if loss is not None:
            loss.computes = computes
        if loss is not None and loss.final:
            end = self._record.runs[scope.path].finished
            scope.failed = None if end is None else end.error
        return loss

    def lost_between(self, scope: RunScope) -> str | None:
        """Why the sandbox of the run's tools is to be lost now, where the tool call that is done again had met that."""
        again = self._losses_of(scope) if FAILED_THEN.get() else None
        return None if again is None else again.between()

    def _losses_of(self, scope: RunScope) -> LossesAgain | None:
        run = self._record.runs.get(scope.path)
        if run is None or not run.losses or scope.path in self._parted:
            return None
        if scope.path not in self._losses:
            again = [loss for loss in run.losses if loss.went_on or (loss.ended and self.kind == "replay")]
            again = [replace(loss, asked=loss.asked | self._asked_below(loss.asked)) for loss in again]
            self._losses[scope.path] = LossesAgain(again, scope.places, self._taken.__contains__)
        return self._losses[scope.path]

    def run_begun(self, scope: RunScope) -> None:
        """A run has begun."""
        with self._lock:
            self._taken.add(begun(scope.path))
        if scope.parent is not None and losing(scope.parent):
            self.stops.unheard.add(scope.path)

    def run_over(self, scope: RunScope) -> None:
        """A run has ended."""
        with self._lock:
            self._taken.add(ended(scope.path))
        self.stops.run_over(scope)

    def _asked_below(self, asked: set[Ask]) -> set[Ask]:
        """What the children had asked for that were stopped with the cell: they come as far before that."""
        cut = {path for path in self._record.runs if begun(path) in asked and ended(path) not in asked}
        paths = {run.path for path in cut for run in self._record.below(path)} | cut
        return {key for key, call in self._record.calls.items() if call.path in paths} | {begun(path) for path in paths}

    # -- what it costs ------------------------------------------------------------------------------------------

    def credit(self, scope: RunScope, cost: Cost, calls: int = 1) -> None:
        """Charge the run with calls whose answers came from the journal."""
        self._budget.credit(scope.lease, cost, calls=calls, counted=self.kind == "resume")
        with self._lock:
            self._replayed = _plus(self._replayed, cost, calls)

    def paid_before(self) -> ev.Usage:
        """The part of this turn's usage that earlier turns paid for."""
        if self.kind != "resume":
            return self._replayed
        paid = ev.Usage(cost_usd=0.0)
        for cost in self._record.paid:
            paid = _plus(paid, cost, 1)
        return paid

    # -- what a replay meets no more ------------------------------------------------------------------------------

    def _tell_before(self, scope: RunScope, after: tuple[int, int]) -> None:
        if self._told_again is not None:
            self._told_again.before(scope, after)

    def tell_so_far(self, scope: RunScope) -> None:
        """A cell of the run ends, or the run comes no further: what it was asked by then, a replay tells now."""
        if self._told_again is not None:
            self._told_again.no_further(scope)

    def turn_over(self) -> None:
        """The same of the turn."""
        if self._told_again is not None and self.missing is None:
            self._told_again.rest()

    # -- what is not there --------------------------------------------------------------------------------------

    def _not_found(self, scope: RunScope, stage: int, what: str) -> None:
        refuse_more(scope)
        self.tell_so_far(scope)
        run = self._record.runs.get(scope.path)
        self.stops.wait(scope, stage)
        if self.kind == "replay":
            self._end_replay(scope, run, what)
        self._parted.add(scope.path)
        if run is None or stage > run.done or self._quiet:
            return
        with self._lock:
            new = scope.path not in self._warned
            self._warned.add(scope.path)
        if new:
            message = f"{what} is not the recorded one; the run goes on live from here"
            self._observer.emit(ev.Warning(code=DIVERGED, message=message, where=scope.path), scope)

    def _end_replay(self, scope: RunScope, run: RecordedRun | None, what: str) -> None:
        """Where the recorded run was stopped, this one is; elsewhere the replay has failed. Always raises."""
        end = run.finished if run is not None else None
        if end is not None and end.status == "limit" and end.limit is not None:
            if end.limit in self._record.exhausted:  # else it was the run's own share
                self._budget.note_exhausted(end.limit)
            scope.refused = end.limit
            raise TreeStopped("limit", end.limit)
        if end is not None and end.status == "failed" and end.error is not None:
            scope.failed = end.error  # of what fails otherwise now, or no more: its sandbox, its server
            raise TreeStopped("limit")  # this run alone ends
        if end is None or end.status == "ok":
            with self._lock:
                self.missing = self.missing or ev.ErrorInfo(
                    code=MISSING,
                    message=f"nothing is recorded for {what} of {scope.path} ({_place(scope)})",
                    hint="the program or its input is not what it was; see where the journals part with a diff",
                )
        self._budget.stop(TreeStopped("cancelled"))
        self._budget.check()


def _value(text: str, is_json: bool | None) -> Any:
    """What a run's output means, where its answer has a type."""
    if is_json is False:
        return text
    try:
        return json.loads(text)
    except ValueError:
        if is_json:
            raise
        return text  # of a journal that does not tell


def _plus(usage: ev.Usage, cost: Cost, calls: int) -> ev.Usage:
    unknown = usage.cost_usd is None or cost.micro_usd is None
    return ev.Usage(
        calls=usage.calls + calls,
        prompt_tokens=usage.prompt_tokens + cost.prompt_tokens,
        completion_tokens=usage.completion_tokens + cost.completion_tokens,
        cached_tokens=usage.cached_tokens + cost.cached_tokens,
        cost_usd=None if unknown else (usage.cost_usd or 0.0) + (cost.micro_usd or 0) / 1e6,
    )


def _place(scope: RunScope) -> str:
    places = scope.places
    if places.inside or places.steps:
        return f"cell {places.cells}" if places.inside else f"after step {places.steps}"
    return f"after cell {places.cells}" if places.cells else "at its beginning"
