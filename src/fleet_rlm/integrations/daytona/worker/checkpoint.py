"""Keeping the guest's variables over a stop of the sandbox: written and read in the sandbox only, name by name.

Values are pickled; functions and classes of the guest are kept as their source; modules by their name. What cannot be
kept is told with its reason and does not hinder the rest.
"""

# pathlib would add milliseconds to the start of every sandbox
# ruff: noqa: PTH103, PTH118, PTH123, S102, S301

from __future__ import annotations

import ast
import importlib
import io
import json
import linecache
import os
import types
from collections.abc import Iterable
from typing import Any

ONE_BYTES = 64 << 20
ALL_BYTES = 256 << 20
MANIFEST = "manifest.json"


class _Bounded(io.BytesIO):
    """Refuses to grow beyond what one variable may take."""

    def write(self, data: Any) -> int:
        if self.tell() + len(data) > ONE_BYTES:
            raise ValueError(f"it is larger than {ONE_BYTES >> 20} MiB")
        return super().write(data)


def save(folder: str, namespace: dict[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Write the variables of these names to a folder, whole or not at all. What was kept, and what not and why."""
    import shutil  # here, because few sandboxes need it and it takes longer than all the rest

    fresh = f"{folder}.new"
    shutil.rmtree(fresh, ignore_errors=True)
    os.makedirs(fresh, mode=0o700)
    entries: list[dict[str, Any]] = []
    lost: list[dict[str, str]] = []
    left = ALL_BYTES
    for number, name in enumerate(names):
        try:
            entry = _entry(name, namespace[name])
            data: bytes = entry.pop("data", b"")
            left -= len(data)
            if left < 0:
                raise ValueError(f"together they are larger than {ALL_BYTES >> 20} MiB")
            if data:
                entry["file"] = f"{number}.pickle"
                with open(os.path.join(fresh, entry["file"]), "wb") as file:
                    file.write(data)
            entries.append(entry)
        except Exception as error:  # noqa: BLE001 - a guest's value may do anything when it is pickled
            lost.append({"name": name, "reason": _reason(error)})
    with open(os.path.join(fresh, MANIFEST), "w", encoding="utf-8") as file:
        json.dump({"v": 1, "entries": entries, "lost": lost}, file)
    shutil.rmtree(folder, ignore_errors=True)
    os.rename(fresh, folder)  # noqa: PTH104
    return {"kept": [entry["name"] for entry in entries], "lost": lost}


def _entry(name: str, value: Any) -> dict[str, Any]:
    if isinstance(value, types.ModuleType):
        return {"name": name, "module": value.__name__}
    own = getattr(value, "__module__", None) == "__main__"
    if own and isinstance(value, (types.FunctionType, type)):
        if value.__name__ != name:
            raise ValueError("it is another name of a function or class")
        return {"name": name, "source": _source(value)}
    import pickle

    buffer = _Bounded()
    pickle.dump(value, buffer, protocol=4)
    return {"name": name, "data": buffer.getvalue()}


def _source(value: Any) -> str:
    """The text of a function or class that stands at the top level of a cell; the newest of its name."""
    code = getattr(value, "__code__", None)
    for file, entry in reversed(list(linecache.cache.items())):
        if not file.startswith(("<cell ", "<kept ")) or (code is not None and code.co_filename != file):
            continue
        lines: list[str] = entry[2]  # pyright: ignore[reportAssignmentType, reportGeneralTypeIssues]
        try:
            tree = ast.parse("".join(lines))
        except SyntaxError:
            continue
        for node in reversed(tree.body):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and node.name == value.__name__:
                first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
                return "".join(lines[first - 1 : node.end_lineno]).rstrip() + "\n"
    raise ValueError("its source is not known any more")


def load(folder: str, namespace: dict[str, Any]) -> dict[str, Any]:
    """Bring the variables of a folder back: modules, then functions and classes, then values."""
    try:
        with open(os.path.join(folder, MANIFEST), encoding="utf-8") as file:
            manifest = json.load(file)
    except FileNotFoundError:
        return {"kept": [], "lost": []}
    kept: list[str] = []
    lost: list[dict[str, str]] = list(manifest["lost"])
    for kind in ("module", "source", "file"):
        for entry in manifest["entries"]:
            if kind not in entry:
                continue
            try:
                _bring(folder, kind, entry, namespace)
                kept.append(entry["name"])
            except Exception as error:  # noqa: BLE001 - the same on the way back
                lost.append({"name": entry["name"], "reason": _reason(error)})
    return {"kept": kept, "lost": lost}


def _bring(folder: str, kind: str, entry: dict[str, Any], namespace: dict[str, Any]) -> None:
    if kind == "module":
        namespace[entry["name"]] = importlib.import_module(entry["module"])
    elif kind == "source":
        file, source = f"<kept {entry['name']}>", entry["source"]
        linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
        exec(compile(source, file, "exec"), namespace)
    else:
        import pickle

        with open(os.path.join(folder, entry["file"]), "rb") as stream:
            namespace[entry["name"]] = pickle.load(stream)


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:300]
