"""Runs turns in threads of this process: one thread a turn, each cancellable, each with one result."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass, field
from typing import Any, Protocol

from fleet_rlm.errors import Conflict, NotFound
from fleet_rlm.runtime.execution.events import Limits
from fleet_rlm.runtime.execution.requests import TurnResult

KEPT_RESULTS = 1_000
BEGIN_S = 10.0
"""Between its acceptance and the moment in which a turn can be acted on; milliseconds, but for its first imports."""
log = logging.getLogger(__name__)


class LiveTurn(Protocol):
    """A running turn, as others may act on it from any thread: the tree of its runs."""

    def cancel(self) -> None:
        """Stop everything."""
        ...

    def cancel_run(self, run: str) -> bool:
        """Stop one run with what is below it; False when it is not under way."""
        ...

    def set_limits(self, changes: Mapping[str, Any]) -> Limits:
        """Other limits from now on; returns all of them."""
        ...

    def answer(self, approval: str, text: str | None) -> None:
        """Answer a question that a run waits for; None: the rule does, now."""
        ...


class CancelFlag:
    """A cancel that may come before the thing that it stops exists."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._set = False
        self.live: LiveTurn | None = None
        self.ready = threading.Event()
        """Set once `live` stands, or never will."""

    def arm(self, live: LiveTurn) -> None:
        """From now on a cancel stops `live`; one that came before stops it at once."""
        with self._lock:
            self.live = live
            fire = self._set
        self.ready.set()
        if fire:
            live.cancel()

    def set(self) -> None:
        """Cancel. Idempotent."""
        with self._lock:
            self._set = True
            live = self.live
        if live is not None:
            live.cancel()


@dataclass(slots=True)
class _Turn:
    session: str
    result: Future[TurnResult] = field(default_factory=Future[TurnResult])
    cancel: CancelFlag = field(default_factory=CancelFlag)


class TurnExecutor:
    """The turns of this process. A turn's work must always return a result; an escaped error is a defect of ours."""

    def __init__(self) -> None:
        self._turns: dict[str, _Turn] = {}
        self._lock = threading.Lock()

    def submit(self, turn: str, session: str, work: Callable[[CancelFlag], TurnResult]) -> None:
        """Start the work in a thread of its own. Errors: Conflict when the session has a turn running."""
        entry = _Turn(session)
        with self._lock:
            if self._active(session) is not None:
                raise Conflict("a turn of this session is still running", hint="wait for it or stop it")
            self._turns[turn] = entry
            self._drop_old()
        threading.Thread(target=self._run, args=(entry, work), name=f"fleet-{turn[:12]}", daemon=True).start()

    def cancel(self, turn: str) -> bool:
        """Ask a running turn to stop; False when it is not running here. Returns at once."""
        with self._lock:
            entry = self._turns.get(turn)
        if entry is None or entry.result.done():
            return False
        entry.cancel.set()
        return True

    def live(self, turn: str) -> LiveTurn | None:
        """The tree of a turn that runs here; None for any other turn. Waits for one that is only beginning."""
        with self._lock:
            entry = self._turns.get(turn)
        if entry is None or entry.result.done():
            return None
        entry.cancel.ready.wait(BEGIN_S)
        return entry.cancel.live

    def wait(self, turn: str, timeout: float | None = None) -> TurnResult:
        """The turn's result. Errors: NotFound for a turn of another process, TimeoutError."""
        with self._lock:
            entry = self._turns.get(turn)
        if entry is None:
            raise NotFound(f"no turn {turn[:80]!r} in this process")
        try:
            return entry.result.result(timeout)
        except FutureTimeout as error:
            raise TimeoutError(f"turn {turn} is still running") from error

    def active(self, session: str) -> str | None:
        """The running turn of a session."""
        with self._lock:
            return self._active(session)

    def running(self) -> list[str]:
        """All running turns."""
        with self._lock:
            return [turn for turn, entry in self._turns.items() if not entry.result.done()]

    def close(self, timeout: float = 5.0) -> None:
        """Cancel what runs and wait for it a little."""
        for turn in self.running():
            self.cancel(turn)
        for turn in self.running():
            try:
                self.wait(turn, timeout)
            except (TimeoutError, Exception) as error:  # noqa: BLE001 - supervisor: closing goes on whatever a turn did
                log.warning("turn %s did not end in time: %s", turn, error)

    def _run(self, entry: _Turn, work: Callable[[CancelFlag], TurnResult]) -> None:
        try:
            entry.result.set_result(work(entry.cancel))
        except BaseException as error:  # supervisor: the waiting caller gets it, the log too
            log.exception("a turn failed inside the engine")
            entry.result.set_exception(error)
        finally:
            entry.cancel.ready.set()

    def _active(self, session: str) -> str | None:
        for turn, entry in self._turns.items():
            if entry.session == session and not entry.result.done():
                return turn
        return None

    def _drop_old(self) -> None:
        done = [turn for turn, entry in self._turns.items() if entry.result.done()]
        for turn in done[: max(0, len(self._turns) - KEPT_RESULTS)]:
            del self._turns[turn]
