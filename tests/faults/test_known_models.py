"""What was known of a model when a turn began holds when it is run again, whatever became of its server."""

from __future__ import annotations

import json

import dspy
import pytest
from tests.scripted import ScriptedEngine, action

from faults.broken_model import BrokenModel, Reply, hangs, says
from fleet_rlm.runtime.config import load_settings
from fleet_rlm.runtime.execution import events as ev
from fleet_rlm.runtime.execution.normalised import first_difference
from fleet_rlm.runtime.models.probe import EndpointBook, EndpointFacts

TOOLS = EndpointFacts(function_calling=True, response_schema=False, context_window=9_000, writes_code=False, asked="x")


def answers(mode: str, prompt: str) -> Reply:
    """An agent says something; a run asks a child where it may, else a plain model, and then says something."""
    if mode == "auto":
        return says("[[ ## answer ## ]]\nhello\n\n[[ ## completed ## ]]")
    if "Your task: what?" in prompt and "You have not interacted" in prompt:
        return says(action("print(rlm_query('a child') if 'rlm_query' in globals() else llm_query('a'))"))
    return says(action("SUBMIT(answer='hello')"))


def configure(workspace, **given: str) -> None:
    home = workspace.settings.home
    workspace.configure(load_settings(home=home, environ={}, overrides={k: v for k, v in given.items() if v}))


@pytest.mark.parametrize("mode", ["rlm", "auto"])
@pytest.mark.parametrize("what", ["was tried", "is gone", "is elsewhere"])
def test_a_replay_of_a_turn_whose_server(workspace, ask, mode: str, what: str) -> None:
    with BrokenModel(lambda number, prompt: answers(mode, prompt)) as model:
        result, events = ask(model, mode=mode, limits=ev.Limits(calls=50))
        assert result.status == "ok" and "hello" in (result.answer or ""), result.error
        asked = len(model.prompts)
        if what == "was tried":
            EndpointBook(workspace.settings.home).note(model.address, "tiny", TOOLS)
        elif what == "is gone":
            configure(workspace)
        else:
            configure(workspace, model="openai/tiny", api_base="http://127.0.0.1:9/v1")
        again = workspace.wait(workspace.replay(result.turn).turn, 60)
        assert (again.status, again.answer, again.model) == ("ok", result.answer, "openai/tiny"), again.error
        assert len(model.prompts) == asked
        replayed = [e for e in workspace.journal.read(again.session, 0, 10_000) if e.turn == again.turn]
        assert first_difference([e for e in events if e.turn == result.turn], replayed) is None


def test_a_resumed_turn_asks_its_server_as_it_did(workspace, ask) -> None:
    """The trial of a new server may end while the first turn runs: nothing is asked twice for that."""
    trial_over = False

    def script(number: int, prompt: str) -> Reply:
        if not trial_over and number == 1:
            return hangs
        return says(action("print('one step')" if "You have not interacted" in prompt else "SUBMIT(answer='hello')"))

    with BrokenModel(script) as model:
        result, _ = ask(model, mode="rlm", limits=ev.Limits(wall_s=3.0))
        assert (result.status, result.limit, len(model.prompts)) == ("limit", "wall", 2)
        trial_over = True
        EndpointBook(workspace.settings.home).note(model.address, "tiny", TOOLS)
        resumed = workspace.wait(workspace.resume(result.turn).turn, 60)
        assert (resumed.status, resumed.answer) == ("ok", "hello"), resumed.error
        assert len(model.prompts) == 3


class WithSchema(ScriptedEngine):
    """A model of Python's own that takes a JSON schema."""

    supports_response_schema = True
    supported_params = frozenset({"response_format"})


@pytest.mark.parametrize("name", ["openai/gpt-5-mini", "own/model"])
def test_a_replay_needs_no_object_of_python(workspace, ask, name: str) -> None:
    reply = json.dumps({"reasoning": "next", "code": "SUBMIT(answer='hello')"})
    engine = WithSchema(lambda prompt: reply)
    result, events = ask(None, mode="rlm", model=dspy.LM(name, engine=engine, cache=False))
    assert (result.status, result.answer, result.usage.calls) == ("ok", "hello", 1), result.error
    again = workspace.wait(workspace.replay(result.turn).turn, 60)
    assert (again.status, again.answer, again.model) == ("ok", "hello", name), again.error
    assert len(engine.prompts) == 1
    replayed = [e for e in workspace.journal.read(again.session, 0, 10_000) if e.turn == again.turn]
    assert first_difference([e for e in events if e.turn == result.turn], replayed) is None


OTHERS = [
    {"models_allowed": "openai/tiny"},
    {"variable_mode": "always"},
    {"policy.ask_user": "no"},
    {"policy.ask_depth": "1", "policy.ask_seconds": "0", "policy.otherwise": "allow"},
    {"policy.max_depth": "1"},
    {"tools": "contexts"},
    {"verify": "judge"},
]


@pytest.mark.parametrize("mode", ["rlm", "auto"])
@pytest.mark.parametrize("settings", OTHERS, ids=lambda given: next(iter(given)))
def test_a_replay_under_other_settings(workspace, ask, mode: str, settings: dict[str, str]) -> None:
    """They shape what a model is asked; a replay is asked nothing that the turn was not."""
    for first, then in ((settings, {}), ({}, settings)):
        with BrokenModel(lambda number, prompt: answers(mode, prompt)) as model:
            server = {"model": "openai/tiny", "api_base": model.address}
            configure(workspace, **server, **first)
            limits = ev.Limits(calls=50, depth=int(first.get("policy.max_depth", 2)))
            result, events = ask(None, mode=mode, limits=limits)
            assert result.status == "ok", result.error
            asked = len(model.prompts)
            configure(workspace, **server, **then)
            again = workspace.wait(workspace.replay(result.turn).turn, 60)
            assert (again.status, again.answer) == ("ok", result.answer), again.error
            assert len(model.prompts) == asked
        replayed = [e for e in workspace.journal.read(again.session, 0, 10_000) if e.turn == again.turn]
        assert first_difference([e for e in events if e.turn == result.turn], replayed) is None


def test_a_key_is_not_among_what_is_known(workspace, ask) -> None:
    with BrokenModel(lambda number, prompt: answers("rlm", prompt)) as model:
        configure(workspace, model="openai/tiny", api_base=model.address, api_key="sk-very-secret-key")
        _, events = ask(None, mode="rlm")
    accepted = next(e.data for e in events if isinstance(e.data, ev.TurnAccepted))
    assert set(accepted.known) == {"openai/tiny"} and "secret" not in str(accepted)
