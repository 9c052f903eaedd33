"""A file or a value of the guest on its way to becoming an artifact: read here, so that no path reaches the host."""

# pathlib would add milliseconds to the start of every sandbox
# ruff: noqa: PTH112, PTH113, PTH119, PTH123, PTH202

from __future__ import annotations

import binascii
import io
import json
import os
from typing import Any

from .values import plain

MAX_FILE_BYTES = 32 << 20
PATH_CHARS = 4_096


def packed_file(path_or_value: Any, name: str | None = None) -> dict[str, Any]:
    """The arguments of the host's side: the bytes in base64, with a name where none was given.

    Errors: TypeError (no name and none to be had), ValueError (too large), OSError (the file cannot be read).
    """
    path = _path_of(path_or_value)
    if path is not None:
        data = _read_bounded(path)
        name = name or os.path.basename(path)
    else:
        data = file_bytes(path_or_value, name or "")
    if not name:
        raise TypeError("save_artifact needs a name for a value: save_artifact(value, 'result.json')")
    if len(data) > MAX_FILE_BYTES:
        raise ValueError(f"an artifact has at most {MAX_FILE_BYTES >> 20} MiB, this one {len(data):,} bytes")
    return {"path_or_value": binascii.b2a_base64(data, newline=False).decode(), "name": str(name)}


def _path_of(value: Any) -> str | None:
    """The path of a file that is there; a string that names none is a text, but for the path of a folder, which is a
    mistake."""
    if isinstance(value, os.PathLike):
        return str(os.fspath(value))
    if type(value) is str and 0 < len(value) < PATH_CHARS and "\n" not in value and "\0" not in value:
        return value if os.path.isfile(value) or ("/" in value and os.path.isdir(value)) else None
    return None


def _read_bounded(path: str) -> bytes:
    if os.path.isdir(path):
        raise IsADirectoryError(f"{path!r} is a folder: save a file of it, or an archive")
    if not os.path.isfile(path):
        raise FileNotFoundError(f"there is no file {path!r}")
    size = os.path.getsize(path)
    if size > MAX_FILE_BYTES:
        raise ValueError(f"an artifact has at most {MAX_FILE_BYTES >> 20} MiB, {path} has {size:,} bytes")
    with open(path, "rb") as file:
        return file.read(MAX_FILE_BYTES + 1)


def file_bytes(value: Any, name: str) -> bytes:
    """A value as a file: text and bytes as they are, rows as CSV when the name says so, anything else as JSON."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    if isinstance(value, str):
        return str(value).encode("utf-8", "replace")
    ending = name.lower().rpartition(".")[2]
    for ends, method in (("csv", "to_csv"), ("html", "to_html")):  # data frames
        convert = getattr(value, method, None)
        if ending == ends and callable(convert) and not isinstance(value, type):
            return str(convert()).encode("utf-8", "replace")
    value = plain(value)
    if ending in ("csv", "tsv") and isinstance(value, list) and value and _all_rows(value):
        return _as_table(value, "\t" if ending == "tsv" else ",")
    if ending == "jsonl" and isinstance(value, list):
        return "".join(f"{json.dumps(item, ensure_ascii=False)}\n" for item in value).encode("utf-8", "replace")
    return json.dumps(value, ensure_ascii=False, indent=2).encode("utf-8", "replace")


def _all_rows(value: list[Any]) -> bool:
    return all(isinstance(row, dict) for row in value) or all(isinstance(row, list) for row in value)


def _as_table(rows: list[Any], delimiter: str) -> bytes:
    import csv  # here, because few sandboxes need it

    out = io.StringIO(newline="")
    if isinstance(rows[0], dict):
        names = list(dict.fromkeys(key for row in rows for key in row))
        table = csv.DictWriter(out, names, delimiter=delimiter)
        table.writeheader()
        table.writerows(rows)
    else:
        csv.writer(out, delimiter=delimiter).writerows(rows)
    return out.getvalue().encode("utf-8", "replace")
