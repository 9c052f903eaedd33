"""The host side of extraction: one child per intake, started with the first document, replaced when it dies."""

from __future__ import annotations

import hashlib
import os
import secrets
import selectors
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from fleet_rlm.errors import InvalidInput, NotConfigured, StorageError, TooLarge
from fleet_rlm.runtime.content.extract.protocol import DOCUMENT_BYTES, SECONDS, Report, Task
from fleet_rlm.runtime.content.index import Origin
from fleet_rlm.runtime.content.kinds import ARCHIVES
from fleet_rlm.runtime.content.tree import MAX_FILES
from fleet_rlm.runtime.content.writer import PREFIX, disk_refused, too_large

_MAX_REPORT = 64_000_000
_HINT = "install the readers: pip install 'fleet-rlm[documents]'"


class Unreadable(InvalidInput):
    """The document itself is at fault: damaged, encrypted, without text."""


@dataclass(frozen=True, slots=True)
class Extracted:
    """A document's text in the file `text`, which lives until the reader closes or reads the next document.

    An archive has `parts` instead: (path, first byte in `text`, bytes) of each of its files.
    """

    text: Path
    origin: Origin
    parts: list[tuple[str, int, int]] | None
    skipped: int


class DocumentReader:
    """Documents to text, one at a time. Use as a context manager, from one thread."""

    def __init__(self, root: Path, max_bytes: int, *, seconds: float = SECONDS, max_files: int = MAX_FILES) -> None:
        self._folder = root / f"{PREFIX}{secrets.token_hex(8)}"
        self._max_bytes = max_bytes
        self._seconds = seconds
        self._max_files = max_files
        self._child: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> DocumentReader:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def read(
        self, name: str, kind: str, chunks: Iterable[bytes], *, nested: bool = False, charset: str | None = None
    ) -> Extracted:
        """The text of one document. Errors: Unreadable, TooLarge, NotConfigured (a library is missing)."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        source, out = self._folder / "document", self._folder / "text"
        limit = self._max_bytes if kind in ARCHIVES and not nested else min(DOCUMENT_BYTES, self._max_bytes)
        size, sha256 = _spool(name, source, chunks, limit)
        task = Task(kind, str(source), str(out), self._max_bytes, self._max_files, nested, charset)
        report = self._ask(name, task)
        source.unlink()
        if report.missing is not None:
            raise NotConfigured(f"{name} needs the Python package {report.missing}", hint=_HINT)
        if report.fault is not None:
            raise (TooLarge if report.too_large else Unreadable)(f"{name}: {_printable(report.fault)}")
        origin = Origin(report.kind, size, sha256, report.starts, report.names)
        return Extracted(out, origin, None if report.parts is None else _placed(report.parts), report.skipped)

    def _ask(self, name: str, task: Task) -> Report:
        child = self._child = self._child or _start()
        line = None
        try:
            assert child.stdin is not None
            child.stdin.write(msgspec.json.encode(task) + b"\n")
            child.stdin.flush()
            line = _answer(child, time.monotonic() + self._seconds)
        except BrokenPipeError:
            pass
        finally:
            if not line:
                self._stop()
        if line is None:
            raise Unreadable(f"{name}: it crashed its reader, or needs too much memory", hint="attach it as text")
        if not line:
            raise TooLarge(f"{name} took more than {self._seconds:g} s to read", hint="attach a part of it")
        return msgspec.json.decode(line, type=Report)

    def _stop(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            child.communicate()


def _start() -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "fleet_rlm.runtime.content.extract"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd="/",
            # No key of ours reaches it; the packages are found where the host found them.
            env={"PATH": os.defpath, "LANG": "C.UTF-8", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            start_new_session=True,  # Ctrl-C is for the host, which ends it in order
        )
    except OSError as error:
        raise StorageError(f"the document reader does not start: {error.strerror or error}") from error


def _answer(child: subprocess.Popen[bytes], deadline: float) -> bytes | None:
    """The child's line; b"" when the time is up, None when it died."""
    assert child.stdout is not None
    found = bytearray()
    with selectors.DefaultSelector() as selector:
        selector.register(child.stdout, selectors.EVENT_READ)
        while len(found) < _MAX_REPORT:
            if not selector.select(max(0.0, deadline - time.monotonic())):
                child.kill()
                return b""
            piece = os.read(child.stdout.fileno(), 1 << 16)
            if not piece:
                return None
            found += piece
            if piece.endswith(b"\n"):
                return bytes(found)
    return None


def _spool(name: str, target: Path, chunks: Iterable[bytes], limit: int) -> tuple[int, str]:
    """(bytes, sha256) of the document, now in a private file."""
    digest, size = hashlib.sha256(), 0
    with os.fdopen(os.open(target, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600), "wb") as file:
        for piece in chunks:
            size += len(piece)
            if size > limit:
                raise too_large(name, limit)
            digest.update(piece)
            try:
                file.write(piece)
            except OSError as error:
                raise disk_refused(error) from error
    return size, digest.hexdigest()


def _printable(fault: str) -> str:
    """One line, whatever a hostile document put into a library's message."""
    return "".join(char if char.isprintable() else " " for char in fault)[:400]


def _placed(parts: list[tuple[str, int]]) -> list[tuple[str, int, int]]:
    """(path, first byte, bytes) from (path, bytes) in the order of the file."""
    placed: list[tuple[str, int, int]] = []
    start = 0
    for path, size in parts:
        placed.append((path, start, size))
        start += size
    return placed
