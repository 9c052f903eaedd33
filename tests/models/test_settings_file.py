"""Settings: order of precedence, sources, saving, and one clear line for each mistake."""

import multiprocessing
import subprocess
import sys

import pytest

from fleet_rlm.errors import InvalidInput
from fleet_rlm.runtime.config import SETTINGS, Secret, load_settings, save_settings
from fleet_rlm.runtime.policy import Policy


@pytest.fixture
def home(tmp_path):
    return tmp_path / "home"


def test_defaults(home):
    settings = load_settings(home=home, environ={})
    assert (settings.model, settings.mode, settings.host, settings.port) == (None, "auto", "127.0.0.1", 8000)
    assert (settings.limits.calls, settings.limits.depth, settings.limits.cost_usd) == (1000, 2, None)
    assert set(settings.sources.values()) == {"default", "argument"}
    assert not home.exists()  # reading creates nothing


def test_each_layer_wins_over_the_one_below_and_says_so(home):
    base = load_settings(home=home, environ={})
    changes = {"model": "openai/file", "sub_model": "openai/file", "mode": "rlm", "keys.OPENAI_API_KEY": "from-file"}
    save_settings(base, changes, environ={})
    environ = {"FLEET_SUB_MODEL": "openai/env", "FLEET_MODE": "direct", "OPENAI_API_KEY": "from-env", "FLEET_PORT": " "}
    settings = load_settings(home=home, environ=environ, overrides={"mode": "auto", "model": None})
    assert (settings.model, settings.sub_model, settings.mode) == ("openai/file", "openai/env", "auto")
    assert settings.keys["OPENAI_API_KEY"].reveal() == "from-env"
    wanted = {
        "model": "file",
        "sub_model": "environment",
        "mode": "argument",
        "port": "default",
        "keys.OPENAI_API_KEY": "environment",
    }
    assert {name: settings.sources[name] for name in wanted} == wanted


def test_every_variable_reaches_its_setting(home):
    values = {
        "FLEET_MODEL": "a/b", "FLEET_SUB_MODEL": "a/c", "FLEET_API_BASE": "http://127.0.0.1:1/v1/", "FLEET_API_KEY": "k1",
        "FLEET_MODE": "rlm", "FLEET_MAX_CALLS": "7", "FLEET_MAX_TOKENS": "8", "FLEET_MAX_COST": "0.5", "FLEET_TIMEOUT": "9",
        "FLEET_MAX_DEPTH": "0", "FLEET_MAX_CHILDREN": "3", "FLEET_MAX_SANDBOXES": "4", "FLEET_HOST": "localhost",
        "FLEET_PORT": "0", "FLEET_UNSAFE_NO_SANDBOX": "1", "FLEET_ALLOW_DEGRADED": "1", "DAYTONA_API_KEY": "k2", "DAYTONA_API_URL": "https://d/api",
        "DAYTONA_TARGET": "eu", "FLEET_TOOLS": "web,memory", "FLEET_CALL_WIDTH": "5", "FLEET_VARIABLE_MODE": "always",
        "FLEET_JUDGE_MODEL": "a/d", "FLEET_MODELS_ALLOWED": "a/e, a/f,,a/e", "FLEET_VERIFY": "judge", "FLEET_AT_LIMIT": "ask",
        "FLEET_ASK_TOOLS": "fetch_*, delegate", "FLEET_ASK_HOSTS": "all", "FLEET_ALLOWED_HOSTS": "*.org",
        "FLEET_ASK_COST": "1.5", "FLEET_ASK_DEPTH": "2", "FLEET_ASK_SECONDS": "0", "FLEET_ASK_OTHERWISE": "allow",
        "FLEET_ASK_USER": "no", "FLEET_POLICY_MAX_DEPTH": "4",
    }  # fmt: skip
    assert set(values) == {setting.variable for setting in SETTINGS}
    settings = load_settings(home=home, environ=values)
    limits = settings.limits
    assert (settings.model, settings.sub_model, settings.api_base, settings.mode) == (
        "a/b",
        "a/c",
        "http://127.0.0.1:1/v1",
        "rlm",
    )
    assert (limits.calls, limits.tokens, limits.cost_usd, limits.wall_s) == (7, 8, 0.5, 9.0)
    assert (limits.depth, limits.children, limits.sandboxes) == (0, 3, 4)
    assert (settings.host, settings.port, settings.unsafe_no_sandbox) == ("localhost", 0, True)
    assert settings.allow_degraded and settings.tools == ("memory", "web") and settings.call_width == 5
    assert (settings.judge_model, settings.models_allowed, settings.verify) == ("a/d", ("a/e", "a/f"), "judge")
    assert settings.at_limit == "ask"
    assert settings.api_key == Secret("k1") and settings.daytona_api_key == Secret("k2")
    assert (settings.daytona_api_url, settings.daytona_target) == ("https://d/api", "eu")
    assert settings.policy == Policy(
        ask_tools=("fetch_*", "delegate"), ask_hosts=("*",), allowed_hosts=("*.org",), ask_cost_usd=1.5, ask_depth=2,
        ask_seconds=0, otherwise="allow", ask_user=False, max_depth=4,
    )  # fmt: skip
    assert set(settings.sources.values()) == {"environment", "argument"}


def test_a_policy_from_the_file(home):
    saved = save_settings(
        load_settings(home=home, environ={}),
        {
            "policy.ask_tools": ["web_*", "x"],
            "policy.ask_hosts": "none",
            "policy.max_depth": 1,
            "policy.ask_seconds": 2,
        },
        environ={},
    )
    assert (saved.policy.ask_tools, saved.policy.ask_hosts, saved.policy.ask_seconds) == (("web_*", "x"), (), 2.0)
    assert saved.limits.depth == 1, "the default depth is cut to what the policy allows"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("FLEET_ASK_TOOLS", "two words", "without spaces"),
        ("FLEET_ASK_OTHERWISE", "maybe", "expected allow or deny"),
        ("FLEET_ASK_SECONDS", "-1", "expected a number above 0"),
        ("FLEET_POLICY_MAX_DEPTH", "9", "expected a whole number from 0 to 8"),
    ],
)
def test_a_bad_policy_is_one_line(home, name, value, said):
    with pytest.raises(InvalidInput) as caught:
        load_settings(home=home, environ={name: value})
    assert said in str(caught.value) and name in str(caught.value)


def test_the_home_folder_from_the_environment(tmp_path):
    settings = load_settings(environ={"FLEET_HOME": str(tmp_path / "x")})
    assert (settings.home, settings.sources["home"]) == (tmp_path / "x", "environment")
    settings.make_home()
    assert settings.home.stat().st_mode & 0o777 == 0o700


def test_a_list_of_models_is_saved_and_read_back(home):
    saved = save_settings(load_settings(home=home, environ={}), {"models_allowed": ["a/b", "c/d"]}, environ={})
    assert saved.models_allowed == ("a/b", "c/d")
    with pytest.raises(InvalidInput, match="models_allowed"):
        save_settings(saved, {"models_allowed": ["a/b", 3]}, environ={})
    with pytest.raises(InvalidInput, match="expected one of off, judge"):
        save_settings(saved, {"verify": "maybe"}, environ={})


def test_secrets_never_show(home):
    settings = load_settings(
        home=home, environ={"FLEET_API_KEY": "hush-1", "OPENAI_API_KEY": "hush-2", "DAYTONA_API_KEY": "hush-3"}
    )
    assert "hush" not in repr(settings) + str(settings.api_key) + f"{settings.keys}"
    with pytest.raises(InvalidInput) as caught:
        load_settings(home=home, environ={"FLEET_API_KEY": "hush\nhush"})
    assert "hush" not in str(caught.value)


def test_saving_is_private_atomic_and_removable(home):
    settings = load_settings(home=home, environ={})
    saved = save_settings(
        settings, {"model": 'openai/"ü', "limits.cost_usd": 2, "api_key": Secret("s"), "port": 80}, environ={}
    )
    assert (saved.model, saved.limits.cost_usd, saved.api_key, saved.port) == ('openai/"ü', 2.0, Secret("s"), 80)
    assert saved.file.stat().st_mode & 0o777 == 0o600
    assert home.stat().st_mode & 0o777 == 0o700
    again = save_settings(saved, {"model": None, "port": None}, environ={})
    assert (again.model, again.port, again.limits.cost_usd) == (None, 8000, 2.0)
    assert sorted(path.name for path in home.iterdir()) == [".settings.toml.lock", "settings.toml"]


def _save_one(home, name, value):
    save_settings(load_settings(home=home, environ={}), {name: value}, environ={})


def test_savers_do_not_lose_each_others_changes(home):
    context = multiprocessing.get_context("spawn")
    names = ["limits.calls", "limits.tokens", "limits.children", "port"]
    workers = [context.Process(target=_save_one, args=(home, name, number + 1)) for number, name in enumerate(names)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    settings = load_settings(home=home, environ={})
    assert (settings.limits.calls, settings.limits.tokens, settings.limits.children, settings.port) == (1, 2, 3, 4)


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("FLEET_MODEL", "gpt-5", "expected provider/model"),
        ("FLEET_MAX_CALLS", "0", "expected a whole number from 1"),
        ("FLEET_MAX_CALLS", "many", "FLEET_MAX_CALLS in the environment"),
        ("FLEET_MAX_COST", "-1", "above 0"),
        ("FLEET_TIMEOUT", "nan", "above 0"),
        ("FLEET_MODE", "fast", "auto, rlm, direct"),
        ("FLEET_API_BASE", "localhost:8080", "http:// or https://"),
        ("FLEET_API_BASE", "http://user:hush@h/v1", "must not hold a user name"),
        *(
            ("FLEET_API_BASE", f"http://{host}/v1", "plain letters")
            for host in ("例子", "host\u200b", "127.0.0.1/\u4e2d")
        ),
        *(("FLEET_API_BASE", f"http://{host}/v1", "is no host name") for host in ("a..b", f"{'x' * 64}.org")),
        ("FLEET_PORT", "70000", "65535"),
        ("FLEET_UNSAFE_NO_SANDBOX", "maybe", "true or false"),
    ],
)
def test_a_bad_value_is_one_line_with_its_place(home, variable, value, said):
    with pytest.raises(InvalidInput) as caught:
        load_settings(home=home, environ={variable: value})
    assert said in str(caught.value) and "hush" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("modle = 'a/b'", "unknown setting 'modle'"),
        ("[limits]\nspeed = 3", "unknown setting 'limits.speed'"),
        ("model = ", "cannot read"),
        ("model = 3", "bad value of model"),
        ("unsafe_no_sandbox = true", "typed each time"),
        ("[keys]\nMY_KEY = 'x'", "unknown setting 'keys.MY_KEY'"),
        ("\xff", "cannot read"),
    ],
)
def test_a_bad_file_is_one_line_with_its_path(home, text, said):
    home.mkdir()
    (home / "settings.toml").write_bytes(text.encode("latin-1"))
    with pytest.raises(InvalidInput) as caught:
        load_settings(home=home, environ={})
    assert said in str(caught.value) and "settings.toml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_refused_change_writes_nothing(home):
    settings = save_settings(load_settings(home=home, environ={}), {"model": "a/b"}, environ={})
    before = settings.file.read_bytes()
    with pytest.raises(InvalidInput):
        save_settings(settings, {"mode": "rlm", "limits.depth": 99}, environ={})
    assert settings.file.read_bytes() == before


def test_importing_the_settings_is_light():
    code = "import sys, fleet_rlm.runtime.config; print('dspy' in sys.modules, 'pydantic' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False False"
