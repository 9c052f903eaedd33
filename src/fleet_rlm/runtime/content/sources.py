"""What a written name stands for: a file or folder, `REPOSITORY@REF`, `git+file://PATH[@REF]`, or a web address."""

from __future__ import annotations

import codecs
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from fleet_rlm.errors import InvalidInput
from fleet_rlm.runtime.content.contexts import ContextStore
from fleet_rlm.runtime.content.fetch import Fetcher, Page, check_url
from fleet_rlm.runtime.content.git import open_commit
from fleet_rlm.runtime.content.kinds import TEXT, detect, of_content_type
from fleet_rlm.runtime.content.tree import is_folder, look
from fleet_rlm.runtime.content.writer import recoded
from fleet_rlm.runtime.execution.events import ContextRef

_GIT = "git+"


@dataclass(frozen=True, slots=True)
class Named:
    """A name understood: exactly one of a path, a repository's folder with its ref, or an address."""

    path: Path | None = None
    ref: str | None = None
    url: str | None = None


def understand(name: str) -> Named:
    """What the name means, looking at this machine only. Errors: InvalidInput when nothing is there."""
    if name.startswith(("http://", "https://")):
        check_url(name)
        return Named(url=name)
    if name.startswith(_GIT):
        return _repository(name)
    path = _expanded(name)
    if look(path) is not None:
        return Named(path=path)
    return _at_ref(path) or _nothing(name)


def _expanded(name: str) -> Path:
    """With the home folder for `~`; a name that only looks like that of somebody's home folder, as it is."""
    try:
        return Path(name).expanduser()
    except RuntimeError:
        return Path(name)


def add_named(store: ContextStore, name: str, *, fetcher: Fetcher | None = None) -> ContextRef:
    """Store what the name stands for. Errors: those of the store, of fetch.py and of git.py."""
    named = understand(name)
    if named.url is not None:
        return _add_url(store, named.url, fetcher or Fetcher())
    assert named.path is not None
    if named.ref is None:
        return store.add_path(named.path)
    shown = f"{named.path.resolve().name}@{named.ref}"
    with open_commit(named.path, named.ref) as checkout:
        return store.add_tree(shown, checkout.files, source=f"git commit {checkout.commit} of {named.path.resolve()}")


def _repository(name: str) -> Named:
    try:
        parts = urlsplit(name.removeprefix(_GIT))
        local = parts.scheme == "file" and parts.hostname in (None, "localhost")
    except ValueError:
        local = False
        parts = urlsplit("")
    if not local:
        raise InvalidInput(
            f"{name[:200]} is no repository on this machine", hint="clone it and give PATH@REF or git+file://PATH@REF"
        )
    path = Path(unquote(parts.path))
    if is_folder(path):
        return Named(path=path, ref="HEAD")
    return _at_ref(path) or _nothing(name)


def _at_ref(path: Path) -> Named | None:
    """`FOLDER@REF`, split at the last `@` before which a folder lies (a ref may hold one too: HEAD@{1})."""
    text = str(path)
    at = text.rfind("@")
    while at > 0:
        if is_folder(Path(text[:at])):
            return Named(path=Path(text[:at]), ref=text[at + 1 :])
        at = text.rfind("@", 0, at)
    return None


def _nothing(name: str) -> Named:
    raise InvalidInput(f"{name} does not exist", hint="name a file, a folder, REPOSITORY@REF or an http(s) address")


def _add_url(store: ContextStore, url: str, fetcher: Fetcher) -> ContextRef:
    with fetcher.open(url) as page:
        kind, charset = of_content_type(page.content_type)
        if kind == TEXT and detect(page.name, b"{") == "notebook":  # code hosts send those as plain text
            kind = None
        chunks = _in_utf8(page, charset) if kind == TEXT else page.chunks
        return store.add_stream(page.name, chunks, kind=kind, charset=charset, source=page.url)


def _in_utf8(page: Page, charset: str | None) -> Iterable[bytes]:
    try:
        codec = codecs.lookup(charset or "utf-8")
    except LookupError:
        return page.chunks
    return page.chunks if codec.name in ("utf-8", "ascii") else recoded(page.chunks, codec.name, "replace")
