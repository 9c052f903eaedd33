"""A context as an input of `dspy.RLM`: a few bytes cross to the sandbox, the text is read from the mount there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from dspy import SandboxSerializable

BIND_FUNCTION = "__fleet_bind__"


class ContextValue(SandboxSerializable):
    """JSON in which `{"$slice": [sha256, start, end]}` and `{"$context": sha256}` stand for contexts' text.

    The variable is built in the sandbox at the first cell whose source names it, once; what the guest does to it
    later stays. `preview` is all that the model is shown of it beforehand. `names`, by SHA-256: the paths of texts
    that have another name here than the one under which they are stored.
    """

    def __init__(self, spec: Any, preview: str, names: Mapping[str, str] = MappingProxyType({})) -> None:
        self.spec = spec
        self.preview = preview
        self.names = names

    def sandbox_setup(self) -> str:
        return ""

    def to_sandbox(self) -> bytes:
        bound = {"$names": dict(self.names), "$value": self.spec} if self.names else self.spec
        return json.dumps(bound, ensure_ascii=False).encode("utf-8", "surrogatepass")

    def sandbox_assignment(self, var_name: str, data_expr: str) -> str:
        return f"{BIND_FUNCTION}({var_name!r}, {data_expr})"

    def rlm_preview(self, max_chars: int = 500) -> str:
        return self.preview

    def __repr__(self) -> str:
        return f"ContextValue({self.preview[:80]!r})"
