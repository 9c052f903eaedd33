"""Archives (.zip, .tar, .tar.gz, .tar.bz2, .tar.xz) to their files, within bounds; links and devices stay out."""

from __future__ import annotations

import lzma
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from fleet_rlm.errors import InvalidInput
from fleet_rlm.runtime.content.extract.protocol import MAX_RATIO, RATIO_FREE, Fault, Report, Task
from fleet_rlm.runtime.content.extract.sink import Sink
from fleet_rlm.runtime.content.tree import clean_path, is_skipped

PIECE = 1 << 20
_BROKEN = (zipfile.BadZipFile, tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, OSError, ValueError)

Member = tuple[str, IO[bytes] | None]
"""Path and content; None for what is left out."""


def read_archive(task: Task, sink: Sink) -> Report:
    """The files one after the other. Errors: Fault (damaged, encrypted, too many files, a bomb)."""
    members = _zip_members(task.file) if task.kind == "zip" else _tar_members(task.file)
    allowed = RATIO_FREE + MAX_RATIO * Path(task.file).stat().st_size
    parts: dict[str, int] = {}
    skipped = count = 0
    try:
        for path, content in members:
            count += 1
            if count > task.max_files:
                raise Fault(f"it holds more than {task.max_files} files; attach a part of it", too_large=True)
            path = _inside(path)
            if content is None or path in parts:
                skipped += 1
                continue
            parts[path] = _copy(content, sink, allowed)
    except _BROKEN as error:
        raise Fault(f"it is a damaged archive ({_line(error)})") from None
    return Report(kind="archive", parts=list(parts.items()), skipped=skipped)


def _inside(path: str) -> str:
    try:
        return clean_path(path)
    except InvalidInput:
        raise Fault(f"it holds the path {path[:80]!r}, which leaves its folder; pack it again") from None


def _copy(content: IO[bytes], sink: Sink, allowed: int) -> int:
    before = sink.bytes
    while piece := content.read(PIECE):
        sink.data(piece)
        if sink.bytes > allowed:
            raise Fault(f"it unpacks to more than {MAX_RATIO} times its size; attach its files", too_large=True)
    return sink.bytes - before


def _zip_members(path: str) -> Iterator[Member]:
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            if info.is_dir():
                continue
            if info.flag_bits & 1:
                raise Fault("it is encrypted; pack it again without a password")
            mode = info.external_attr >> 16
            if is_skipped(info.filename) or (stat.S_IFMT(mode) and not stat.S_ISREG(mode)):
                yield info.filename, None
                continue
            try:
                with archive.open(info) as content:
                    yield info.filename, content
            except NotImplementedError:
                raise Fault(f"it packs {info.filename[:80]} by a method that is not read; pack it again") from None


def _tar_members(path: str) -> Iterator[Member]:
    try:
        archive = tarfile.open(path)  # noqa: SIM115 - closed below
    except tarfile.ReadError:
        raise Fault("it is no tar archive, or a damaged one; unpack it and attach the files") from None
    with archive:
        for info in archive:
            if info.isdir():
                continue
            taken = info.isreg() and not is_skipped(info.name)
            yield info.name, archive.extractfile(info) if taken else None


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__
