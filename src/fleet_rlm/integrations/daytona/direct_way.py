"""What a channel says and hears past the worker's own process, where there is a direct way to the one that runs code.

Cells, tool calls and what comes back take it. The worker's process still reads what is printed, and tells when it has
read all of a cell's: the result of a cell that printed something waits for that. It also tells when the other process
is gone.

Whoever writes there is model-written code as well: what breaks the protocol ends the channel.
"""

from __future__ import annotations

from collections.abc import Callable

from fleet_rlm.integrations.daytona.transport import Line
from fleet_rlm.integrations.daytona.worker.calls import MESSAGE_HEAD, Messages
from fleet_rlm.integrations.daytona.worker.frames import CH_CALL, CH_EXEC, CH_LATER, CH_LOST


class DirectWay:
    """Messages over a line, each passed on once, in order. On the event loop, but where it says otherwise.

    `limit`: the bytes of a message, at most.
    """

    def __init__(
        self, line: Line, limit: int, on_message: Callable[[int, bytes], None], on_broken: Callable[[str], None]
    ) -> None:
        self._line = line
        self._limit = limit
        self._on_message = on_message
        self._on_broken = on_broken
        self._said = Messages()
        self._holds = False
        self._lent = False
        self._ended = False
        self._result: bytes | None = None  # of a cell whose output has not all been told
        self._told = 0  # cells whose output has, and whose result is to come
        self._lost: bytes | None = None  # how the process ended, while that is not told

    def begin(self) -> None:
        """Hear what comes from now on."""
        self._line.listen(self._heard)

    def end(self) -> None:
        """Pass on nothing more."""
        self._ended = True

    def send(self, channel: int, payload: bytes) -> None:
        """Any thread: one message."""
        self._line.write(MESSAGE_HEAD.pack(len(payload), channel) + payload)

    def await_room(self) -> None:
        """Any thread but the loop's: where code in the sandbox does not read what it asked for, wait until it does."""
        self._line.await_room(self._limit)

    def printed(self) -> None:
        """All that a cell printed was passed on."""
        self._told += 1
        self._match()

    def lost(self, how: bytes) -> None:
        """The process is gone, as its worker says: that is told after all that it said before."""
        self._lost = how
        self._tell_lost()

    def hold(self) -> None:
        """Hear nothing more, until `go_on`: the code will have to wait."""
        self._holds = True
        self._line.pause()

    def lend(self) -> bool:
        """Leave it to a thread, which may use `next_call`, until `go_on`. False: it is held."""
        if self._holds or self._ended:
            return False
        self.hold()
        self._lent = True
        return True

    def next_call(self, patience_s: float) -> bytes | None:
        """In the thread to which it was lent: the next tool call. None: none came in time, or something else did."""
        try:
            while (channel := self._said.channel(self._limit)) is None:
                data = self._line.read(patience_s)
                if not data:
                    return None
                self._said.add(data)
            message = self._said.next(self._limit) if channel == CH_CALL else None
        except ValueError:  # the loop finds it too
            return None
        return None if message is None else message[1]

    def go_on(self) -> None:
        """Pass on what was held, and what comes."""
        if self._ended:
            return
        self._holds = self._lent = False
        self._pass_on()
        self._tell_lost()
        if not self._holds:
            self._line.resume()

    def _heard(self, data: bytes) -> None:
        self._said.add(data)
        self._pass_on()

    def _pass_on(self) -> None:
        try:
            while not (self._holds or self._ended):
                message = self._said.next(self._limit)
                if message is None:
                    return
                channel, payload = message
                if channel in (CH_CALL, CH_EXEC):
                    self._on_message(channel, payload)
                elif channel == CH_LATER and self._result is None:
                    self._result = payload
                    self._match()
                else:
                    raise ValueError(f"a message on channel {channel}")
        except ValueError as error:
            self._on_broken(f"the Python process broke the control protocol: {error}")

    def _match(self) -> None:
        """Pass a result on when all that its cell printed was."""
        if self._result is not None and self._told:
            result, self._result = self._result, None
            self._told -= 1
            self._on_message(CH_EXEC, result)

    def _tell_lost(self) -> None:
        """What it said before may be in another thread's hands for a moment."""
        if self._lost is None or self._lent:
            return
        self._line.take()
        self._on_message(CH_LOST, self._lost)
        self._lost = None
