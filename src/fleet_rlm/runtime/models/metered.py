"""The budgeted language model: every call of a tree, at any depth, in any thread, passes here.

`MeteredLM` wraps any DSPy LM. Before a call it reserves from the current run's lease and takes a place at the provider;
after it, it settles with the usage that DSPy reports; in between it waits for the answer or for the end of the tree,
whichever comes first. It emits `call.started` and `call.finished`. DSPy's sandbox facade wraps this object again, so
sub-agents that model-written code builds are metered too.

What counts as a call is a request that was sent: each further try of one that failed for the moment is one more, and a
request that got the answer of an identical one in flight (`flights.py`) is none.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, wait
from typing import Any

import dspy
from msgspec.structs import replace

from fleet_rlm.errors import FleetError, ModelError, TreeStopped
from fleet_rlm.integrations.daytona.session import ASKED_AHEAD
from fleet_rlm.runtime.execution import events as ev
from fleet_rlm.runtime.execution.batch import LetGo
from fleet_rlm.runtime.execution.budget import Cost, Reservation, TreeBudget
from fleet_rlm.runtime.execution.flights import Flight, may_share
from fleet_rlm.runtime.execution.ids import new_id
from fleet_rlm.runtime.execution.observer import SCOPE, RunScope, TurnObserver
from fleet_rlm.runtime.execution.paths import CALL_PLACE
from fleet_rlm.runtime.execution.run_thread import leaving
from fleet_rlm.runtime.execution.scheduler import Scheduler
from fleet_rlm.runtime.execution.throttle import Throttle, Verdict
from fleet_rlm.runtime.models.billing import cost_of, tokens_of
from fleet_rlm.runtime.models.ending import check_given, why_cut
from fleet_rlm.runtime.models.failures import as_overflow
from fleet_rlm.runtime.models.prices import Price
from fleet_rlm.runtime.models.recording import CUT, Answered, Asked, CallReplay, record_of, record_of_failure
from fleet_rlm.runtime.models.sending import Request, Sender
from fleet_rlm.runtime.models.sizes import check_bounds, sizes_of
from fleet_rlm.runtime.models.tries import endpoint_of, may_be_billed, patience, retry_after, verdict_of
from fleet_rlm.runtime.models.wording import output_text, prompt_text, request_hash, whole_characters


class MeteredLM(dspy.BaseLM):
    """A DSPy LM whose every call is reserved, observed and stoppable.

    Args:
        inner: any DSPy LM. It is copied without DSPy's cache, whose key leaves address and credential out.
        role: what its calls are for.
        name: what people call the model; DSPy may know it under another name.
        cut: tells from a prompt's characters and its reported tokens whether the server silently dropped a part.
        price: what its tokens cost, where that is known before the call; then each call reserves its worst case.
        failure: turns whatever the provider raised into one of our ModelErrors.
        replay: answers from the journal, when the turn is run again.
    """

    def __init__(
        self,
        inner: dspy.BaseLM,
        *,
        role: ev.CallRole,
        tree: TreeBudget,
        scheduler: Scheduler,
        observer: TurnObserver,
        failure: Callable[[BaseException], ModelError],
        name: str | None = None,
        price: Price | None = None,
        cut: Callable[[int, int], bool] | None = None,
        replay: CallReplay | None = None,
    ) -> None:
        super().__init__(model=str(inner.model), model_type=inner.model_type)
        self.name = name or str(inner.model)
        self.kwargs = dict(inner.kwargs)
        self._inner = inner.copy(cache=False)
        self._sender = Sender(self._inner, observer)
        self._retries = int(getattr(inner, "num_retries", 0))
        self._inner.num_retries = 0  # pyright: ignore[reportAttributeAccessIssue] - retries are made here
        self._endpoint, self._owner = endpoint_of(inner)
        self._defaults = repr(sorted(self.kwargs.items(), key=str))
        self._role: ev.CallRole = role
        self._tree = tree
        self._scheduler = scheduler
        self._observer = observer
        self.failure = failure
        self._price = price
        self._cut = cut
        self._replay = replay

    # Adapters choose structured outputs and native tools by these.
    @property
    def supports_function_calling(self) -> bool:
        return self._inner.supports_function_calling

    @property
    def supports_reasoning(self) -> bool:
        return self._inner.supports_reasoning

    @property
    def supports_response_schema(self) -> bool:
        return self._inner.supports_response_schema

    @property
    def supported_params(self) -> set[str]:
        return self._inner.supported_params

    def copy(self, **kwargs: Any) -> MeteredLM:
        twin = MeteredLM(
            self._inner.copy(**kwargs),
            role=self._role,
            tree=self._tree,
            scheduler=self._scheduler,
            observer=self._observer,
            failure=self.failure,
            name=self.name,
            price=self._price,
            cut=self._cut,
            replay=self._replay,
        )
        twin._retries = self._retries
        twin._endpoint, twin._owner = self._endpoint, self._owner
        return twin

    def __call__(self, prompt: Any = None, *, messages: Any = None, **kwargs: Any) -> Any:
        """One request. Errors: TreeStopped (limit or cancel), dspy.LMError subclasses as the provider raised them."""
        return self._ask(prompt, messages, kwargs, leaving(SCOPE.get().stop))

    def ask_here(self, prompt: str, let_go: LetGo | None) -> Any:
        """One request in a thread that can be left, with the same errors: an engine may hold it. When the run is
        stopped meanwhile, `let_go` is called, and what comes later goes nowhere. None: it cannot be left, and the
        engine gets a thread of its own."""
        return self._ask(prompt, None, {}, let_go)

    def _ask(self, prompt: Any, messages: Any, kwargs: dict[str, Any], let_go: LetGo | None) -> Any:
        scope = SCOPE.get()
        scope.stop.check()
        kwargs.pop("cache", None)  # a call may ask for it too, also from code in a sandbox
        request = request_hash(str(self.model), prompt, messages, kwargs)
        prompt, messages, text = _as_text(prompt, messages)
        if self._replay is not None:
            known = self._replay.answer(scope, Asked(request, self._role, self.name, text, prompt, messages))
            if isinstance(known, Answered):
                return known.outputs
            if known.edited:
                prompt, messages, text = _as_text(known.prompt, known.messages)
                edited = Request(new_id("cal"), scope, text, request, prompt, messages, kwargs)
                return self._make(edited)  # nobody else asks this
        asked = Request(new_id("cal"), scope, text, request, prompt, messages, kwargs)
        if let_go is not None:
            asked.abandon = lambda: self._abandon(asked, let_go)
        if scope.streams or ASKED_AHEAD.get() or not may_share(kwargs, self.kwargs):
            return self._make(asked)  # as written, no two calls of one loop are in flight together
        while True:
            flight, landed = self._scheduler.flights.board((self._endpoint, self._defaults, request), asked.id)
            if landed is None:
                asked.flight = flight
                return self._make(asked)
            if self._landed(asked, flight, landed):
                return self._joined(asked, flight.call, landed)

    def _make(self, asked: Request) -> Any:
        """Reserve, send, and tell how it ended, for all that ask the same meanwhile."""
        try:
            asked.reservations = self._reserve(asked.scope, asked.text, asked.kwargs)
            self._bound(asked)
            outputs = self._tried(asked)
            self._check_whole(asked)
            self._check_ending(asked, outputs)
        except Exception as exc:  # named as what it is, and raised again
            known = as_overflow(exc)
            error = known if isinstance(known, Exception) else exc
            self._end(asked, "failed", error=error)
            if error is exc:
                raise
            raise error from exc
        except BaseException:
            if not asked.left:
                self._end(asked, "cancelled")
            raise
        self._end(asked, "ok", outputs=outputs)
        return outputs

    def _abandon(self, asked: Request, let_go: LetGo) -> None:
        """The run is stopped while an engine holds the thread of this call: its end is told here, by who stops it."""
        asked.left = True
        self._leave(asked, "abandoned")
        self._end(asked, "cancelled")
        let_go()

    def _end(
        self, asked: Request, status: ev.CallStatus, *, outputs: Any = None, error: Exception | None = None
    ) -> None:
        """Everything that is taken for a call is given back, and its end told. Once for each call."""
        asked.abandon = None  # it holds the request, and the request it
        if asked.told and asked.reservations:
            asked.scope.model_ms += (time.perf_counter() - asked.began) * 1000
            cost = asked.used if status == "ok" else self._cost_of_failed(asked, error)
            self._settle(asked.reservations, cost)
            told = replace(cost, micro_usd=None) if asked.untold else cost  # a try before may have cost something
            self._tell_finished(asked, status, told, outputs=outputs, error=error)
        elif asked.told:  # it had begun as one that waits for another's answer
            self._tell_finished(asked, "cancelled", Cost(micro_usd=0))
        for reservation in asked.reservations:
            reservation.refund()  # nothing to do for those that were settled
        if asked.reservations:
            self._observer.budget(self._tree)
        if asked.flight is None:
            return
        if status == "cancelled":
            self._scheduler.flights.call_off(asked.flight)
        else:
            self._scheduler.flights.land(asked.flight, outputs, error)

    def _landed(self, asked: Request, flight: Flight, landed: Future[Any]) -> bool:
        """Wait for the other's answer; False when it was called off. Errors: TreeStopped."""
        self._tell_started(asked, shared=flight.call)
        waited = time.perf_counter()
        asked.scope.stop.race(landed)
        asked.queued_s += time.perf_counter() - waited
        if landed.done():
            return not flight.called_off
        self._tell_finished(asked, "cancelled", Cost(micro_usd=0), shared=flight.call)
        asked.scope.stop.check()
        return True

    def _joined(self, asked: Request, call: str, landed: Future[Any]) -> Any:
        """The outcome of another `call` as one's own, at no charge."""
        nothing = Cost(micro_usd=0)
        try:
            outputs = copy.deepcopy(landed.result())
        except Exception as error:
            self._tell_finished(asked, "failed", nothing, error=error, shared=call)
            raise
        self._tell_finished(asked, "ok", nothing, outputs=outputs, shared=call)
        return outputs

    async def acall(self, prompt: Any = None, *, messages: Any = None, **kwargs: Any) -> Any:
        raise NotImplementedError("the engine is synchronous and runs in worker threads; call it there")

    def _reserve(self, scope: RunScope, text: str, kwargs: Mapping[str, Any]) -> list[Reservation]:
        check_bounds({**self.kwargs, **kwargs}, self.name)
        n = int(kwargs.get("n") or self.kwargs.get("n") or 1)
        sizes = sizes_of(text, kwargs, self.kwargs, self._price)
        taken: list[Reservation] = []
        try:
            for _ in range(n):
                one = scope.lease.reserve(
                    sizes=sizes,
                    final=scope.final,
                    with_it=len(taken),
                    stop=scope.stop.future,
                    ahead=ASKED_AHEAD.get(),
                )
                taken.append(one)  # each at once: the next may be refused
        except BaseException as error:
            for reservation in taken:
                reservation.refund()
            if isinstance(error, TreeStopped) and error.reason == "limit" and not ASKED_AHEAD.get():
                scope.refused = error.limit
            raise
        return taken

    def _bound(self, asked: Request) -> None:
        """Where tokens or money are limited, an answer that nothing bounds is bounded by what was reserved for it."""
        answer = min((one.size.answer for one in asked.reservations if one.size.answer), default=None)
        if answer is not None and any(each.limits.bounds_answers for each in asked.scope.lease.account.line()):
            asked.sent = asked.kwargs | {"max_tokens": answer}

    def _check_whole(self, asked: Request) -> None:
        """Errors: dspy.ContextWindowExceededError when the server dropped a part of the prompt and said nothing."""
        if self._cut is None or len(asked.entries) != 1:
            return
        read = tokens_of(asked.entries[0].get("usage") or {})[0]
        if self._cut(len(asked.text), read):
            message = f"the server cut the prompt of {len(asked.text):,} characters to {read:,} tokens without a word"
            raise dspy.ContextWindowExceededError(model=self.name, message=message)

    def _check_ending(self, asked: Request, outputs: Any) -> None:
        """Note why the next step of a run is cut. Errors: LMInvalidRequestError when the answer was withheld."""
        check_given(asked.entries, outputs, self.name)
        if asked.drives:
            bound = None if asked.sent is asked.kwargs else asked.sent["max_tokens"]
            asked.cut = why_cut(asked.entries, self.name, bound=bound)

    def _tried(self, asked: Request) -> Any:
        """Send it, and again where that is worth it. Between two tries it holds no place."""
        throttle = asked.throttle = self._scheduler.throttle(self._endpoint, self._owner)
        while True:
            asked.tries += 1
            try:
                return self._sent(asked, throttle)
            except Exception as error:  # supervisor of a try: raised unless it is worth another
                again_in = self._patience(asked, error)
                if again_in is None or not self._take_again(asked, error):
                    raise
            waited = time.perf_counter()
            wait((asked.scope.stop.future,), again_in)
            asked.queued_s += time.perf_counter() - waited
            asked.scope.stop.check()

    def _cost_of_failed(self, asked: Request, error: Exception | None) -> Cost:
        """What a try cost that ended with `error`, or that was abandoned (None)."""
        in_vain = error is not None and not may_be_billed(error, self._inner, len(asked.reservations))
        return cost_of(asked.entries, self._price, sent_in_vain=in_vain)

    def _take_again(self, asked: Request, error: Exception) -> bool:
        """Count the try that failed. False: there is not enough left for another."""
        cost = self._cost_of_failed(asked, error)
        taken = all(reservation.again(cost) for reservation in asked.reservations)
        asked.untold = asked.untold or (taken and cost.micro_usd is None)
        return taken

    def _patience(self, asked: Request, error: Exception) -> float | None:
        """Seconds until another try, or None. What broke off as a stream is asked once more, unstreamed."""
        if asked.broke_off and not asked.unstreamed:
            asked.unstreamed = True
            return 0.0
        return None if asked.unstreamed else patience(error, asked.tries, self._retries)

    def _sent(self, asked: Request, throttle: Throttle) -> Any:
        """One request, in its place at the provider."""
        arrived = time.perf_counter()
        asked.place = self._scheduler.enter(throttle, asked.scope, drives=asked.drives)
        asked.queued_s += time.perf_counter() - arrived
        verdict: Verdict = "abandoned"
        pause: float | None = None
        try:
            self._tell_started(asked)
            outputs = self._sender.send(asked)
            verdict = "ok"
            return outputs
        except Exception as error:
            verdict, pause = verdict_of(error), retry_after(error)
            raise
        finally:
            self._leave(asked, verdict, pause)

    def _leave(self, asked: Request, verdict: Verdict, pause: float | None = None) -> None:
        """Free its place, if it has one still."""
        place, asked.place = asked.place, None
        if place is None or asked.throttle is None:
            return
        if verdict == "ok":
            asked.used = cost_of(asked.entries, self._price, sent_in_vain=False)
        tokens = asked.used.prompt_tokens, asked.used.completion_tokens
        asked.throttle.leave(place, verdict, retry_after=pause, tokens=tokens)

    def _tell_started(self, asked: Request, *, shared: str | None = None) -> None:
        if asked.told:
            return
        asked.told = True
        asked.scope.part_opened()
        self._observer.emit(
            ev.CallStarted(
                id=asked.id,
                role=self._role,
                model=self.name,
                request=asked.request,
                prompt=self._observer.text(asked.text),
                shared=shared,
                place="" if asked.drives else CALL_PLACE.get(),
            ),
            asked.scope,
        )

    def _tell_finished(
        self,
        asked: Request,
        status: ev.CallStatus,
        cost: Cost,
        *,
        outputs: Any = None,
        error: Exception | None = None,
        shared: str | None = None,
    ) -> None:
        response = output_text(outputs) if status == "ok" else None
        record = record_of(outputs, response, asked.cut) if response is not None else error and record_of_failure(error)
        finished = ev.CallFinished(
            id=asked.id,
            status=status,
            ms=round((time.perf_counter() - asked.began) * 1000, 3),
            queued_ms=round(asked.queued_s * 1000, 3),
            tries=asked.tries,
            prompt_tokens=cost.prompt_tokens,
            completion_tokens=cost.completion_tokens,
            cached_tokens=cost.cached_tokens,
            cost_usd=None if cost.micro_usd is None else cost.micro_usd / 1e6,
            response=None if response is None else self._observer.text(response),
            record=None if record is None else self._observer.text(record),
            shared=shared,
            error=None if error is None else self._error_info(error),
        )
        try:
            self._observer.emit(finished, asked.scope)
            if asked.cut is not None:
                self._observer.emit(ev.Warning(code=CUT, message=asked.cut, where=asked.scope.id), asked.scope)
        finally:
            asked.scope.part_closed()

    def _settle(self, reservations: list[Reservation], cost: Cost) -> None:
        first, *others = reservations
        first.settle(cost)
        told = cost.micro_usd is not None or cost.tokens
        for reservation in others:  # usage and price of all n completions stand in the first, if they are told
            reservation.settle(Cost(micro_usd=0) if told else Cost())

    def _error_info(self, exc: BaseException) -> ev.ErrorInfo:
        mapped: FleetError = exc if isinstance(exc, FleetError) else self.failure(exc)
        return ev.ErrorInfo(
            code=mapped.code,
            message=self._observer.clean(mapped.message),
            hint=mapped.hint,
            retryable=mapped.retryable,
        )


def _as_text(prompt: Any, messages: Any) -> tuple[Any, Any, str]:
    """What is sent, and the same as a person reads it."""
    text = prompt_text(prompt, messages)
    whole = whole_characters(text)
    if whole is text:
        return prompt, messages, text
    return whole_characters(prompt), whole_characters(messages), whole
