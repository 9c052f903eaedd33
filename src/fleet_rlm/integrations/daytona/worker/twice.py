"""What of a cell may be evaluated twice: code without effect, on values from which nothing is taken by that.

`Purity` looks at the code, `Twice` at the values: `d.get(k)` of a dictionary may be evaluated twice, of a queue not,
and the code is the same. So where a prompt is made ahead, `guarded` code checks every value before it is used.
"""

from __future__ import annotations

import ast
import types
from typing import Any

from .slices import Slice
from .values import Failure

TWICE = "__fleet_twice__"  # the name of the `Twice` in guarded code
MOST_PARTS = 100_000  # of one value; a larger one is not looked through

PURE_FUNCTIONS = frozenset(
    (
        "str", "len", "int", "float", "bool", "repr", "ascii", "round", "min", "max", "sum", "sorted", "abs",
        "list", "tuple", "dict", "set", "range", "enumerate", "zip", "chr", "ord", "isinstance", "any", "all",
        "format",
    )
)  # fmt: skip
PURE_METHODS = frozenset(
    (
        "format", "join", "strip", "lstrip", "rstrip", "lower", "upper", "title", "capitalize", "casefold",
        "replace", "split", "rsplit", "splitlines", "get", "items", "keys", "values", "startswith", "endswith",
        "find", "rfind", "index", "count", "partition", "rpartition", "zfill", "ljust", "rjust", "center",
        "expandtabs", "removeprefix", "removesuffix", "dumps", "isoformat", "strftime",
    )
)  # fmt: skip
_PURE_NODES = (
    ast.Constant, ast.Name, ast.JoinedStr, ast.FormattedValue, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare,
    ast.IfExp, ast.Subscript, ast.Slice, ast.Attribute, ast.Tuple, ast.List, ast.Dict, ast.Set, ast.Starred,
    ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp, ast.comprehension, ast.Call, ast.keyword,
    ast.operator, ast.unaryop, ast.boolop, ast.cmpop, ast.expr_context,
)  # fmt: skip


class Purity:
    """What of a cell may be evaluated twice."""

    def __init__(self, stored: set[str], functions: set[str]) -> None:
        """`stored`: names that are not the builtins they look like; `functions`: the guest's own pure functions."""
        self._functions = (PURE_FUNCTIONS - stored) | functions

    def holds(self, node: ast.AST) -> bool:
        for each in ast.walk(node):
            if not isinstance(each, _PURE_NODES):
                return False
            if isinstance(each, ast.comprehension) and each.is_async:
                return False
            if isinstance(each, ast.Call) and not self.callee(each.func):
                return False
        return True

    def callee(self, function: ast.expr) -> bool:
        if isinstance(function, ast.Name):
            return function.id in self._functions
        return isinstance(function, ast.Attribute) and function.attr in PURE_METHODS


def is_pure_function(node: ast.FunctionDef, purity: Purity) -> bool:
    """A function whose body is one `return` of a pure expression, after its docstring."""
    body = node.body[1:] if ast.get_docstring(node, clean=False) is not None else node.body
    if node.decorator_list or len(body) != 1 or not isinstance(body[0], ast.Return) or body[0].value is None:
        return False
    return purity.holds(body[0].value)


_BARE = frozenset(
    (
        str,
        bytes,
        int,
        float,
        complex,
        bool,
        type(None),
        type(...),
        range,
        type,
        types.NotImplementedType,
        Slice,
        Failure,
    )
)
_HOLDERS = frozenset((list, tuple, set, frozenset, type({}.keys()), type({}.values()), type({}.items())))
_LIBRARIES = frozenset(("datetime", "decimal", "fractions", "uuid", "pathlib", "numpy", "pandas"))
_OF_COLLECTIONS = frozenset(("Counter", "OrderedDict", "deque"))  # not defaultdict: looking up makes an item there
_CODE_ON_USE = frozenset(
    (
        "__getattr__", "__getattribute__", "__iter__", "__next__", "__str__", "__format__", "__bool__", "__len__",
        "__contains__", "__getitem__", "__call__",
    )
)  # fmt: skip


class NotPlain(Exception):
    """A value of which nobody can tell whether using it changes anything."""


class Twice:
    """The checks of guarded code. One per loop; large values are looked through once."""

    def __init__(self) -> None:
        self._seen: dict[int, tuple[Any, int]] = {}
        self._records: dict[type, bool] = {}

    def value(self, value: Any) -> Any:
        """The value itself, when it is data through and through. Errors: NotPlain."""
        if type(value) not in _BARE:
            self._look_through(value)
        return value

    def owner(self, value: Any, name: str) -> Any:
        """The value itself, when reading this attribute runs no code of the guest. Errors: NotPlain."""
        kind = type(value)
        if kind is Slice or _is_of_library(kind) or self._is_record(kind):
            return value
        if kind is types.ModuleType and name in value.__dict__:
            return value
        of_types: set[str] = set().union(*(vars(each) for each in kind.__mro__[:-1]))
        if "__getattribute__" in of_types or name in of_types or not kind.__flags__ & _HEAP_TYPE:
            raise NotPlain(name)
        if name not in object.__getattribute__(value, "__dict__"):
            raise NotPlain(name)
        return value

    def indexed(self, value: Any) -> Any:
        """The value itself, when looking an item up changes nothing. Errors: NotPlain."""
        kind = type(value)
        if kind in (list, tuple, dict, str, bytes, range, Slice) or _is_of_library(kind):
            return value
        if issubclass(kind, tuple) and self._is_record(kind):
            return value
        raise NotPlain(kind.__name__)

    def receiver(self, value: Any, name: str) -> Any:
        """The value itself, when its pure method of this name is Python's own. Errors: NotPlain."""
        kind = type(value)
        if kind in _BARE or kind in _HOLDERS or kind is dict or _is_of_library(kind):
            return value
        if kind is types.ModuleType and value.__name__ == "json" and name == "dumps":
            return value
        raise NotPlain(name)

    def function(self, function: Any) -> Any:
        """The function itself, when all that a pure function of the guest takes from outside is data."""
        if type(function) is types.FunctionType and id(function) not in self._seen:
            self._seen[id(function)] = function, 0
            if function.__closure__:
                raise NotPlain(function.__name__)
            self.value([*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()])
            for name in _names_of(function.__code__):
                found = function.__globals__.get(name)
                if type(found) is types.FunctionType:
                    self.function(found)
                elif not isinstance(found, (types.ModuleType, types.BuiltinFunctionType)):
                    self.value(found)
        return function

    def _look_through(self, value: Any) -> None:
        waiting = [value]
        parts = 0
        while waiting:
            each = waiting.pop()
            kind = type(each)
            parts += 1
            if parts > MOST_PARTS:
                raise NotPlain("too large")
            if kind in _BARE:
                continue
            if kind is dict or kind in _HOLDERS or issubclass(kind, tuple) or _is_of_collections(kind):
                if self._known(each):
                    continue
                if issubclass(kind, tuple) and kind is not tuple and not self._is_record(kind):
                    raise NotPlain(kind.__name__)
                if len(each) > MOST_PARTS:
                    raise NotPlain("too large")
                waiting += each
                waiting += each.values() if isinstance(each, dict) else ()
            elif self._is_record(kind):
                if not self._known(each):
                    waiting += [getattr(each, name, None) for name in kind.__dataclass_fields__]
            elif not _is_of_library(kind):
                raise NotPlain(kind.__name__)

    def _known(self, value: Any) -> bool:
        """Whether it was looked through before, and has not grown since."""
        size = len(value) if hasattr(value, "__len__") else 0
        known = self._seen.get(id(value))
        self._seen[id(value)] = value, size
        return known is not None and known[0] is value and known[1] == size

    def _is_record(self, kind: type) -> bool:
        """A dataclass or named tuple without code of its own that reading or printing it would run."""
        known = self._records.get(kind)
        if known is None:
            own = [each for each in kind.__mro__ if each not in (object, tuple)]
            names: set[str] = set().union(*(vars(each) for each in own))
            known = hasattr(kind, "__dataclass_fields__") or (issubclass(kind, tuple) and hasattr(kind, "_fields"))
            known = known and not names & (_CODE_ON_USE | PURE_METHODS)
            known = known and not any(isinstance(each, property) for base in own for each in vars(base).values())
            self._records[kind] = known
        return known


_HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: the class was made by Python code


def _names_of(code: types.CodeType) -> set[str]:
    inner = [each for each in code.co_consts if isinstance(each, types.CodeType)]
    return set(code.co_names).union(*(_names_of(each) for each in inner))


def _is_of_library(kind: type) -> bool:
    """A type of data of a library that is known; nothing that gives its items once."""
    known = kind.__module__.partition(".")[0] in _LIBRARIES and not hasattr(kind, "__next__")
    return known or _is_of_collections(kind)


def _is_of_collections(kind: type) -> bool:
    return kind.__module__ == "collections" and kind.__name__ in _OF_COLLECTIONS


def guarded(node: ast.expr) -> ast.expr:
    """The same pure expression with each value that it begins with checked by the `Twice` named TWICE."""
    return _Guard().visit(node)


class _Guard(ast.NodeTransformer):
    def visit_Name(self, node: ast.Name) -> ast.expr:
        return self._check("value", node) if isinstance(node.ctx, ast.Load) else node

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        return self._check("value", self._raw(node))

    visit_Subscript = visit_Attribute  # type: ignore[assignment]

    def visit_Call(self, node: ast.Call) -> ast.expr:
        function = node.func
        if isinstance(function, ast.Name) and function.id == "len" and len(node.args) == 1:
            node.args = [self._check("receiver", self._raw(node.args[0]), ast.Constant("len"))]  # looks into nothing
            return node
        node.args = [self.visit(each) for each in node.args]
        node.keywords = [self.visit(each) for each in node.keywords]
        if not isinstance(function, ast.Attribute):
            node.func = self._check("function", function)
            return node
        function.value = self._check("receiver", self._raw(function.value), ast.Constant(function.attr))
        return self._check("value", node)  # what lies in a dictionary may be an iterator

    def _raw(self, node: ast.expr) -> ast.expr:
        """An expression whose value is only looked into; what is found there is checked."""
        if isinstance(node, ast.Attribute):
            node.value = self._check("owner", self._raw(node.value), ast.Constant(node.attr))
        elif isinstance(node, ast.Subscript):
            node.value = self._check("indexed", self._raw(node.value))
            node.slice = self.visit(node.slice)
        elif not isinstance(node, ast.Name):
            return self.visit(node)
        return node

    def _check(self, what: str, *args: ast.expr) -> ast.expr:
        return ast.Call(ast.Attribute(ast.Name(TWICE, ast.Load()), what, ast.Load()), list(args), [])
