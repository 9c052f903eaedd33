"""How many calls one provider gets at once, over the whole process.

A `Throttle` belongs to one endpoint: a model at an address with a key. Its width is the configured maximum, which is
somebody's word for what the provider bears, until the provider shows otherwise:

- A refusal for too many requests (429, or an overloaded server) halves it, once for all calls that were sent under the
  same width. The level at which it happened is a ceiling for `HOLD_S`: after each round of good answers the width goes
  half of the way to it, at least by one. Without a ceiling it grows by one a round.
- `Retry-After` pauses the endpoint for everyone.
- A time-out halves it too. Answers that come `SLOW` times as slowly as the endpoint can, for their size, and at least
  `SLOW_S` later, narrow it towards twice that time, but never below `LEAST_FOR_LATENCY`: a server that works its
  requests off one after the other is not asked for sixty-four at once.

Numbers: additive increase, halving and the search below the ceiling as in TCP (Reno, BIC); the rest was tried against
the fake provider of the tests.
"""

from __future__ import annotations

import math
import statistics
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Literal

from fleet_rlm.runtime.execution.fair import FairQueue

HOLD_S = 30.0
SLOW = 3.0
CALM = 2.0
SLOW_S = 0.25
LEAST_FOR_LATENCY = 4
SAMPLES = 8
FIXED_WORK = 50.0
"""What a request costs before its first token, in completion tokens: answers are compared by time per token."""
KEPT = 256

Verdict = Literal["ok", "limited", "timeout", "failed", "abandoned"]


@dataclass(slots=True, eq=False)
class Place:
    """One call's place: where it stands in the queue, and whether it may be sent. `told`: tells one that waits."""

    turn: str
    urgency: int
    path: tuple[str, ...]
    granted: bool = False
    told: Future[None] | None = None
    round: int = 0
    at: float = 0.0


class Throttle:
    """The gate of one endpoint. Thread-safe; nothing here blocks but the short lock."""

    def __init__(self, most: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.most = most
        self._clock = clock
        self._lock = threading.Lock()
        self._queue: FairQueue[Place] = FairQueue()
        self._width = math.inf
        self._round = 0
        self._well = 0
        self._peak = 0
        self._ceiling = (0, 0.0)
        self._paused_until = 0.0
        self._timer: threading.Timer | None = None
        self._fast = 0.0
        self._recent: deque[tuple[float, float]] = deque(maxlen=SAMPLES)
        self._calm = True
        self.in_flight = 0
        self.used_at = clock()

    @property
    def width(self) -> int:
        """Calls that may be in flight at once."""
        return max(1, int(min(self._width, self.most)))

    @property
    def paused_s(self) -> float:
        """For how long the provider asked not to be asked."""
        return max(0.0, self._paused_until - self._clock())

    @property
    def idle(self) -> bool:
        """Nobody is here."""
        return self.in_flight == 0 and self._queue.waiting == 0

    def enter(self, place: Place) -> Future[None] | None:
        """Take a place: None when there was one; else what tells that it is granted."""
        with self._lock:
            self.used_at = now = self._clock()
            if not self._queue.waiting and self.in_flight < self.width and now >= self._paused_until:
                self._queue.started(place)
                self._grant(place, now)
                return None
            place.told = Future()
            self._queue.push(place)
            self._admit()
            return place.told

    def give_up(self, place: Place) -> None:
        """Wait no longer; a place that was granted in the meantime is given back."""
        with self._lock:
            if place.granted:
                self._free(place)
            else:
                self._queue.remove(place)
            self._admit()

    def leave(
        self, place: Place, verdict: Verdict, *, retry_after: float | None = None, tokens: tuple[int, int] = (0, 0)
    ) -> None:
        """The call is over. `retry_after` in seconds as the provider said; `tokens` of prompt and completion."""
        with self._lock:
            now = self._clock()
            busy = self.in_flight >= self.width or self._queue.waiting > 0
            self._free(place)
            if retry_after is not None:
                self._paused_until = max(self._paused_until, now + retry_after)
            if verdict in ("limited", "timeout"):
                self._narrow(place, now)
            elif verdict == "ok":
                self._note_speed(place, now - place.at, tokens)
                if busy:
                    self._widen(now)
            self._admit()

    def _free(self, place: Place) -> None:
        self.in_flight -= 1
        self._queue.ended(place)

    def _admit(self) -> None:
        if not self._queue.waiting:
            return
        now = self._clock()
        if now < self._paused_until:
            self._wake_later(self._paused_until - now)
            return
        while self.in_flight < self.width:
            place = self._queue.pop()
            if place is None:
                return
            self._grant(place, now)

    def _grant(self, place: Place, now: float) -> None:
        self.in_flight += 1
        self._peak = max(self._peak, self.in_flight)
        place.round, place.at = self._round, now
        place.granted = True
        if place.told is not None:
            place.told.set_result(None)

    def _wake_later(self, seconds: float) -> None:
        if self._timer is not None or not self._queue.waiting:
            return
        self._timer = threading.Timer(seconds, self._wake)
        self._timer.daemon = True
        self._timer.start()

    def _wake(self) -> None:
        with self._lock:
            self._timer = None
            self._admit()

    def _widen(self, now: float) -> None:
        if not self._calm or self._width >= self.most:
            return
        self._well += 1
        if self._well < self.width:  # not yet a whole round of good answers
            return
        self._well = 0
        ceiling, until = self._ceiling
        if now < until:
            self._width = min(ceiling, self.width + max(1, (ceiling - self.width) // 2))
        else:
            self._width = min(self.most, self.width + 1)

    def _narrow(self, place: Place, now: float) -> None:
        if place.round != self._round:  # sent under a width that is no longer
            return
        self._ceiling = max(1, self._peak - 1), now + HOLD_S
        self._set_width(max(1.0, self.width / 2))

    def _set_width(self, width: float) -> None:
        self._width = width
        self._well = 0
        self._peak = 0
        self._round += 1
        self._recent.clear()

    def _note_speed(self, place: Place, seconds: float, tokens: tuple[int, int]) -> None:
        """Compare with the fastest that was seen, which is slowly forgotten, so that a change is accepted."""
        prompt, completion = tokens
        pace = seconds / (FIXED_WORK + completion + prompt / 50)
        if not self._fast or pace < self._fast:
            self._fast = pace if not self._fast else self._fast + 0.3 * (pace - self._fast)
        else:
            self._fast *= 1.0005
        if place.round != self._round:
            return
        self._recent.append((pace, seconds))
        if len(self._recent) < SAMPLES:
            return
        slowness = statistics.median(pace for pace, _ in self._recent) / self._fast
        late = statistics.median(seconds for _, seconds in self._recent) * (1 - 1 / max(1.0, slowness))
        self._recent.clear()
        self._calm = slowness < CALM or late < SLOW_S
        if slowness > SLOW and late > SLOW_S and self.width > LEAST_FOR_LATENCY:
            self._set_width(max(LEAST_FOR_LATENCY, self.width * max(0.5, CALM / slowness)))


class Providers:
    """The throttles of this process, one for each endpoint. Those long unused are forgotten."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._throttles: dict[Hashable, tuple[Throttle, Any]] = {}

    def throttle(self, endpoint: Hashable, most: int, *, owner: Any = None) -> Throttle:
        """The gate of an endpoint, from now on at most `most` wide. `owner` stays alive with it: its id is the key."""
        with self._lock:
            found = self._throttles.get(endpoint)
            if found is None:
                self._forget_old()
                found = self._throttles[endpoint] = Throttle(most), owner
            found[0].most = most
            return found[0]

    def _forget_old(self) -> None:
        idle = sorted(
            (k for k, (t, _) in self._throttles.items() if t.idle), key=lambda k: self._throttles[k][0].used_at
        )
        for key in idle[: max(0, len(self._throttles) - KEPT + 1)]:
            del self._throttles[key]


PROVIDERS = Providers()
"""Of this process: what a provider bears does not depend on who asks."""
