"""Runs inside a jail, as a file given to `python3 -I -S -c`: greps, globs and replaces in the sandbox's files.

Standard input: JSON {op: find search replace, path, pattern, new_value, files, limit}. Standard output: JSON
{ok: [...], cut: bool} or {errno, text, path}. Hostile trees are met with bounds: symlinks are not followed, only
regular files are read, large and binary ones are passed over.
"""

# Raw paths as the request gave them are echoed in the answer, so os.path is what is wanted here.
# ruff: noqa: PTH116, PTH118, PTH123

import errno
import fnmatch
import json
import os
import stat
import sys
from collections.abc import Iterator
from typing import Any

_FILE_LIMIT = 64 << 20  # bytes of a file that is looked into
_LINE_LIMIT = 2000  # characters of a line that are told
_VISIT_LIMIT = 500_000  # entries looked at
_BINARY_PROBE = 8192


def main() -> None:
    """Answer the one request on standard input."""
    request = json.load(sys.stdin)
    work = {"find": _find, "search": _search, "replace": _replace}[request["op"]]
    try:
        found: list[Any] = []
        cut = False
        for item in work(request):
            if len(found) >= request["limit"]:
                cut = True
                break
            found.append(item)
        answer: dict[str, Any] = {"ok": found, "cut": cut}
    except OSError as error:
        answer = {"errno": error.errno or 5, "text": error.strerror or str(error), "path": _plain(request["path"])}
    sys.stdout.write(json.dumps(answer))


def _find(request: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Lines that contain the pattern, as {file, line, content}."""
    pattern = request["pattern"].encode()
    for path in _files(request["path"]):
        try:
            data = _read(path)
        except OSError:
            continue  # unreadable or gone: grep goes on as well
        if data is None or pattern not in data:
            continue
        for number, line in enumerate(data.split(b"\n"), 1):
            if pattern in line:
                content = line.rstrip(b"\r").decode(errors="replace")[:_LINE_LIMIT]
                yield {"file": _plain(path), "line": number, "content": content}


def _search(request: dict[str, Any]) -> Iterator[str]:
    """Paths whose last component fits the glob."""
    root = request["path"]
    for folder, folders, files in _walk(root):
        for name in sorted([*folders, *files]):
            if fnmatch.fnmatchcase(name, request["pattern"]):
                yield _plain(os.path.join(folder, name))


def _replace(request: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every occurrence of the pattern in these files replaced; {file, success, error?} for each."""
    pattern, value = request["pattern"].encode(), request["new_value"].encode()
    for path in request["files"]:
        try:
            data = _read(path)
            if data is None:
                raise OSError(errno.EINVAL, "not a text file of at most 64 MiB")
            if pattern in data:
                with open(path, "r+b") as file:
                    file.write(data.replace(pattern, value))
                    file.truncate()
            yield {"file": _plain(path), "success": True}
        except OSError as error:
            yield {"file": _plain(path), "success": False, "error": (error.strerror or "failed").lower()}


def _files(root: str) -> Iterator[str]:
    if not stat.S_ISDIR(os.stat(root).st_mode):
        yield root
        return
    for folder, _, files in _walk(root):
        for name in sorted(files):
            yield os.path.join(folder, name)


def _walk(root: str) -> Iterator[tuple[str, list[str], list[str]]]:
    with os.scandir(root):
        pass  # a root that is no folder is an error, unreadable folders below it are not
    seen = 0
    waiting = [root]  # no recursion, not that of os.walk either: folders can be nested deeper than Python follows
    while waiting:
        folder = waiting.pop()
        entries = [entry for entry in _entries(folder) if entry.path not in ("/proc", "/sys", "/dev")]
        seen += len(entries)
        if seen > _VISIT_LIMIT:
            raise OSError(errno.E2BIG, f"more than {_VISIT_LIMIT} entries; name a folder further down")
        folders = sorted(entry.name for entry in entries if _is_folder(entry))
        yield folder, folders, [entry.name for entry in entries if not _is_folder(entry)]
        waiting += sorted((entry.path for entry in entries if entry.is_dir(follow_symlinks=False)), reverse=True)


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            return list(found)
    except OSError:  # gone, not to be read, or too deep for a path
        return []


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads nowhere
        return False


def _read(path: str) -> bytes | None:
    """The content of a regular text file; None for anything else."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    with open(fd, "rb") as file:
        found = os.fstat(fd)
        if stat.S_ISDIR(found.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not stat.S_ISREG(found.st_mode) or found.st_size > _FILE_LIMIT:
            return None
        data = file.read(_FILE_LIMIT + 1)
    return None if len(data) > _FILE_LIMIT or b"\0" in data[:_BINARY_PROBE] else data


def _plain(path: str) -> str:
    return path.encode(errors="surrogateescape").decode(errors="replace")


if __name__ == "__main__":
    main()
