"""What comes before a run's first step: contexts of any form, and nothing kept of a run that cannot begin."""

import pytest
from tests.engine.conftest import events_of
from tests.engine.test_turns import ask, check_journal, task_of
from tests.scripted import action, scripted

from fleet_rlm.runtime.content.contexts import ContextStore
from fleet_rlm.runtime.content.values import LISTED, PREVIEW_CHARS, ContextInput, context_value
from fleet_rlm.runtime.execution.events import Limits
from fleet_rlm.runtime.factory import Workspace


@pytest.fixture
def stored(tmp_path):
    store = ContextStore(tmp_path)
    ref = store.add_text("a.txt", "some text\n" * 10)
    return store, {ref.sha256: ref}, {"$context": ref.sha256}


def test_values_beside_contexts_are_described_as_what_they_are(stored) -> None:
    store, refs, handle = stored
    spec = {"doc": handle, "title": "T", "n": 7, "none": None, "deep": [handle, "x" * 90, {}], "empty": []}
    value = context_value(spec, refs, store)
    assert isinstance(value, ContextInput)
    lines = value.preview.splitlines()
    assert "context['doc']: str, the text a.txt: 100 characters, 10 lines" in lines
    assert "context['title']: str, 1 characters: \"T\"" in lines
    assert "context['n']: int: 7" in lines and "context['none']: NoneType: None" in lines
    assert any(line.startswith("context['deep'][1]: str, 90 characters: \"xxx") for line in lines)
    assert "context['empty']: an empty list" in lines and "context['deep'][2]: an empty dict" in lines


def test_a_preview_is_bounded_whatever_the_form(stored) -> None:
    store, refs, handle = stored
    spec: object = handle
    for _ in range(4):
        spec = [spec] * (LISTED + 5)
    value = context_value({"k" * 10_000: spec}, refs, store)
    assert len(value.preview) < PREVIEW_CHARS + 500


def test_a_child_gets_pieces_of_contexts_beside_plain_values(workspace: Workspace) -> None:
    def reply(prompt: str) -> str:
        if "look" in task_of(prompt):
            return action("SUBMIT(answer=str([str(context[0]), context[1], context[2], context[3]['a']]))")
        return action("SUBMIT(answer=rlm_query('look', context=[context[5:9], 'plain', 7, {'a': None}]))")

    ref = workspace.contexts.add_text("t.txt", "some text to cut")
    result = ask(workspace, mode="rlm", model=scripted(reply), contexts=(ref,))
    assert (result.status, result.answer) == ("ok", "['text', 'plain', 7, None]"), result
    check_journal(events_of(workspace, result.session))


def test_a_run_that_cannot_begin_keeps_nothing_of_the_budget(workspace: Workspace) -> None:
    code = (
        "before = budget()['calls_left']\nsaid = []\n"
        "for bad in ({'$context': 5}, {'$slice': [1]}, [[{'$context': 'no'}]]):\n"
        "    try:\n        rlm_query('child', context=bad)\n    except Exception as error:\n"
        "        said.append(str(error))\n"
        "SUBMIT(answer=f\"{before - budget()['calls_left']} {budget()['children_left']} {len(said)}\")"
    )
    result = ask(workspace, mode="rlm", model=scripted(lambda _: action(code)), limits=Limits(calls=20, children=9))
    assert (result.status, result.answer) == ("ok", "0 9 3"), result
    events = events_of(workspace, result.session)
    check_journal(events)
    last = [event.data for event in events if event.type == "budget.updated"][-1]
    assert last.reserved_calls == 0
