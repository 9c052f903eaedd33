"""The budgeted language model: every call of a tree, at any depth, in any thread, passes here.

`MeteredLM` wraps any DSPy LM. Before a call it reserves from the current run's lease; after it, it settles with the
usage that DSPy reports; in between it waits for the answer or for the end of the tree, whichever comes first. It emits
`call.started` and `call.finished`. DSPy's sandbox facade wraps this object again, so sub-agents that model-written
code builds are metered too.

Usage is read from the history entry that DSPy hands to `update_history` in the context of the call: that hook sees
usage and cost of every engine, and unlike `lm.history[-1]` it cannot be another thread's.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import time
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Future
from contextvars import ContextVar, copy_context
from typing import Any

import dspy
from dspy.utils.exceptions import LMError, LMStreamAssemblyError, is_retryable_lm_error

from fleet_rlm.errors import FleetError, ModelError
from fleet_rlm.integrations.daytona.threads import DaemonThreads
from fleet_rlm.runtime.execution import events as ev
from fleet_rlm.runtime.execution.budget import Cost, Reservation, TreeBudget
from fleet_rlm.runtime.execution.ids import new_id
from fleet_rlm.runtime.execution.observer import SCOPE, RunScope, TurnObserver
from fleet_rlm.runtime.execution.scheduler import Scheduler
from fleet_rlm.runtime.models.failures import as_overflow
from fleet_rlm.runtime.models.prices import FREE, Price
from fleet_rlm.runtime.models.streaming import CallStream, stream_loop

CHARS_PER_TOKEN = 3
"""Pessimistic: English text has about four characters a token, code and numbers about three."""
COMPLETION_TOKENS = 2048
"""Reserved for an answer whose length the request does not bound."""

_threads = DaemonThreads("fleet-call")
_entries: ContextVar[list[Mapping[str, Any]] | None] = ContextVar("fleet_lm_entries", default=None)


class MeteredLM(dspy.BaseLM):
    """A DSPy LM whose every call is reserved, observed and stoppable.

    Args:
        inner: any DSPy LM; it is copied, its settings stay as they are.
        role: what its calls are for.
        name: what people call the model; DSPy may know it under another name.
        cut: tells from a prompt's characters and its reported tokens whether the server silently dropped a part.
        price: what its tokens cost, where that is known before the call; then each call reserves its worst case.
        failure: turns whatever the provider raised into one of our ModelErrors.
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
    ) -> None:
        super().__init__(model=str(inner.model), model_type=inner.model_type)
        self.name = name or str(inner.model)
        self.kwargs = dict(inner.kwargs)
        self._inner = inner.copy()
        self._inner.update_history = _collect  # pyright: ignore[reportAttributeAccessIssue]
        self._role: ev.CallRole = role
        self._tree = tree
        self._scheduler = scheduler
        self._observer = observer
        self._failure = failure
        self._price = price
        self._cut = cut

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
        return MeteredLM(
            self._inner.copy(**kwargs),
            role=self._role,
            tree=self._tree,
            scheduler=self._scheduler,
            observer=self._observer,
            failure=self._failure,
            name=self.name,
            price=self._price,
            cut=self._cut,
        )

    def __call__(self, prompt: Any = None, *, messages: Any = None, **kwargs: Any) -> Any:
        """One request. Errors: TreeStopped (limit or cancel), dspy.LMError subclasses as the provider raised them."""
        scope = SCOPE.get()
        scope.stop.check()
        text = prompt_text(prompt, messages)
        reservations = self._reserve(scope, text, kwargs)
        try:
            with self._scheduler.call_slot().held():
                return self._observed(scope, text, reservations, prompt, messages, kwargs)
        finally:
            for reservation in reservations:
                reservation.refund()  # nothing to do for those that were settled
            self._observer.budget(self._tree)

    async def acall(self, prompt: Any = None, *, messages: Any = None, **kwargs: Any) -> Any:
        raise NotImplementedError("the engine is synchronous and runs in worker threads; call it there")

    def _reserve(self, scope: RunScope, text: str, kwargs: Mapping[str, Any]) -> list[Reservation]:
        n = int(kwargs.get("n") or self.kwargs.get("n") or 1)
        bound = kwargs.get("max_tokens") or self.kwargs.get("max_tokens") or COMPLETION_TOKENS
        asked = math.ceil(len(text) / CHARS_PER_TOKEN)
        tokens = asked + int(bound)
        micro = None if self._price is None else self._price.at_most(asked, int(bound))
        taken: list[Reservation] = []
        try:
            for _ in range(n):
                one = scope.lease.reserve(tokens=tokens, micro_usd=micro, final=scope.final)
                taken.append(one)  # each at once: the next may be refused
        except BaseException:
            for reservation in taken:
                reservation.refund()
            raise
        return taken

    def _observed(
        self,
        scope: RunScope,
        text: str,
        reservations: list[Reservation],
        prompt: Any,
        messages: Any,
        kwargs: dict[str, Any],
    ) -> Any:
        call_id = new_id("cal")
        started = time.perf_counter()
        self._observer.emit(
            ev.CallStarted(
                id=call_id,
                role=self._role,
                model=self.name,
                request=request_hash(str(self.model), prompt, messages, kwargs),
                prompt=self._observer.text(text),
            ),
            scope,
        )
        entries: list[Mapping[str, Any]] = []
        status: str = "cancelled"
        error: ev.ErrorInfo | None = None
        outputs: Any = None
        try:
            outputs = self._until_stopped(entries, prompt, messages, kwargs)
            self._check_whole(text, entries)
            status = "ok"
            return outputs
        except Exception as exc:  # named as what it is, and raised again
            known = as_overflow(exc)
            status, error = "failed", self._error_info(known)
            if known is exc:
                raise
            raise known from exc
        finally:
            ms = (time.perf_counter() - started) * 1000
            scope.model_ms += ms
            cost = self._cost(entries, sent_in_vain=status == "failed")
            self._settle(reservations, cost)
            self._observer.emit(
                ev.CallFinished(
                    id=call_id,
                    status=status,  # pyright: ignore[reportArgumentType]
                    ms=round(ms, 3),
                    prompt_tokens=cost.prompt_tokens,
                    completion_tokens=cost.completion_tokens,
                    cached_tokens=cost.cached_tokens,
                    cost_usd=None if cost.micro_usd is None else cost.micro_usd / 1e6,
                    response=self._observer.text(output_text(outputs)) if status == "ok" else None,
                    error=error,
                ),
                scope,
            )

    def _check_whole(self, text: str, entries: list[Mapping[str, Any]]) -> None:
        """Errors: dspy.ContextWindowExceededError when the server dropped a part of the prompt and said nothing."""
        if self._cut is None or len(entries) != 1:
            return
        read = tokens_of(entries[0].get("usage") or {})[0]
        if self._cut(len(text), read):
            message = f"the server cut the prompt of {len(text):,} characters to {read:,} tokens without a word"
            raise dspy.ContextWindowExceededError(model=self.name, message=message)

    def _until_stopped(
        self, entries: list[Mapping[str, Any]], prompt: Any, messages: Any, kwargs: dict[str, Any]
    ) -> Any:
        """The inner call in a thread of its own, so that the end of the tree does not wait for a slow provider."""
        answer: Future[Any] = Future()
        abort: Future[None] = Future()
        # A bare prompt is a sub-call of code, of which there may be thousands: only what runs themselves say is shown.
        streams = messages is not None and _can_stream(self._inner)

        def work() -> None:
            token = _entries.set(entries)
            try:
                if streams:
                    answer.set_result(self._streamed(messages, kwargs, abort))
                else:
                    answer.set_result(self._in_one_piece(prompt, messages, kwargs, abort))
            except BaseException as exc:  # noqa: BLE001 - handed to the waiting thread, which raises it
                answer.set_exception(exc)
            finally:
                _entries.reset(token)

        context = copy_context()
        _threads.run(lambda: context.run(work))
        stop = SCOPE.get().stop
        stop.race(answer)
        if not answer.done():
            abort.set_result(None)
            stop.check()
        return answer.result()

    def _streamed(self, messages: Any, kwargs: dict[str, Any], abort: Future[None]) -> Any:
        """The same call on DSPy's asynchronous path, whose chunks go to a `CallStream`; `abort` closes the request.

        DSPy tries a request again only while nothing of its answer was seen. One that breaks off later is made once
        more here, unstreamed, so that showing an answer does not make it less likely.
        """
        sink = CallStream(self._observer, SCOPE.get())

        async def call() -> Any:
            with dspy.context(send_stream=sink):
                return await self._inner.acall(messages=messages, **kwargs)

        try:
            if not self._native:
                return asyncio.run(call())  # an engine of the caller's own, which may block its loop
            return _until_aborted(call(), abort)
        except LMError as error:
            if not sink.begun or abort.done() or not _broke_off(error):
                raise
        finally:
            sink.close()
        return self._in_one_piece(None, messages, kwargs, abort)

    def _in_one_piece(self, prompt: Any, messages: Any, kwargs: dict[str, Any], abort: Future[None]) -> Any:
        """The same call unstreamed; `abort` closes the request of DSPy's own engines."""
        if not self._native:
            return self._inner(prompt, messages=messages, **kwargs)
        return _until_aborted(self._inner.acall(prompt, messages=messages, **kwargs), abort)

    @property
    def _native(self) -> bool:
        """One of DSPy's own engines sends the requests."""
        return isinstance(getattr(self._inner, "engine", None), str)

    def _cost(self, entries: list[Mapping[str, Any]], *, sent_in_vain: bool) -> Cost:
        """What DSPy reported. A refused call costs nothing; one that was abandoned has an unknown price."""
        if not entries:
            return Cost(micro_usd=0 if self._price is FREE or sent_in_vain else None)
        prompt = completion = cached = 0
        micro: int | None = 0
        for entry in entries:
            used = tokens_of(entry.get("usage") or {})
            prompt, completion, cached = prompt + used[0], completion + used[1], cached + used[2]
            cost = self._micro(entry.get("cost"), *used)
            micro = None if cost is None or micro is None else micro + cost
        return Cost(prompt_tokens=prompt, completion_tokens=completion, cached_tokens=cached, micro_usd=micro)

    def _micro(self, reported: float | None, prompt: int, completion: int, cached: int) -> int | None:
        """A person's own price goes first, then DSPy's reckoning, which knows more dimensions than our price."""
        if self._price is not None and (self._price.own or self._price is FREE or reported is None):
            # No usage, no cost: an answer without token counts has an unknown price, unless the price is nothing.
            told = prompt or completion or self._price is FREE
            return self._price.micro_usd(prompt, completion, cached) if told else None
        return None if reported is None else math.ceil(float(reported) * 1e6)

    def _settle(self, reservations: list[Reservation], cost: Cost) -> None:
        first, *others = reservations
        first.settle(cost)
        for reservation in others:  # usage and price of all n completions stand in the first
            reservation.settle(Cost(micro_usd=0))

    def _error_info(self, exc: BaseException) -> ev.ErrorInfo:
        mapped: FleetError = exc if isinstance(exc, FleetError) else self._failure(exc)
        return ev.ErrorInfo(
            code=mapped.code,
            message=self._observer.clean(mapped.message),
            hint=mapped.hint,
            retryable=mapped.retryable,
        )


def tokens_of(usage: Mapping[str, Any]) -> tuple[int, int, int]:
    """Prompt and completion tokens, and how many of the prompt the provider read from its cache."""
    details: Any = usage.get("prompt_tokens_details") or {}
    found = details.get("cached_tokens") if isinstance(details, Mapping) else getattr(details, "cached_tokens", None)
    cached = found or usage.get("cache_read_input_tokens") or 0
    return int(usage.get("prompt_tokens") or 0), int(usage.get("completion_tokens") or 0), int(cached)


def _until_aborted(call: Coroutine[Any, Any, Any], abort: Future[None]) -> Any:
    """A request on the event loop, where it can be closed: nothing wakes a thread that reads from a socket."""
    job = stream_loop.start(call)
    abort.add_done_callback(lambda _: job.cancel())
    return job.result()


def _can_stream(lm: dspy.BaseLM) -> bool:
    """DSPy's own engines stream; a custom one does when it came with an asynchronous twin."""
    engine = getattr(lm, "engine", None)
    return isinstance(engine, str) or getattr(lm, "_async_engine_spec", None) is not None


def _broke_off(error: LMError) -> bool:
    return is_retryable_lm_error(error) or isinstance(error, LMStreamAssemblyError)


def _collect(entry: Mapping[str, Any]) -> None:
    """Takes the place of `update_history` on the inner LM: nothing is kept in DSPy's process-wide lists."""
    entries = _entries.get()
    if entries is not None:
        entries.append(entry)


def prompt_text(prompt: Any, messages: Any) -> str:
    """The request as a person reads it: one block per message."""
    if messages is None:
        return prompt if isinstance(prompt, str) else repr(prompt)
    blocks: list[str] = []
    for message in messages:
        content = message.get("content")
        body = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False, default=str)
        calls = message.get("tool_calls")
        if calls:
            body += "\n" + json.dumps(calls, ensure_ascii=False, default=str)
        blocks.append(f"[{message.get('role', '?')}]\n{body}")
    return "\n\n".join(blocks)


def output_text(outputs: Any) -> str:
    """The answer as a person reads it."""
    if isinstance(outputs, list):
        parts: list[str] = []
        for item in outputs:
            if isinstance(item, dict):
                text = item.get("text") or ""
                calls = item.get("tool_calls")
                parts.append(text + (("\n" if text else "") + json.dumps(calls, default=_plain) if calls else ""))
            else:
                parts.append(str(item))
        return "\n\n".join(parts)
    text = getattr(outputs, "text", None)
    return text if isinstance(text, str) else str(outputs)


def _plain(value: Any) -> Any:
    dump = getattr(value, "model_dump", None)
    return dump() if callable(dump) else vars(value) if hasattr(value, "__dict__") else str(value)


def request_hash(model: str, prompt: Any, messages: Any, kwargs: Mapping[str, Any]) -> str:
    """SHA-256 over everything that determines an answer; the key under which a replay finds it."""
    body = json.dumps([model, prompt, messages, dict(kwargs)], sort_keys=True, ensure_ascii=False, default=repr)
    return hashlib.sha256(body.encode("utf-8", "surrogatepass")).hexdigest()
