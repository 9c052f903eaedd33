"""The files of a local git repository at a ref, read by the host's git without running anything of the repository.

Blobs come raw from `cat-file`: no checkout, so no filter, hook, attribute or submodule of the repository takes part;
every way to reach a network or to prompt is closed, and the person's own settings are not read.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import threading
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from fleet_rlm.errors import InvalidInput, NotConfigured, TooLarge
from fleet_rlm.runtime.content.tree import CHUNK, MAX_FILES, clean_path, is_skipped

SECONDS: Final = 120.0
"""Wall seconds for one repository."""

_MAX_REF = 300
_SETTINGS = (
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.askPass=",
    "core.sshCommand=false",
    "credential.helper=",
    "protocol.allow=never",
    "safe.directory=*",  # nothing of the repository is run, so its owner does not matter
)
_ENVIRONMENT = {
    "PATH": os.environ.get("PATH", os.defpath),
    "LANG": "C.UTF-8",
    "HOME": "/nonexistent",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_ALLOW_PROTOCOL": "none",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_PAGER": "cat",
}


@dataclass(frozen=True, slots=True)
class Checkout:
    """A commit's files: (path, pieces of its bytes), None for what is left out (links, submodules, hidden)."""

    commit: str
    files: Iterable[tuple[str, Iterator[bytes] | None]]


@contextmanager
def open_commit(folder: Path, ref: str, *, seconds: float = SECONDS) -> Generator[Checkout]:
    """The files of `folder` (a work tree, a folder in one, or a bare repository) at `ref`, sorted by path.

    Read them in order, inside the block. Errors: InvalidInput (no repository, unknown ref), TooLarge, NotConfigured
    (no git on this machine).
    """
    if not ref or len(ref) > _MAX_REF or not ref.isprintable():
        raise InvalidInput(f"{ref[:80]!r} is no git ref", hint="name a branch, a tag or a commit")
    commit = _commit(folder, ref, seconds)
    entries = _entries(folder, commit, seconds)
    command = _git(folder, "cat-file", "--batch")
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=_ENVIRONMENT
    ) as child:
        guard = threading.Timer(seconds, child.kill)
        guard.daemon = True
        guard.start()
        try:
            assert child.stdin is not None and child.stdout is not None
            blobs = _Blobs(str(folder), child.stdin, child.stdout)
            yield Checkout(commit, ((path, blobs.read(blob) if blob else None) for path, blob in entries))
        finally:
            guard.cancel()
            child.kill()
            with suppress(BrokenPipeError):
                child.communicate()


class _Blobs:
    """One `cat-file --batch`: a name in, a head line and the bytes out."""

    def __init__(self, shown: str, ask: IO[bytes], answer: IO[bytes]) -> None:
        self._shown = shown
        self._ask = ask
        self._answer = answer
        self._left = 0

    def read(self, blob: str) -> Iterator[bytes]:
        """Pieces of the blob; what was not read of the one before is passed over."""
        try:
            while self._left:
                self._take()
            self._ask.write(blob.encode() + b"\n")
            self._ask.flush()
            head = self._answer.readline().split()
            if len(head) != 3 or head[1] != b"blob":
                raise EOFError
            self._left = int(head[2]) + 1  # and a newline
            while self._left > 1:
                yield self._take(keep=1)
        except (OSError, EOFError):
            raise InvalidInput(
                f"{self._shown}: git stopped at object {blob[:12]}",
                hint="it took too long, is a partial clone, or needs git fsck",
            ) from None

    def _take(self, keep: int = 0) -> bytes:
        piece = self._answer.read(min(CHUNK, self._left - keep))
        if not piece:
            raise EOFError
        self._left -= len(piece)
        return piece


def _commit(folder: Path, ref: str, seconds: float) -> str:
    if _run(folder, seconds, "rev-parse", "--git-dir") is None:
        raise InvalidInput(f"{folder} is no git repository", hint="name a folder with .git, or a bare repository")
    found = _run(folder, seconds, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}")
    if found is None:
        raise InvalidInput(f"{folder} has no commit {ref[:80]!r}", hint="name a branch, a tag or a commit")
    return found.decode().strip()


def _entries(folder: Path, commit: str, seconds: float) -> list[tuple[str, str]]:
    """(path, object) of the commit's files, sorted; "" as the object of what is left out."""
    listed = _run(folder, seconds, "ls-tree", "-r", "-z", commit)
    if listed is None:
        raise InvalidInput(f"{folder}: git cannot list {commit[:12]}", hint="check it with git fsck")
    rows = listed.split(b"\0")[:-1]
    if len(rows) > MAX_FILES:
        raise TooLarge(f"{folder} holds {len(rows)} files at this ref, more than {MAX_FILES}", hint="name a subfolder")
    entries: list[tuple[str, str]] = []
    for row in rows:
        head, _, name = row.partition(b"\t")
        mode, _, blob = head.decode().split(" ")
        path = name.decode("utf-8", "replace")
        taken = mode.startswith("100") and not is_skipped(path) and path.isprintable()
        entries.append((clean_path(path) if taken else path, blob if taken else ""))
    return sorted(entries)


def _run(folder: Path, seconds: float, *words: str) -> bytes | None:
    """Standard output, None when git refuses. Errors: TooLarge when it takes too long, NotConfigured without git."""
    # A file, not a pipe: a listing may be large, and the bound in seconds must hold whatever git does.
    with tempfile.TemporaryFile() as out:
        try:
            done = subprocess.run(
                _git(folder, *words),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.DEVNULL,
                env=_ENVIRONMENT,
                timeout=seconds,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise TooLarge(f"git took more than {seconds:g} s in {folder}", hint="attach a subfolder") from None
        except FileNotFoundError:
            raise NotConfigured("git was not found on this machine", hint="install git, or attach the folder") from None
        out.seek(0)
        return out.read() if done.returncode == 0 else None


def _git(folder: Path, *words: str) -> list[str]:
    return ["git", *(word for setting in _SETTINGS for word in ("-c", setting)), "-C", str(folder), *words]
