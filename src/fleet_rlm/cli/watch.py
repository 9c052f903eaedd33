"""Follows one turn's events as the journal commits them: into the live tree and into `--events`.

The journal calls back in its writer thread, which must never wait for a slow pipe; so events pass through a queue to
a thread of our own.
"""

from __future__ import annotations

import queue
import sys
import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

from fleet_rlm.cli.tree import RunTree
from fleet_rlm.errors import InvalidInput
from fleet_rlm.runtime.config import expanded
from fleet_rlm.runtime.execution.events import Event, encode_event

if TYPE_CHECKING:
    from fleet_rlm.runtime.execution.journal import Journal

_DRAIN_SECONDS: Final = 30.0
"""How long the end of a command waits for a slow reader of `--events`."""


class Watch:
    """Keeps what comes before `follow` names the session, then passes that session's events on, in order."""

    def __init__(self, tree: RunTree, sink: BinaryIO | None) -> None:
        self.tree = tree
        self.failure: OSError | None = None
        self._sink = sink
        self._queue: queue.SimpleQueue[Sequence[Event] | None] = queue.SimpleQueue()
        self._session: str | None = None
        self._last = 0
        self._thread = threading.Thread(target=self._pass_on, name="fleet-watch", daemon=True)

    def offer(self, events: Sequence[Event]) -> None:
        """The journal's listener: never waits."""
        self._queue.put(events)

    def follow(self, session: str, earlier: Sequence[Event]) -> None:
        """Events of this session are wanted: `earlier` ones, then all that were and will be offered after those."""
        self._session = session
        self._show(earlier)
        self._last = earlier[-1].seq if earlier else 0
        self._thread.start()

    def close(self) -> None:
        """Return when everything offered so far was passed on."""
        if self._session is None:
            return
        self._queue.put(None)
        self._thread.join(_DRAIN_SECONDS)

    def _pass_on(self) -> None:
        while (batch := self._queue.get()) is not None:
            self._show([event for event in batch if event.sid == self._session and event.seq > self._last])

    def _show(self, events: Sequence[Event]) -> None:
        self.tree.apply(events)
        if self._sink is not None and self.failure is None:
            self._write(self._sink, events)

    def _write(self, sink: BinaryIO, events: Sequence[Event]) -> None:
        try:
            sink.write(b"".join(encode_event(event) + b"\n" for event in events))
            sink.flush()
        except OSError as error:
            # A reader that left must not stop the turn; the command says so at its end.
            self.failure = error


@contextmanager
def watch(journal: Journal, tree: RunTree, sink: BinaryIO | None) -> Generator[Watch]:
    """A `Watch` that listens until the block ends, and has passed everything on when it has ended."""
    watching = Watch(tree, sink)
    stop = journal.listen(None, watching.offer)
    try:
        yield watching
        journal.flush()
    finally:
        stop()
        watching.close()


@contextmanager
def event_sink(name: str | None) -> Generator[BinaryIO | None]:
    """The stream that `--events` names: a file, `-` for stdout, or none. Errors: InvalidInput."""
    if name is None:
        yield None
    elif name == "-":
        yield sys.stdout.buffer
    else:
        try:
            file = expanded(Path(name)).open("wb")
        except OSError as error:
            raise InvalidInput(
                f"cannot write {name}: {error.strerror}", hint="name another file for --events"
            ) from None
        try:
            yield file
        finally:
            with suppress(OSError):  # what could not be written was noted when it was flushed
                file.close()
