"""A model's reply while it is being written: from its chunks to `reasoning.*` and `message.*` events.

Any call of any run can be shown: the thought of every run, and the answer of the run that speaks to the person. The
streams of a turn share a pace, so that 64 children that think at once do not flood the journal.
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
import time
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, Literal, TypeVar

from fleet_rlm.runtime.execution import events as ev
from fleet_rlm.runtime.execution.ids import new_id
from fleet_rlm.runtime.execution.observer import RunScope, TurnObserver
from fleet_rlm.runtime.models.visible import visible

T = TypeVar("T")
EVERY_S = 0.04
"""Each text grows at most 25 times a second ..."""
FULL_PACE = 8
"""... while at most so many are written at once; more share that rate."""
SHOWN_CHARS = 200_000
"""Of one reply no more than this is shown while it is written; the whole stands in `call.finished`."""


class Pace:
    """How often each of the texts that are being written may grow."""

    def __init__(self) -> None:
        self._open = 0
        self._lock = threading.Lock()

    def opened(self, by: int) -> None:
        """One more or one fewer text is being written."""
        with self._lock:
            self._open += by

    @property
    def every_s(self) -> float:
        """Seconds between two deltas of a text."""
        return EVERY_S * max(1.0, self._open / FULL_PACE)


_pace = Pace()


class GrowingText:
    """One message or one thought: started with its first character, finished by `close`."""

    def __init__(self, observer: TurnObserver, scope: RunScope, kind: Literal["message", "reasoning"]) -> None:
        self._observer = observer
        self._scope = scope
        self._message = kind == "message"
        self._id: str | None = None
        self.shown = ""

    def show(self, text: str, *, whole: bool = False) -> None:
        """The text so far; what does not continue what was shown is left out.

        Until it is `whole`, an end of it that may be the beginning of a secret is held back.
        """
        whole = whole and len(text) <= SHOWN_CHARS
        clean = self._observer.clean(text) if whole else self._observer.so_far(text[:SHOWN_CHARS])
        if len(clean) <= len(self.shown) or not clean.startswith(self.shown):
            return
        if self._id is None:
            self._id = new_id("msg" if self._message else "rsn")
            started = ev.MessageStarted(id=self._id) if self._message else ev.ReasoningStarted(id=self._id)
            self._observer.emit(started, self._scope)
        more = clean[len(self.shown) :]
        delta = ev.MessageDelta(id=self._id, text=more) if self._message else ev.ReasoningDelta(id=self._id, text=more)
        self._observer.emit(delta, self._scope)
        self.shown = clean

    def close(self) -> None:
        """Nothing more will come."""
        if self._id is None:
            return
        digest = hashlib.sha256(self.shown.encode("utf-8", "replace")).hexdigest()
        finished = ev.MessageFinished if self._message else ev.ReasoningFinished
        self._observer.emit(finished(id=self._id, length=len(self.shown), sha256=digest), self._scope)
        self._id = None


class CallStream:
    """Takes the chunks of one call (`async send`, as DSPy's `send_stream` wants it) and shows what is for people.

    `scope.streams`: the run speaks to the person, so its answer is a message; of any other run only thoughts are shown.
    Chunks come from the thread of the call, which the end of a run does not wait for: after `close` they are dropped.
    """

    def __init__(self, observer: TurnObserver, scope: RunScope) -> None:
        self._speaks = scope.streams
        self._observer = observer
        self._text = ""
        self._thinking = ""
        self._tools: dict[int, tuple[str, str]] = {}
        self._message = GrowingText(observer, scope, "message")
        self._thought = GrowingText(observer, scope, "reasoning")
        self._provider_thought = GrowingText(observer, scope, "reasoning")
        self._at = 0.0
        self._lock = threading.Lock()
        self._closed = False
        self.begun = False
        _pace.opened(1)

    async def send(self, chunk: Any) -> None:
        """One chunk in OpenAI's shape."""
        with self._lock:
            if self._closed:
                return
            self.begun = True
            for choice in chunk.get("choices") or []:
                self._take(choice.get("delta") or {})
            now = time.monotonic()
            if now - self._at >= _pace.every_s:
                self._at = now
                self._show(done=False)

    def _take(self, delta: Any) -> None:
        if len(self._text) < SHOWN_CHARS:
            self._text += delta.get("content") or ""
        if len(self._thinking) < SHOWN_CHARS:
            self._thinking += delta.get("reasoning_content") or ""
        for call in delta.get("tool_calls") or []:
            function = call.get("function") or {}
            name, arguments = self._tools.get(call["index"], ("", ""))
            if len(arguments) < SHOWN_CHARS:
                arguments += function.get("arguments") or ""
            self._tools[call["index"]] = name + (function.get("name") or ""), arguments

    def close(self, *, whole: bool) -> None:
        """The call has ended, or nobody waits for it any more. `whole`: its reply came to its end."""
        with self._lock:
            self._closed = True
            self._show(done=True, whole=whole)
            for text in (self._provider_thought, self._thought, self._message):
                text.close()
            if self._message.shown:
                self._observer.streamed = self._message.shown
        _pace.opened(-1)

    def _show(self, *, done: bool, whole: bool = False) -> None:
        self._provider_thought.show(self._thinking, whole=whole)
        seen = visible(self._text, list(self._tools.values()), done=done, speaks=self._speaks)
        self._thought.show(seen.thought, whole=whole)
        if self._speaks:
            self._message.show(seen.answer, whole=whole)


class StreamLoop:
    """One event loop for all calls that stream through DSPy's own engines.

    A loop per call would cost a connection per call, because those engines keep their connections by loop.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Begin in the context of the calling thread; cancelling the future closes the request."""
        return asyncio.run_coroutine_threadsafe(work, self._running())

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                loop = self._loop = asyncio.new_event_loop()
                threading.Thread(target=loop.run_forever, name="fleet-stream", daemon=True).start()
            return self._loop


stream_loop = StreamLoop()
