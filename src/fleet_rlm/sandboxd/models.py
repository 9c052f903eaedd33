"""The JSON shapes of the API, with the exact names that the SDK requires, and the records kept on disk."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

from msgspec import Struct

ORGANIZATION: Final = "local"
TARGET: Final = "local"
DAEMON_VERSION: Final = "0.226.1"
RECORD_VERSION: Final = 1


class State(StrEnum):
    """The sandbox states of this server; a subset of Daytona's."""

    CREATING = "creating"
    STARTED = "started"
    STOPPING = "stopping"
    STOPPED = "stopped"
    DESTROYING = "destroying"
    DESTROYED = "destroyed"
    ERROR = "error"


def timestamp(seconds: float) -> str:
    """Seconds since 1970 as RFC 3339 with milliseconds."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class VolumeMount(Struct, rename="camel", omit_defaults=True, frozen=True):
    """A volume, or a folder of it, at a path of the sandbox."""

    volume_id: str
    mount_path: str
    subpath: str | None = None


class BuildInfo(Struct, rename="camel"):
    """How an image is made."""

    dockerfile_content: str
    context_hashes: list[str] | None = None


class CreateSandbox(Struct, rename="camel", kw_only=True):
    """Body of POST /sandbox."""

    name: str | None = None
    snapshot: str | None = None
    user: str | None = None
    env: dict[str, str] | None = None
    labels: dict[str, str] | None = None
    public: bool | None = None
    target: str | None = None
    cpu: int | None = None
    gpu: int | None = None
    memory: int | None = None
    disk: int | None = None
    auto_stop_interval: int | None = None
    auto_pause_interval: int | None = None
    auto_archive_interval: int | None = None
    auto_delete_interval: int | None = None
    ttl_minutes: int | None = None
    volumes: list[VolumeMount] | None = None
    build_info: BuildInfo | None = None
    network_block_all: bool | None = None
    network_allow_list: str | None = None
    domain_allow_list: str | None = None
    outbound_proxy_url: str | None = None
    secrets: list[dict[str, str]] | None = None
    linked_sandbox: str | None = None
    spot: bool | None = None
    kvm: bool | None = None


class SandboxRecord(Struct, rename="camel", kw_only=True):
    """A sandbox as it is kept on disk; times in seconds since 1970, intervals in minutes, sizes in GiB."""

    id: str
    name: str
    created_at: float
    updated_at: float
    env: dict[str, str]
    labels: dict[str, str]
    version: int = RECORD_VERSION
    user: str = "sandbox"
    public: bool = False
    target: str = TARGET
    cpu: int = 1
    memory: int = 1
    disk: int = 3
    auto_stop_interval: int = 15
    auto_archive_interval: int = 10080
    auto_delete_interval: int = -1
    ttl_minutes: int = 0
    volumes: tuple[VolumeMount, ...] = ()
    stopped_at: float | None = None
    error_reason: str | None = None
    snapshot: str | None = None  # the name it was created by
    network_block_all: bool = True
    network_allow_list: str | None = None
    domain_allow_list: str | None = None
    signing_key: str = ""  # signs URLs of files; never part of what the API shows of a sandbox

    @property
    def ephemeral(self) -> bool:
        """Deleted as soon as it stops."""
        return self.auto_delete_interval == 0


class SandboxListItem(Struct, rename="camel", kw_only=True, omit_defaults=True):
    """A sandbox in a list."""

    id: str
    organization_id: str
    name: str
    user: str
    labels: dict[str, str]
    public: bool
    network_block_all: bool
    target: str
    cpu: int
    gpu: int
    memory: int
    disk: int
    toolbox_proxy_url: str
    network_allow_list: str | None = None
    domain_allow_list: str | None = None
    snapshot: str | None = None
    state: str | None = None
    desired_state: str | None = None
    error_reason: str | None = None
    recoverable: bool | None = None
    auto_stop_interval: int | None = None
    auto_archive_interval: int | None = None
    auto_delete_interval: int | None = None
    auto_destroy_at: str | None = None
    created_at: str | None = None
    updated_at: str | None = None
    last_activity_at: str | None = None
    sandbox_class: str | None = None
    daemon_version: str | None = None


class SandboxDto(SandboxListItem, rename="camel", kw_only=True, omit_defaults=True):
    """A sandbox read singly."""

    env: dict[str, str]
    kvm: bool
    volumes: tuple[VolumeMount, ...] | None = None


class SandboxPage(Struct, rename="camel"):
    """One page of a list; a null cursor ends it."""

    items: list[SandboxListItem]
    next_cursor: str | None


class NetworkSettings(Struct, rename="camel"):
    """Body of POST /sandbox/{id}/network-settings; what is absent stays as it is."""

    network_block_all: bool | None = None
    network_allow_list: str | None = None
    domain_allow_list: str | None = None


class Labels(Struct):
    """Body and answer of PUT /sandbox/{id}/labels."""

    labels: dict[str, str]


class Url(Struct):
    """Answers that are one URL."""

    url: str


class Folder(Struct):
    """Answer of /work-dir and /user-home-dir."""

    dir: str


class CreateVolume(Struct):
    """Body of POST /volumes."""

    name: str


class VolumeRecord(Struct, rename="camel", kw_only=True):
    """A volume as it is kept on disk."""

    id: str
    name: str
    created_at: float
    version: int = RECORD_VERSION


class VolumeDto(Struct, rename="camel", kw_only=True, omit_defaults=True):
    """A volume as the API shows it."""

    id: str
    name: str
    organization_id: str
    state: str
    created_at: str
    updated_at: str
    last_used_at: str | None = None
    error_reason: str | None = None


class ExecuteRequest(Struct):
    """Body of POST /process/execute; timeout in seconds, absent or 0 means none."""

    command: str
    cwd: str | None = None
    envs: dict[str, str] | None = None
    timeout: int | None = None


class CodeRunRequest(Struct):
    """Body of POST /process/code-run."""

    code: str
    language: str = "python"
    argv: list[str] | None = None
    envs: dict[str, str] | None = None
    timeout: int | None = None


class ExecuteResponse(Struct, rename="camel"):
    """Exit code and merged output."""

    exit_code: int
    result: str


class PtyCreate(Struct, rename="camel"):
    """Body of POST /process/pty, the two-step way of older SDKs."""

    id: str
    cwd: str | None = None
    envs: dict[str, str] | None = None
    cols: int = 80
    rows: int = 24
    lazy_start: bool = False


class PtyCreated(Struct, rename="camel"):
    """Answer of POST /process/pty."""

    session_id: str


class PtySize(Struct):
    """Body of POST /process/pty/{id}/resize."""

    cols: int
    rows: int


class PtyInfo(Struct, rename="camel"):
    """A terminal as the API shows it."""

    id: str
    cwd: str
    envs: dict[str, str]
    cols: int
    rows: int
    created_at: str
    active: bool
    lazy_start: bool = False


class PtyList(Struct):
    """Answer of GET /process/pty."""

    sessions: list[PtyInfo]


class FileInfo(Struct, rename="camel"):
    """One entry of a folder."""

    name: str
    size: int
    mode: str
    mod_time: str
    modified_at: str
    is_dir: bool
    owner: str
    group: str
    permissions: str
    path: str


class DownloadRequest(Struct):
    """Body of POST /files/bulk-download."""

    paths: list[str]


class Uploaded(Struct):
    """One file that was written, with its size in bytes."""

    path: str
    bytes: int


class UploadResponse(Struct):
    """Answer of POST /files/bulk-upload."""

    files: list[Uploaded]
