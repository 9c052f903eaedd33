"""Settings, and where each value came from.

    defaults  <  <home>/settings.toml  <  environment  <  arguments of load_settings

One table (`SETTINGS`) names every setting, its variable and how it is read; nothing else knows them. Keys of model
providers stand under their usual variable names (`OPENAI_API_KEY`, ...), in the environment or in the file's `[keys]`.
`unsafe_no_sandbox` is never read from the file: it must be typed each time.

This module is light (no dspy), so that `fleet --help` may import it.
"""

from __future__ import annotations

import difflib
import fcntl
import json
import os
import tempfile
import tomllib
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal, cast

import platformdirs

from fleet_rlm.errors import InvalidInput
from fleet_rlm.integrations.mcp.servers import McpServer
from fleet_rlm.runtime.config_mcp import mcp_servers, mcp_tables
from fleet_rlm.runtime.config_values import (
    Secret,
    VariableMode,
    Verification,
    address,
    at_limit,
    boolean,
    mode,
    model_list,
    model_string,
    one_line,
    otherwise,
    patterns,
    positive,
    seconds,
    secret,
    tool_groups,
    variable_mode,
    verification,
    whole,
)
from fleet_rlm.runtime.execution.events import Limits, Mode
from fleet_rlm.runtime.execution.requests import AtLimit
from fleet_rlm.runtime.models.prices import Price, as_tables, read_prices
from fleet_rlm.runtime.policy import DEEPEST, Policy
from fleet_rlm.runtime.tool_groups import TOOL_GROUPS

if TYPE_CHECKING:
    from collections.abc import Generator

Source = Literal["default", "file", "environment", "argument"]

FILE_NAME: Final = "settings.toml"
DEFAULT_PORT: Final = 8000

PROVIDER_KEYS: Final = (
    "OPENAI_API_KEY",
    "ANTHROPIC_API_KEY",
    "GEMINI_API_KEY",
    "GOOGLE_API_KEY",
    "OPENROUTER_API_KEY",
    "GROQ_API_KEY",
    "DEEPSEEK_API_KEY",
    "XAI_API_KEY",
    "MISTRAL_API_KEY",
    "TOGETHERAI_API_KEY",
    "FIREWORKS_AI_API_KEY",
    "AZURE_API_KEY",
)
"""Variables that hold a model provider's key; the names are the providers' own."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting: its name (as in the file; a dot is a table), its variable, and how its text is read."""

    name: str
    variable: str
    parse: Callable[[object], Any]
    default: Any = None
    in_file: bool = True


_COUNT: Final = whole(1, 1_000_000_000)

_RULES: Final = Policy()

SETTINGS: Final = (
    Setting("model", "FLEET_MODEL", model_string),
    Setting("sub_model", "FLEET_SUB_MODEL", model_string),
    Setting("judge_model", "FLEET_JUDGE_MODEL", model_string),
    Setting("models_allowed", "FLEET_MODELS_ALLOWED", model_list, ()),
    Setting("verify", "FLEET_VERIFY", verification, "off"),
    Setting("api_base", "FLEET_API_BASE", address),
    Setting("api_key", "FLEET_API_KEY", secret),
    Setting("mode", "FLEET_MODE", mode, "auto"),
    Setting("tools", "FLEET_TOOLS", tool_groups, TOOL_GROUPS),
    Setting("variable_mode", "FLEET_VARIABLE_MODE", variable_mode, "auto"),
    Setting("limits.calls", "FLEET_MAX_CALLS", _COUNT, 1000),
    Setting("limits.tokens", "FLEET_MAX_TOKENS", _COUNT),
    Setting("limits.cost_usd", "FLEET_MAX_COST", positive),
    Setting("limits.wall_s", "FLEET_TIMEOUT", positive, 3600.0),
    Setting("limits.depth", "FLEET_MAX_DEPTH", whole(0, 8), Limits().depth),
    Setting("limits.children", "FLEET_MAX_CHILDREN", _COUNT),
    Setting("limits.sandboxes", "FLEET_MAX_SANDBOXES", whole(1, 4096), Limits().sandboxes),
    Setting("at_limit", "FLEET_AT_LIMIT", at_limit, "finish"),
    Setting("call_width", "FLEET_CALL_WIDTH", whole(1, 1024), 64),
    Setting("policy.ask_tools", "FLEET_ASK_TOOLS", patterns, _RULES.ask_tools),
    Setting("policy.ask_hosts", "FLEET_ASK_HOSTS", patterns, _RULES.ask_hosts),
    Setting("policy.allowed_hosts", "FLEET_ALLOWED_HOSTS", patterns, _RULES.allowed_hosts),
    Setting("policy.ask_cost_usd", "FLEET_ASK_COST", positive),
    Setting("policy.ask_depth", "FLEET_ASK_DEPTH", whole(1, DEEPEST)),
    Setting("policy.ask_seconds", "FLEET_ASK_SECONDS", seconds, _RULES.ask_seconds),
    Setting("policy.otherwise", "FLEET_ASK_OTHERWISE", otherwise, _RULES.otherwise),
    Setting("policy.ask_user", "FLEET_ASK_USER", boolean, _RULES.ask_user),
    Setting("policy.max_depth", "FLEET_POLICY_MAX_DEPTH", whole(0, DEEPEST), _RULES.max_depth),
    Setting("host", "FLEET_HOST", one_line, "127.0.0.1"),
    Setting("port", "FLEET_PORT", whole(0, 65535), DEFAULT_PORT),
    Setting("allow_degraded", "FLEET_ALLOW_DEGRADED", boolean, False),
    Setting("unsafe_no_sandbox", "FLEET_UNSAFE_NO_SANDBOX", boolean, False, in_file=False),
    Setting("daytona_api_key", "DAYTONA_API_KEY", secret),
    Setting("daytona_api_url", "DAYTONA_API_URL", address),
    Setting("daytona_target", "DAYTONA_TARGET", one_line),
)
_BY_NAME: Final = {setting.name: setting for setting in SETTINGS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that can be set. `sources` says for each name (as in `SETTINGS`, and each key) where it came from.

    `models_allowed`: models that the code of a run may call by name, besides those of the turn. `verify` "judge": the
    judge model (default: the root model) checks each answer once. `api_base` and `api_key` belong to the model address
    of the person's own choice; `keys` are providers' keys by variable name, `prices` the person's own by model string
    (see prices.py). `at_limit` says what happens at a limit. Units: `limits` as in `events.Limits`; `call_width` in
    calls in flight at one provider, at most.
    """

    home: Path
    model: str | None = None
    sub_model: str | None = None
    judge_model: str | None = None
    models_allowed: tuple[str, ...] = ()
    verify: Verification = "off"
    api_base: str | None = None
    api_key: Secret | None = None
    mode: Mode = "auto"
    tools: tuple[str, ...] = TOOL_GROUPS
    mcp: tuple[McpServer, ...] = ()
    variable_mode: VariableMode = "auto"
    limits: Limits = field(default_factory=Limits)
    at_limit: AtLimit = "finish"
    call_width: int = 64
    policy: Policy = field(default_factory=Policy)
    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    allow_degraded: bool = False
    unsafe_no_sandbox: bool = False
    daytona_api_key: Secret | None = None
    daytona_api_url: str | None = None
    daytona_target: str | None = None
    keys: Mapping[str, Secret] = field(default_factory=lambda: MappingProxyType({}))
    prices: Mapping[str, Price] = field(default_factory=lambda: MappingProxyType({}))
    sources: Mapping[str, Source] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def file(self) -> Path:
        """Where saved settings lie."""
        return self.home / FILE_NAME

    def make_home(self) -> Path:
        """Create the data folder, 0700, where it is missing. Errors: InvalidInput when it cannot be had."""
        try:
            self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise InvalidInput(
                f"cannot use {self.home} as data folder: {error.strerror}", hint="set FLEET_HOME to a folder of yours"
            ) from None
        return self.home


def load_settings(
    *,
    home: Path | None = None,
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, object] | None = None,
) -> Settings:
    """Merge defaults, the file, the environment and `overrides` (name -> value as in `SETTINGS`; None = not given).

    Errors: InvalidInput with the name, the place and the value's fault.
    """
    env = os.environ if environ is None else environ
    folder, home_source = _find_home(home, env)
    path = folder / FILE_NAME
    values: dict[str, Any] = {setting.name: setting.default for setting in SETTINGS}
    sources: dict[str, Source] = dict.fromkeys(values, "default")
    tables = _read_file(path)
    stored = _flatten(tables, path)
    keys = {name: value for name, value in stored.items() if name.startswith("keys.")}
    _merge(values, sources, {n: v for n, v in stored.items() if n not in keys}, "file", str(path))
    typed = {s.name: env[s.variable] for s in SETTINGS if env.get(s.variable, "").strip()}
    _merge(values, sources, typed, "environment", "the environment")
    given = {name: value for name, value in (overrides or {}).items() if value is not None}
    _merge(values, sources, given, "argument", "the arguments")
    sources["home"] = home_source
    policy = Policy(**_table("policy.", values))
    limits = Limits(**_table("limits.", values))
    if limits.depth > policy.max_depth:  # a default that the policy cuts is no request
        limits = Limits(**{**_table("limits.", values), "depth": policy.max_depth})
    plain = {name: value for name, value in values.items() if "." not in name}
    secrets = _provider_keys(keys, env, sources)
    return Settings(
        home=folder,
        limits=limits,
        policy=policy,
        keys=MappingProxyType(secrets),
        prices=MappingProxyType(_prices(tables, path)),
        mcp=mcp_servers(tables.get("mcp", {}), str(path)),
        sources=MappingProxyType(sources),
        **plain,
    )


def save_settings(
    settings: Settings, changes: Mapping[str, object], *, environ: Mapping[str, str] | None = None
) -> Settings:
    """Write `changes` into the settings file (None removes a value) and load anew.

    Names as in `SETTINGS`, or `keys.<VARIABLE>`. The file is replaced atomically, 0600; two savers wait for each other.
    Errors: InvalidInput for an unknown name or a bad value; then nothing is written.
    """
    settings.make_home()
    path = settings.file
    with _locked(settings.home / f".{FILE_NAME}.lock"):
        tables = _read_file(path)
        stored = _flatten(tables, path)
        prices = as_tables(_prices(tables, path))
        for name, value in changes.items():
            if value is None:
                _check_name(name, "the change")
                stored.pop(name, None)
            else:
                parsed = _parse(name, value, "file", "the change")
                stored[name] = parsed.reveal() if isinstance(parsed, Secret) else parsed
        mcp_servers(tables.get("mcp", {}), str(path))
        apart = {f"prices.{json.dumps(m)}": t for m, t in prices.items()} | mcp_tables(tables.get("mcp", {}))
        _write_private(path, _as_toml(stored, apart))
    return load_settings(home=settings.home, environ=environ)


def _table(prefix: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of one table, by their names in it."""
    return {name.removeprefix(prefix): value for name, value in values.items() if name.startswith(prefix)}


def expanded(path: Path) -> Path:
    """The path with `~` replaced. Errors: InvalidInput where there is no such person."""
    try:
        return path.expanduser()
    except RuntimeError:
        raise InvalidInput(f"{path}: there is no such home folder", hint="write the path in full") from None


def _find_home(home: Path | None, env: Mapping[str, str]) -> tuple[Path, Source]:
    if home is not None:
        return expanded(home).absolute(), "argument"
    if named := env.get("FLEET_HOME", "").strip():
        return expanded(Path(named)).absolute(), "environment"
    return platformdirs.user_data_path("fleet-rlm", appauthor=False), "default"


def _read_file(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise InvalidInput(f"cannot read {path}: {reason}", hint="correct the file or remove it") from None


def _prices(tables: Mapping[str, Any], path: Path) -> dict[str, Price]:
    try:
        return read_prices(tables.get("prices", {}))
    except ValueError as error:
        raise InvalidInput(f"bad price in {path}: {error}") from None


def _flatten(tables: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Names as in `SETTINGS`; the tables of prices and of MCP servers stand apart, with names of the person's own."""
    flat: dict[str, Any] = {}
    for name, value in tables.items():
        if name in ("prices", "mcp"):
            continue
        if isinstance(value, dict):
            flat.update({f"{name}.{inner}": v for inner, v in cast("dict[str, Any]", value).items()})
        else:
            flat[name] = value
    for name in flat:
        _check_name(name, str(path))
    return flat


def _check_name(name: str, where: str) -> None:
    if name in _BY_NAME or (name.startswith("keys.") and name.removeprefix("keys.") in PROVIDER_KEYS):
        return
    names = [*_BY_NAME, *(f"keys.{key}" for key in PROVIDER_KEYS)]
    close = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {close[0]}?" if close else "known: " + ", ".join(_BY_NAME) + ", keys.<VARIABLE>"
    raise InvalidInput(f"unknown setting {name!r} in {where}", hint=hint)


def _parse(name: str, value: object, source: Source, where: str) -> Any:
    _check_name(name, where)
    setting = _BY_NAME.get(name)
    if source == "file" and setting is not None and not setting.in_file:
        raise InvalidInput(f"{name} cannot be saved ({where})", hint="it must be typed each time: use the flag")
    shown = setting.variable if setting is not None and source == "environment" else name
    try:
        return (setting.parse if setting is not None else secret)(value)
    except ValueError as error:
        hidden = setting is None or setting.parse is secret
        fault = "expected one line of text" if hidden else str(error)
        raise InvalidInput(f"bad value of {shown} in {where}: {fault}") from None


def _merge(
    values: dict[str, Any], sources: dict[str, Source], found: Mapping[str, object], source: Source, where: str
) -> None:
    for name, value in found.items():
        values[name] = _parse(name, value, source, where)
        sources[name] = source


def _provider_keys(
    stored: Mapping[str, object], env: Mapping[str, str], sources: dict[str, Source]
) -> dict[str, Secret]:
    keys: dict[str, Secret] = {}
    for variable in PROVIDER_KEYS:
        if env.get(variable, "").strip():
            keys[variable] = _parse(f"keys.{variable}", env[variable], "environment", "the environment")
            sources[f"keys.{variable}"] = "environment"
        elif f"keys.{variable}" in stored:
            keys[variable] = _parse(f"keys.{variable}", stored[f"keys.{variable}"], "file", FILE_NAME)
            sources[f"keys.{variable}"] = "file"
    return keys


def _as_toml(flat: Mapping[str, Any], apart: Mapping[str, Mapping[str, Any]]) -> str:
    """The flat names as TOML, then the tables `apart`. A JSON string with its Unicode is a TOML basic string."""
    tables: dict[str, list[str]] = {"": []}
    for name, value in flat.items():
        table, _, key = name.rpartition(".")
        tables.setdefault(table, []).append(f"{key} = {json.dumps(value, ensure_ascii=False)}")
    for name, values in apart.items():
        tables[name] = [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in values.items()]
    parts = ["\n".join(tables.pop("")), *(f"[{name}]\n" + "\n".join(lines) for name, lines in tables.items())]
    return "\n\n".join(part for part in parts if part) + "\n"


def _write_private(path: Path, text: str) -> None:
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # mkstemp makes it 0600
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


@contextmanager
def _locked(path: Path) -> Generator[None]:
    with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
