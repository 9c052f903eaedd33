"""The JSON shapes of snapshots, and their record on disk."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from msgspec import Struct

from fleet_rlm.sandboxd.models import RECORD_VERSION, BuildInfo


class SnapshotState(StrEnum):
    """The snapshot states of this server; a subset of Daytona's."""

    BUILDING = "building"
    ACTIVE = "active"
    INACTIVE = "inactive"
    BUILD_FAILED = "build_failed"


class CreateSnapshot(Struct, rename="camel"):
    """Body of POST /snapshots."""

    name: str
    image_name: str | None = None
    build_info: BuildInfo | None = None
    entrypoint: list[str] | None = None
    cpu: int | None = None
    gpu: int | None = None
    memory: int | None = None
    disk: int | None = None
    region_id: str | None = None
    sandbox_class: str | None = None


class SnapshotName(Struct, rename="camel"):
    """Body of POST /sandbox/{id}/snapshot."""

    name: str
    include_memory: bool | None = None


class SnapshotRecord(Struct, rename="camel", kw_only=True):
    """A snapshot as it is kept on disk; times in seconds since 1970, sizes in GiB."""

    id: str
    name: str
    created_at: float
    updated_at: float
    version: int = RECORD_VERSION
    state: SnapshotState = SnapshotState.BUILDING
    dockerfile: str = ""
    packages: list[str] = []
    env: dict[str, str] = {}
    cpu: int = 1
    memory: int = 1
    disk: int = 3
    size: int = 0  # bytes
    error_reason: str | None = None
    source_sandbox_id: str | None = None


class SnapshotDto(Struct, rename="camel", kw_only=True):
    """A snapshot as the API shows it."""

    id: str
    name: str
    organization_id: str
    general: bool
    state: str
    size: float | None
    entrypoint: list[str] | None
    cpu: int
    gpu: int
    mem: int
    disk: int
    error_reason: str | None
    created_at: str
    updated_at: str
    last_used_at: str | None
    source_sandbox_id: str | None
    image_name: str = ""
    ref: str = ""
    sandbox_class: str = "container"
    region_ids: list[str] = []
    build_info: dict[str, Any] | None = None


class SnapshotPage(Struct, rename="camel"):
    """Answer of GET /snapshots."""

    items: list[SnapshotDto]
    total: int
    page: int
    total_pages: int
