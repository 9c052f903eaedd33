"""Arguments of functions that read a string without any of its methods, such as those of `re`: told as looked at."""

from __future__ import annotations

import ast
from typing import Any

SEEN = "__fleet_seen__"  # gives back its argument

_READERS = frozenset(
    (
        "search", "match", "fullmatch", "findall", "finditer", "sub", "subn", "join", "loads", "dumps", "StringIO",
        "write", "writelines", "reader", "DictReader", "feed", "fromstring", "literal_eval", "Counter",
    )
)  # fmt: skip


class _Teller(ast.NodeTransformer):
    def visit_Call(self, node: ast.Call) -> ast.Call:
        self.generic_visit(node)
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name in _READERS:
            node.args = [_told(each) for each in node.args]
            for keyword in node.keywords:
                if keyword.arg is not None:
                    keyword.value = _told(keyword.value)
        return node


def _told(node: ast.expr) -> ast.expr:
    if isinstance(node, (ast.Constant, ast.Starred, ast.JoinedStr, ast.GeneratorExp)):
        return node
    return ast.copy_location(ast.Call(ast.Name(SEEN, ast.Load()), [node], []), node)


def tells_reads(tree: ast.Module, code: str) -> Any:
    """The same cell; pieces of contexts that it gives to such functions count as read."""
    if not any(name in code for name in _READERS):
        return tree
    return ast.fix_missing_locations(_Teller().visit(tree))
