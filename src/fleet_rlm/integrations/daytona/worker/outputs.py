"""The child's stdout and stderr: a cell may close or replace them, and the next one has them again."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TextIO

_NAMES = {1: "stdout", 2: "stderr"}


class Outputs:
    """Keeps a copy of each output, whatever becomes of descriptors 1 and 2, and of what stands in `sys`."""

    def __init__(self) -> None:
        self.pipes = [os.dup(fd) for fd in _NAMES]
        self._streams = [_open_output(fd) for fd in _NAMES]
        self.restore()

    def restore(self) -> None:
        """Open what was closed; what only leads elsewhere stays as the guest made it."""
        for number, (fd, name) in enumerate(_NAMES.items()):
            try:
                os.fstat(fd)
            except OSError:
                with contextlib.suppress(OSError):  # the guest may have closed the copy as well
                    os.dup2(self.pipes[number], fd)
            if _is_closed(self._streams[number]):
                self._streams[number] = _open_output(fd)
            setattr(sys, name, self._streams[number])
            setattr(sys, f"__{name}__", self._streams[number])

    def flush(self) -> None:
        """All that was printed, also into what the guest has put there."""
        for stream in (*(getattr(sys, name, None) for name in _NAMES.values()), *self._streams):
            with contextlib.suppress(BaseException):  # what that is may raise anything
                stream.flush()  # pyright: ignore[reportOptionalMemberAccess]


def _open_output(fd: int) -> TextIO:
    return open(fd, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)


def _is_closed(stream: TextIO) -> bool:
    try:
        return stream.closed
    except ValueError:  # its buffer was taken away
        return True
