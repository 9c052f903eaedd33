"""What a loop's body may do besides asking: whether its next round is sure to come, and what it may change.

Only what is known is taken for harmless: pure code, `print`, the methods of Python's own containers and texts, and
functions of the cell (and of earlier ones) whose code does nothing else. A call of anything else may end the loop, ask
the host, or use up what the calls ahead would use.
"""

from __future__ import annotations

import ast
import types
from collections.abc import Collection, Iterable
from opcode import opmap
from typing import Any

from .twice import PURE_METHODS, Purity

_CHANGING = frozenset(
    (
        "append", "appendleft", "extend", "insert", "add", "update", "setdefault", "pop", "popitem", "popleft",
        "remove", "discard", "clear", "sort", "reverse",
    )
)  # fmt: skip
_OF_DATA = _CHANGING | PURE_METHODS | frozenset(
    (
        "encode", "decode", "isdigit", "isalpha", "isalnum", "isnumeric", "isdecimal", "isspace", "isupper", "islower",
        "istitle", "swapcase", "copy", "most_common", "group", "groups", "groupdict", "union", "intersection",
        "difference", "issubset", "issuperset", "total_seconds",
    )
)  # fmt: skip
_QUIET = frozenset(
    (
        "print", "type", "reversed", "divmod", "pow", "hash", "id", "bin", "hex", "oct", "bytes", "bytearray",
        "frozenset", "complex", "slice", "hasattr",
    )
)  # fmt: skip
_QUIET_MODULES = frozenset(("json", "math", "re"))
SIMPLE = (ast.Expr, ast.Assign, ast.AugAssign, ast.AnnAssign)
_MORE = (  # in a function: the loop may end by it, or nobody can tell what else is changed
    ast.Raise, ast.Assert, ast.Global, ast.Nonlocal, ast.Await, ast.Yield, ast.YieldFrom, ast.Delete, ast.Import,
    ast.ImportFrom, ast.ClassDef, ast.With, ast.AsyncWith,
)  # fmt: skip
_MORE_CODES = frozenset(
    opmap[name]
    for name in ("RAISE_VARARGS", "STORE_GLOBAL", "DELETE_GLOBAL", "STORE_DEREF", "IMPORT_NAME", "YIELD_VALUE")
    if name in opmap
)


class Effects:
    """The functions that a cell's loops can call, and what each may change. One per cell."""

    def __init__(self, tree: ast.Module, namespace: dict[str, Any], purity: Purity, never: Collection[str]) -> None:
        """`never`: names of the host's tools and of what ends a cell."""
        self.purity = purity
        self._namespace = namespace
        self._never = never
        self._defined: dict[str, list[ast.AST]] = {}
        self._stored: dict[str, int] = {}
        self._methods = {name for each in namespace.values() for name in _methods_of(each)}
        self._known: dict[str, Changes | None] = {}
        for node in ast.walk(tree):
            self._note(node)

    def _note(self, node: ast.AST) -> None:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            self._defined.setdefault(node.name, []).append(node)
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Lambda):
            for name in (each.id for each in node.targets if isinstance(each, ast.Name)):
                self._defined.setdefault(name, []).append(node.value)
                self._stored[name] = self._stored.get(name, 0) - 1
        if isinstance(node, ast.ClassDef):
            self._methods.update(each.name for each in node.body if isinstance(each, ast.FunctionDef))
        if isinstance(node, ast.arg) or (isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load)):
            name = node.arg if isinstance(node, ast.arg) else node.id
            self._stored[name] = self._stored.get(name, 0) + 1

    def harmless(self, function: ast.expr) -> bool:
        """Whether a call of it is known to do nothing but what `changed_by` says."""
        if isinstance(function, ast.Attribute):
            owner = function.value
            if isinstance(owner, ast.Name) and owner.id in _QUIET_MODULES and not self._stored.get(owner.id):
                return isinstance(self._namespace.get(owner.id, ast), types.ModuleType)
            return function.attr in _OF_DATA and function.attr not in self._methods
        if not isinstance(function, ast.Name):
            return False
        name = function.id
        if self.purity.callee(function) or self.changed_by(name) is not None:
            return True
        known = {*self._namespace, *self._defined, *(each for each, times in self._stored.items() if times)}
        return name in _QUIET and name not in known

    def is_function(self, name: str) -> bool:
        """Whether it names a tool, or a function that some cell made."""
        made = type(self._namespace.get(name)) is types.FunctionType
        return made or name in self._never or any(not isinstance(e, ast.ClassDef) for e in self._defined.get(name, ()))

    def changed_by(self, name: str) -> Changes | None:
        """What a call of this function may change; None when nothing is known, or it may do more than that."""
        if name not in self._known:
            self._known[name] = Changes()  # one that calls itself does what it does besides
            self._known[name] = self._looked_at(name)
        return self._known[name]

    def _looked_at(self, name: str) -> Changes | None:
        if name in self._never or self._stored.get(name):
            return None
        if name in self._defined:
            found = [self._of_node(node) for node in self._defined[name]]
        elif name in self._namespace:
            found = [self._of_value(self._namespace[name])]
        else:
            return None
        return Changes.of(found)

    def _of_node(self, node: ast.AST) -> Changes | None:
        if isinstance(node, ast.ClassDef):
            inner = (each for each in ast.walk(node) if isinstance(each, (ast.FunctionDef, ast.Lambda, ast.Call)))
            plain = all(isinstance(base, ast.Name) and base.id == "NamedTuple" for base in node.bases)
            return Changes() if plain and not node.keywords and not any(inner) else None
        if any(isinstance(each, _MORE) for each in ast.walk(node)) or isinstance(node, ast.AsyncFunctionDef):
            return None
        touched = Touched(self, None, {})
        for part in node.body if isinstance(node, ast.FunctionDef) else [node.body]:  # type: ignore[attr-defined]
            touched.expression(part)
        own = {each.arg for each in ast.walk(node) if isinstance(each, ast.arg)} | {
            each.id for each in ast.walk(node) if isinstance(each, ast.Name) and not isinstance(each.ctx, ast.Load)
        }
        return touched.changes(own) if touched.sure else None

    def _of_value(self, value: Any) -> Changes | None:
        if isinstance(value, type):
            record = {"__dataclass_fields__", "_fields"} & vars(value).keys()
            return Changes() if record and "__post_init__" not in vars(value) else None
        return self._of_code(value.__code__) if type(value) is types.FunctionType else None

    def _of_code(self, code: types.CodeType) -> Changes | None:
        """A function of an earlier cell, of which no text is left."""
        if _MORE_CODES.intersection(code.co_code[::2]) or set(code.co_names) & set(self._never):
            return None
        called = [name for name in code.co_names if self.is_function(name)]
        own = {name for name in code.co_names if name in self._namespace and name not in called}
        inner = [self._of_code(each) for each in code.co_consts if isinstance(each, types.CodeType)]
        return Changes.of([Changes(own, {_load(name) for name in own}), *map(self.changed_by, called), *inner])


class Changes:
    """What a call may change: the names, and the objects themselves as they are written."""

    def __init__(self, names: Iterable[str] = (), objects: Iterable[str] = ()) -> None:
        self.names = frozenset(names)
        self.objects = frozenset(objects)

    @staticmethod
    def of(every: list[Changes | None]) -> Changes | None:
        known = [each for each in every if each is not None]
        if len(known) < len(every):
            return None
        return Changes((n for each in known for n in each.names), (o for each in known for o in each.objects))


class Touched:
    """What a loop's body may change, directly or by what it calls; `sure`: all that it calls is known."""

    def __init__(self, effects: Effects, call: ast.Call | None, given: dict[str, ast.expr]) -> None:
        self.names: set[str] = set()
        self.sure = True
        self._objects: set[str] = set()
        self._effects = effects
        self._call = call
        self._given = given

    def changes(self, own: set[str]) -> Changes:
        """The same, seen from outside of a function with these names of its own."""
        objects = {each for each in self._objects if not any(_load(name) in each for name in own)}
        return Changes(self.names - own, objects)

    def itself(self, items: ast.expr) -> bool:
        """Whether what the loop goes over may get more or fewer items by it."""
        return any(isinstance(part, ast.expr) and ast.dump(part) in self._objects for part in ast.walk(items))

    def all_of(self, body: Iterable[ast.stmt]) -> bool:
        """False when the body holds a statement after which the next round may not come."""
        return all(self._statement(statement) for statement in body)

    def _statement(self, node: ast.stmt) -> bool:
        if isinstance(node, ast.Assign) and any(node.value is value for value in self._given.values()):
            return True
        if isinstance(node, SIMPLE):
            self.expression(node)
            return True
        if isinstance(node, ast.Pass):
            return True
        if isinstance(node, (ast.If, ast.For, ast.Try)):
            bodies = [node.body, node.orelse, *([node.finalbody] if isinstance(node, ast.Try) else [])]
            if isinstance(node, ast.Try):
                bodies += [handler.body for handler in node.handlers]
                self.names.update(handler.name for handler in node.handlers if handler.name)
            for part in ast.iter_child_nodes(node):
                if isinstance(part, ast.expr):
                    self.expression(part)
            return all(self.all_of(body) for body in bodies)
        return False

    def expression(self, node: ast.AST) -> None:
        if node is self._call:
            return
        if isinstance(node, ast.Name):
            self._name(node)
            return
        if isinstance(node, (ast.Subscript, ast.Attribute)) and not isinstance(node.ctx, ast.Load):
            self.names |= names_in(node.value)
        if isinstance(node, ast.NamedExpr):
            self.names |= names_in(node.target)
        if isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
            self._objects.add(_load(node.target.id))
        if isinstance(node, ast.Call):
            self._called(node)
        for part in ast.iter_child_nodes(node):
            self.expression(part)

    def _name(self, node: ast.Name) -> None:
        if not isinstance(node.ctx, ast.Load):
            self.names.add(node.id)
        elif self._effects.is_function(node.id):
            changes = self._effects.changed_by(node.id)
            if changes is None:
                self.sure = self.sure and self._effects.purity.callee(node)
            else:
                self.names |= changes.names
                self._objects |= changes.objects

    def _called(self, node: ast.Call) -> None:
        function = node.func
        self.sure = self.sure and self._effects.harmless(function)
        if isinstance(function, ast.Attribute) and function.attr in _CHANGING:
            self._objects.add(ast.dump(function.value))
        if self._effects.purity.callee(function) or (isinstance(function, ast.Name) and function.id == "print"):
            return
        self.names |= names_in(function) - ({function.id} if isinstance(function, ast.Name) else set())
        if isinstance(function, ast.Name):  # it may change what it is given
            given = [*node.args, *(each.value for each in node.keywords)]
            self.names |= set().union(*(names_in(each) for each in given), set())
            self._objects |= {ast.dump(each) for each in given}


def names_in(node: ast.AST) -> set[str]:
    """All names in there."""
    return {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}


def _load(name: str) -> str:
    return ast.dump(ast.Name(name, ast.Load()))


def _methods_of(kind: Any) -> list[str]:
    """Those that a guest's class has of its own."""
    if not isinstance(kind, type) or kind.__module__ not in ("__main__", "builtins"):
        return []
    return [name for name, value in vars(kind).items() if type(value) is types.FunctionType]
