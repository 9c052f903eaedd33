"""Artifacts: files that a run made for the person, kept by content, with who made them and in which version.

A name that is published again in a session gets the next version; the same bytes under the same name keep theirs, so
that a turn that is run again publishes nothing twice.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import mimetypes
import threading
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Protocol

from fleet_rlm.errors import InvalidInput, TooLarge
from fleet_rlm.runtime.execution import events as ev
from fleet_rlm.runtime.execution.ids import new_id
from fleet_rlm.runtime.execution.observer import RunScope, TurnObserver

MAX_BYTES = 32 << 20
MAX_IN_TURN = 200
MAX_BYTES_IN_TURN = 512 << 20
MAX_NAME_CHARS = 120
BINARY = "application/octet-stream"

_KINDS = {
    ".md": "text/markdown",
    ".csv": "text/csv",
    ".tsv": "text/tab-separated-values",
    ".jsonl": "application/jsonl",
    ".py": "text/x-python",
    ".yaml": "application/yaml",
    ".yml": "application/yaml",
    ".parquet": "application/vnd.apache.parquet",
    ".ipynb": "application/x-ipynb+json",
}
_MAGIC = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"%PDF-", "application/pdf"),
    (b"PK\x03\x04", "application/zip"),
)


VERSION_THEN: ContextVar[int | None] = ContextVar("fleet_version_then", default=None)
"""The version that this thread's artifact had when its turn ran first: code was told it, whoever is first now."""


class Blobs(Protocol):
    """Where the bytes go: the blob store. `put` gives "blob_<sha256>"."""

    def put(self, data: bytes) -> str: ...


@dataclass(frozen=True, slots=True)
class Artifact:
    """A published file. `sha256` names its blob; versions of a name in a session start at 1."""

    id: str
    name: str
    version: int
    sha256: str
    bytes: int
    kind: str


class ArtifactShelf:
    """The artifacts of one turn. Thread-safe.

    `earlier` gives the events of the session's artifacts so far; it is asked when the first one is published.
    `resumed`: by name and SHA-256, what the turns published that this one goes on from. Published again, it is told
    under the same id, so that a session has it once.
    """

    def __init__(
        self,
        observer: TurnObserver,
        blobs: Blobs,
        earlier: Callable[[], Iterable[ev.ArtifactPublished]],
        resumed: Mapping[tuple[str, str], ev.ArtifactPublished] = MappingProxyType({}),
    ) -> None:
        self._observer = observer
        self._blobs = blobs
        self._earlier = earlier
        self._resumed = resumed
        self._lock = threading.Lock()
        self._newest: dict[str, tuple[int, str]] | None = None  # by name: version and SHA-256
        self._published: dict[tuple[str, str], Artifact] = {}
        self._bytes = 0

    def publish(self, scope: RunScope, name: str, data: bytes) -> Artifact:
        """Keep a file and tell of it. Errors: InvalidInput (name, too many), TooLarge."""
        name = checked_name(name)
        if len(data) > MAX_BYTES:
            raise TooLarge(f"{name} has {len(data):,} bytes, an artifact at most {MAX_BYTES:,}")
        sha256 = hashlib.sha256(data).hexdigest()
        with self._lock:
            if (known := self._published.get((name, sha256))) is not None:
                return known
            if len(self._published) >= MAX_IN_TURN or self._bytes + len(data) > MAX_BYTES_IN_TURN:
                raise TooLarge(f"this turn has published {len(self._published)} artifacts, {self._bytes:,} bytes")
            self._blobs.put(data)  # only now: what is refused must not fill the disk
            version, before = self._version(name, sha256), self._resumed.get((name, sha256))
            id = before.id if before is not None and before.version == version else new_id("art")
            made = Artifact(id, name, version, sha256, len(data), kind_of(name, data))
            event = ev.ArtifactPublished(
                id=made.id,
                name=name,
                version=made.version,
                sha256=sha256,
                bytes=made.bytes,
                kind=made.kind,
                cell=scope.cell,
            )
            self._observer.emit(event, scope, durable=True)  # under the lock: versions appear in their order
            self._published[name, sha256] = made  # only now: the disk may have refused it
            self._bytes += len(data)
            if self._newest is not None and made.version >= self._newest.get(name, (0, ""))[0]:
                self._newest[name] = (made.version, sha256)
        return made

    def known(self, events: Iterable[ev.EventData]) -> None:
        """Take what runs published that are not run again. It was kept and told then."""
        with self._lock:
            for each in events:
                if not isinstance(each, ev.ArtifactPublished) or (each.name, each.sha256) in self._published:
                    continue
                made = Artifact(each.id, each.name, each.version, each.sha256, each.bytes, each.kind)
                self._published[each.name, each.sha256] = made
                self._bytes += each.bytes
                newest = self._of_session()
                if each.version >= newest.get(each.name, (0, ""))[0]:
                    newest[each.name] = (each.version, each.sha256)

    def _of_session(self) -> dict[str, tuple[int, str]]:
        if self._newest is None:
            self._newest = {each.name: (each.version, each.sha256) for each in self._earlier()}
        return self._newest

    def _version(self, name: str, sha256: str) -> int:
        then = VERSION_THEN.get()
        if then is not None:
            return then
        version, newest = self._of_session().get(name, (0, ""))
        return version if newest == sha256 else version + 1

    def of_turn(self) -> tuple[Artifact, ...]:
        """What this turn has published, in order."""
        with self._lock:
            return tuple(self._published.values())


def from_guest(encoded: object) -> bytes:
    """The bytes of a file as they come from a sandbox. Errors: InvalidInput, TooLarge."""
    if not isinstance(encoded, str):
        raise InvalidInput("a file comes as base64")
    if len(encoded) > MAX_BYTES * 4 // 3 + 4:
        raise TooLarge(f"an artifact has at most {MAX_BYTES:,} bytes")
    try:
        return base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidInput("a file comes as base64") from None


def checked_name(name: object) -> str:
    """A file name that is safe on every system. Errors: InvalidInput."""
    if not isinstance(name, str) or not name.strip():
        raise InvalidInput("an artifact needs a name", hint="save_artifact(value, 'result.json')")
    name = name.strip()
    bad = len(name) > MAX_NAME_CHARS or name.startswith((".", "-")) or name.endswith(".")
    if bad or not name.isprintable() or any(char in '/\\:*?"<>|' for char in name):
        raise InvalidInput(
            f"{name[:200]!r} is no name for an artifact",
            hint=f"a plain file name of at most {MAX_NAME_CHARS} characters, no folder",
        )
    return name


def kind_of(name: str, data: bytes) -> str:
    """The media type: by the first bytes where they tell, else by the name; text or binary where neither does.

    What claims to be text and is not is binary, so that nobody shows it as a page.
    """
    for magic, kind in _MAGIC:
        if data.startswith(magic):
            by_name = mimetypes.guess_type(name)[0]  # Office files are zips too
            return by_name if kind == "application/zip" and by_name is not None else kind
    ending = PurePosixPath(name).suffix.lower()
    kind = _KINDS.get(ending) or mimetypes.guess_type(name)[0]
    text = _is_text(data)
    if kind is None:
        return "text/plain" if text else BINARY
    if kind.startswith(("image/", "application/pdf", "application/zip")) and kind != "image/svg+xml":
        return BINARY  # its first bytes say otherwise
    return kind if text or not kind.startswith("text/") else BINARY


def _is_text(data: bytes) -> bool:
    if b"\0" in data:
        return False
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
