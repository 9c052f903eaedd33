"""Toolbox: git on repositories in a sandbox. The program runs in the jail, with the jail's rights and no others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from fleet_rlm.sandboxd.activity import read_body, using
from fleet_rlm.sandboxd.errors import bad_request
from fleet_rlm.sandboxd.git_commands import HISTORY, check_ref, config_scope, git, read_history, read_status
from fleet_rlm.sandboxd.git_models import (
    AddRequest,
    Branches,
    BranchRequest,
    CheckoutRequest,
    CommitRequest,
    CommitResponse,
    ConfigResponse,
    ConfigureUserRequest,
    InitRequest,
    ResetRequest,
    RestoreRequest,
    SetConfigRequest,
)
from fleet_rlm.sandboxd.sandboxes import Sandboxes
from fleet_rlm.sandboxd.settings import Settings
from fleet_rlm.sandboxd.uploads import check_path
from fleet_rlm.sandboxd.wire import answer, route

_HISTORY_LIMIT: Final = 10_000
_FILES_LIMIT: Final = 10_000
_RESET_MODES: Final = frozenset({"soft", "mixed", "hard", "merge", "keep"})


class GitApi:
    """/git and what is below it, but for what talks to another repository."""

    def __init__(self, sandboxes: Sandboxes, settings: Settings) -> None:
        self._sandboxes = sandboxes
        self._bounds = settings.bounds

    def routes(self) -> Sequence[BaseRoute]:
        """The routes, relative to a sandbox's toolbox."""
        return [
            route("/git/status", GET=self.status),
            route("/git/history", GET=self.history),
            route("/git/branches", GET=self.branches, POST=self.create_branch, DELETE=self.delete_branch),
            route("/git/add", POST=self.add),
            route("/git/commit", POST=self.commit),
            route("/git/checkout", POST=self.checkout),
            route("/git/init", POST=self.init),
            route("/git/reset", POST=self.reset),
            route("/git/restore", POST=self.restore),
            route("/git/config", GET=self.get_config, POST=self.set_config),
            route("/git/config/user", POST=self.configure_user),
        ]

    async def status(self, request: Request) -> Response:
        """The branch, and the files that are not as committed."""
        path = query_path(request)
        with using(self._sandboxes, request) as sandbox:
            done = await git(sandbox.running(), "status", "--porcelain=v2", "--branch", "-z", "-uall", cwd=path)
        return answer(read_status(done.output))

    async def history(self, request: Request) -> Response:
        """The commits that HEAD reaches, newest first."""
        path = query_path(request)
        with using(self._sandboxes, request) as sandbox:
            jail = sandbox.running()
            if (await git(jail, "rev-parse", "-q", "--verify", "HEAD", cwd=path, check=False)).exit_code == 1:
                return answer([])  # a repository without a commit
            done = await git(jail, "log", "-z", HISTORY, f"--max-count={_HISTORY_LIMIT}", cwd=path)
        return answer(read_history(done.output))

    async def branches(self, request: Request) -> Response:
        """The local branches."""
        path = query_path(request)
        with using(self._sandboxes, request) as sandbox:
            jail = sandbox.running()
            names = await git(jail, "for-each-ref", "--format=%(refname:lstrip=2)", "refs/heads", cwd=path)
            head = await git(jail, "symbolic-ref", "-q", "--short", "HEAD", cwd=path, check=False)
        return answer(Branches(names.output.split(), head.output.strip()))

    async def create_branch(self, request: Request) -> Response:
        """A new branch at HEAD; what is checked out stays."""
        body = await read_body(self._sandboxes, request, BranchRequest, self._bounds)
        with using(self._sandboxes, request) as sandbox:
            await git(sandbox.running(), "branch", "--no-track", check_ref(body.name), cwd=check_path(body.path))
        return Response(status_code=201)

    async def delete_branch(self, request: Request) -> Response:
        """Delete a branch, merged or not; never the one that is checked out."""
        body = await read_body(self._sandboxes, request, BranchRequest, self._bounds)
        with using(self._sandboxes, request) as sandbox:
            await git(sandbox.running(), "branch", "-D", check_ref(body.name), cwd=check_path(body.path))
        return Response(status_code=204)

    async def add(self, request: Request) -> Response:
        """Stage files, deleted ones included."""
        body = await read_body(self._sandboxes, request, AddRequest, self._bounds)
        names = _pathspecs(body.files)
        with using(self._sandboxes, request) as sandbox:
            await git(sandbox.running(), "add", "-A", *_FROM_STDIN, cwd=check_path(body.path), stdin=names)
        return Response(status_code=200)

    async def commit(self, request: Request) -> Response:
        """Commit what is staged. 400 when there is nothing, unless `allow_empty`."""
        body = await read_body(self._sandboxes, request, CommitRequest, self._bounds)
        for name in (body.author, body.email):
            check_ref(name, "name or email")
        if not body.message.strip():
            raise bad_request("the commit message is empty")
        who = {"AUTHOR_NAME": body.author, "AUTHOR_EMAIL": body.email}
        env = {f"GIT_{key}": value for key, value in who.items()}
        env |= {f"GIT_{key.replace('AUTHOR', 'COMMITTER')}": value for key, value in who.items()}
        path = check_path(body.path)
        options = ["--allow-empty"] if body.allow_empty else []
        with using(self._sandboxes, request) as sandbox:
            jail = sandbox.running()
            words = ["commit", "--quiet", "--no-gpg-sign", "--cleanup=whitespace", "-F", "-", *options]
            await git(jail, *words, cwd=path, env=env, stdin=body.message.encode())
            head = await git(jail, "rev-parse", "HEAD", cwd=path)
        return answer(CommitResponse(head.output.strip()))

    async def checkout(self, request: Request) -> Response:
        """Check out a branch or a commit."""
        body = await read_body(self._sandboxes, request, CheckoutRequest, self._bounds)
        with using(self._sandboxes, request) as sandbox:
            # The last word says that this is no file, so a file of that name is not restored by accident.
            await git(sandbox.running(), "checkout", "-q", check_ref(body.branch), "--", cwd=check_path(body.path))
        return Response(status_code=200)

    async def init(self, request: Request) -> Response:
        """A new repository; the folder is made."""
        body = await read_body(self._sandboxes, request, InitRequest, self._bounds)
        words = ["--bare"] if body.bare else []
        branch = check_ref(body.initial_branch or "main")
        with using(self._sandboxes, request) as sandbox:
            path = check_path(body.path)
            await git(sandbox.running(), "init", "-q", f"--initial-branch={branch}", *words, "--", path)
        return Response(status_code=201)

    async def reset(self, request: Request) -> Response:
        """Move HEAD (and the stage, and the files, as the mode says), or take files off the stage."""
        body = await read_body(self._sandboxes, request, ResetRequest, self._bounds)
        target = check_ref(body.target or "HEAD", "target")
        mode = body.mode or "mixed"
        if mode not in _RESET_MODES:
            raise bad_request(f"mode is one of {', '.join(sorted(_RESET_MODES))}")
        if body.files and mode != "mixed":
            raise bad_request("files can be reset in mode mixed only")
        words = [target, *_FROM_STDIN] if body.files else [f"--{mode}", target, "--"]
        names = _pathspecs(body.files) if body.files else b""
        with using(self._sandboxes, request) as sandbox:
            await git(sandbox.running(), "reset", "-q", *words, cwd=check_path(body.path), stdin=names)
        return Response(status_code=200)

    async def restore(self, request: Request) -> Response:
        """Bring files back: in the working tree unless only `staged` is asked for."""
        body = await read_body(self._sandboxes, request, RestoreRequest, self._bounds)
        words = ["--staged"] if body.staged else []
        if body.worktree or (body.worktree is None and not body.staged):
            words.append("--worktree")
        if not words:
            raise bad_request("staged or worktree must be true")
        if body.source:
            words.append(f"--source={check_ref(body.source, 'source')}")
        names = _pathspecs(body.files)
        with using(self._sandboxes, request) as sandbox:
            await git(sandbox.running(), "restore", *words, *_FROM_STDIN, cwd=check_path(body.path), stdin=names)
        return Response(status_code=200)

    async def get_config(self, request: Request) -> Response:
        """One value; none when the key is not set."""
        query = request.query_params
        scope = query.get("scope")
        with using(self._sandboxes, request) as sandbox:
            done = await git(
                sandbox.running(),
                "config",
                *([config_scope(scope)] if scope else []),
                "--get",
                check_ref(query.get("key", ""), "key"),
                cwd=_config_folder(scope, query.get("path")),
                check=False,
            )
        if done.exit_code not in (0, 1):
            raise bad_request(f"git: {done.errors.strip()[:200]}")
        return answer(ConfigResponse(done.output.removesuffix("\n") if done.exit_code == 0 else None))

    async def set_config(self, request: Request) -> Response:
        """Set one value."""
        body = await read_body(self._sandboxes, request, SetConfigRequest, self._bounds)
        await self._set(request, body.scope, body.path, {body.key: body.value})
        return Response(status_code=200)

    async def configure_user(self, request: Request) -> Response:
        """Set the name and the email of commits."""
        body = await read_body(self._sandboxes, request, ConfigureUserRequest, self._bounds)
        await self._set(request, body.scope, body.path, {"user.name": body.name, "user.email": body.email})
        return Response(status_code=200)

    async def _set(self, request: Request, scope: str | None, path: str | None, values: dict[str, str]) -> None:
        with using(self._sandboxes, request) as sandbox:
            for key, value in values.items():
                if "\0" in value:
                    raise bad_request("a value has no NUL")
                words = [config_scope(scope), "--replace-all", check_ref(key, "key"), value]
                await git(sandbox.running(), "config", *words, cwd=_config_folder(scope, path))


_FROM_STDIN: Final = ("--pathspec-from-file=-", "--pathspec-file-nul")


def query_path(request: Request) -> str:
    """The repository that the query names. 400 for none."""
    path = request.query_params.get("path")
    if path is None:
        raise bad_request("the query has no path")
    return check_path(path)


def _pathspecs(files: list[str]) -> bytes:
    if not 0 < len(files) <= _FILES_LIMIT:
        raise bad_request(f"files has 1 to {_FILES_LIMIT} paths")
    return b"\0".join(check_path(name).encode() for name in files)


def _config_folder(scope: str | None, path: str | None) -> str | None:
    if scope == "local" and not path:
        raise bad_request("scope local needs the path of a repository")
    return check_path(path) if path else None
