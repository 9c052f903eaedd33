"""What a create request may ask for: checked once here, turned into the record that is kept."""

from __future__ import annotations

import re
from typing import Final

from fleet_rlm.sandboxd.egress import Policy, policy
from fleet_rlm.sandboxd.errors import bad_request, not_implemented
from fleet_rlm.sandboxd.models import TARGET, CreateSandbox, NetworkSettings, SandboxRecord, VolumeMount
from fleet_rlm.sandboxd.settings import Bounds
from fleet_rlm.sandboxd.snapshot_models import SnapshotRecord

BASES: Final = frozenset({"", "default", "base"})
_NAME_LIMIT: Final = 128
_LABEL_LIMIT: Final = 256
_INTERVAL_LIMIT: Final = 5_256_000  # minutes in ten years
_SIZES: Final = {"cpu": 64, "memory": 64, "disk": 100}
_ENV_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def admit(
    request: CreateSandbox,
    sandbox_id: str,
    mounts: tuple[VolumeMount, ...],
    snapshot: SnapshotRecord | None,
    *,
    now: float,
    bounds: Bounds,
) -> SandboxRecord:
    """The record of a new sandbox. 400 for what is wrong, 501 for what is not here."""
    _refuse_unsupported(request)
    record = SandboxRecord(
        id=sandbox_id,
        name=check_name(request.name) if request.name else sandbox_id,
        created_at=now,
        updated_at=now,
        env=check_env(request.env or {}, bounds),
        labels=check_labels(request.labels or {}, bounds),
        public=bool(request.public),
        target=request.target or TARGET,
        volumes=mounts,
    )
    set_network(
        record,
        NetworkSettings(request.network_block_all, request.network_allow_list, request.domain_allow_list),
    )
    if snapshot is not None:
        record.snapshot = snapshot.name
        record.cpu, record.memory, record.disk = snapshot.cpu, snapshot.memory, snapshot.disk
    if request.user:
        record.user = check_name(request.user)
    for field in _SIZES:
        if (value := getattr(request, field)) is not None:
            setattr(record, field, check_size(field, value))
    for field in ("auto_stop_interval", "auto_archive_interval", "auto_delete_interval", "ttl_minutes"):
        if (value := getattr(request, field)) is not None:
            set_interval(record, field, value)
    return record


def _refuse_unsupported(request: CreateSandbox) -> None:
    wanted = {
        "gpu": request.gpu,
        "kvm": request.kvm,
        "spot": request.spot,
        "linkedSandbox": request.linked_sandbox,
        "secrets": request.secrets,
        "outboundProxyUrl": request.outbound_proxy_url,
        "autoPauseInterval": request.auto_pause_interval,
    }
    for name, value in wanted.items():
        if value:
            raise not_implemented(name)


def set_interval(record: SandboxRecord, field: str, minutes: int) -> None:
    """Set one of the intervals (minutes); only auto_delete_interval may be negative, which means never."""
    if field == "auto_delete_interval":
        minutes = max(minutes, -1)
    _between(field, minutes, -1 if field == "auto_delete_interval" else 0, _INTERVAL_LIMIT)
    setattr(record, field, minutes)


def set_network(record: SandboxRecord, wanted: NetworkSettings) -> None:
    """Change the network settings. Without an allow list everything stays blocked, whatever was asked for; with
    one, it is in force unless `network_block_all` is set. 400 for a list that is malformed."""
    networks = record.network_allow_list if wanted.network_allow_list is None else wanted.network_allow_list
    domains = record.domain_allow_list if wanted.domain_allow_list is None else wanted.domain_allow_list
    policy(block_all=False, networks=networks, domains=domains)
    record.network_allow_list, record.domain_allow_list = networks or None, domains or None
    asked = wanted.network_block_all
    lists_given = bool(wanted.network_allow_list or wanted.domain_allow_list)
    blocked = (record.network_block_all and not lists_given) if asked is None else asked
    record.network_block_all = blocked or not (record.network_allow_list or record.domain_allow_list)


def policy_of(record: SandboxRecord) -> Policy:
    """What a sandbox may reach."""
    return policy(
        block_all=record.network_block_all, networks=record.network_allow_list, domains=record.domain_allow_list
    )


def check_size(field: str, value: int) -> int:
    """A number of processors, or GiB of memory or disk, that a sandbox may have."""
    return _between(field, value, 1, _SIZES[field])


def check_name(name: str) -> str:
    """A printable name of at most 128 characters without '/'."""
    if not 0 < len(name) <= _NAME_LIMIT or not name.isprintable() or "/" in name:
        raise bad_request(f"a name has 1 to {_NAME_LIMIT} printable characters and no '/'")
    return name


def check_labels(labels: dict[str, str], bounds: Bounds) -> dict[str, str]:
    """Labels within their bounds of number and length."""
    if len(labels) > bounds.labels:
        raise bad_request(f"at most {bounds.labels} labels")
    for key, value in labels.items():
        if not key or len(key) > _LABEL_LIMIT or len(value) > 4 * _LABEL_LIMIT:
            raise bad_request(f"label {key[:40]!r}: keys have 1 to {_LABEL_LIMIT} characters, values up to 1024")
    return labels


def check_env(env: dict[str, str], bounds: Bounds) -> dict[str, str]:
    """Environment variables that an operating system can hold, within their bound of size."""
    for name, value in env.items():
        if not _ENV_NAME.fullmatch(name) or "\0" in value:
            raise bad_request(f"environment variable {name[:40]!r}: not a usable name, or a NUL in its value")
    if sum(len(name) + len(value) for name, value in env.items()) > bounds.env_bytes:
        raise bad_request(f"environment variables: more than {bounds.env_bytes} bytes together")
    return env


def _between(field: str, value: int, low: int, high: int) -> int:
    if not low <= value <= high:
        raise bad_request(f"{field} is {value}; it must be between {low} and {high}")
    return value
