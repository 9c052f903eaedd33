"""Where a command's log goes: `<home>/logs/fleet.log`, never the terminal, which belongs to the answer."""

from __future__ import annotations

import logging
import os
import sys
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Final

_BYTES: Final = 4 << 20
_KEPT: Final = 3


def log_to_file(home: Path) -> Path:
    """Send our loggers from INFO on, others' and Python's warnings there. No log where the folder cannot be had."""
    path = home / "logs" / "fleet.log"
    logging.captureWarnings(True)
    root = logging.getLogger()
    root.setLevel(logging.WARNING)
    logging.getLogger("fleet_rlm").setLevel(logging.INFO)
    try:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        handler = _handler(path)
    except OSError:
        handler = logging.NullHandler()
    root.addHandler(handler)
    _take_over(logging.getLogger("dspy"), handler)
    return path


class _Taken(logging.Logger):
    """A library's logger that stays as we have set it up."""

    def addHandler(self, hdlr: logging.Handler) -> None:
        """Not on top of ours."""

    def setLevel(self, level: int | str) -> None:
        """Ours holds."""


def _take_over(logger: logging.Logger, handler: logging.Handler) -> None:
    """DSPy gives its logger a handler on stderr when it is imported, which happens later and in another thread."""
    for present in logger.handlers[:]:
        logger.removeHandler(present)
    logger.propagate = False
    logger.setLevel(logging.WARNING)
    logging.Logger.addHandler(logger, handler)  # also where it was taken over before
    logger.__class__ = _Taken


class _LogFile(RotatingFileHandler):
    """Says nothing where the disk takes no line of it: the command tells what the refusal means for it."""

    def handleError(self, record: logging.LogRecord) -> None:
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)


def _handler(path: Path) -> logging.Handler:
    handler = _LogFile(path, maxBytes=_BYTES, backupCount=_KEPT, encoding="utf-8", delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(process)d %(levelname)s %(name)s %(message)s"))
    os.close(os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600))
    return handler
