"""Whether a cell printed anything: the child can tell without its parent, which reads what is printed."""

from __future__ import annotations

import array
import fcntl
import mmap
import struct
import termios

COUNT = struct.Struct("Q")


def waiting_in(fd: int) -> int:
    """How many bytes a pipe holds, seen from either end."""
    held = array.array("i", [0])
    fcntl.ioctl(fd, termios.FIONREAD, held)
    return held[0]


class Tally:
    """How often the parent has begun and ended to read, on a page that it shares with the child: while it reads, the
    number is odd. What was printed is in a pipe still, or the number is another than before.

    The child may write there what it likes, and would only deceive itself.
    """

    def __init__(self) -> None:
        self._page = mmap.mmap(-1, COUNT.size)
        self._steps = 0
        self._pipes: list[int] = []
        self._before = 1

    def step(self) -> None:
        """The parent begins or ends to read."""
        self._steps += 1
        COUNT.pack_into(self._page, 0, self._steps)

    def watch(self, pipes: list[int]) -> None:
        """The child: these are its outputs."""
        self._pipes = pipes

    def begin(self) -> None:
        """The child: a cell begins."""
        self._before = self._now()

    @property
    def nothing(self) -> bool:
        """The child: whether certainly nothing was printed since then, by anybody."""
        try:
            if any(waiting_in(fd) for fd in self._pipes):
                return False
        except OSError:  # closed by the guest
            return False
        return not self._before % 2 and self._now() == self._before

    def _now(self) -> int:
        count: int = COUNT.unpack_from(self._page)[0]
        return count
