"""Files of a sandbox: its workspace, or a volume mounted in it. One view for both.

Every path is normalised and kept below the view's root before it goes to the server, which resolves it inside the
sandbox once more, so that a symbolic link leads nowhere either.
"""

from __future__ import annotations

import asyncio
import os
import posixpath
import tempfile
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from fleet_rlm.errors import Conflict, FleetError, InvalidInput, NotFound, SandboxError, SandboxUnavailable, TooLarge
from fleet_rlm.integrations.daytona.remote_paths import below, confined
from fleet_rlm.integrations.daytona.retry import retried
from fleet_rlm.integrations.daytona.said import first_line
from fleet_rlm.integrations.daytona.source import SandboxHandle

if TYPE_CHECKING:
    from daytona import AsyncSandbox

T = TypeVar("T")
WORKSPACE = "workspace"
READ_BYTES = 16 << 20
TREE_ENTRIES = 10_000
TREE_DEPTH = 12
TRANSFER_S = 30 * 60.0


@dataclass(frozen=True, slots=True)
class Entry:
    """A file or folder. `path` is relative to the root of the view; `size` in bytes; `changed` is RFC 3339 or ""."""

    path: str
    name: str
    folder: bool
    size: int
    changed: str


class Sandboxed(Protocol):
    """What a view needs of a runtime."""

    def sandbox(self, handle: SandboxHandle) -> AsyncSandbox: ...
    def call(self, work: Coroutine[Any, Any, T], timeout: float = ...) -> T: ...


class Files:
    """The files below `root` of one sandbox (None: its working directory). Its methods wait for their end.

    `whole_objects`: a volume of an object store, where a file is written once and whole, and never changed.
    Errors: InvalidInput (path), NotFound, Conflict, TooLarge, SandboxUnavailable.
    """

    def __init__(
        self, runtime: Sandboxed, handle: SandboxHandle, root: str | None = None, *, whole_objects: bool = False
    ) -> None:
        self._runtime = runtime
        self._handle = handle
        self._root = root
        self._whole = whole_objects

    @property
    def root(self) -> str:
        """The absolute path in the sandbox below which everything happens."""
        if self._root is None:
            found = self._do("work directory", lambda box: box.get_work_dir())
            self._root = posixpath.normpath(found)
        return self._root

    def list(self, path: str = ".") -> list[Entry]:
        """The entries of a folder, folders first, then by name."""
        full = confined(self.root, path)
        found = self._do(path, lambda box: box.fs.list_files(full))
        entries = [self._entry(info, posixpath.join(full, info.name)) for info in found]
        return sorted(entries, key=lambda entry: (not entry.folder, entry.name))

    def tree(self, path: str = ".", *, depth: int = 3, limit: int = 2000) -> list[Entry]:
        """Everything below a folder, depth first, at most `depth` levels and `limit` entries."""
        if not 1 <= depth <= TREE_DEPTH or not 1 <= limit <= TREE_ENTRIES:
            raise InvalidInput(f"a tree has a depth of 1 to {TREE_DEPTH} and 1 to {TREE_ENTRIES} entries")
        found: list[Entry] = []
        waiting = [(entry, 1) for entry in reversed(self.list(path))]
        while waiting and len(found) < limit:
            entry, level = waiting.pop()
            found.append(entry)
            if entry.folder and level < depth:
                waiting += [(each, level + 1) for each in reversed(self._list_if_there(entry.path))]
        return found

    def _list_if_there(self, path: str) -> list[Entry]:
        try:
            return self.list(path)
        except (NotFound, SandboxError):  # gone meanwhile, or not to be read
            return []

    def info(self, path: str) -> Entry:
        """One file or folder."""
        full = confined(self.root, path)
        return self._entry(self._do(path, lambda box: box.fs.get_file_info(full)), full)

    def exists(self, path: str) -> bool:
        """Whether there is a file or folder."""
        try:
            self.info(path)
        except NotFound:
            return False
        return True

    def read(self, path: str, *, limit: int = READ_BYTES) -> bytes:
        """A whole file of at most `limit` bytes."""
        entry = self.info(path)
        if entry.folder:
            raise InvalidInput(f"{path} is a folder")
        if entry.size > limit:
            raise TooLarge(f"{path} has {entry.size:,} bytes, more than {limit:,}", hint="download it instead")
        full = confined(self.root, path)
        data = self._do(path, lambda box: box.fs.download_file(full), TRANSFER_S)
        return bytes(data or b"")

    def write(self, path: str, data: bytes, *, overwrite: bool = True) -> Entry:
        """Make or replace a file, and the folders above it. On whole objects a different content is a Conflict."""
        full = self._writable(path, overwrite, lambda: data)
        self._do(path, lambda box: box.fs.upload_file(data, full), TRANSFER_S)
        return self._arrived(path, len(data))

    def upload(self, local: Path, path: str, *, overwrite: bool = True) -> Entry:
        """Copy a local file, read piece by piece."""
        if not local.is_file():
            raise NotFound(f"{local} is not a file")
        full = self._writable(path, overwrite, local.read_bytes)
        self._do(path, lambda box: box.fs.upload_file(str(local), full), TRANSFER_S)
        return self._arrived(path, local.stat().st_size)

    def download(self, path: str, local: Path) -> int:
        """Copy a file to a local path, whole or not at all; how many bytes."""
        full = confined(self.root, path)
        entry = self.info(path)
        if entry.folder:
            raise InvalidInput(f"{path} is a folder")
        descriptor, name = tempfile.mkstemp(prefix=f".{local.name}.", dir=local.parent)
        os.close(descriptor)
        try:
            self._do(path, lambda box: _fetch(box, full, name), TRANSFER_S)
            size = Path(name).stat().st_size
            Path(name).replace(local)
        finally:
            Path(name).unlink(missing_ok=True)
        return size

    def make_folder(self, path: str) -> None:
        """A folder, with those above it; nothing when it is there."""
        full = confined(self.root, path)
        self._do(path, lambda box: box.fs.create_folder(full, "755"))

    def delete(self, path: str, *, recursive: bool = False) -> None:
        """Remove a file, or with `recursive` a folder and all in it; never the root."""
        full = confined(self.root, path)
        if full == self.root:
            raise InvalidInput("the root itself cannot be deleted")
        if self.info(path).folder and not recursive:
            raise Conflict(f"{path} is a folder", hint="say recursive to delete all in it")
        self._do(path, lambda box: box.fs.delete_file(full, recursive=recursive))

    def _writable(self, path: str, overwrite: bool, content: Callable[[], bytes]) -> str:
        full = confined(self.root, path)
        if full == self.root:
            raise InvalidInput("the root itself is no file")
        if self._whole and self.exists(path):
            if self.read(path, limit=1 << 40) != content():
                raise Conflict(f"{path} is there with another content", hint="objects do not change: take another name")
        elif not overwrite and self.exists(path):
            raise Conflict(f"{path} is there already")
        parent = posixpath.dirname(full)
        if parent != self.root and not self.exists(parent):
            self.make_folder(parent)
        return full

    def _arrived(self, path: str, size: int) -> Entry:
        entry = self.info(path)
        if entry.size != size:
            raise SandboxUnavailable(f"{path} arrived with {entry.size:,} of {size:,} bytes")
        return entry

    def _entry(self, info: Any, full: str) -> Entry:
        changed = str(getattr(info, "modified_at", None) or info.mod_time or "")
        path = below(self.root, full)
        return Entry(path, posixpath.basename(full), bool(info.is_dir), int(info.size), changed)

    def _do(self, path: str, request: Callable[[AsyncSandbox], Coroutine[Any, Any, T]], timeout: float = 60.0) -> T:
        box = self._runtime.sandbox(self._handle)
        with file_errors(path):
            return self._runtime.call(retried(lambda: request(box)), timeout)


async def _fetch(box: AsyncSandbox, full: str, local: str) -> None:
    file = await asyncio.to_thread(Path(local).open, "wb")
    with file:
        async for piece in await box.fs.download_file_stream(full):
            file.write(piece)


@contextmanager
def file_errors(path: str) -> Generator[None]:
    """The SDK's errors about a file as ours."""
    from daytona import (
        DaytonaBadRequestError,
        DaytonaConflictError,
        DaytonaError,
        DaytonaForbiddenError,
        DaytonaNotFoundError,
    )

    try:
        yield
    except FleetError:
        raise
    except DaytonaNotFoundError as error:
        raise NotFound(f"there is no {path}") from error
    except DaytonaConflictError as error:
        raise Conflict(f"{path}: {first_line(error)}") from error
    except (DaytonaBadRequestError, DaytonaForbiddenError) as error:
        raise InvalidInput(f"{path}: {first_line(error)}") from error
    except (DaytonaError, OSError) as error:
        raise SandboxUnavailable(f"{path}: {first_line(error)}") from error
