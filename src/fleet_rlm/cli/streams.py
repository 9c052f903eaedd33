"""The three standard streams as a command needs them: there, able to take any text, and clear about a refusal."""

from __future__ import annotations

import io
import os
import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from typing_extensions import Buffer


class StdoutRefused(OSError):
    """Standard output takes no more (a full disk, an error of the device); a reader that left is BrokenPipeError."""


class _Output(io.FileIO):
    """Tells its own refusals from every other OSError, so that the program's entry can name them."""

    def write(self, data: Buffer, /) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise StdoutRefused(error.errno, error.strerror) from None


def make_ready() -> None:
    """Open what is closed, as under cron or in a daemon, and let stdout take every text. Once, before any other file.

    Python has None for a closed stream. Its number would also go to the next file that is opened, and a child process
    would write there.
    """
    if sys.stdin is None:  # pyright: ignore[reportUnnecessaryComparison] - typeshed knows only open ones
        sys.stdin = os.fdopen(_null(), closefd=False)
    out = sys.stdout
    if out is sys.__stdout__:  # else somebody has taken it, and knows what for
        sys.stdout = _stdout(out)
    if sys.stderr is None:  # pyright: ignore[reportUnnecessaryComparison]
        sys.stderr = os.fdopen(_null(), "w", closefd=False)


def leave_stdout() -> None:
    """Nothing more can go there: what is still buffered must not complain when the interpreter ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _stdout(present: TextIO | None) -> TextIO:
    encoding, lines = (present.encoding, present.isatty()) if present is not None else ("utf-8", False)
    raw = _Output(present.fileno() if present is not None else _null(), "w", closefd=False)
    # What the encoding has not, half of a surrogate pair for one, is written as an escape: no answer is lost by it.
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding, "backslashreplace", line_buffering=lines)


def _null() -> int:
    """The null device under the lowest free number, which is the closed stream's when they are opened in order."""
    number = os.open(os.devnull, os.O_RDWR)
    os.set_inheritable(number, True)
    return number
