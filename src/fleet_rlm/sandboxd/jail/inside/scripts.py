"""Warm scripts: Python files that run in forks of the warm process, as far as possible run ahead in it.

A script whose last statement is `if __name__ == "__main__":` is run ahead down to there, and its `warm_up()`, where it
has one, is called: its classes, functions and caches are then shared by all forks, which only run the rest. Any other
script is compiled only.
"""

import ast
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from types import CodeType, ModuleType

_NAME = "<warm>"


@dataclass(frozen=True, slots=True)
class Script:
    """`module` is what was run ahead (nobody else uses it: forks have copies), `rest` what is left to run in it."""

    module: ModuleType
    rest: CodeType

    def start(self) -> None:
        """Run the rest in this process, as `__main__`."""
        sys.modules["__main__"] = self.module
        exec(self.rest, self.module.__dict__)  # noqa: S102  running a given script is the purpose


def prepare(sources: Mapping[str, str]) -> dict[str, Script]:
    """Each script by its key. SyntaxError and whatever its top level raises pass through."""
    return {key: _prepared(text) for key, text in sources.items()}


def _prepared(text: str) -> Script:
    module = ModuleType("__main__")
    module.__dict__["__file__"] = _NAME
    tree = ast.parse(text, _NAME)
    if not tree.body or not _is_guard(tree.body[-1]):
        return Script(module, compile(text, _NAME, "exec", dont_inherit=True))
    ahead = ast.Module(tree.body[:-1], [])
    rest = ast.Module(tree.body[-1:], [])
    before, sys.modules["__main__"] = sys.modules["__main__"], module
    try:
        exec(compile(ahead, _NAME, "exec", dont_inherit=True), module.__dict__)  # noqa: S102  as above
        warm_up = module.__dict__.get("warm_up")
        if callable(warm_up):
            warm_up()
    finally:
        sys.modules["__main__"] = before
    return Script(module, compile(rest, _NAME, "exec", dont_inherit=True))


def _is_guard(last: ast.stmt) -> bool:
    return isinstance(last, ast.If) and ast.unparse(last.test) == "__name__ == '__main__'" and not last.orelse
