"""Which model a call goes to when the code of a run names one: `llm_query(prompt, model=...)`.

The words "root" and "sub" always work. Any other model must be on the settings' list (`models_allowed`), for the code
that asks was written by a model and spends a person's money.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from fleet_rlm.errors import InvalidInput
from fleet_rlm.runtime.models.metered import MeteredLM


class ModelChoice:
    """The models of a turn by the names that its code may use. Thread-safe.

    `make(name)` gives the metered model of an allowed model string, once each.
    Errors of `make`: NotConfigured, InvalidInput, raised to the code that asked.
    """

    def __init__(
        self, *, root: MeteredLM, sub: MeteredLM, allowed: Sequence[str], make: Callable[[str], MeteredLM]
    ) -> None:
        self._known = {"root": root, "sub": sub}
        self._own = {root.name: root, sub.name: sub}
        self._allowed = tuple(allowed)
        self._make = make
        self._lock = threading.Lock()

    def pick(self, name: Any, default: MeteredLM) -> MeteredLM:
        """The model that `name` means; None is the default. Errors: InvalidInput for one that is not allowed."""
        if name is None:
            return default
        found = self._known.get(name) or self._own.get(name) if isinstance(name, str) else None
        if found is not None:
            return found
        if name not in self._allowed:
            names = ", ".join(dict.fromkeys(["root", "sub", *self._own, *self._allowed]))
            raise InvalidInput(f"the model {str(name)[:100]!r} is not allowed here", hint=f"one of {names}")
        with self._lock:
            made = self._known.get(name)
            if made is None:
                made = self._known[name] = self._make(name)
        return made

    @property
    def named(self) -> tuple[str, ...]:
        """The further models that may be named, for the help text."""
        return self._allowed
