"""Loops of independent `llm_query` calls: the prompts are asked side by side, ahead of the loop that wants them.

The loop itself stays as it is and runs as it would. Where it asks, the prompt that it has made is compared with the
prompt that was asked ahead for this place: if they are the same, it gets that answer, or the exception of that call;
if not, it asks as scalar code does and nothing more is asked ahead. So every value is an answer to exactly the prompt
that scalar code would have sent, in the same order, whatever the loop does. What is recognised statically (prompts
made by pure expressions of things that the loop does not touch, calls that are made in every round) only decides
whether asking ahead is worth it; that making a prompt twice has no effect is looked at in the values too (twice.py).
At first two are asked, and twice as many with each answer that the loop takes: one that ends early has asked little.
"""

from __future__ import annotations

import ast
import copy
import types
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from .calls import Control, Waiting, tool_value
from .effects import SIMPLE, Effects, Touched, names_in
from .slices import Contexts
from .twice import TWICE, Purity, Twice, guarded, is_pure_function

QUERY = "llm_query"
AHEAD = "__fleet_ahead__"
WINDOW = 64  # prompts of one loop in flight, at most
FIRST_WINDOW = 2
MOST_STEPS = 4

_BACKWARDS = reversed([])
_REITERABLE = (list, tuple, dict, set, frozenset, range, str, type({}.keys()), type({}.values()), type({}.items()))
_COPIED = tuple(
    type(each if each is _BACKWARDS else iter(each))
    for each in ([], (), range(0), range(1 << 70), {}, {}.values(), {}.items(), set(), "a", "é", _BACKWARDS)
)


class Ahead:
    """The prompts of one loop, and their answers. `items` is what the loop goes over."""

    def __init__(self, source: AheadSource, items: Any, prompts: Callable[[Any, Twice], Iterator[Any]]) -> None:
        self.items = items
        self._source = source
        self._waiting: deque[tuple[str, Waiting]] = deque()
        self._begun = 0
        self._window = FIRST_WINDOW
        twin = twin_of(items)
        self._prompts: Iterator[Any] | None = None if twin is None else prompts(twin, Twice())

    def __call__(self, function: Callable[..., Any], prompt: Any) -> Any:
        """What `function(prompt)` gives at this place of the loop."""
        if function is not self._source.tool():
            self._stop()
        self._fill()
        if not self._waiting:
            return function(prompt)
        asked, waiting = self._waiting.popleft()
        if not isinstance(prompt, str) or prompt != asked:
            self._stop()
            return function(prompt)
        reply = waiting.get()
        if reply.get("refused"):  # it was not made, and says nothing of what happens when the loop itself asks
            self._window = FIRST_WINDOW
            return function(prompt)
        self._window = min(WINDOW, 2 * self._window)
        return self._source.value(reply)

    def _fill(self) -> None:
        while self._prompts is not None and len(self._waiting) < self._window:
            try:
                prompt = next(self._prompts, None)
                waiting = self._source.ask(prompt) if isinstance(prompt, str) else None
            except Exception:  # noqa: BLE001 - the loop meets it again, at its own place
                waiting = prompt = None
            if waiting is None or prompt is None:
                self._prompts = None
                return
            self._waiting.append((str(prompt), waiting))
            self._begun += 1
            if self._begun > 1:  # one alone is not side by side
                self._source.count += 2 if self._begun == 2 else 1

    def _stop(self) -> None:
        self._prompts = None
        self._waiting.clear()


class AheadSource:
    """Makes the Aheads of a cell. `count` is how many calls were made side by side."""

    def __init__(self, control: Control, contexts: Contexts, tool: Callable[[], Any]) -> None:
        self._control = control
        self._contexts = contexts
        self.tool = tool
        self.count = 0

    def __call__(self, items: Any, prompts: Callable[[Any, Twice], Iterator[Any]]) -> Ahead:
        return Ahead(self, items, prompts)

    def ask(self, prompt: str) -> Waiting | None:
        return self._control.begin(QUERY, (prompt,), {}, ahead=True)

    def value(self, reply: dict[str, Any]) -> Any:
        return tool_value(QUERY, reply, self._contexts, "")


def twin_of(items: Any, twins: dict[int, Any] | None = None) -> Iterable[Any] | None:
    """Something that gives the same items and leaves these alone; None where nobody can tell without taking them.

    `twins`: those of iterators that were met before, by id. What is the same in two places is the same there too.
    """
    kind = type(items)
    twins = {} if twins is None else twins
    if kind in _REITERABLE:
        return items
    if id(items) not in twins:
        twins[id(items)] = _twin_of_iterator(items, twins)
    return twins[id(items)]


def _twin_of_iterator(items: Any, twins: dict[int, Any]) -> Iterable[Any] | None:
    kind = type(items)
    if kind in _COPIED:
        return copy.copy(items)
    if kind in (enumerate, zip):
        made = items.__reduce__()
        inner = made[1] if kind is zip else made[1][:1]
        found = [twin_of(each, twins) for each in inner]
        if len(made) != 2 or any(twin is None for twin in found):
            return None
        return zip(*found) if kind is zip else enumerate(found[0], made[1][1])  # type: ignore[arg-type]  # noqa: B905
    return None


_SUSPENDS = (ast.NamedExpr, ast.Await, ast.Yield, ast.YieldFrom)  # what cannot move into a lambda
_LEAVES = (ast.Await, ast.Yield, ast.YieldFrom)  # after it the next round may not come
_ENDERS = frozenset(("SUBMIT", "exit", "quit", "_exit", "abort", "kill"))
_ALWAYS = (
    ast.Call, ast.Attribute, ast.Subscript, ast.Tuple, ast.List, ast.Dict, ast.Set, ast.JoinedStr,
    ast.FormattedValue, ast.BinOp, ast.UnaryOp, ast.keyword, ast.Starred,
)  # fmt: skip


class LoopRewriter(ast.NodeTransformer):
    """Lets loops and comprehensions that can ask ahead do so. One per cell."""

    def __init__(self, purity: Purity, enders: set[str], effects: Effects) -> None:
        """`enders`: names of functions that end the cell."""
        self._purity = purity
        self._enders = enders
        self._effects = effects
        self._loops = 0

    def visit_For(self, node: ast.For) -> Any:
        made = self._loop(node)
        if made is None:
            self.generic_visit(node)
            return node
        return made

    def _comp(self, node: Any) -> Any:
        return self._comprehension(node) or self.generic_visit(node)

    visit_ListComp = visit_SetComp = visit_DictComp = _comp

    def _loop(self, node: ast.For) -> list[ast.stmt] | None:
        call = only_query(node.body)
        if call is None or node.orelse or asks([node.iter, node.target]):
            return None
        if not _plain_target(node.target) or not _is_always_reached(node.body, call):
            return None
        if ends_early(node.body, self._enders):
            return None
        given, prompt = _inlined(node.body, call, self._purity)
        touched = Touched(self._effects, call, given)
        if not touched.all_of(node.body) or not touched.sure or touched.itself(node.iter):
            return None
        if not self._independent(prompt, node.target, touched):
            return None
        name = self._name()
        prompts = ast.GeneratorExp(guarded(prompt), [ast.comprehension(copy.deepcopy(node.target), _arg(), [], 0)])
        made = ast.Assign([ast.Name(name, ast.Store())], _make(node.iter, prompts))
        _ask_through(call, name)
        node.iter = ast.Attribute(ast.Name(name, ast.Load()), "items", ast.Load())
        return [ast.copy_location(made, node), node]

    def _comprehension(self, node: ast.ListComp | ast.SetComp | ast.DictComp) -> ast.expr | None:
        parts = [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
        call = only_query(parts)
        if call is None or len(node.generators) != 1 or asks(node.generators):
            return None
        source = node.generators[0]
        if source.is_async or not _plain_target(source.target) or any(isinstance(n, _SUSPENDS) for n in ast.walk(node)):
            return None
        if ends_early([*parts, *source.ifs], self._enders):
            return None
        prompt = _prompt_of(call)
        touched = Touched(self._effects, call, {})
        if not any(_reaches(part, call) for part in parts) or not all(self._purity.holds(c) for c in source.ifs):
            return None
        for part in parts:
            touched.expression(part)
        if not touched.sure or touched.itself(source.iter):
            return None
        if not self._independent(prompt, source.target, touched, source.ifs):
            return None
        name = self._name()
        ifs = [guarded(copy.deepcopy(each)) for each in source.ifs]
        prompts = ast.GeneratorExp(
            guarded(copy.deepcopy(prompt)), [ast.comprehension(copy.deepcopy(source.target), _arg(), ifs, 0)]
        )
        made = _make(source.iter, prompts)
        _ask_through(call, name)
        source.iter = ast.Attribute(ast.Name(name, ast.Load()), "items", ast.Load())
        return ast.copy_location(ast.Call(_lambda([name], node), [made], []), node)

    def _independent(
        self, prompt: ast.expr, target: ast.expr, touched: Touched, conditions: Iterable[ast.expr] = ()
    ) -> bool:
        """Whether no round changes what the prompt of another is made of."""
        needed = {n.id for part in (prompt, *conditions) for n in ast.walk(part) if isinstance(n, ast.Name)}
        return self._purity.holds(prompt) and not (needed - names_in(target)) & touched.names

    def _name(self) -> str:
        self._loops += 1
        return f"__fleet_ahead_{self._loops}"


def asks(nodes: Iterable[ast.AST]) -> bool:
    """Whether `llm_query` is named in there."""
    return any(isinstance(each, ast.Name) and each.id == QUERY for node in nodes for each in ast.walk(node))


def only_query(nodes: Iterable[ast.AST]) -> ast.Call | None:
    """The one call of `llm_query` with one argument in there; None when there is none, another form or a second."""
    every = [each for node in nodes for each in ast.walk(node)]
    calls = [
        each
        for each in every
        if isinstance(each, ast.Call) and isinstance(each.func, ast.Name) and each.func.id == QUERY
    ]
    names = sum(isinstance(each, ast.Name) and each.id == QUERY for each in every)
    if len(calls) != 1 or names != 1 or len(calls[0].args) + len(calls[0].keywords) != 1:
        return None
    if calls[0].keywords and calls[0].keywords[0].arg != "prompt":
        return None
    return None if any(isinstance(each, ast.Starred) for each in calls[0].args) else calls[0]


def ends_early(nodes: Iterable[ast.AST], enders: set[str]) -> bool:
    """Whether something in there ends the cell, or may leave the loop for good."""
    for each in (each for node in nodes for each in ast.walk(node)):
        if isinstance(each, _LEAVES):
            return True
        if isinstance(each, ast.Call) and _called(each) in enders:
            return True
    return False


def _called(call: ast.Call) -> str:
    return call.func.id if isinstance(call.func, ast.Name) else getattr(call.func, "attr", "")


def _enders_in(tree: ast.Module, namespace: dict[str, Any]) -> set[str]:
    """The functions that end the cell, and the guest's that call one of them."""
    known = {name: made.__code__ for name, made in namespace.items() if type(made) is types.FunctionType}
    enders = set(_ENDERS).union(name for name, code in known.items() if _ENDERS & {*code.co_names})
    functions = [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    for _ in functions[:MOST_STEPS]:  # one that calls one that calls one ...
        more = {node.name for node in functions if node.name not in enders and ends_early(node.body, enders)}
        if not more:
            break
        enders |= more
    return enders


def _prompt_of(call: ast.Call) -> ast.expr:
    return call.args[0] if call.args else call.keywords[0].value


def _ask_through(call: ast.Call, name: str) -> None:
    """`llm_query(E)` becomes `NAME(llm_query, E)`."""
    call.args, call.keywords = [call.func, _prompt_of(call)], []
    call.func = ast.Name(name, ast.Load())


def _is_always_reached(body: list[ast.stmt], call: ast.Call) -> bool:
    """Whether every round makes this call: it stands in no branch, no inner loop, no part that may be skipped."""
    for statement in body:
        if isinstance(statement, ast.Try) and _is_always_reached(statement.body, call):
            return True
        if isinstance(statement, SIMPLE) and statement.value is not None and _reaches(statement.value, call):
            return True
    return False


def _reaches(node: ast.AST, call: ast.Call) -> bool:
    if node is call:
        return True
    if isinstance(node, ast.Compare):
        return _reaches(node.left, call) or _reaches(node.comparators[0], call)
    return isinstance(node, _ALWAYS) and any(_reaches(part, call) for part in ast.iter_child_nodes(node))


def _inlined(body: list[ast.stmt], call: ast.Call, purity: Purity) -> tuple[dict[str, ast.expr], ast.expr]:
    """The prompt with the names in it that the body gives before, once and purely, replaced by what they are given."""
    stores = [
        n.id for each in body for n in ast.walk(each) if isinstance(n, ast.Name) and not isinstance(n.ctx, ast.Load)
    ]
    given: dict[str, ast.expr] = {}
    replaced: dict[str, ast.expr] = {}
    for statement in body:
        if any(node is call for node in ast.walk(statement)):
            break
        if not isinstance(statement, ast.Assign) or len(statement.targets) != 1:
            continue
        target = statement.targets[0]
        if isinstance(target, ast.Name) and stores.count(target.id) == 1 and purity.holds(statement.value):
            given[target.id] = statement.value
            replaced[target.id] = _Inline(replaced).visit(copy.deepcopy(statement.value))
    return given, _Inline(replaced).visit(copy.deepcopy(_prompt_of(call)))


class _Inline(ast.NodeTransformer):
    def __init__(self, given: dict[str, ast.expr]) -> None:
        self._given = given

    def visit_Name(self, node: ast.Name) -> ast.expr:
        known = isinstance(node.ctx, ast.Load) and node.id in self._given
        return copy.deepcopy(self._given[node.id]) if known else node


def _plain_target(target: ast.expr) -> bool:
    if isinstance(target, (ast.Tuple, ast.List)):
        return all(_plain_target(each) for each in target.elts)
    return isinstance(target, ast.Name)


def _arg() -> ast.Name:
    return ast.Name("__fleet_items", ast.Load())


def _lambda(names: list[str], body: ast.expr) -> ast.Lambda:
    return ast.Lambda(ast.arguments([], [ast.arg(name) for name in names], None, [], [], None, []), body)


def _make(items: ast.expr, prompts: ast.GeneratorExp) -> ast.Call:
    """`__fleet_ahead__(ITEMS, lambda __fleet_items, __fleet_twice__: (PROMPT for ... in __fleet_items))`."""
    return ast.Call(ast.Name(AHEAD, ast.Load()), [items, _lambda(["__fleet_items", TWICE], prompts)], [])


def asks_ahead(
    tree: ast.Module, namespace: dict[str, Any], pure: dict[str, Any], tools: Iterable[str] = ()
) -> ast.Module:
    """The same cell with its loops of independent `llm_query` calls asking ahead. `pure` keeps pure functions' names.

    `tools`: names of the host's functions: a loop that calls another one beside `llm_query` is left as it is.
    Touches nothing where `llm_query` is not the plain host tool by its name.
    """
    stored = [n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and not isinstance(n.ctx, ast.Load)]
    stored += [n.arg for n in ast.walk(tree) if isinstance(n, ast.arg)]
    defined = [n.name for n in ast.walk(tree) if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))]
    if QUERY in stored or QUERY in defined:
        return tree
    taken = {*stored, *defined, *namespace}
    own = {name for name, made in pure.items() if namespace.get(name) is made and name not in stored + defined}
    for node in tree.body:
        if not isinstance(node, ast.FunctionDef) or defined.count(node.name) > 1 or node.name in stored:
            continue
        if is_pure_function(node, Purity(taken, set(own))):
            own.add(node.name)
    purity, enders = Purity(taken, own), _enders_in(tree, namespace)
    made = LoopRewriter(purity, enders, Effects(tree, namespace, purity, {*tools, *_ENDERS})).visit(tree)
    return ast.fix_missing_locations(made)


def pure_functions(made: Iterable[ast.FunctionDef], namespace: dict[str, Any]) -> dict[str, Any]:
    """Those of the functions that a cell has just made that only compute something from what they are given."""
    purity = Purity(set(namespace), set())
    return {
        node.name: namespace[node.name] for node in made if node.name in namespace and is_pure_function(node, purity)
    }
