"""What every route takes and answers, for the API's own document. A route without an entry here fails a test."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from fleet_rlm.sandboxd import git_models as git
from fleet_rlm.sandboxd import models as m
from fleet_rlm.sandboxd import process_models as p
from fleet_rlm.sandboxd import snapshot_models as snap
from fleet_rlm.sandboxd.list_ranges import RANGES
from fleet_rlm.sandboxd.routers.search import Match, ReplaceRequest, ReplaceResult, SearchFiles
from fleet_rlm.sandboxd.routers.signed import UploadedFile

FORM: Final = "multipart/form-data"
BYTES: Final = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path: the types of its bodies, its query parameters (`*` marks the required ones), the
    status of success and, where they are not JSON, the media types of what is taken and answered."""

    answers: Any = None
    body: Any = None
    query: tuple[str, ...] = ()
    status: int = 200
    takes: str = "application/json"
    gives: str = "application/json"


_SANDBOX: Final = Operation(m.SandboxDto)
_FILTERS: Final = ("cursor", "limit", "id", "name", "labels", "states", "isPublic", "sort", "order", "snapshots")
_IGNORED_FILTERS: Final = ("includeErroredDeleted", "includeWarm", "isRecoverable", "regionIds", "sandboxClasses")
_ONE: Final = "/api/sandbox/{key}"
_BOX: Final = "/toolbox/{id}"

OPERATIONS: Final[dict[tuple[str, str], Operation]] = {
    ("GET", "/api/openapi.json"): Operation(dict[str, Any]),
    ("GET", "/api/sandbox"): Operation(m.SandboxPage, query=(*_FILTERS, *_IGNORED_FILTERS, *sorted(RANGES))),
    ("POST", "/api/sandbox"): Operation(m.SandboxDto, m.CreateSandbox),
    ("GET", _ONE): _SANDBOX,
    ("DELETE", _ONE): _SANDBOX,
    ("POST", f"{_ONE}/start"): _SANDBOX,
    ("POST", f"{_ONE}/stop"): _SANDBOX,
    ("PUT", f"{_ONE}/labels"): Operation(m.Labels, m.Labels),
    ("POST", f"{_ONE}/public/{{value}}"): _SANDBOX,
    ("GET", f"{_ONE}/toolbox-proxy-url"): Operation(m.Url),
    ("POST", f"{_ONE}/autostop/{{value}}"): _SANDBOX,
    ("POST", f"{_ONE}/autoarchive/{{value}}"): _SANDBOX,
    ("POST", f"{_ONE}/autodelete/{{value}}"): _SANDBOX,
    ("POST", f"{_ONE}/ttl/{{value}}"): _SANDBOX,
    ("POST", f"{_ONE}/autopause/{{value}}"): _SANDBOX,
    ("POST", f"{_ONE}/recover"): Operation(m.SandboxDto, query=("skipStart",)),
    ("POST", f"{_ONE}/resize"): Operation(m.SandboxDto, p.ResizeSandbox),
    ("POST", f"{_ONE}/last-activity"): Operation(status=201),
    ("GET", f"{_ONE}/telemetry/metrics"): Operation(p.MetricsResponse, query=("from", "to", "metricNames")),
    ("GET", "/api/config"): Operation(p.ServerConfig),
    ("POST", f"{_ONE}/network-settings"): Operation(m.SandboxDto, m.NetworkSettings),
    ("GET", f"{_ONE}/signing-key"): Operation(str),
    ("POST", f"{_ONE}/signing-key/rotate"): Operation(str),
    ("GET", f"{_ONE}/ports/{{port}}/preview-url"): Operation(p.PreviewUrl),
    ("GET", f"{_ONE}/ports/{{port}}/signed-preview-url"): Operation(p.PreviewUrl, query=("expiresInSeconds",)),
    ("POST", f"{_ONE}/ports/{{port}}/signed-preview-url/{{token}}/expire"): Operation(),
    ("POST", f"{_ONE}/snapshot"): Operation(m.SandboxDto, snap.SnapshotName),
    ("GET", "/api/snapshots"): Operation(snap.SnapshotPage, query=("page", "limit", "name", "sourceSandboxId")),
    ("POST", "/api/snapshots"): Operation(snap.SnapshotDto, snap.CreateSnapshot),
    ("GET", "/api/snapshots/{snapshot}"): Operation(snap.SnapshotDto),
    ("DELETE", "/api/snapshots/{snapshot}"): Operation(),
    ("POST", "/api/snapshots/{snapshot}/activate"): Operation(snap.SnapshotDto),
    ("POST", "/api/snapshots/{snapshot}/deactivate"): Operation(status=204),
    ("GET", "/api/snapshots/{snapshot}/build-logs"): Operation(bytes, query=("follow",), gives="text/plain"),
    ("GET", "/api/snapshots/{snapshot}/build-logs-url"): Operation(m.Url),
    ("GET", "/api/volumes"): Operation(list[m.VolumeDto]),
    ("POST", "/api/volumes"): Operation(m.VolumeDto, m.CreateVolume),
    ("GET", "/api/volumes/by-name/{name}"): Operation(m.VolumeDto),
    ("GET", "/api/volumes/{id}"): Operation(m.VolumeDto),
    ("DELETE", "/api/volumes/{id}"): Operation(),
    ("GET", f"{_BOX}/work-dir"): Operation(m.Folder),
    ("GET", f"{_BOX}/user-home-dir"): Operation(m.Folder),
    ("POST", f"{_BOX}/process/execute"): Operation(m.ExecuteResponse, m.ExecuteRequest),
    ("POST", f"{_BOX}/process/code-run"): Operation(p.CodeRunResponse, m.CodeRunRequest),
    ("GET", f"{_BOX}/process/session"): Operation(list[p.SessionDto]),
    ("POST", f"{_BOX}/process/session"): Operation(p.SessionDto, p.CreateSession, status=201),
    ("GET", f"{_BOX}/process/session/entrypoint"): Operation(p.SessionDto),
    ("GET", f"{_BOX}/process/session/entrypoint/logs"): Operation(p.CommandLogs),
    ("GET", f"{_BOX}/process/session/{{session}}"): Operation(p.SessionDto),
    ("DELETE", f"{_BOX}/process/session/{{session}}"): Operation(status=204),
    ("POST", f"{_BOX}/process/session/{{session}}/exec"): Operation(p.SessionResult, p.SessionExecute),
    ("GET", f"{_BOX}/process/session/{{session}}/command/{{command}}"): Operation(p.CommandDto),
    ("GET", f"{_BOX}/process/session/{{session}}/command/{{command}}/logs"): Operation(p.CommandLogs),
    ("POST", f"{_BOX}/process/session/{{session}}/command/{{command}}/input"): Operation(
        body=p.SessionInput, status=204
    ),
    ("GET", f"{_BOX}/process/pty"): Operation(m.PtyList),
    ("POST", f"{_BOX}/process/pty"): Operation(m.PtyCreated, m.PtyCreate, status=201),
    ("GET", f"{_BOX}/process/pty/{{pty}}"): Operation(m.PtyInfo),
    ("DELETE", f"{_BOX}/process/pty/{{pty}}"): Operation(dict[str, str]),
    ("POST", f"{_BOX}/process/pty/{{pty}}/resize"): Operation(m.PtyInfo, m.PtySize),
    ("GET", f"{_BOX}/process/interpreter/context"): Operation(p.ContextList),
    ("POST", f"{_BOX}/process/interpreter/context"): Operation(p.ContextDto, p.CreateContext),
    ("DELETE", f"{_BOX}/process/interpreter/context/{{context}}"): Operation(dict[str, str]),
    ("GET", f"{_BOX}/port"): Operation(p.PortList),
    ("GET", f"{_BOX}/port/{{port}}/in-use"): Operation(p.PortInUse),
    ("GET", f"{_BOX}/system/metrics"): Operation(p.SystemMetrics),
    ("POST", f"{_BOX}/env"): Operation(dict[str, str], p.UpdateEnv),
    ("GET", f"{_BOX}/files"): Operation(list[m.FileInfo], query=("path", "depth")),
    ("DELETE", f"{_BOX}/files"): Operation(query=("path*", "recursive"), status=204),
    ("GET", f"{_BOX}/files/info"): Operation(m.FileInfo, query=("path*",)),
    ("POST", f"{_BOX}/files/folder"): Operation(query=("path*", "mode"), status=201),
    ("POST", f"{_BOX}/files/move"): Operation(query=("source*", "destination*")),
    ("POST", f"{_BOX}/files/permissions"): Operation(query=("path*", "mode", "owner", "group")),
    ("POST", f"{_BOX}/files/bulk-upload"): Operation(m.UploadResponse, bytes, takes=FORM),
    ("POST", f"{_BOX}/files/bulk-download"): Operation(bytes, m.DownloadRequest, gives=FORM),
    ("GET", f"{_BOX}/files/find"): Operation(list[Match], query=("path*", "pattern*")),
    ("GET", f"{_BOX}/files/search"): Operation(SearchFiles, query=("path*", "pattern*")),
    ("POST", f"{_BOX}/files/replace"): Operation(list[ReplaceResult], ReplaceRequest),
    ("GET", f"{_BOX}/files/download"): Operation(bytes, query=("path*", "expires", "signature"), gives=BYTES),
    ("POST", f"{_BOX}/files/upload-v2"): Operation(
        UploadedFile, bytes, query=("path*", "expires", "signature"), takes=BYTES
    ),
    ("GET", f"{_BOX}/git/status"): Operation(git.GitStatus, query=("path*",)),
    ("GET", f"{_BOX}/git/history"): Operation(list[git.CommitInfo], query=("path*",)),
    ("GET", f"{_BOX}/git/branches"): Operation(git.Branches, query=("path*",)),
    ("POST", f"{_BOX}/git/branches"): Operation(body=git.BranchRequest, status=201),
    ("DELETE", f"{_BOX}/git/branches"): Operation(body=git.BranchRequest, status=204),
    ("POST", f"{_BOX}/git/add"): Operation(body=git.AddRequest),
    ("POST", f"{_BOX}/git/commit"): Operation(git.CommitResponse, git.CommitRequest),
    ("POST", f"{_BOX}/git/checkout"): Operation(body=git.CheckoutRequest),
    ("POST", f"{_BOX}/git/init"): Operation(body=git.InitRequest, status=201),
    ("POST", f"{_BOX}/git/reset"): Operation(body=git.ResetRequest),
    ("POST", f"{_BOX}/git/restore"): Operation(body=git.RestoreRequest),
    ("GET", f"{_BOX}/git/config"): Operation(git.ConfigResponse, query=("key*", "scope", "path")),
    ("POST", f"{_BOX}/git/config"): Operation(body=git.SetConfigRequest),
    ("POST", f"{_BOX}/git/config/user"): Operation(body=git.ConfigureUserRequest),
    ("POST", f"{_BOX}/git/clone"): Operation(body=git.CloneRequest),
    ("POST", f"{_BOX}/git/pull"): Operation(body=git.RemoteRequest),
    ("POST", f"{_BOX}/git/push"): Operation(body=git.RemoteRequest),
    ("GET", f"{_BOX}/git/remotes"): Operation(git.Remotes, query=("path*",)),
    ("POST", f"{_BOX}/git/remotes"): Operation(body=git.AddRemoteRequest, status=201),
    ("POST", f"{_BOX}/git/credentials"): Operation(body=git.AuthenticateRequest),
}
