"""Contexts on disk in the format that the engine makes."""

from __future__ import annotations

from pathlib import Path

from fleet_rlm.runtime.content.contexts import ContextStore

# Long enough for several checkpoints; characters of one, two, three and four bytes.
MIXED = "".join(f"{n}: fjörd €{n} 🙂 plain\n" for n in range(12_000))


def store_text(root: Path, name: str, text: str) -> str:
    """Put a text where a sandbox sees it; its sha256."""
    return ContextStore(root).add_text(name, text).sha256


def store_files(root: Path, name: str, files: dict[str, str]) -> str:
    """The same for a folder of files."""
    pairs = [(path, [text.encode()]) for path, text in files.items()]
    return ContextStore(root).add_files(name, pairs).sha256


def folder_of(root: Path, sha256: str) -> Path:
    """The folder that holds `<sha256>/data`."""
    return ContextStore(root).data_path(sha256).parent.parent
