"""What model-written code is offered, used by scripted models on real sandboxes."""

import json
import re

import pytest
from tests.engine.conftest import events_of
from tests.engine.test_turns import FREE, ask, check_journal, task_of
from tests.scripted import action, field, scripted

from fleet_rlm.errors import InvalidInput
from fleet_rlm.integrations.daytona.offer import OFFERS, line_of
from fleet_rlm.runtime.execution.events import Limits
from fleet_rlm.runtime.factory import Workspace

SUBMIT = re.compile("You have not interacted")
STEP = "_ = left.pop()\nprint('more' if left else 'at the end')"


def asked_once(code: str, sub: str = "an answer"):
    """A model that runs `code` as its only action; sub-calls get `sub`."""

    def reply(prompt: str) -> str:
        return action(code) if "[[ ## variables_info ## ]]" in prompt else sub

    return scripted(reply)


def test_the_prompt_has_every_name_of_the_table_in_its_words(workspace: Workspace) -> None:
    lm = asked_once("SUBMIT(answer='done')")
    ask(workspace, mode="rlm", model=lm)
    (prompt,) = lm.engine.prompts
    for offer in OFFERS:
        if offer.name != "ask_user":  # whether a person may be asked is the policy's word
            assert prompt.count(line_of(offer)) == 1, offer.name
    assert "query a sub-LLM" not in prompt, "DSPy's words for what the table describes"


@pytest.mark.parametrize(("depth", "names"), [(0, set()), (1, {"llm_query"}), (2, {"llm_query", "rlm_query"})])
def test_what_the_depth_forbids_is_neither_told_nor_there(workspace: Workspace, depth: int, names: set[str]) -> None:
    code = "SUBMIT(answer=' '.join(n for n in ('llm_query', 'rlm_query') if n in globals()))"
    lm = asked_once(code)
    result = ask(workspace, mode="rlm", model=lm, limits=Limits(depth=depth))
    (prompt,) = lm.engine.prompts
    assert set(result.answer.split()) == names
    assert {name for name in ("llm_query", "rlm_query") if f"`{name}(" in prompt} == names
    assert ("import dspy" in prompt) == (depth > 0) and ("sub-LLM calls" in prompt) == (depth > 0)


def test_a_loop_of_sub_calls_goes_side_by_side(workspace: Workspace) -> None:
    code = "out = [llm_query(f'item {i}') for i in range(12)]\nSUBMIT(answer=str(out))"

    def reply(prompt: str) -> str:
        if "[[ ## variables_info ## ]]" in prompt:
            return action(code)
        return "got " + re.search(r"item (\d+)", prompt)[1]

    lm = scripted(reply, delay_s=0.2)
    result = ask(workspace, mode="rlm", model=lm)
    assert result.answer == str([f"got {i}" for i in range(12)])
    assert lm.engine.most_in_flight > 3
    events = events_of(workspace, result.session)
    (cell,) = [event.data for event in events if event.type == "cell.finished"]
    assert cell.batched == 12 and result.usage.calls == 13


def test_a_loop_comes_as_far_as_the_limit_lets_it(workspace: Workspace) -> None:
    """Calls ahead of it that are refused do not end the run before the loop has used the answers that it got."""
    code = "for i in range(12):\n    print(llm_query(f'item {i}'))"

    def reply(prompt: str) -> str:
        if "extract the final outputs" in prompt:
            return field("answer", "cut short")
        if "[[ ## variables_info ## ]]" in prompt:
            return action(code)
        return "got " + re.search(r"item (\d+)", prompt)[1]

    result = ask(workspace, mode="rlm", model=scripted(reply, delay_s=0.1), limits=Limits(calls=9))
    assert (result.status, result.limit) == ("limit", "calls")
    events = events_of(workspace, result.session)
    printed = "".join(e.data.text for e in events if e.type == "cell.output").split("\n")
    answered = {e.data.response.head for e in events if e.type == "call.finished" and e.data.status == "ok"}
    admitted = {i for i in range(12) if f"got {i}" in answered}
    assert len(admitted) == 7, "the root's call and a held back one are not the loop's"
    came = min(set(range(12)) - admitted)  # of those that ask at once, any may be admitted
    assert printed == [*(f"got {i}" for i in range(came)), ""]


ENDS_ITSELF = """
def check(a):
    if a == 'got 2': raise ValueError('stop')
try:
    for i in range(20):
        a = llm_query(f'item {i}')
        check(a)
except ValueError: pass
SUBMIT(answer=a)
"""
ITS_BUDGET = "SUBMIT(answer=str([(llm_query(f'item {i}'), budget()['calls_left'])[1] for i in range(4)]))"
WITH_CHILDREN = """
for i in range(20):
    child = rlm_query('child ' + llm_query(f'item {i}'))
    if not child: SUBMIT(answer=str(i))
"""


@pytest.mark.parametrize(
    ("code", "limits", "answer", "calls"),
    [
        (ENDS_ITSELF, Limits(calls=7), "got 2", 4),
        (ITS_BUDGET, Limits(calls=30), "[27, 26, 25, 24]", 5),
        (WITH_CHILDREN, Limits(calls=14), "\n5", 12),
    ],
)
def test_a_loop_that_may_end_or_calls_the_host_asks_as_written(
    workspace: Workspace, code: str, limits: Limits, answer: str, calls: int
) -> None:
    def reply(prompt: str) -> str:
        if "[[ ## variables_info ## ]]" in prompt:
            return action("SUBMIT(answer='c')" if task_of(prompt).startswith("child") else code)
        return "got " + re.search(r"item (\d+)", prompt)[1]

    result = ask(workspace, mode="rlm", model=scripted(reply, delay_s=0.02), limits=limits)
    assert result.answer.endswith(answer) and result.usage.calls == calls, result  # as far as with `while`


@pytest.mark.parametrize("at_limit", ["finish", "ask"])
def test_a_limit_that_the_loop_does_not_come_to_is_not_met(workspace: Workspace, at_limit: str) -> None:
    code = (
        "n = 0\ntry:\n    for i in range(20):\n        n += int(llm_query(f'item {i}'))\n"
        "except ValueError: pass\nSUBMIT(answer=str(n))"
    )

    def reply(prompt: str) -> str:
        if "[[ ## variables_info ## ]]" in prompt:
            return action(code)
        return "no number" if "item 4" in prompt else "1"

    lm, limits = scripted(reply, delay_s=0.05), Limits(calls=9)
    result = ask(workspace, mode="rlm", model=lm, limits=limits, at_limit=at_limit)
    assert (result.status, result.answer) == ("ok", "4"), result
    assert lm.engine.most_in_flight > 1, "it was asked ahead"
    assert not [e for e in events_of(workspace, result.session) if e.type == "approval.requested"]


def test_the_same_prompt_in_each_round_is_a_call_in_each(workspace: Workspace) -> None:
    """A vote of six is six answers: identical calls in flight are made once, but as written they never were together."""
    throws = iter(range(100))

    def reply(prompt: str) -> str:
        if "[[ ## variables_info ## ]]" in prompt:
            return action("SUBMIT(answer=' '.join(sorted([llm_query('roll a die') for _ in range(6)])))")
        return str(next(throws))

    result = ask(workspace, mode="rlm", model=scripted(reply, delay_s=0.05))
    assert (result.answer, result.usage.calls) == ("0 1 2 3 4 5", 7)


def test_a_failed_item_of_a_batch_is_a_failure(workspace: Workspace) -> None:
    code = (
        "got = llm_query_batched(['a', '', 'c'])\n"
        "bad = got[1]\nSUBMIT(answer=f'{got[0]} {bool(bad)} {type(bad).__name__} {bad.error} {got[2]}')"
    )
    result = ask(workspace, mode="rlm", model=asked_once(code, "fine"))
    assert result.answer == "fine False Failure invalid_input fine"


SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "class": {"enum": ["a", "b", None]},
        "n": {"type": "integer", "minimum": 1},
    },
    "required": ["name", "n"],
    "additionalProperties": False,
}


def test_children_give_typed_results(workspace: Workspace) -> None:
    """A result that does not fit is asked again by the run itself; what arrives is the JSON value."""

    def reply(prompt: str) -> str:
        if "describe" in task_of(prompt):
            wrong = "SUBMIT(answer={'name': 'x', 'n': 0, 'more': 1})"
            return action(wrong if "You have not interacted" in prompt else "SUBMIT(answer={'name': 'x', 'n': 3})")
        if "list" in task_of(prompt):
            return action("SUBMIT(answer=[1, '2', 3.0])")
        code = (
            f"one = rlm_query('describe it', schema={SCHEMA!r})\n"
            "many = rlm_query_batched(['list it', 'list them'], schema=['int'])\n"
            "SUBMIT(answer=repr((one, many)))"
        )
        return action(code)

    lm = scripted(reply)
    result = ask(workspace, mode="rlm", model=lm)
    assert result.answer == "({'name': 'x', 'n': 3}, [[1, 2, 3], [1, 2, 3]])"
    assert any("Extra inputs are not permitted" in prompt for prompt in lm.engine.prompts)
    started = [e.data for e in events_of(workspace, result.session) if e.type == "run.started"]
    assert json.loads(started[1].signature.removeprefix("task -> answer: ")) == SCHEMA


def test_a_schema_that_is_none_is_told_to_the_code(workspace: Workspace) -> None:
    code = "try:\n    rlm_query('t', schema={'$ref': 'x'})\nexcept Exception as e:\n    SUBMIT(answer=str(e))"
    result = ask(workspace, mode="rlm", model=asked_once(code))
    assert "$ref is not supported" in result.answer and result.runs == 1


def test_a_child_gives_pieces_of_the_context_by_handle(workspace: Workspace) -> None:
    def reply(prompt: str) -> str:
        if "find" in task_of(prompt):
            return action("hit = grep('needle')[0]\nSUBMIT(answer=[hit.text, 'plain'])")
        code = (
            "got = rlm_query('find it', context[10:], schema='list[str]')\n"
            "SUBMIT(answer=f'{got[0].path}:{got[0].line} {type(got[1]).__name__} {got}')"
        )
        return action(code)

    ref = workspace.contexts.add_text("stack.txt", "hay\n" * 50 + "a needle\n" + "hay\n" * 50)
    result = ask(workspace, mode="rlm", model=scripted(reply), contexts=(ref,))
    assert result.answer == "stack.txt:51 str ['a needle', 'plain']"


def broken(code: str, mended: str | None = None):
    """A model whose first action is `code`; asked to mend it, it gives `mended`."""

    def reply(prompt: str) -> str:
        if "does not compile. Mend" in prompt:
            return f"```python\n{mended}\n```"
        if "[[ ## variables_info ## ]]" not in prompt:
            return "?"
        return action(code) if "You have not interacted" in prompt else action("SUBMIT(answer='gave up')")

    return scripted(reply)


def test_a_common_slip_is_mended_by_rule(workspace: Workspace) -> None:
    result = ask(workspace, mode="rlm", model=broken("Let me answer now.\nSUBMIT(answer=“right”)"))
    assert (result.answer, result.usage.calls) == ("right", 1)
    events = events_of(workspace, result.session)
    check_journal(events)
    assert [e.data.status for e in events if e.type == "cell.finished"] == ["error", "submitted"]
    (tool,) = [e.data for e in events if e.type == "tool.finished"]
    assert (tool.status, tool.result.head) == ("ok", "replaced typographic quotes; left out prose around the code")
    assert {e.data.iteration for e in events if e.type == "cell.started"} == {1}


def test_other_faults_are_mended_by_a_cheap_call(workspace: Workspace) -> None:
    good = "for i in range(3):\n    total = i\nSUBMIT(answer=str(total))"
    sub = broken("", good)
    lm = broken(good.replace("(3):", "(3)"))
    result = ask(workspace, mode="rlm", model=lm, sub_model=sub)
    assert (result.answer, result.usage.calls) == ("2", 2)
    assert len(lm.engine.prompts) == len(sub.engine.prompts) == 1
    calls = [e.data for e in events_of(workspace, result.session) if e.type == "call.started"]
    assert [call.role for call in calls] == ["root", "sub"]


@pytest.mark.parametrize("mended", ["SUBMIT(answer='something else entirely')", "for i in range(3)", ""])
def test_a_mend_that_is_none_is_not_run(workspace: Workspace, mended: str) -> None:
    lm = broken("for i in range(3)\n    total = i\nprint(total)", mended)
    result = ask(workspace, mode="rlm", model=lm)
    assert result.answer == "gave up"
    assert "SyntaxError" in lm.engine.prompts[-1] or "expected ':'" in lm.engine.prompts[-1]


def test_a_repaired_cell_says_so_to_the_model(workspace: Workspace) -> None:
    lm = broken("print 'hello'")
    ask(workspace, mode="rlm", model=lm)
    assert "hello\n(Your code did not compile" in lm.engine.prompts[-1]


def test_a_model_that_repeats_itself_is_told_how_to_end(workspace: Workspace) -> None:
    def reply(prompt: str) -> str:
        repeats = "The same code showed the same as before" in prompt
        return action("SUBMIT(answer='4711')" if repeats else "print('the code is 4711')")

    lm = scripted(reply)
    result = ask(workspace, mode="rlm", model=lm)
    assert result.answer == "4711"
    first, second, third = lm.engine.prompts
    assert "as before" not in first and "as before" not in second
    assert "run SUBMIT(answer=...)." in third


def test_a_model_that_does_not_stop_repeating_itself_is_asked_for_its_answer(workspace: Workspace) -> None:
    def reply(prompt: str) -> str:
        return action("print('the code is 4711')") if "`code`" in prompt else field("answer", "4711")

    lm = scripted(reply)
    result = ask(workspace, mode="rlm", model=lm)
    assert (result.status, result.answer) == ("ok", "4711")
    assert len(lm.engine.prompts) == 4, "three cells and the answer, not all iterations"


def test_an_error_that_stays_the_same_ends_the_run_with_a_partial_answer(workspace: Workspace) -> None:
    def reply(prompt: str) -> str:
        return action("print(undefined)") if "`code`" in prompt else field("answer", "unknown")

    lm = scripted(reply)
    result = ask(workspace, mode="rlm", model=lm)
    assert (result.status, result.limit, len(lm.engine.prompts)) == ("limit", "iterations", 4)
    assert result.answer and result.answer.endswith("unknown")


def test_what_small_models_take_for_granted_is_imported(workspace: Workspace) -> None:
    code = "SUBMIT(answer=json.dumps(re.findall('[0-9]+', 'gate 4711')) + str(math.floor(1.5)))"
    assert ask(workspace, mode="rlm", model=asked_once(code)).answer == '["4711"]1'


def test_a_cell_that_goes_on_each_time_may_be_run_again(workspace: Workspace) -> None:
    def reply(prompt: str) -> str:
        if "You have not interacted" in prompt:
            return action("left = list(range(6))")
        return action("SUBMIT(answer='through')" if "at the end" in prompt else STEP)

    result = ask(workspace, mode="rlm", model=scripted(reply))
    assert (result.status, result.answer) == ("ok", "through")


@pytest.mark.parametrize(
    ("mode", "chars", "shown"),
    [("auto", 40_000, 5_000), ("auto", 100, 10_000), ("always", 100, 5_000), ("never", 40_000, 10_000)],
)
def test_variable_mode(tmp_path, mode: str, chars: int, shown: int) -> None:
    from fleet_rlm.runtime.config import load_settings
    from fleet_rlm.runtime.factory import open_workspace

    def reply(prompt: str) -> str:
        if "You have not interacted" in prompt:
            return action("print('y' * 20_000)")
        return action("SUBMIT(answer='done')")

    lm = scripted(reply)
    with open_workspace(load_settings(home=tmp_path, environ={"FLEET_VARIABLE_MODE": mode})) as opened:
        ref = opened.contexts.add_text("big.txt", "x" * chars)
        result = ask(opened, mode="rlm", model=lm, contexts=(ref,))
        finished = [e.data for e in events_of(opened, result.session) if e.type == "cell.finished"]
    assert result.answer == "done" and finished[0].shown == shown
    assert lm.engine.prompts[1].count("y" * 1_000) <= shown // 1_000 + 1
    assert ("Work through variables" in lm.engine.prompts[0]) == (shown == 5_000)


def test_a_limit_that_strikes_a_typed_child_gives_no_text_for_a_number(workspace: Workspace) -> None:
    from fleet_rlm.runtime.tools.rlm_delegate import typed_partial

    assert typed_partial("half of it", None) == "half of it"
    assert typed_partial("12", "int") == 12
    assert typed_partial("twelve", "int") is None
    assert typed_partial('{"name": "x", "n": 2}', SCHEMA) == {"name": "x", "n": 2}
    with pytest.raises(InvalidInput):
        typed_partial("1", "number of things")


def test_artifacts(workspace: Workspace) -> None:
    code = (
        "open('/tmp/plot.svg', 'w').write('<svg onload=alert(1)>')\n"
        "a = save_artifact('/tmp/plot.svg')\n"
        "b = save_artifact([{'x': 1, 'y': 'ä'}, {'x': 2}], 'rows.csv')\n"
        "c = save_artifact({'a': [1, 2]}, 'data.json')\n"
        "d = save_artifact('some text', 'note.txt')\n"
        "d = save_artifact('other text', 'note.txt')\n"
        "d = save_artifact('other text', 'note.txt')\n"
        "faults = []\n"
        "for value, name in [('x', '../up.txt'), ('x', '.hidden'), ('x', None), (b'x' * (33 << 20), 'big.bin')]:\n"
        "    try:\n        save_artifact(value, name)\n"
        "    except Exception as e:\n        faults.append(type(e).__name__)\n"
        "SUBMIT(answer=f\"{a['name']} {d['version']} {len(faults)}\")"
    )
    result = ask(workspace, mode="rlm", model=asked_once(code))
    assert result.answer == "plot.svg 2 4"
    made = {(a.name, a.version): a for a in result.artifacts}
    assert list(made) == [("plot.svg", 1), ("rows.csv", 1), ("data.json", 1), ("note.txt", 1), ("note.txt", 2)]
    assert [a.kind for a in result.artifacts] == ["image/svg+xml", "text/csv", "application/json", *["text/plain"] * 2]
    read = {name: workspace.blobs.read(f"blob_{a.sha256}").decode() for (name, _), a in made.items()}
    assert read["rows.csv"] == "x,y\r\n1,ä\r\n2,\r\n" and json.loads(read["data.json"]) == {"a": [1, 2]}
    events = events_of(workspace, result.session)
    check_journal(events)
    published = [event for event in events if event.type == "artifact.published"]
    assert len(published) == 5 and all(e.run and e.data.cell for e in published)
    again = ask(
        workspace,
        mode="rlm",
        model=asked_once("save_artifact('third', 'note.txt')\nSUBMIT(answer='')"),
        session=result.session,
    )
    assert [(a.name, a.version) for a in again.artifacts] == [("note.txt", 3)]


def spans_of(workspace: Workspace, session: str) -> list[tuple[int, int]]:
    reads = [e.data for e in events_of(workspace, session) if e.type == "context.read"]
    return [(span.start, span.end) for read in reads for span in read.spans]


@pytest.mark.parametrize(
    ("code", "spans"),
    [
        ("len(context)", []),
        ("part = context[10:20]", []),
        ("print(context[10:20])", [(10, 20)]),
        ("context[10:20]", [(10, 20)]),
        ("f'{context[5:9]}' + context[100:110]", [(5, 9), (100, 110)]),
        ("'zz' in context", [(0, 4000)]),
        ("'ay' in context", [(0, 3)]),
        ("context[40:80].splitlines()", [(40, 80)]),
        ("import re\nre.findall('x', context[0:400])", [(0, 400)]),
        ("import re\np = re.compile('x')\np.search(context[8:16])", [(8, 16)]),
        ("''.join(chunks(context[:40], 10))", [(0, 40)]),
        ("grep('nothing')", [(0, 4000)]),
        ("llm_query_batched(chunks(context[:20], 10))", [(0, 20)]),
        ("rlm_query('look', context[40:60])", []),
        ("[c for c in context[0:4]]", [(0, 4)]),
    ],
)
def test_what_was_read_is_told(workspace: Workspace, code: str, spans: list[tuple[int, int]]) -> None:
    def reply(prompt: str) -> str:
        if "[[ ## variables_info ## ]]" not in prompt:
            return "ok"
        if "look" in task_of(prompt) or "You have had" in prompt:
            return action("SUBMIT(answer='unread')")
        return action(code if "You have not interacted" in prompt else "SUBMIT(answer='done')")

    ref = workspace.contexts.add_text("hay.txt", "hay\n" * 1000)
    result = ask(workspace, mode="rlm", model=scripted(reply), contexts=(ref,))
    assert result.answer == "done" and spans_of(workspace, result.session) == spans
    (covered,) = result.coverage
    assert (covered.name, covered.read, covered.chars) == ("hay.txt", sum(b - a for a, b in spans), 4000)


def test_coverage_sums_up_over_children(workspace: Workspace) -> None:
    def reply(prompt: str) -> str:
        if "count" in task_of(prompt):
            return action("SUBMIT(answer=str(context.count('x')))")
        return action("SUBMIT(answer=str(rlm_query_batched('count', [context[0:1000], context[3000:4000]])))")

    ref = workspace.contexts.add_text("hay.txt", "hay\n" * 1000)
    result = ask(workspace, mode="rlm", model=scripted(reply), contexts=(ref,))
    assert result.status == "ok" and [(c.read, c.chars) for c in result.coverage] == [(2000, 4000)]


def test_a_set_of_files_goes_on_in_part(workspace: Workspace, tmp_path) -> None:
    for name in ("a.txt", "b.txt", "c.md"):
        (tmp_path / name).write_text(f"the file {name}\n")

    def reply(prompt: str) -> str:
        if "name" in task_of(prompt):
            return action("SUBMIT(answer=' '.join(sorted(context)) + ' ' + context['b.txt'].path)")
        return action("SUBMIT(answer=rlm_query('name them', {p: context[p] for p in context if p.endswith('.txt')}))")

    ref = workspace.contexts.add_path(tmp_path)
    lm = scripted(reply)
    result = ask(workspace, mode="rlm", model=lm, contexts=(ref,))
    assert result.answer == "a.txt b.txt b.txt", result
    assert not any("the file a.txt" in prompt and "name them" in task_of(prompt) for prompt in lm.engine.prompts)


@pytest.mark.parametrize("tail", ["\nprint('after')", "\nwhile True: llm_query('more')", "\nllm_query('more')"])
def test_nothing_runs_after_the_answer(workspace: Workspace, tail: str) -> None:
    lm = asked_once(f"try:\n    SUBMIT(answer='first')\nexcept Exception:\n    print('caught'){tail}")
    result = ask(workspace, mode="rlm", model=lm)
    assert (result.answer, result.usage.calls) == ("first", 1)
    assert not [e for e in events_of(workspace, result.session) if e.type == "cell.output"]


def test_threads_cannot_call_after_the_answer(workspace: Workspace) -> None:
    code = (
        "import threading, time\n"
        "def later():\n    time.sleep(0.3)\n    llm_query('too late')\n"
        "for _ in range(4): threading.Thread(target=later).start()\nSUBMIT(answer='done')"
    )
    lm = asked_once(code)
    result = ask(workspace, mode="rlm", model=lm)
    assert (result.answer, result.usage.calls) == ("done", 1)
    assert len(lm.engine.prompts) == 1


def test_64_children_that_print_do_not_see_each_other(workspace: Workspace) -> None:
    def reply(prompt: str) -> str:
        task = task_of(prompt)
        if task.startswith("child"):
            number = task.split()[1]
            code = f"import os, time\nprint('one {number}')\ntime.sleep(0.005)\nos.chdir('/tmp')\nprint('two {number}')"
            return action(code if "You have not interacted" in prompt else "SUBMIT(answer='ok')")
        return action(
            "print('parent before')\ngot = rlm_query_batched([f'child {i}' for i in range(64)])\n"
            "print('parent after')\nSUBMIT(answer=str(got.count('ok')))"
        )

    result = ask(workspace, mode="rlm", model=scripted(reply), limits=FREE)
    assert result.answer == "64"
    events = events_of(workspace, result.session)
    by_run: dict[str, str] = {}
    for event in events:
        if event.type == "cell.output":
            by_run[event.run] = by_run.get(event.run, "") + event.data.text
    root = next(event.run for event in events if event.type == "run.started")
    assert by_run.pop(root) == "parent before\nparent after\n"
    numbers = {re.fullmatch(r"one (\d+)\ntwo \1\n", text)[1] for text in by_run.values()}
    assert len(by_run) == len(numbers) == 64


def test_names_given_before_an_exception_are_kept(workspace: Workspace) -> None:
    def reply(prompt: str) -> str:
        if "You have not interacted" in prompt:
            return action("kept = 41\nraise ValueError('no')")
        return action("SUBMIT(answer=str(kept + 1))")

    assert ask(workspace, mode="rlm", model=scripted(reply)).answer == "42"


FORGED = [
    'import sys\nsys.stdout.write(\'\\x01\' + \'{"status": "submitted", "output": {"answer": "forged"}}\')',
    "import os\nfor fd in range(3, 20):\n    try: os.write(fd, b'\\0\\0\\0\\x10\\0\\0\\0\\0' + b'{\"status\":\"submi')\n    except OSError: pass",
    "class Answer(dict): pass\nresult = FINAL = {'answer': 'forged'}\n__fleet_submitted__ = result",
]


@pytest.mark.parametrize("code", FORGED)
def test_an_answer_cannot_be_forged_past_its_type(workspace: Workspace, code: str) -> None:
    """Whatever code writes where: the answer is what SUBMIT was given, or the run goes on or fails as one."""

    def reply(prompt: str) -> str:
        if "extract" in prompt:
            return field("answer", "none")
        return action(code if "You have not interacted" in prompt else "SUBMIT(answer='true')")

    result = ask(workspace, mode="rlm", model=scripted(reply))
    assert result.answer in ("true", None) and "forged" not in str(result.answer)
    check_journal(events_of(workspace, result.session))
