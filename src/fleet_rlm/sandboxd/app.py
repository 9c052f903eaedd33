"""The ASGI application: the gate, the control API, the toolbox, and a clear answer for everything else."""

from __future__ import annotations

from typing import Final

from starlette.routing import Mount, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from fleet_rlm.sandboxd.errors import ApiError, not_found, not_implemented
from fleet_rlm.sandboxd.gate import Gate
from fleet_rlm.sandboxd.openapi import OpenApi
from fleet_rlm.sandboxd.previews import Previews
from fleet_rlm.sandboxd.refusals import cannot
from fleet_rlm.sandboxd.routers.contexts import ContextApi
from fleet_rlm.sandboxd.routers.events import EventApi, is_event_socket
from fleet_rlm.sandboxd.routers.files import FilesApi
from fleet_rlm.sandboxd.routers.git import GitApi
from fleet_rlm.sandboxd.routers.git_remote import GitRemoteApi
from fleet_rlm.sandboxd.routers.lifecycle import LifecycleApi
from fleet_rlm.sandboxd.routers.network import NetworkApi
from fleet_rlm.sandboxd.routers.ports import PortApi
from fleet_rlm.sandboxd.routers.process import ProcessApi
from fleet_rlm.sandboxd.routers.pty import PtyApi
from fleet_rlm.sandboxd.routers.sandboxes import SandboxApi
from fleet_rlm.sandboxd.routers.search import SearchApi
from fleet_rlm.sandboxd.routers.sessions import SessionApi
from fleet_rlm.sandboxd.routers.signed import SignedApi
from fleet_rlm.sandboxd.routers.snapshots import SnapshotApi
from fleet_rlm.sandboxd.routers.system import SystemApi
from fleet_rlm.sandboxd.routers.volumes import VolumeApi
from fleet_rlm.sandboxd.sandboxes import Sandboxes
from fleet_rlm.sandboxd.settings import Settings
from fleet_rlm.sandboxd.signing import Signed
from fleet_rlm.sandboxd.strict import Strict
from fleet_rlm.sandboxd.volumes import Volumes
from fleet_rlm.sandboxd.wire import Supervisor, route

# First path components that Daytona has and this server has not (yet): 501 tells a client more than 404.
_MISSING: Final = frozenset(
    [
        "secret",
        "secrets",
        "warm-pools",
        "object-storage",
        "regions",
        "runners",
        "organizations",
        "process",
        "lsp",
        "files",
        "proxy",
        "computeruse",
    ]
)
_MISSING_SANDBOX: Final = frozenset(
    [
        "secrets",
        "telemetry",
        "build-logs-url",
    ]
)


def build_app(sandboxes: Sandboxes, volumes: Volumes, previews: Previews, settings: Settings) -> ASGIApp:
    """Everything that one port serves."""
    ports = PortApi(sandboxes, previews)
    system = SystemApi(sandboxes, settings)
    signed = SignedApi(sandboxes, settings)
    api = [
        *SandboxApi(sandboxes, settings).routes(),
        *VolumeApi(volumes, sandboxes, settings).routes(),
        *signed.routes(),
        *NetworkApi(sandboxes, settings).routes(),
        *SnapshotApi(sandboxes, settings).routes(),
        *EventApi(sandboxes, settings).routes(),
        *ports.routes(),
        *system.routes(),
        *LifecycleApi(sandboxes, settings).routes(),
    ]
    toolbox = [
        *PtyApi(sandboxes, settings).routes(),
        *ProcessApi(sandboxes, settings).routes(),
        *SessionApi(sandboxes, settings).routes(),
        *ContextApi(sandboxes, settings).routes(),
        *ports.toolbox_routes(),
        *system.toolbox_routes(),
        *FilesApi(sandboxes, settings).routes(),
        *SearchApi(sandboxes, settings).routes(),
        *signed.toolbox_routes(),
        *GitApi(sandboxes, settings).routes(),
        *GitRemoteApi(sandboxes, settings).routes(),
    ]
    described = OpenApi(settings.origin, {"/api": api, "/toolbox/{id}": toolbox})
    api.append(route("/openapi.json", GET=described.document))
    router = Router(
        routes=[
            Mount("/api", app=Router(api, redirect_slashes=False, default=_unknown)),
            Mount("/toolbox/{id}", app=Router(toolbox, redirect_slashes=False, default=_unknown)),
        ],
        redirect_slashes=False,
        default=_unknown,
    )
    by_signature = Signed(sandboxes)

    def own_permission(scope: Scope) -> bool:
        return by_signature(scope) or is_event_socket(scope)

    served = Strict(router, sandboxes) if settings.strict else router
    gate = Gate(served, host=settings.host, port=settings.port, api_key=settings.api_key, signed=own_permission)
    return Supervisor(gate)


async def _unknown(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001 - the shape of ASGI
    raise _missing(scope["path"])


def _missing(path: str) -> ApiError:
    parts = path.strip("/").split("/")
    known = (parts[0] == "api" and len(parts) > 1 and parts[1] in _MISSING) or (
        parts[0] == "toolbox" and len(parts) > 2 and parts[2] in _MISSING
    )
    if parts[:2] == ["api", "sandbox"] and len(parts) > 3:
        if (refusal := cannot(parts[3])) is not None:
            return refusal
        known = parts[3] in _MISSING_SANDBOX
    if parts[0] == "toolbox" and parts[2:3] == ["proxy"]:
        return not_implemented(
            "a port of a sandbox is reached by its preview link (get_preview_link), the toolbox's proxy"
        )
    return not_implemented(path[:200]) if known else not_found(f"there is nothing at {path[:200]}")
