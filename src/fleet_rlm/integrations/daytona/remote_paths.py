"""Paths in a sandbox as a person gives them: normalised, and confined to a root."""

from __future__ import annotations

import posixpath

from fleet_rlm.errors import InvalidInput

MAX_CHARS = 4096


def confined(root: str, path: str) -> str:
    """The absolute path of `path` below `root`; relative paths start there. InvalidInput when it leads out."""
    if not path or "\0" in path or len(path) > MAX_CHARS:
        raise InvalidInput(f"a path is text of 1 to {MAX_CHARS} characters without NUL")
    joined = posixpath.normpath(posixpath.join(root, path))
    if joined.startswith("//"):  # POSIX keeps two leading slashes
        joined = joined[1:]
    if joined != root and not joined.startswith(root.rstrip("/") + "/"):
        raise InvalidInput(f"{path[:200]!r} leads out of {root}", hint=f"give a path below {root}")
    return joined


def below(root: str, path: str) -> str:
    """A path as it is shown: relative to the root, "." for the root itself."""
    return posixpath.relpath(path, root)
