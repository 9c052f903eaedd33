"""The child: reads tasks from standard input, answers each with a report on standard output."""

from __future__ import annotations

import importlib
import math
import resource
import sys
import time
import zipfile
from types import ModuleType

import msgspec

from fleet_rlm.runtime.content.extract.protocol import MEMORY_BYTES, SECONDS, Fault, Report, Task
from fleet_rlm.runtime.content.extract.sink import Sink

_ODS = b"application/vnd.oasis.opendocument.spreadsheet"
_HOME = "fleet_rlm.runtime.content.extract"


def main() -> int:
    """One line in, one line out, until the input ends."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.setrecursionlimit(4_000)
    for line in sys.stdin.buffer:
        task = msgspec.json.decode(line, type=Task)
        _bound_time_and_size(task)
        sys.stdout.buffer.write(msgspec.json.encode(_read(task)) + b"\n")
        sys.stdout.buffer.flush()
    return 0


def _bound_time_and_size(task: Task) -> None:
    """The host watches the clock; this ends a child whose host is gone."""
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(time.process_time()) + SECONDS, hard))
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (task.max_bytes + (1 << 20), hard))


def _read(task: Task) -> Report:
    try:
        with Sink(task.out, task.max_bytes) as sink:
            return _dispatch(task, sink)
    except Fault as fault:
        return Report(fault=str(fault), too_large=fault.too_large)
    except ModuleNotFoundError as error:
        return Report(missing=error.name or str(error))
    except MemoryError:
        return Report(fault=f"it needs more than {MEMORY_BYTES / 1e9:g} GB of memory to read", too_large=True)
    except Exception as error:  # noqa: BLE001 - the supervisor of hostile documents: whatever a library raises
        return Report(fault=f"it is damaged ({type(error).__name__}: {' '.join(str(error).split())[:120]})")


def _dispatch(task: Task, sink: Sink) -> Report:
    kind = _zip_kind(task.file) if task.kind == "zip" else task.kind
    # Each reader is imported when its first document comes: a missing library must not hinder the others.
    if kind in ("zip", "tar"):
        if task.nested:
            raise Fault("it is an archive in a set, and those are not unpacked")
        return _reader("archive").read_archive(task, sink)
    if kind == "pdf":
        _reader("pdf").read_pdf(task.file, sink)
    elif kind == "word":
        _reader("word").read_word(task.file, sink)
    elif kind == "sheets":
        _reader("sheets").read_sheets(task.file, sink)
    elif kind == "ole":
        kind = "sheets"
        try:
            _reader("sheets").read_sheets(task.file, sink)
        except Fault:
            raise Fault("it is an old or encrypted Office file; save it as .docx or .xlsx without a password") from None
    elif kind == "notebook":
        _reader("notebook").read_notebook(task.file, sink)
    else:
        _reader("web").read_html(task.file, task.charset, sink)
    sink.end_line()
    return Report(kind=kind, starts=sink.starts, names=sink.names)


def _reader(name: str) -> ModuleType:
    return importlib.import_module(f"{_HOME}.{name}")


def _zip_kind(path: str) -> str:
    """What the files in a zip say it is."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = set(archive.namelist())
            mimetype = archive.read("mimetype")[:200] if "mimetype" in names else b""
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, RuntimeError) as error:
        raise Fault(f"it is a damaged archive or document ({' '.join(str(error).split())[:120]})") from None
    if "word/document.xml" in names:
        return "word"
    if names & {"xl/workbook.xml", "xl/workbook.bin"} or mimetype.startswith(_ODS):
        return "sheets"
    if "ppt/presentation.xml" in names or mimetype:
        raise Fault("this kind of document is not read; save it as PDF")
    return "zip"


if __name__ == "__main__":
    sys.exit(main())
