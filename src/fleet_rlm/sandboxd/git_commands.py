"""git run inside a sandbox: its command line, its words turned into typed errors, its output read."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from fleet_rlm.sandboxd.errors import ApiError, bad_request, not_implemented
from fleet_rlm.sandboxd.git_models import CommitInfo, FileStatus, GitStatus
from fleet_rlm.sandboxd.guests import Finished, run_to_end
from fleet_rlm.sandboxd.jail.spec import JailClosed
from fleet_rlm.sandboxd.jail.warm import Jail
from fleet_rlm.sandboxd.settings import MIB

_OUTPUT: Final = 16 * MIB
_TIMEOUT: Final = 300.0  # seconds for work without a network
_MESSAGE: Final = 600  # characters of git's words in an error
_REF_LIMIT: Final = 255
# Mounted volumes belong to other ids, which git would distrust; whatever it runs stays in the jail.
_TRUST: Final = "safe.directory=*"
SERVE: Final = f"git -c {_TRUST}"  # for the far end of a local transfer, to which `-c` is not passed on
_ENV: Final = {
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ASKPASS": "",
    "SSH_ASKPASS": "",
    "GIT_EDITOR": "true",
    "GIT_PAGER": "cat",
    "GIT_CONFIG_NOSYSTEM": "1",
    "LC_ALL": "C.UTF-8",
    "LANGUAGE": "",
}
_PROTOCOLS: Final = ("protocol.allow=never", "protocol.file.allow=always", "protocol.http.allow=always")
# What git says -> status and code; the first that fits. Case is ignored.
_WORDS: Final[Sequence[tuple[str, int, str]]] = (
    (r"^(nothing (added )?to commit|no changes added)", 400, "BAD_REQUEST"),
    (r"authentication failed|could not read (username|password)|error: 40[13]\b", 401, "GIT_AUTH_FAILED"),
    (r"\[remote rejected\]|hook declined|refusing to update checked out", 422, "GIT_REMOTE_REJECTED"),
    (r"\[rejected\]|non-fast-forward|fetch first", 409, "GIT_PUSH_REJECTED"),
    (r"would be overwritten|local changes|unstaged changes|uncommitted changes", 409, "GIT_DIRTY_WORKTREE"),
    (r"conflict|unmerged|not possible to fast-forward|unrelated histories", 409, "GIT_MERGE_CONFLICT"),
    (r"a branch named .* already exists", 409, "GIT_BRANCH_EXISTS"),
    (r"already exists|checked out at", 409, "CONFLICT"),
    (
        r"remote branch .* not found|couldn't find remote ref|src refspec .* does not match|pathspec .* did not match"
        r"|branch .* not found|invalid reference|not a valid (ref|object name|branch)|not a commit|unknown revision"
        r"|not something we can merge|reference is not a tree|ambiguous argument|could not resolve|no such branch",
        404,
        "GIT_BRANCH_NOT_FOUND",
    ),
    (
        r"not a git repository|does not appear to be a git|repository .* (not found|does not exist)|no such remote",
        404,
        "GIT_REPO_NOT_FOUND",
    ),
    (
        r"unable to access|rpc failed|early eof|remote end hung up|could not read from remote|error: 50\d",
        502,
        "GIT_TRANSPORT_FAILED",
    ),
)


async def git(
    jail: Jail,
    *args: str,
    cwd: str | None = None,
    config: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    stdin: bytes = b"",
    timeout: float = _TIMEOUT,
    check: bool = True,
) -> Finished:
    """Run git in a folder of the sandbox. With `check` a failure is raised as the error that it means."""
    settings = [word for item in (_TRUST, *_PROTOCOLS, *config) for word in ("-c", item)]
    try:
        done = await run_to_end(
            jail,
            ["git", *settings, *args],
            env={**_ENV, **(env or {})},
            cwd=cwd,
            stdin=stdin,
            timeout=timeout,
            limit=_OUTPUT,
        )
    except JailClosed:
        raise
    except ApiError as error:
        if cwd is not None and error.code in ("FILE_NOT_FOUND", "INVALID_FILE_PATH"):
            raise ApiError(404, f"{cwd}: there is no such folder", code="GIT_REPO_NOT_FOUND") from error
        raise
    if check and done.exit_code != 0:
        raise failure(done)
    return done


def failure(done: Finished) -> ApiError:
    """What git said on its way out, as the error that it means."""
    # Of standard output only what tells of the end: names of files in it could read like anything.
    told = [line for line in done.output.splitlines() if line.startswith(("CONFLICT", "nothing", "no changes", "!"))]
    words = "\n".join([done.errors, *told])
    for pattern, status, code in _WORDS:
        if re.search(pattern, words, re.IGNORECASE | re.MULTILINE):
            return ApiError(status, _one_line(done), code=code)
    return bad_request(_one_line(done))


def _one_line(done: Finished) -> str:
    lines = [line.strip() for line in (done.errors.strip() or done.output.strip()).splitlines()]
    telling = [line for line in lines if line.startswith(("fatal:", "error:", "!", "CONFLICT"))]
    return f"git: {' '.join(telling or lines)[:_MESSAGE] or f'failed with exit code {done.exit_code}'}"


def check_ref(name: str, what: str = "branch") -> str:
    """A name that git cannot take for an option. 400 otherwise."""
    if not 0 < len(name) <= _REF_LIMIT or name.startswith("-") or not name.isprintable():
        raise bad_request(f"a {what} has 1 to {_REF_LIMIT} printable characters and does not begin with '-'")
    return name


def config_scope(scope: str | None) -> str:
    """The option for a configuration scope; global is the default, as in the SDK."""
    if scope == "system":
        raise not_implemented("git configuration of the system")
    if scope not in (None, "", "global", "local"):
        raise bad_request("scope is global or local")
    return f"--{scope or 'global'}"


_STATES: Final = {
    ".": "Unmodified",
    "M": "Modified",
    "T": "Modified",
    "A": "Added",
    "D": "Deleted",
    "R": "Renamed",
    "C": "Copied",
    "U": "Updated but unmerged",
}


def read_status(text: str) -> GitStatus:
    """The output of `git status --porcelain=v2 --branch -z`."""
    status = GitStatus(current_branch="", file_status=[])
    fields = iter(text.split("\0"))
    for field in fields:
        kind, _, rest = field.partition(" ")
        if kind == "#":
            _read_header(status, rest)
        elif kind == "1":
            status.file_status.append(_file(rest, 7))
        elif kind == "2":
            status.file_status.append(_file(rest, 8, former=next(fields, "")))
        elif kind == "u":
            name = rest.split(" ", 9)[-1]
            status.file_status.append(FileStatus(name, _STATES["U"], _STATES["U"]))
        elif kind == "?":
            status.file_status.append(FileStatus(rest, "Untracked", "Untracked"))
    return status


def _read_header(status: GitStatus, text: str) -> None:
    key, _, value = text.partition(" ")
    if key == "branch.head":
        status.detached = value == "(detached)"
        status.current_branch = "" if status.detached else value
    elif key == "branch.upstream":
        status.upstream = value
    elif key == "branch.ab":
        status.branch_published = True
        ahead, _, behind = value.partition(" ")
        status.ahead, status.behind = abs(int(ahead)), abs(int(behind))


def _file(text: str, before: int, former: str = "") -> FileStatus:
    parts = text.split(" ", before)
    staged, changed = parts[0][0], parts[0][1]
    return FileStatus(parts[-1], _STATES.get(staged, "Modified"), _STATES.get(changed, "Modified"), former)


HISTORY: Final = "--format=%H%x1f%an%x1f%ae%x1f%aI%x1f%B"


def read_history(text: str) -> list[CommitInfo]:
    """The output of `git log -z` with the format HISTORY."""
    commits = (entry.split("\x1f", 4) for entry in text.split("\0"))
    return [CommitInfo(c[0], c[1], c[2], c[4].strip("\n"), c[3]) for c in commits if len(c) == 5]
