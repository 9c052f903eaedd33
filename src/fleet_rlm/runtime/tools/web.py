"""The agent's tool for the web: one page by its address, bounded, public addresses only, once a person allows it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from fleet_rlm.runtime.content.contexts import ContextStore
from fleet_rlm.runtime.content.fetch import Fetcher, check_url
from fleet_rlm.runtime.content.sources import add_named
from fleet_rlm.runtime.execution.events import ContextRef
from fleet_rlm.runtime.tools.permission import Permission

SHOWN_CHARS: Final = 6_000


class WebTools:
    """Fetching for one turn. What was fetched is stored and becomes a document; `attach` gives it its name."""

    def __init__(
        self,
        store: ContextStore,
        permission: Permission,
        attach: Callable[[ContextRef], str],
        *,
        fetcher: Fetcher | None = None,
    ) -> None:
        self._store = store
        self._attach = attach
        self._fetcher = replace(fetcher or Fetcher(), visits=permission.host)

    def tools(self) -> list[Callable[..., Any]]:
        """The tool."""
        return [self.fetch_page]

    def fetch_page(self, url: str) -> str:
        """Fetch a web page or file (HTML, PDF, text ...) by its address; the person may be asked first. It becomes a document that the other tools can read, search and delegate."""  # noqa: E501 - one line for the model
        check_url(url)  # a web address and nothing else: `add_named` takes names of files too
        ref = add_named(self._store, url, fetcher=self._fetcher)
        name = self._attach(ref)
        size = f"document {name!r}: {ref.chars:,} characters, {ref.lines:,} lines"
        text = self._store.read(ref.sha256, 0, min(ref.chars, SHOWN_CHARS)) if ref.kind == "text" else ""
        if ref.chars > SHOWN_CHARS:
            return f"{size}. It begins with:\n{text}\n[... read on with read_context, search_context or delegate]"
        return f"{size}:\n{text}"
