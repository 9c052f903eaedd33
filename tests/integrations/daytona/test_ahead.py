"""Loops of independent sub-calls ask ahead, and nobody can tell from their results."""

from __future__ import annotations

import ast
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet_rlm.integrations.daytona.worker.ahead import AHEAD, AheadSource, asks_ahead, pure_functions, twin_of
from fleet_rlm.integrations.daytona.worker.calls import Waiting
from fleet_rlm.integrations.daytona.worker.slices import Contexts

PURE = "def prompt_for(x):\n    '''What to ask.'''\n    return f'about {x}'\n"


class Stopped(BaseException):
    """The run's limit is met: by the loop itself, never by a call ahead of it."""


class Submitted(BaseException):
    """SUBMIT was called."""


class Model:
    """Answers a prompt by itself; some prompts it refuses."""

    def __init__(self, left: int = 1_000_000) -> None:
        self.asked: list[str] = []
        self.left = left

    def reply(self, prompt: Any) -> dict[str, Any]:
        if self.left == 0:
            raise Stopped
        self.left -= 1
        self.asked.append(prompt)
        if not isinstance(prompt, str) or "bad" in prompt:
            return {"error": {"class": "ValueError", "message": f"no answer to {prompt!r}"}}
        return {"value": f"<{prompt}>"}

    def begin(self, _name: str, args: Any, _kwargs: Any, *, ahead: bool = False) -> Waiting:
        waiting = Waiting(self)  # type: ignore[arg-type]
        if self.left == 0:
            waiting.box.put({"id": 1, "refused": True})
            return waiting
        waiting.box.put(self.reply(args[0]))
        return waiting

    def wait_for(self, box: Any) -> Any:
        return box.get_nowait()

    def query(self, prompt: Any) -> Any:
        reply = self.reply(prompt)
        if "error" in reply:
            raise ValueError(reply["error"]["message"])
        return reply["value"]


TOOLS = ("llm_query", "budget")


def left() -> dict[str, int]:
    """The host's `budget`."""
    return {"calls_left": 3}


def submit(*_: Any) -> None:
    raise Submitted


def run(
    code: str, values: dict[str, Any], *, ahead: bool, calls: int = 1_000_000
) -> tuple[dict[str, Any], str, int, list[str]]:
    """The variables afterwards, the exception, how many calls were made side by side, all prompts."""
    model = Model(calls)
    source = AheadSource(model, Contexts("/nowhere"), lambda: namespace["llm_query"])  # type: ignore[arg-type]
    namespace: dict[str, Any] = {"llm_query": model.query, "SUBMIT": submit, "out": [], "d": {}, "seen": [], **values}
    pure: dict[str, Any] = {}
    fault = ""
    for cell in (PURE, code):
        tree = ast.parse(cell)
        made = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
        if ahead:
            tree = asks_ahead(tree, namespace, pure, TOOLS)
        namespace[AHEAD] = source
        try:
            exec(compile(tree, "<cell>", "exec"), namespace)
        except (Exception, Stopped, Submitted) as error:
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


USED_UP = [  # the code says "pure", the values say no: what is made ahead may take nothing
    "import queue\nq = queue.Queue()\nfor x in xs: q.put(x)\nfor n in range(3): out.append(llm_query(q.get()))",
    "it = iter(xs)\nout = [llm_query(f'{n} {list(it)}') for n in range(3)]",
    "it = iter(xs)\nout = [llm_query(f'{n} {n in it}') for n in range(3)]",
    "held = {'it': iter(xs)}\nout = [llm_query(str(list(held['it']))) for n in range(3)]",
    "held = {'it': iter(xs)}\nout = [llm_query(str(list(held.get('it')))) for n in range(3)]",
    "held = [[iter(xs)]]\nout = [llm_query(str([list(each) for row in held for each in row])) for n in range(3)]",
    "out = [llm_query(' '.join(it)) for it in [iter(xs), iter(xs), iter('ab')]]",
    "import io\nf = io.StringIO('1\\n2\\n3')\nout = [llm_query(''.join(f)) for n in range(3)]",
    "import collections\nm = collections.defaultdict(list)\nout = [llm_query(f'{len(m)} {m[x]}') for x in xs]",
    "class Next:\n    n = 0\n    def __str__(self):\n        self.n += 1\n        return str(self.n)\nnx = Next()\nout = [llm_query(f'{nx}') for n in range(3)]",
    "class Next:\n    n = 0\n    @property\n    def one(self):\n        self.n += 1\n        return str(self.n)\nnx = Next()\nout = [llm_query(nx.one) for n in range(3)]",
    "class Row(dict):\n    def __getitem__(self, k):\n        seen.append(k)\n        return k\nrow = Row()\nout = [llm_query(row[x]) for x in xs]",
    "it = iter(xs)\ndef prompt(n):\n    return f'{n} {list(it)}'\nout = [llm_query(prompt(n)) for n in range(3)]",
    "def prompt(n, it=iter('abc')):\n    return f'{n} {list(it)}'\nout = [llm_query(prompt(n)) for n in range(3)]",
    "it = iter(xs)\ndef one():\n    return [y for y in it]\ndef prompt(n):\n    return f'{n} {one()}'\nout = [llm_query(prompt(n)) for n in range(3)]",
    "import json\ndef told(v):\n    seen.append(1)\n    return 'x'\nout = [llm_query(json.dumps({1, 2}, default=told)) for n in range(3)]",
    "it = iter(xs)\nout = [llm_query(x) for x in xs if x in it]",
]


@pytest.mark.parametrize("code", USED_UP)
def test_nothing_is_taken_by_asking_ahead(code: str) -> None:
    plain = run(code, {"xs": ["a", "b", "c"]}, ahead=False)
    made = run(code, {"xs": ["a", "b", "c"]}, ahead=True)
    assert made[1] == plain[1] and made[3] == plain[3] and made[2] == 0
    for name in ("out", "seen", "d"):
        assert made[0][name] == plain[0][name]


PLAIN = [  # and these say yes
    "import dataclasses\n@dataclasses.dataclass\nclass Row:\n    text: str\nrows = [Row(x) for x in xs]\nout = [llm_query(r.text) for r in rows]",
    "import collections\nRow = collections.namedtuple('Row', 'n text')\nrows = [Row(1, x) for x in xs]\nout = [llm_query(f'{r} {r.text} {r[0]}') for r in rows]",
    "import datetime\nday = datetime.date(2026, 1, 2)\nout = [llm_query(f'{day.isoformat()} {day:%d} {x}') for x in xs]",
    "class Asker:\n    def __init__(self):\n        self.about = ['x', {'y': 1}]\n    def go(self):\n        return [llm_query(f'{self.about} {x}') for x in xs]\nout = Asker().go()",
    "import json\nout = [llm_query(json.dumps({'x': x, 'all': xs}, indent=1)) for x in xs]",
    "docs = {x: [x] * 50_000 for x in xs}\nout = [llm_query(str(len(docs)) + ''.join(docs[x][:3])) for x in xs]",
    "head = 'about '\ndef prompt(x):\n    return head + x\nout = [llm_query(prompt(x)) for x in xs]",
    "import numpy as np\nns = np.arange(3)\nout = [llm_query(f'{n} {ns[0]}') for n in range(len(ns))]",
    "import re\nc = __import__('collections').Counter(xs)\nout = [llm_query(f'{x} {c[x]}') for x in xs]",
    "out = [llm_query(''.join(three)) for three in zip(*[iter('abcdefghi')] * 3)]",
    "for n, (a, b) in enumerate(zip(*[iter('abcdef')] * 2)):\n    out.append(llm_query(f'{n}{a}{b}'))",
]


@pytest.mark.parametrize("code", PLAIN)
def test_data_of_every_kind_is_asked_ahead(code: str) -> None:
    plain = run(code, {"xs": ["a", "b", "c"]}, ahead=False)
    _, fault, count, asked = run(code, {"xs": ["a", "b", "c"]}, ahead=True)
    assert not fault and count == len(asked) >= 3 and asked == plain[3]


ENDING = [
    "for x in xs:\n    r = llm_query(x)\n    if 'b' in r:\n        SUBMIT(r)",
    "def done(r):\n    SUBMIT(r)\nfor x in xs:\n    r = llm_query(x)\n    if 'b' in r:\n        done(r)",
    "def done(r):\n    SUBMIT(r)\ndef look(r):\n    if 'b' in r:\n        done(r)\nfor x in xs:\n    look(llm_query(x))",
    "import sys\nfor x in xs:\n    r = llm_query(x)\n    if 'b' in r:\n        sys.exit()",
    "def each():\n    for x in xs:\n        yield llm_query(x)\nout.append(next(each()))",
    "out = [SUBMIT(x) if 'b' in llm_query(x) else x for x in xs]",
]


@pytest.mark.parametrize("code", ENDING)
def test_a_loop_that_may_end_early_stays_as_it_is(code: str) -> None:
    try:
        assert run(code, {"xs": ["a", "b", "c", "d"]}, ahead=True)[2] == 0
    except SystemExit:
        assert "sys.exit" in code


def test_a_function_of_an_earlier_cell_that_ends_is_known() -> None:
    def done(r: str) -> None:
        submit(r)

    namespace: dict[str, Any] = {"done": eval("lambda r: SUBMIT(r)"), "harmless": done}
    code = "for x in xs:\n    {0}(llm_query(x))"
    for name, ahead in (("done", False), ("harmless", True)):
        tree = asks_ahead(ast.parse(code.format(name)), namespace, {})
        assert (AHEAD in ast.unparse(tree)) == ahead


UNSURE = [  # a round may end the loop, ask the host, or take a turn that the calls ahead would have taken
    "def check(r):\n    if 'b' in r: raise ValueError(r)\nfor x in xs:\n    r = llm_query(x)\n    out.append(r)\n    check(r)",
    "def check(r):\n    assert 'b' not in r\nout = [check(llm_query(x)) for x in xs]",
    "def check(r):\n    if 'b' in r: raise ValueError(r)\ndef look(r): check(r)\nfor x in xs: look(llm_query(x))",
    "def check(r):\n    if 'b' in r: raise ValueError(r)\nfor x in xs:\n    r = llm_query(x)\n    list(map(check, [r]))",
    "end = lambda r: SUBMIT(r)\nfor x in xs:\n    r = llm_query(x)\n    if 'b' in r: end(r)",
    "for x in xs:\n    r = llm_query(x)\n    out.append(r)\n    if 'b' in r: xs.clear()",
    "for x in list(enumerate(xs)) and xs:\n    r = llm_query(x)\n    if 'b' in r: xs.remove('d')",
    "def drop(them): them.clear()\nfor x in xs:\n    r = llm_query(x)\n    if 'b' in r: drop(xs)",
    "def drop(): xs.clear()\nfor x in xs:\n    r = llm_query(x)\n    if 'b' in r: drop()",
    "for x in xs:\n    r = llm_query(x)\n    if 'b' in r: del xs[0]",
    "for x in xs:\n    out.append(llm_query(x))\n    seen.append(budget()['calls_left'])",
    "def look(): return budget()\nfor x in xs:\n    out.append(llm_query(x))\n    look()",
    "def note(r):\n    global last\n    last = r\nfor x in xs: note(llm_query(x))",
    "class Log:\n    def append(self, r):\n        if 'b' in r: raise ValueError(r)\nlog = Log()\nfor x in xs: log.append(llm_query(x))",
    "def need(x):\n    if x == 'a': raise KeyError(x)\nfor x in xs:\n    try:\n        need(x)\n        out.append(llm_query(x))\n    except KeyError: pass",
    "state = {'n': 0}\ndef bump(): state['n'] += 1\nfor x in xs:\n    out.append(llm_query(f\"{x} {state['n']}\"))\n    bump()",
    "for x in xs: unknown(llm_query(x))",
]


@pytest.mark.parametrize("code", UNSURE)
def test_a_loop_that_calls_what_may_end_it_or_ask_stays_as_it_is(code: str) -> None:
    plain = run(code, {"xs": ["a", "b", "c", "d"], "budget": left}, ahead=False)
    made = run(code, {"xs": ["a", "b", "c", "d"], "budget": left}, ahead=True)
    assert made[2] == 0 and made[1] == plain[1] and made[3] == plain[3]
    assert [made[0][name] for name in ("out", "seen", "xs")] == [plain[0][name] for name in ("out", "seen", "xs")]


SURE = [
    "def note(r):\n    if len(r) > 2: seen.append(r)\nfor x in xs: note(llm_query(x))",
    "keep = lambda r: seen.append(r)\nfor x in xs: keep(llm_query(x))",
    "by = {}\nfor x in xs: by.setdefault(len(x), []).append(llm_query(x).strip())",
    "def found(r):\n    parts = re.findall('[a-z]+', r)\n    return sorted(parts)\nfor x in xs: out.extend(found(llm_query(x)))",
    "import json\nfor x in xs:\n    r = llm_query(x)\n    try:\n        r = json.loads(r)\n    except ValueError:\n        r = {}\n    out.append(r)",
    "for n, x in enumerate(xs): xs[n] = llm_query(x)",
    "import dataclasses\n@dataclasses.dataclass\nclass Row:\n    text: str\nfor x in xs: out.append(Row(llm_query(x)).text)",
    "text = ''\nfor x in xs:\n    text += llm_query(x) + chr(10)\nprint(text)",
    "def walk(n):\n    seen.append(n)\n    return walk(n - 1) if n else 0\nfor x in xs:\n    out.append(llm_query(x))\n    walk(2)",
]


@pytest.mark.parametrize("code", SURE)
def test_usual_loops_are_asked_ahead(code: str) -> None:
    plain = run(code, {"xs": ["a", "b", "c"], "re": re}, ahead=False)
    _, fault, count, asked = run(code, {"xs": ["a", "b", "c"], "re": re}, ahead=True)
    assert not fault and count == 3 and asked == plain[3]


@pytest.mark.parametrize(
    ("made", "ahead"),
    [
        ("def f(r): seen.append(r)", True),
        ("def f(r): return g(r)\ndef g(r): return r.strip()", True),
        ("def f(r):\n    if r: raise ValueError", False),
        ("def f(r): return g(r)\ndef g(r):\n    assert r", False),
        ("def f(r):\n    global last\n    last = r", False),
        ("def f(r): return budget()", False),
        ("def f(r): return [budget() for _ in r]", False),
        ("def f(r): xs.clear()", False),
        ("class f:\n    def __init__(self, r): 1 / 0", False),
    ],
)
def test_a_function_of_an_earlier_cell_is_known_by_what_it_does(made: str, ahead: bool) -> None:
    namespace: dict[str, Any] = {"budget": left, "seen": [], "xs": []}
    exec(made, namespace)
    tree = asks_ahead(ast.parse("for x in xs: f(llm_query(x))"), namespace, {}, TOOLS)
    assert (AHEAD in ast.unparse(tree)) == ahead


def test_few_are_asked_at_first_and_more_the_longer_the_loop_goes() -> None:
    code = "it = iter(range(100))\nfor x in xs:\n    out.append(llm_query(x))\n    if x == {0!r}: 1 / 0"
    xs = [f"q{n}" for n in range(100)]
    begun = [len(run(code.format(last), {"xs": xs}, ahead=True)[3]) for last in ("q0", "q1", "q2", "q3", "q20", "none")]
    assert begun == [2, 5, 10, 19, 84, 100], "2 in flight, then 4, 8, 16, 32, 64"


@pytest.mark.parametrize("calls", range(1, 9))
def test_a_call_ahead_that_meets_the_limit_does_not_end_the_run(calls: int) -> None:
    """The loop comes as far as it would have come, and meets the limit itself."""
    code = "for x in xs:\n    out.append(llm_query(x))"
    xs = [f"q{n}" for n in range(8)]
    plain = run(code, {"xs": xs}, ahead=False, calls=calls)
    made = run(code, {"xs": xs}, ahead=True, calls=calls)
    assert made[0] == plain[0] and made[1] == plain[1] and made[3] == plain[3]
    assert len(made[0]["out"]) == calls and bool(made[1]) == (calls < 8)


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
    same = iter([1, 2, 3, 4])
    pairs = zip(same, same, strict=False)
    assert list(twin_of(pairs) or ()) == [(1, 2), (3, 4)] == list(pairs)
    assert twin_of(map(str, [1])) is None and twin_of(zip([1], [2], strict=True)) is None
