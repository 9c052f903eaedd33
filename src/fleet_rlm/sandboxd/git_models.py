"""The JSON shapes of the git routes."""

from __future__ import annotations

from msgspec import Struct


class CloneRequest(Struct):
    """Body of POST /git/clone."""

    url: str
    path: str
    branch: str | None = None
    commit_id: str | None = None
    username: str | None = None
    password: str | None = None
    depth: int | None = None
    insecure_skip_tls: bool | None = None


class RemoteRequest(Struct):
    """Body of POST /git/push and /git/pull."""

    path: str
    username: str | None = None
    password: str | None = None
    branch: str | None = None
    remote: str | None = None
    set_upstream: bool | None = None


class AddRequest(Struct):
    """Body of POST /git/add."""

    path: str
    files: list[str]


class CommitRequest(Struct):
    """Body of POST /git/commit."""

    path: str
    message: str
    author: str
    email: str
    allow_empty: bool | None = None


class CommitResponse(Struct):
    """The new commit."""

    hash: str


class BranchRequest(Struct):
    """Body of POST and DELETE /git/branches."""

    path: str
    name: str


class CheckoutRequest(Struct):
    """Body of POST /git/checkout."""

    path: str
    branch: str


class InitRequest(Struct):
    """Body of POST /git/init."""

    path: str
    bare: bool | None = None
    initial_branch: str | None = None


class ResetRequest(Struct):
    """Body of POST /git/reset."""

    path: str
    mode: str | None = None
    target: str | None = None
    files: list[str] | None = None


class RestoreRequest(Struct):
    """Body of POST /git/restore."""

    path: str
    files: list[str]
    staged: bool | None = None
    worktree: bool | None = None
    source: str | None = None


class AddRemoteRequest(Struct):
    """Body of POST /git/remotes."""

    path: str
    name: str
    url: str
    fetch: bool | None = None
    overwrite: bool | None = None


class SetConfigRequest(Struct):
    """Body of POST /git/config."""

    key: str
    value: str
    scope: str | None = None
    path: str | None = None


class ConfigureUserRequest(Struct):
    """Body of POST /git/config/user."""

    name: str
    email: str
    scope: str | None = None
    path: str | None = None


class AuthenticateRequest(Struct):
    """Body of POST /git/credentials."""

    username: str
    password: str
    host: str | None = None
    protocol: str | None = None


class ConfigResponse(Struct, omit_defaults=True):
    """Answer of GET /git/config; without a value the key is not set."""

    value: str | None = None


class Branches(Struct):
    """Answer of GET /git/branches; `current` is empty when HEAD is detached."""

    branches: list[str]
    current: str


class Remote(Struct):
    """A remote with its fetch URL."""

    name: str
    url: str


class Remotes(Struct):
    """Answer of GET /git/remotes."""

    remotes: list[Remote]


class CommitInfo(Struct):
    """One commit of a history; `timestamp` is the author's, RFC 3339."""

    hash: str
    author: str
    email: str
    message: str
    timestamp: str


class FileStatus(Struct):
    """One file that is not as committed. `extra` is the former name of a renamed one."""

    name: str
    staging: str
    worktree: str
    extra: str = ""


class GitStatus(Struct, rename="camel"):
    """Answer of GET /git/status."""

    current_branch: str
    file_status: list[FileStatus]
    ahead: int = 0
    behind: int = 0
    branch_published: bool = False
    detached: bool = False
    upstream: str = ""
