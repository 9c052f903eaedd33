"""Sandboxes as the API shows them, singly and as filtered pages."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterable
from typing import Any, Final

import msgspec
from starlette.datastructures import QueryParams

from fleet_rlm.sandboxd.errors import bad_request, not_implemented
from fleet_rlm.sandboxd.list_ranges import RANGES, in_ranges
from fleet_rlm.sandboxd.models import (
    DAEMON_VERSION,
    ORGANIZATION,
    SandboxDto,
    SandboxListItem,
    SandboxPage,
    State,
    timestamp,
)
from fleet_rlm.sandboxd.sandboxes import Sandbox

_PAGE: Final = 100
_PAGE_LIMIT: Final = 200
_IGNORED: Final = frozenset({"includeErroredDeleted", "includeWarm", "isRecoverable", "regionIds", "sandboxClasses"})
_KNOWN: Final = frozenset(
    {"cursor", "limit", "id", "name", "labels", "states", "isPublic", "sort", "order", "snapshots", *RANGES}
)
_DESIRED: Final = {
    State.CREATING: "started",
    State.STARTED: "started",
    State.DESTROYING: "destroyed",
    State.DESTROYED: "destroyed",
}


def item(sandbox: Sandbox, toolbox_url: str) -> SandboxListItem:
    """A sandbox as it is listed."""
    return SandboxListItem(**_common(sandbox, toolbox_url))


def single(sandbox: Sandbox, toolbox_url: str) -> SandboxDto:
    """A sandbox as it is read singly."""
    record = sandbox.record
    return SandboxDto(env=record.env, kvm=False, volumes=record.volumes, **_common(sandbox, toolbox_url))


def _common(sandbox: Sandbox, toolbox_url: str) -> dict[str, Any]:
    record = sandbox.record
    destroy_at = record.created_at + record.ttl_minutes * 60 if record.ttl_minutes else None
    return {
        "id": record.id,
        "organization_id": ORGANIZATION,
        "name": record.name,
        "user": record.user,
        "labels": record.labels,
        "public": record.public,
        "network_block_all": record.network_block_all,
        "network_allow_list": record.network_allow_list,
        "domain_allow_list": record.domain_allow_list,
        "snapshot": record.snapshot,
        "target": record.target,
        "cpu": record.cpu,
        "gpu": 0,
        "memory": record.memory,
        "disk": record.disk,
        "toolbox_proxy_url": toolbox_url,
        "state": sandbox.state.value,
        "desired_state": _DESIRED.get(sandbox.state, "stopped"),
        "error_reason": record.error_reason,
        "recoverable": True if sandbox.state is State.ERROR else None,
        "auto_stop_interval": record.auto_stop_interval,
        "auto_archive_interval": record.auto_archive_interval,
        "auto_delete_interval": record.auto_delete_interval,
        "auto_destroy_at": None if destroy_at is None else timestamp(destroy_at),
        "created_at": timestamp(record.created_at),
        "updated_at": timestamp(record.updated_at),
        "last_activity_at": timestamp(sandbox.last_activity),
        "sandbox_class": "container",
        "daemon_version": DAEMON_VERSION,
    }


def page(sandboxes: Iterable[Sandbox], query: QueryParams, show: Callable[[Sandbox], SandboxListItem]) -> SandboxPage:
    """The page that a query asks for, newest first unless it says `order=asc`. 400 for a filter that is malformed."""
    for name in query:
        if name not in _KNOWN and name not in _IGNORED:
            raise not_implemented(f"the filter {name[:40]!r}")
    if query.get("sort", "createdAt") != "createdAt":
        raise not_implemented("sorting by anything but createdAt")
    newest_first = query.get("order", "desc").lower() != "asc"
    keep = _filter(query)
    found = sorted((s for s in sandboxes if keep(s)), key=_position, reverse=newest_first)
    if cursor := query.get("cursor"):
        after = _read_cursor(cursor)
        found = [s for s in found if (_position(s) < after if newest_first else _position(s) > after)]
    limit = _limit(query)
    shown = found[:limit]
    more = len(found) > limit
    return SandboxPage([show(s) for s in shown], _cursor(shown[-1]) if more else None)


def _filter(query: QueryParams) -> Callable[[Sandbox], bool]:
    labels = _labels(query.get("labels"))
    states = {state for value in query.getlist("states") for state in value.split(",") if state}
    id_prefix = query.get("id", "").lower()
    name_prefix = query.get("name", "").lower()
    public = query.get("isPublic")
    snapshots = {name for value in query.getlist("snapshots") for name in value.split(",") if name}
    fits = in_ranges(query)

    def keep(sandbox: Sandbox) -> bool:
        record = sandbox.record
        return (
            all(record.labels.get(key) == value for key, value in labels.items())
            and (not states or sandbox.state.value in states)
            and record.id.startswith(id_prefix)
            and record.name.lower().startswith(name_prefix)
            and (public is None or record.public == (public == "true"))
            and (not snapshots or (record.snapshot or "") in snapshots)
            and fits(sandbox)
        )

    return keep


def _labels(text: str | None) -> dict[str, str]:
    if not text:
        return {}
    try:
        return msgspec.json.decode(text, type=dict[str, str])
    except (msgspec.MsgspecError, RecursionError, UnicodeError) as error:
        raise bad_request(f"labels is a JSON object of strings: {error}") from error


def _limit(query: QueryParams) -> int:
    text = query.get("limit", str(_PAGE))
    if not text.isdecimal() or not 1 <= int(text[:9]) <= _PAGE_LIMIT:
        raise bad_request(f"limit is a number from 1 to {_PAGE_LIMIT}")
    return int(text)


def _position(sandbox: Sandbox) -> tuple[float, str]:
    return sandbox.record.created_at, sandbox.record.id


def _cursor(sandbox: Sandbox) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(_position(sandbox))).decode()


def _read_cursor(cursor: str) -> tuple[float, str]:
    try:
        return msgspec.json.decode(base64.urlsafe_b64decode(cursor), type=tuple[float, str])
    except (msgspec.MsgspecError, binascii.Error, ValueError) as error:
        raise bad_request("the cursor is none that this server gave") from error
