"""Loops of independent sub-calls ask ahead, and nobody can tell from their results."""

from __future__ import annotations

import ast
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet_rlm.integrations.daytona.worker.ahead import AHEAD, AheadSource, asks_ahead, pure_functions, twin_of
from fleet_rlm.integrations.daytona.worker.calls import Waiting
from fleet_rlm.integrations.daytona.worker.slices import Contexts

PURE = "def prompt_for(x):\n    '''What to ask.'''\n    return f'about {x}'\n"


class Model:
    """Answers a prompt by itself; some prompts it refuses."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def reply(self, prompt: Any) -> dict[str, Any]:
        self.asked.append(prompt)
        if not isinstance(prompt, str) or "bad" in prompt:
            return {"error": {"class": "ValueError", "message": f"no answer to {prompt!r}"}}
        return {"value": f"<{prompt}>"}

    def begin(self, _name: str, args: Any, _kwargs: Any, *, wait: bool = True) -> Waiting:
        waiting = Waiting()
        waiting.put(self.reply(args[0]))
        return waiting

    def query(self, prompt: Any) -> Any:
        reply = self.reply(prompt)
        if "error" in reply:
            raise ValueError(reply["error"]["message"])
        return reply["value"]


def run(code: str, values: dict[str, Any], *, ahead: bool) -> tuple[dict[str, Any], str, int, list[str]]:
    """The variables afterwards, the exception, how many calls were made side by side, all prompts."""
    model = Model()
    source = AheadSource(model, Contexts("/nowhere"), lambda: namespace["llm_query"])  # type: ignore[arg-type]
    namespace: dict[str, Any] = {"llm_query": model.query, "out": [], "d": {}, "seen": [], **values}
    pure: dict[str, Any] = {}
    fault = ""
    for cell in (PURE, code):
        tree = ast.parse(cell)
        made = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
        if ahead:
            tree = asks_ahead(tree, namespace, pure)
        namespace[AHEAD] = source
        try:
            exec(compile(tree, "<cell>", "exec"), namespace)
        except Exception as error:
            fault = repr(error)
        pure.update(pure_functions(made, namespace))
    left = {name: value for name, value in namespace.items() if not name.startswith("__") and not callable(value)}
    return left, fault, source.count, model.asked


BATCHED = [
    "out = [llm_query(x) for x in xs]",
    "out = [llm_query(prompt=f'{n}: {x.upper()}') for n, x in enumerate(xs)]",
    "out = [llm_query(prompt_for(x)).strip('<') for x in xs if x != 'b']",
    "d = {x: (x, llm_query(x + '?')) for x in xs}",
    "out = {llm_query(x) for x in reversed(xs)}",
    "for x in xs: out.append(llm_query(x))",
    "for n, x in enumerate(xs, 1):\n    d[n] = llm_query('%s %d' % (x, n))",
    "for a, b in zip(xs, range(9)):\n    prompt = f'{a} {b}'\n    print(prompt, end='')\n    r = llm_query(prompt)\n    out.append((a, r))",
    "for x in xs:\n    try:\n        r = llm_query(prompt_for(x))\n    except Exception as error:\n        r = str(error)\n    out.append(r)",
    "for x in xs:\n    first = x[:3]\n    whole = '[' + first + ']'\n    out += [llm_query(whole)]\n    if len(x) > 2:\n        seen.append(x)",
    "def work(items):\n    return [llm_query(f'{q}: {i}') for i in items]\nq = 'what'\nout = work(xs)",
    "class Job:\n    def go(self, items):\n        for i in items:\n            out.append(llm_query(i))\nJob().go(xs)",
    "for y in [1, 2]:\n    for x in xs:\n        out.append(llm_query(f'{y}{x}'))",
    "out = [[llm_query(f'{x}{y}') for x in xs] for y in 'ab']",
    "rows = [{'text': x} for x in xs]\nfor row in rows:\n    row['sum'] = llm_query(row['text'])",
]
SCALAR = [
    "for x in xs:\n    out.append(llm_query(f'{out} {x}'))",
    "note = ''\nfor x in xs:\n    note = llm_query(note + x)\n    out.append(note)",
    "for x in xs:\n    r = llm_query(x)\n    out.append(r)\n    if 'b' in r: break",
    "for x in xs:\n    if x != 'b':\n        out.append(llm_query(x))",
    "out = [llm_query(x) if x else '' for x in xs]",
    "out = [x and llm_query(x) for x in xs]",
    "out = [llm_query(seen.append(x) or x) for x in xs]",
    "out = [llm_query(x) for x in (y for y in xs)]",
    "out = [llm_query(x) for x in map(str, xs)]",
    "def llm_query(x): return x\nout = [llm_query(x) for x in xs]",
    "out = [llm_query(sorted(x)) for x in xs]",
    "def asked(x):\n    seen.append(x)\n    return x\nout = [llm_query(asked(x)) for x in xs]",
    "out = [llm_query(llm_query(x)) for x in xs]",
    "str = seen.append\nout = [llm_query(x + format(str(x))) for x in xs]",
]
words = st.lists(st.sampled_from(["a", "b", "c", "long one", "bad", "", "ü"]), max_size=6)


@pytest.mark.parametrize("code", BATCHED + SCALAR)
@settings(max_examples=25, deadline=None)
@given(xs=words)
def test_results_order_and_faults_are_those_of_scalar_code(code: str, xs: list[str]) -> None:
    plain, plain_fault, _, plain_asked = run(code, {"xs": list(xs)}, ahead=False)
    made, fault, count, asked = run(code, {"xs": list(xs)}, ahead=True)
    assert (made, fault) == (plain, plain_fault)
    assert asked[: len(plain_asked)] == plain_asked, "the same prompts, in the same order"
    assert len(asked) == len(plain_asked) or fault, "what was asked in vain came after the fault"
    assert count == 0 or count <= len(asked)


@pytest.mark.parametrize("code", BATCHED)
def test_what_is_independent_goes_side_by_side(code: str) -> None:
    _, fault, count, asked = run(code, {"xs": ["a", "c", "long one"]}, ahead=True)
    assert not fault and count == len(asked) >= 3


@pytest.mark.parametrize("code", SCALAR)
def test_what_is_not_stays_as_it_is(code: str) -> None:
    assert run(code, {"xs": ["a", "b", "c"]}, ahead=True)[2] == 0


ALIASED = [  # no reading of the code can tell; the comparison at each place can
    "other = out\nfor x in xs:\n    out.append(llm_query(f'{other} {x}'))",
    "def note(r): seen.append(r)\nfor x in xs:\n    note(llm_query(f'{len(seen)} {x}'))",
    "for x in xs:\n    out.append(llm_query(f'{x}'))\n    xs.append('more') if len(xs) < 6 else None",
    "m = {'k': xs}\nfor x in xs:\n    m['k'].append('y') if len(m['k']) < 5 else None\n    out.append(llm_query(x + str(len(xs))))",
]


@pytest.mark.parametrize("code", ALIASED)
def test_hidden_dependence_gives_scalar_results_too(code: str) -> None:
    plain = run(code, {"xs": ["a", "b", "c"]}, ahead=False)
    made = run(code, {"xs": ["a", "b", "c"]}, ahead=True)
    assert made[:2] == plain[:2]


def test_a_twin_takes_nothing() -> None:
    live = enumerate(zip([1, 2], iter("ab"), strict=False))
    twin = twin_of(live)
    assert twin is not None and list(twin) == [(0, (1, "a")), (1, (2, "b"))]
    assert list(live) == [(0, (1, "a")), (1, (2, "b"))]
    assert twin_of(x for x in [1]) is None and twin_of(zip([1], (x for x in "a"), strict=False)) is None
    assert twin_of(map(str, [1])) is None and twin_of(zip([1], [2], strict=True)) is None
