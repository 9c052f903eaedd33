"""Toolbox: git with another repository: clone, pull, push, and the list of remotes."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Sequence
from pathlib import PurePosixPath
from typing import Final
from weakref import WeakKeyDictionary

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from yarl import URL

from fleet_rlm.sandboxd.activity import read_body, using
from fleet_rlm.sandboxd.admission import policy_of
from fleet_rlm.sandboxd.egress import Refused
from fleet_rlm.sandboxd.errors import ApiError, bad_request, not_implemented
from fleet_rlm.sandboxd.git_commands import SERVE, check_ref, failure, git
from fleet_rlm.sandboxd.git_models import (
    AddRemoteRequest,
    AuthenticateRequest,
    CloneRequest,
    Remote,
    RemoteRequest,
    Remotes,
)
from fleet_rlm.sandboxd.git_relay import RECEIVE_PACK, UPLOAD_PACK, Credentials, Trouble, relayed
from fleet_rlm.sandboxd.guests import Finished
from fleet_rlm.sandboxd.jail.warm import Jail
from fleet_rlm.sandboxd.routers.git import query_path
from fleet_rlm.sandboxd.sandboxes import Sandbox, Sandboxes
from fleet_rlm.sandboxd.settings import Settings
from fleet_rlm.sandboxd.uploads import check_path
from fleet_rlm.sandboxd.wire import answer, route

_TRANSFER_S: Final = 1800.0  # seconds for a clone, a pull or a push
_URL_LIMIT: Final = 2048
_READ: Final = frozenset({UPLOAD_PACK})
_WRITE: Final = frozenset({UPLOAD_PACK, RECEIVE_PACK})


class GitRemoteApi:
    """/git/clone, /git/pull, /git/push, /git/remotes and /git/credentials."""

    def __init__(self, sandboxes: Sandboxes, settings: Settings) -> None:
        self._sandboxes = sandboxes
        self._bounds = settings.bounds
        # Kept here, never in the sandbox; (protocol, host) of a sandbox -> its name and password.
        self._known: WeakKeyDictionary[Sandbox, dict[tuple[str, str], Credentials]] = WeakKeyDictionary()

    def routes(self) -> Sequence[BaseRoute]:
        """The routes, relative to a sandbox's toolbox."""
        return [
            route("/git/clone", POST=self.clone),
            route("/git/pull", POST=self.pull),
            route("/git/push", POST=self.push),
            route("/git/remotes", GET=self.remotes, POST=self.add_remote),
            route("/git/credentials", POST=self.authenticate),
        ]

    async def clone(self, request: Request) -> Response:
        """Copy a repository into the sandbox. A failure leaves no folder behind that was not there."""
        body = await read_body(self._sandboxes, request, CloneRequest, self._bounds)
        words = ["--branch", check_ref(body.branch)] if body.branch else []
        if body.depth:
            words += ["--depth", str(_positive(body.depth))]
        commit = check_ref(body.commit_id, "commit") if body.commit_id else None
        path = check_path(body.path)
        with using(self._sandboxes, request) as sandbox:
            jail = sandbox.running()
            url, given = _split(body.url, body.username, body.password)
            reach = self._reaching(sandbox, url, given, _READ, verify=not body.insecure_skip_tls)
            async with reach as (config, near):
                done = await git(
                    jail,
                    *("clone", "--quiet", *near, *words, "--", url, path),
                    config=[*config, "advice.detachedHead=false"],
                    timeout=_TRANSFER_S,
                    check=False,
                )
                _check(done)
            if commit is not None:
                await _checkout(jail, path, commit)
        return Response(status_code=200)

    async def pull(self, request: Request) -> Response:
        """Fetch and merge the branch of a remote."""
        body = await read_body(self._sandboxes, request, RemoteRequest, self._bounds)
        branch = [check_ref(body.branch)] if body.branch else []
        await self._transfer(request, body, ["pull", "--quiet", "--no-rebase", "--no-edit"], branch, _READ)
        return Response(status_code=200)

    async def push(self, request: Request) -> Response:
        """Send a branch (the one that is checked out, unless named) to a remote."""
        body = await read_body(self._sandboxes, request, RemoteRequest, self._bounds)
        words = ["push", "--quiet", "--porcelain"]
        if body.set_upstream:
            words.append("--set-upstream")
        await self._transfer(request, body, words, [check_ref(body.branch or "HEAD")], _WRITE)
        return Response(status_code=200)

    async def _transfer(
        self, request: Request, body: RemoteRequest, words: list[str], refs: list[str], services: frozenset[str]
    ) -> None:
        path = check_path(body.path)
        with using(self._sandboxes, request) as sandbox:
            jail = sandbox.running()
            name = await _remote_name(jail, path, body.remote)
            told = await git(jail, "remote", "get-url", *(["--push"] if words[0] == "push" else []), name, cwd=path)
            url = told.output.strip()
            _, given = _split(url, body.username, body.password)
            async with self._reaching(sandbox, url, given, services) as (config, near):
                target = [name, *refs] if refs else [name, *await _upstream(jail, path, name)]
                done = await git(
                    jail, *words, *near, *target, cwd=path, config=config, timeout=_TRANSFER_S, check=False
                )
                _check(done)

    @contextlib.asynccontextmanager
    async def _reaching(
        self,
        sandbox: Sandbox,
        url: str,
        given: Credentials | None,
        services: frozenset[str],
        *,
        verify: bool = True,
    ) -> AsyncGenerator[tuple[list[str], list[str]]]:
        """git settings and options under which a URL can be reached: through a relay, or inside the sandbox."""
        if not url.startswith(("http://", "https://")):
            end = "--receive-pack" if RECEIVE_PACK in services else "--upload-pack"
            yield [], [f"{end}={SERVE} {end[2:]}"]
            return
        target = URL(url)
        allowed = policy_of(sandbox.record)
        known = self._known.get(sandbox, {}).get((target.scheme, target.host or ""))
        try:
            async with relayed(sandbox.running(), url, allowed, given or known, services=services, verify=verify) as (
                relay,
                config,
            ):
                try:
                    yield config, []
                except ApiError as error:
                    if relay.trouble is None:
                        raise
                    raise _trouble(relay.trouble) from error
        except Refused as error:
            raise _trouble(Trouble(str(error), refused=True)) from error

    async def remotes(self, request: Request) -> Response:
        """The remotes of a repository."""
        path = query_path(request)
        with using(self._sandboxes, request) as sandbox:
            done = await git(sandbox.running(), "remote", "-v", cwd=path)
        found: dict[str, str] = {}
        for line in done.output.splitlines():
            name, _, rest = line.partition("\t")
            found.setdefault(name, rest.rpartition(" (")[0])
        return answer(Remotes([Remote(name, url) for name, url in found.items()]))

    async def add_remote(self, request: Request) -> Response:
        """Add a remote, or give it another URL when `overwrite`; fetch from it when asked."""
        body = await read_body(self._sandboxes, request, AddRemoteRequest, self._bounds)
        name, path = check_ref(body.name, "remote"), check_path(body.path)
        with using(self._sandboxes, request) as sandbox:
            jail = sandbox.running()
            url, given = _split(body.url, None, None)
            if given is not None:
                raise bad_request("a name or password in the URL would stay in the repository's files; leave it out")
            if body.overwrite:
                await git(jail, "remote", "remove", name, cwd=path, check=False)
            await git(jail, "remote", "add", name, url, cwd=path)
            if body.fetch:
                async with self._reaching(sandbox, url, None, _READ) as (config, near):
                    words = ["fetch", "--quiet", *near, name]
                    _check(await git(jail, *words, cwd=path, config=config, timeout=_TRANSFER_S, check=False))
        return Response(status_code=201)

    async def authenticate(self, request: Request) -> Response:
        """Remember a name and password for a host, in this server's memory, until the sandbox or the server ends."""
        body = await read_body(self._sandboxes, request, AuthenticateRequest, self._bounds)
        if not body.username or not body.password:
            raise bad_request("username and password must not be empty")
        with using(self._sandboxes, request) as sandbox:
            sandbox.running()
            known = self._known.setdefault(sandbox, {})
            known[body.protocol or "https", body.host or "github.com"] = Credentials(body.username, body.password)
        return Response(status_code=200)


def _trouble(trouble: Trouble) -> ApiError:
    if trouble.refused:
        return ApiError(403, f"git: {trouble.words}", code="FORBIDDEN")
    return ApiError(502, f"git: {trouble.words}", code="GIT_TRANSPORT_FAILED")


def _check(done: Finished) -> None:
    if done.exit_code != 0:
        raise failure(done)


async def _checkout(jail: Jail, path: str, commit: str) -> None:
    try:
        await git(jail, "checkout", "-q", "--detach", commit, cwd=path)
    except ApiError:
        try:
            await jail.file_op("remove", path=path, recursive=True)
        except PermissionError:  # the workspace or a mount: it was there, and empty
            for entry in await jail.file_op("list", path=path):
                await jail.file_op("remove", path=str(PurePosixPath(path, entry["name"])), recursive=True)
        raise


async def _remote_name(jail: Jail, path: str, wanted: str | None) -> str:
    """The remote that was named, else that of the branch, else origin."""
    if wanted:
        return check_ref(wanted, "remote")
    head = await git(jail, "symbolic-ref", "-q", "--short", "HEAD", cwd=path, check=False)
    if head.exit_code not in (0, 1):
        raise failure(head)
    told = await git(jail, "config", "--get", f"branch.{head.output.strip()}.remote", cwd=path, check=False)
    return check_ref(told.output.strip() or "origin", "remote")


async def _upstream(jail: Jail, path: str, remote: str) -> list[str]:
    """The branch to pull when none was named: nothing when the repository knows it, else the same name."""
    head = (await git(jail, "symbolic-ref", "-q", "--short", "HEAD", cwd=path, check=False)).output.strip()
    told = await git(jail, "config", "--get", f"branch.{head}.remote", cwd=path, check=False)
    return [] if not head or told.output.strip() == remote else [check_ref(head)]


def _split(url: str, username: str | None, password: str | None) -> tuple[str, Credentials | None]:
    """A URL without the name and password in it, and the credentials to use. 400 or 501 for other kinds of URL."""
    if not 0 < len(url) <= _URL_LIMIT or not url.isprintable() or url.startswith("-"):
        raise bad_request(f"a URL has 1 to {_URL_LIMIT} printable characters")
    scheme, mark, _ = url.partition("://")
    if not mark and (":" not in url.partition("/")[0]):
        return url, None  # a path inside the sandbox
    if scheme == "file":
        return url, None
    if scheme not in ("http", "https"):
        raise not_implemented("git over anything but http, https and files")
    try:
        parsed = URL(url)
    except ValueError as error:
        raise bad_request(f"{url[:200]!r} is no URL") from error
    if not parsed.host:
        raise bad_request(f"{url[:200]!r} has no host")
    if username or password:
        given = Credentials(username or "git", password or "")
    elif parsed.user or parsed.password:
        given = Credentials(parsed.user or "", parsed.password or "")
    else:
        given = None
    return str(parsed.with_user(None).with_query(None).with_fragment(None)), given


def _positive(depth: int) -> int:
    if not 0 < depth < 1 << 31:
        raise bad_request(f"depth is {depth}; it must be at least 1")
    return depth
