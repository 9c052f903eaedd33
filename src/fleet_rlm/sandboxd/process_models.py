"""The JSON shapes of sessions, interpreter contexts, ports, metrics and the environment."""

from __future__ import annotations

from typing import Any

from msgspec import Struct, field


class CreateSession(Struct, rename="camel"):
    """Body of POST /process/session."""

    session_id: str


class SessionExecute(Struct, rename="camel"):
    """Body of POST /process/session/{id}/exec; `async` is the older word for `runAsync`."""

    command: str
    run_async: bool = False
    older_async: bool = field(default=False, name="async")
    suppress_input_echo: bool = False


class SessionInput(Struct):
    """Body of POST .../input."""

    data: str


class CommandDto(Struct, rename="camel", omit_defaults=True):
    """A command of a session; without an exit code while it runs."""

    id: str
    command: str
    exit_code: int | None = None


class SessionDto(Struct, rename="camel"):
    """A session with its commands, oldest first."""

    session_id: str
    commands: list[CommandDto]


class SessionResult(Struct, rename="camel", omit_defaults=True):
    """Answer of .../exec: the id alone when the command goes on by itself."""

    cmd_id: str
    output: str | None = None
    stdout: str | None = None
    stderr: str | None = None
    exit_code: int | None = None


class CommandLogs(Struct):
    """The whole log of a command: with the stream markers, and each stream alone."""

    output: str
    stdout: str
    stderr: str


class CreateContext(Struct):
    """Body of POST /process/interpreter/context."""

    cwd: str | None = None
    language: str | None = None


class ContextDto(Struct, rename="camel"):
    """An interpreter context."""

    id: str
    cwd: str
    created_at: str
    active: bool
    language: str = "python"


class ContextList(Struct):
    """Answer of GET /process/interpreter/context."""

    contexts: list[ContextDto]


class RunCode(Struct, rename="camel"):
    """First frame of the execute socket; timeout in seconds, absent means 600 and 0 none."""

    code: str
    context_id: str | None = None
    envs: dict[str, str] | None = None
    timeout: float | None = None


class UpdateEnv(Struct, rename="camel"):
    """Body of POST /env: first names (and values by prefix) are taken away, then the set is added."""

    set: dict[str, str] = {}
    unset: list[str] = []
    unset_value_prefix: str | None = None


class PortList(Struct):
    """Answer of GET /port."""

    ports: list[int]


class PortInUse(Struct, rename="camel"):
    """Answer of GET /port/{port}/in-use."""

    is_in_use: bool


class PreviewUrl(Struct, rename="camel", omit_defaults=True):
    """Where a port of a sandbox can be reached; `port` only in the answer about a signed URL."""

    sandbox_id: str
    url: str
    token: str
    port: int | None = None


class SystemMetrics(Struct, rename="camel"):
    """What a sandbox uses now; sizes in bytes."""

    cpu_count: int
    cpu_used_pct: float
    mem_total: int
    mem_used: int
    mem_cache: int
    disk_total: int
    disk_used: int
    disk_free: int
    timestamp: str
    timestamp_unix: int


class ResizeSandbox(Struct):
    """Body of POST /sandbox/{id}/resize; memory and disk in GiB."""

    cpu: int | None = None
    memory: int | None = None
    disk: int | None = None


class CodeRunResponse(Struct, rename="camel"):
    """Answer of /process/code-run; nothing here draws charts."""

    exit_code: int
    result: str
    artifacts: dict[str, list[Any]] = field(default_factory=lambda: {"charts": []})


class MetricPoint(Struct):
    """One measurement."""

    timestamp: str
    value: float


class MetricSeries(Struct, rename="camel"):
    """The measurements of one kind."""

    metric_name: str
    data_points: list[MetricPoint]


class MetricsResponse(Struct):
    """Answer of /sandbox/{id}/telemetry/metrics."""

    series: list[MetricSeries]


class SignIn(Struct, rename="camel"):
    """The sign-in of the cloud, which is not here: empty texts."""

    issuer: str = ""
    client_id: str = ""
    audience: str = ""
    provider: str = ""


class ServerConfig(Struct, rename="camel", kw_only=True):
    """Answer of GET /config; the SDK wants every field of it."""

    version: str
    oidc: SignIn = field(default_factory=SignIn)
    linked_accounts_enabled: bool = False
    announcements: dict[str, str] = {}
    proxy_template_url: str
    proxy_toolbox_url: str
    default_snapshot: str = "default"
    dashboard_url: str
    max_auto_archive_interval: int = 0
    maintenance_mode: bool = field(default=False, name="maintananceMode")  # misspelt so in the API
    environment: str = "local"
