"""The registry against a real HTTP server: what reaches the server, what is refused before, what a test finds."""

import json
import os
import subprocess
import sys

import dspy
import pytest

from fleet_rlm.errors import InvalidInput, NotConfigured
from fleet_rlm.runtime.config import save_settings
from fleet_rlm.runtime.models.probe import is_near, solves
from fleet_rlm.runtime.models.registry import ModelRegistry
from models.fake_models import completion, tool_call


class Pick(dspy.Signature):
    """Pick a color."""

    question: str = dspy.InputField()
    answer: list[str] = dspy.OutputField()


def registry_at(server, settings_for, model="openai/tiny", **more) -> ModelRegistry:
    return ModelRegistry(settings_for(FLEET_MODEL=model, FLEET_API_BASE=server.address, **more), environ={})


def test_an_own_server_gets_the_schema_and_its_own_key(server, settings_for):
    server.answer = lambda body: completion('{"answer": ["red"]}')
    registry = registry_at(server, settings_for, FLEET_API_KEY="own-key", OPENAI_API_KEY="paid-key")
    spec = registry.resolve()
    lm = registry.lm(spec)
    assert (lm.supports_response_schema, lm.supports_function_calling) == (True, False)
    with dspy.context(lm=lm, adapter=dspy.JSONAdapter()):
        assert dspy.Predict(Pick)(question="?").answer == ["red"]
    (asked,) = server.asked
    assert (asked.path, asked.key) == ("/v1/chat/completions", "Bearer own-key")
    assert asked.body["model"] == "tiny"
    schema = asked.body["response_format"]["json_schema"]
    assert schema["strict"] is True and list(schema["schema"]["properties"]) == ["answer"]
    assert lm.history[-1]["usage"]["prompt_tokens"] == 7
    assert lm.history[-1]["cost"] is None  # unknown is not free
    assert spec.cost_usd(10, 10) is None


def test_a_server_without_key_never_gets_a_providers_key(server, settings_for):
    registry = registry_at(server, settings_for, OPENAI_API_KEY="paid-key")
    registry.lm(registry.resolve())("hello")
    assert "paid-key" not in (server.asked[0].key or "")


def test_no_answer_is_cached_across_servers(server, settings_for):
    registry = registry_at(server, settings_for)
    lm = registry.lm(registry.resolve())
    assert (lm("same"), lm("same")) == (["ready"], ["ready"])
    assert len(server.chats()) == 2


def test_a_longest_answer_is_asked_for_in_words_that_own_servers_know(server, settings_for):
    registry = registry_at(server, settings_for)
    registry.lm(registry.resolve(), max_tokens=77)("x")
    assert server.chats()[0]["max_tokens"] == 77


def test_probing_turns_tools_on_and_is_remembered(server, settings_for):
    def answer(body):
        if "tools" in body:
            return tool_call(
                "look_up" if body["tools"][0]["function"]["name"] == "look_up" else "delegate", word="tree", task="t"
            )
        if "count(word)" in body["messages"][0]["content"]:
            return completion("```python\nanswer = count('red') + count('blue')\n```")
        return completion('{"color": "red", "number": 3}' if "response_format" in body else "ready")

    server.answer = answer
    server.models = [{"id": "tiny", "max_model_len": 8192}]
    registry = registry_at(server, settings_for)
    steps = registry.test(registry.resolve())
    assert [(step.name, step.ok) for step in steps] == [
        ("address", True),
        ("answer", True),
        ("schema", True),
        ("tools", True),
        ("agent", True),
        ("window", False),
    ]
    assert "8,192 tokens" in steps[-1].detail and "OLLAMA_CONTEXT_LENGTH" in steps[-1].fix
    spec = registry_at(server, settings_for).resolve()  # another registry reads what the first found
    assert (spec.function_calling, spec.response_schema, spec.context_window) == (True, True, 8192)
    assert (
        spec.writes_code
        and spec.probed
        and spec.weak == (f"it sees 8,192 tokens at once ({spec.probed}); 16,384 are the least for agents")
    )

    def delegate(task: str) -> str:
        """Delegate a task."""
        return task

    lm = registry.lm(spec)
    with dspy.context(lm=lm, adapter=dspy.ChatAdapter(use_native_function_calling=True)):
        agent = dspy.ReActV2("question -> answer", tools=[delegate])
        prediction = agent.react(question="?", history=dspy.History(messages=[]), tools=list(agent.tools.values()))
    assert prediction.tool_calls.tool_calls[0].name == "delegate"
    assert [tool["function"]["name"] for tool in server.chats()[-1]["tools"]] == ["delegate", "submit"]


def test_a_small_model_is_called_small_and_gets_no_schema_that_it_ignores(server, settings_for):
    server.get["/props"] = (200, {"default_generation_settings": {"n_ctx": 4096}})
    registry = registry_at(server, settings_for)
    steps = {step.name: step for step in registry.test(registry.resolve())}
    assert steps["answer"].ok and not steps["schema"].ok and not steps["tools"].ok
    assert "too small" in steps["tools"].fix
    spec = registry.resolve()
    assert (spec.response_schema, spec.function_calling, spec.context_window) == (False, False, 4096)
    assert not steps["agent"].ok and spec.weak.startswith("it did not write the code of a small task")
    server.answer = lambda body: completion('{"answer": ["x"]}')
    with dspy.context(lm=registry.lm(spec), adapter=dspy.JSONAdapter()):
        dspy.Predict(Pick)(question="?")
    assert "response_format" not in server.chats()[-1]


DEEP = "[" * 20_000 + "]" * 20_000


@pytest.mark.parametrize("where", ["list", "answer", "window", "content"])
def test_json_too_deep_to_read_is_no_answer_and_no_crash(server, settings_for, where):
    if where == "list":
        server.get["/v2/models"] = (200, f'{{"data": {DEEP}}}'.encode())
        server.address = server.address.replace("/v1", "/v2")
    if where == "window":
        server.get["/props"] = (200, DEEP.encode())
    if where in ("answer", "content"):
        whole = (200, f'{{"choices": {DEEP}}}'.encode())
        call = {"id": "t1", "type": "function", "function": {"name": "look_up", "arguments": DEEP}}
        server.answer = lambda _: whole if where == "answer" else completion(DEEP, tool_calls=[call])
    registry = registry_at(server, settings_for)
    steps = {step.name: step.ok for step in registry.test(registry.resolve())}
    assert steps["address"] and steps["answer"] == (where != "answer")
    assert not any(steps.get(name) for name in ("schema", "tools", "agent"))
    registry.probe_new()


@pytest.mark.parametrize(
    ("reply", "able"),
    [
        ("```python\nanswer = count('red') + count('blue')\n```", True),
        ("Sure!\n```py\ntotal = 0\nfor w in ['red', 'blue']:\n    total += count(w)\nanswer = total\n```", True),
        ("answer = count('red') + count('blue')", True),
        ("The answer is 12.", False),
        ("```python\nanswer = 12\n```", False),
        ("```python\nprint(count('red') + count('blue'))\n```", False),
        ("```python\nanswer = count('red')\n```", False),
        ("```python\nanswer = (count('red'\n```", False),
        ("", False),
    ],
)
def test_the_smallest_task_of_an_agent_is_read_and_not_run(reply, able):
    assert solves(reply) is able


def test_a_new_server_near_by_is_tried_once_and_a_hosted_model_never(server, settings_for):
    registry = registry_at(server, settings_for)
    registry.probe_new()
    asked = len(server.chats())
    assert asked == 4
    registry.probe_new()
    registry_at(server, settings_for).probe_new()
    assert len(server.chats()) == asked
    hosted = ModelRegistry(settings_for(FLEET_MODEL="openai/gpt-5-mini", OPENAI_API_KEY="k"), environ={})
    hosted.probe_new()  # no network in tests: it would raise or hang
    assert hosted.resolve().weak is None
    ModelRegistry(settings_for(), environ={}).probe_new()  # nothing configured, nothing to try


def test_only_servers_of_this_machine_and_its_network_are_near():
    near = [
        "http://127.0.0.1:1/v1",
        "http://localhost:1",
        "http://10.1.2.3/v1",
        "http://192.168.0.9",
        "http://gpu.local/v1",
    ]
    assert all(map(is_near, near))
    assert not any(map(is_near, ["https://api.example.com/v1", "http://8.8.8.8/v1"]))


def test_a_hosted_model_with_a_small_window_is_called_weak_by_the_catalogue(settings_for):
    registry = ModelRegistry(settings_for(OPENAI_API_KEY="k"), environ={})
    assert "8,192 tokens" in registry.resolve("openai/gpt-4").weak
    assert registry.resolve("openai/gpt-5-mini").weak is None


def test_roles_take_their_own_model_or_the_roots(settings_for):
    variables = {"FLEET_MODEL": "openai/gpt-5", "FLEET_SUB_MODEL": "openai/gpt-5-mini", "OPENAI_API_KEY": "k"}
    registry = ModelRegistry(settings_for(**variables), environ={})
    found = {role: registry.for_role(role).model for role in ("root", "sub", "judge", "reflection")}
    assert found == {
        "root": "openai/gpt-5", "sub": "openai/gpt-5-mini", "judge": "openai/gpt-5", "reflection": "openai/gpt-5",
    }  # fmt: skip
    judged = ModelRegistry(settings_for(**variables, FLEET_JUDGE_MODEL="openai/gpt-5-nano"), environ={})
    assert judged.for_role("judge").model == "openai/gpt-5-nano"


def test_the_window_of_ollama_is_that_of_the_loaded_model(server, settings_for):
    loaded = [{"name": "other:latest", "context_length": 1}, {"name": "tiny:latest", "context_length": 32768}]
    server.get["/api/ps"] = (200, {"models": loaded})
    registry = registry_at(server, settings_for, model="ollama_chat/tiny")
    steps = {step.name: step for step in registry.test(registry.resolve())}
    assert steps["window"].ok and "32,768" in steps["window"].detail
    assert registry.resolve().context_window == 32768


def test_a_model_that_the_server_does_not_list_is_said(server, settings_for):
    registry = registry_at(server, settings_for, model="openai/other")
    step = registry.test(registry.resolve())[0]
    assert step.ok and "other is not among them: tiny" in step.detail


def test_a_server_that_is_down_ends_the_test_at_its_address(settings_for):
    registry = ModelRegistry(settings_for(FLEET_MODEL="openai/x", FLEET_API_BASE="http://127.0.0.1:9/v1"), environ={})
    (step,) = registry.test(registry.resolve())
    assert (step.name, step.ok) == ("address", False)
    assert "cannot be reached at http://127.0.0.1:9/v1" in step.detail and "running" in step.fix


def test_addresses_belong_to_one_provider(settings_for):
    settings = settings_for(
        FLEET_MODEL="ollama_chat/llama",
        FLEET_API_BASE="http://10.0.0.1:11434/v1",
        OPENAI_API_KEY="k",
        ANTHROPIC_API_KEY="a",
    )
    registry = ModelRegistry(settings, environ={})
    assert registry.resolve().api_base == "http://10.0.0.1:11434/v1"
    assert registry.resolve("openai/gpt-5-mini").api_base is None
    assert registry.resolve("anthropic/claude-sonnet-4-5").api_base is None
    assert registry.resolve("lm_studio/x").api_base == "http://127.0.0.1:1234/v1"
    openai = ModelRegistry(settings_for(FLEET_API_BASE="http://h/v1"), environ={})
    assert openai.resolve("openai/anything").api_base == "http://h/v1"


def test_openais_own_variable_for_an_address_is_honoured_with_its_key(settings_for):
    settings = settings_for(OPENAI_API_KEY="k")
    spec = ModelRegistry(settings, environ={"OPENAI_BASE_URL": "http://proxy/v1/"}).resolve("openai/x")
    assert (spec.api_base, spec.api_key.reveal()) == ("http://proxy/v1", "k")
    plain = ModelRegistry(settings, environ={"OPENAI_BASE_URL": "https://api.openai.com/v1"}).resolve(
        "openai/gpt-5-mini"
    )
    assert plain.api_base is None


def test_known_models_have_prices_and_windows_and_unknown_ones_have_none(settings_for):
    registry = ModelRegistry(settings_for(OPENAI_API_KEY="k", OPENROUTER_API_KEY="k"), environ={})
    known = registry.resolve("openai/gpt-5-mini")
    assert known.context_window > 100_000 and 0 < known.cost_usd(1000, 1000) < 1
    assert known.function_calling and known.response_schema
    unknown = registry.resolve("openrouter/nobody/nothing")
    assert (unknown.price, unknown.context_window, unknown.cost_usd(1, 1)) == (None, None, None)
    assert registry.resolve("demo/search").cost_usd(1000, 1000) == 0.0


def test_keys_come_from_the_environment_or_the_file(settings_for):
    settings = settings_for()
    with pytest.raises(NotConfigured, match="needs a key of Anthropic") as caught:
        ModelRegistry(settings, environ={}).resolve("anthropic/claude-sonnet-4-5")
    assert "ANTHROPIC_API_KEY" in caught.value.hint
    saved = save_settings(settings, {"keys.ANTHROPIC_API_KEY": "from-file"}, environ={})
    registry = ModelRegistry(saved, environ={})
    spec = registry.resolve("anthropic/claude-sonnet-4-5")
    assert (spec.api_key.reveal(), spec.key_variable) == ("from-file", "ANTHROPIC_API_KEY")
    lm = registry.lm(spec)
    assert lm.kwargs["api_key"] == "from-file" and "from-file" not in json.dumps(lm.dump_state(), default=str)


@pytest.mark.parametrize(
    ("model", "hint"),
    [
        ("opnai/gpt", "did you mean openai/gpt?"),
        ("qqq/x", "OpenAI-compatible server"),
        ("demo/other", "demo/search"),
        ("openai/", "provider/model"),
        ("gpt", "provider/model"),
    ],
)
def test_unknown_models_are_refused_with_what_to_do(settings_for, model, hint):
    with pytest.raises(InvalidInput) as caught:
        ModelRegistry(settings_for(), environ={}).resolve(model)
    assert "unknown model" in caught.value.message and hint in caught.value.hint


def test_without_a_model_the_hint_names_what_was_found(settings_for):
    with pytest.raises(NotConfigured, match="no model") as caught:
        ModelRegistry(settings_for(), environ={}).resolve()
    assert "demo/search" in caught.value.hint
    with pytest.raises(NotConfigured) as caught:
        ModelRegistry(settings_for(GEMINI_API_KEY="k"), environ={}).resolve()
    assert "GEMINI_API_KEY is set: use --model gemini/" in caught.value.hint


def test_available_lists_found_keys_and_ends_with_the_demo(settings_for):
    options = ModelRegistry(settings_for(ANTHROPIC_API_KEY="k"), environ={}).available()
    assert (options[0].model, options[0].reason) == ("anthropic/claude-sonnet-4-5", "ANTHROPIC_API_KEY is set")
    assert options[-1].model == "demo/search"


def test_lm_takes_a_subclass_and_options(server, settings_for):
    class Mine(dspy.LM): ...

    registry = registry_at(server, settings_for)
    lm = registry.lm(registry.resolve(), factory=Mine, num_retries=0, max_tokens=5)
    assert isinstance(lm, Mine) and lm.num_retries == 0
    assert isinstance(registry.lm(registry.resolve("demo/search"), factory=Mine), Mine)


def test_first_use_never_asks_the_network_for_prices(server, tmp_path):
    """In a process of its own, with the price list's address pointing at a server that would notice."""
    prices = server.address.removesuffix("/v1") + "/prices.json"
    code = (
        "import warnings, logging; logging.basicConfig()\n"
        "from pathlib import Path\n"
        "from fleet_rlm.runtime.config import load_settings\n"
        "from fleet_rlm.runtime.models.registry import ModelRegistry\n"
        f"registry = ModelRegistry(load_settings(home=Path({str(tmp_path)!r})))\n"
        "lm = registry.lm(registry.resolve())\n"
        "lm('hello'); print(lm.supports_response_schema)\n"
    )
    environ = {
        **os.environ, "LITELLM_MODEL_COST_MAP_URL": prices, "FLEET_MODEL": "openai/tiny", "FLEET_API_BASE": server.address,
    }  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, timeout=100)
    assert done.stdout.strip() == "True", done.stderr
    assert "refresh failed" not in done.stderr
    assert [asked.path for asked in server.asked] == ["/v1/chat/completions"]
