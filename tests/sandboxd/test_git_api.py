"""git in a sandbox through the SDK: on repositories that lie in it, and on a server that asks for a password."""

from __future__ import annotations

import asyncio

import pytest
from daytona import (
    DaytonaBadRequestError,
    DaytonaConflictError,
    DaytonaError,
    DaytonaForbiddenError,
    DaytonaGitAuthFailedError,
    DaytonaGitBranchExistsError,
    DaytonaGitBranchNotFoundError,
    DaytonaGitDirtyWorktreeError,
    DaytonaGitMergeConflictError,
    DaytonaGitPushRejectedError,
    DaytonaGitRemoteRejectedError,
    DaytonaGitRepoNotFoundError,
    DaytonaGitTransportFailedError,
    VolumeMount,
)
from git_server import GitServer

ME = ("A. Person", "person@example.com")


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    server = GitServer(tmp_path_factory.mktemp("hub") / "served")
    server.root.mkdir()
    yield server
    server.close()


@pytest.fixture
def online(make, hub):
    """A sandbox that may reach the git server and nothing else."""
    return make(ephemeral=True, network_allow_list=f"127.0.0.1/32:{hub.port}")


def new_repository(sandbox, path: str, bare: bool = False) -> None:
    sandbox.git.init(path, bare=bare, initial_branch="main")
    if not bare:
        sandbox.fs.upload_file(b"one\n", f"{path}/a.txt")
        sandbox.git.add(path, ["."])
        sandbox.git.commit(path, "first\n\n# not a comment", *ME)


def test_status_add_commit_and_history(server, sandbox):
    new_repository(sandbox, "repo")
    sandbox.fs.upload_file(b"two\n", "repo/a.txt")
    sandbox.fs.upload_file(b"new", "repo/sub/odd näme.txt")
    sandbox.process.exec("cd repo && printf x > staged && git add staged")
    status = sandbox.git.status("repo")
    states = {f.name: (f.staging.value, f.worktree.value) for f in status.file_status}
    assert states == {
        "a.txt": ("Unmodified", "Modified"),
        "sub/odd näme.txt": ("Untracked", "Untracked"),
        "staged": ("Added", "Unmodified"),
    }
    assert (status.current_branch, status.detached, status.branch_published) == ("main", False, False)
    sandbox.git.add("repo", ["a.txt", "sub/odd näme.txt"])
    sha = sandbox.git.commit("repo", "second: ünïcödé", *ME).sha
    with server.http() as http:
        newest, oldest = http.get(f"/toolbox/{sandbox.id}/git/history", params={"path": "repo"}).json()
    assert (newest["hash"], newest["author"], newest["email"]) == (sha, *ME)
    assert newest["message"] == "second: ünïcödé"
    assert oldest["message"] == "first\n\n# not a comment"
    assert sandbox.git.status("repo").file_status == []
    with pytest.raises(DaytonaBadRequestError, match="nothing to commit"):
        sandbox.git.commit("repo", "again", *ME)
    assert sandbox.git.commit("repo", "empty", *ME, allow_empty=True).sha != sha


def test_branches_and_checkout(sandbox):
    new_repository(sandbox, "branches")
    git = sandbox.git
    git.create_branch("branches", "feature/x")
    assert sorted(git.branches("branches").branches) == ["feature/x", "main"]
    git.checkout_branch("branches", "feature/x")
    assert git.status("branches").current_branch == "feature/x"
    with pytest.raises(DaytonaGitBranchExistsError):
        git.create_branch("branches", "main")
    with pytest.raises(DaytonaGitBranchNotFoundError):
        git.checkout_branch("branches", "nowhere")
    with pytest.raises(DaytonaGitBranchNotFoundError):
        git.delete_branch("branches", "nowhere")
    with pytest.raises(DaytonaConflictError):
        git.delete_branch("branches", "feature/x")
    sandbox.fs.upload_file(b"mine\n", "branches/a.txt")
    git.add("branches", ["."])
    git.commit("branches", "mine", *ME)
    sandbox.fs.upload_file(b"dirty\n", "branches/a.txt")
    with pytest.raises(DaytonaGitDirtyWorktreeError):
        git.checkout_branch("branches", "main")
    git.restore("branches", ["a.txt"])
    git.checkout_branch("branches", "main")
    git.delete_branch("branches", "feature/x")
    assert git.branches("branches").branches == ["main"]


def test_options_cannot_be_smuggled_in(sandbox):
    new_repository(sandbox, "options")
    for name in ("--help", "-D", "", "a\nb"):
        with pytest.raises(DaytonaBadRequestError):
            sandbox.git.create_branch("options", name)
    for url in ("--upload-pack=touch /workspace/pwned", "ext::sh -c touch%20/workspace/pwned", "ssh://h/x", "-x"):
        with pytest.raises(DaytonaError):
            sandbox.git.clone(url, "smuggled")
    assert "pwned" not in {f.name for f in sandbox.fs.list_files(".")}


def test_reset_restore_config_and_remotes(sandbox):
    new_repository(sandbox, "more")
    git = sandbox.git
    sandbox.fs.upload_file(b"changed\n", "more/a.txt")
    git.add("more", ["a.txt"])
    git.reset("more", files=["a.txt"])
    assert git.status("more").file_status[0].staging.value == "Unmodified"
    git.reset("more", mode="hard")
    assert sandbox.fs.download_file("more/a.txt") == b"one\n"
    git.set_config("user.name", "Somebody", scope="local", path="more")
    assert git.get_config("user.name", scope="local", path="more") == "Somebody"
    assert git.get_config("user.nothing", scope="local", path="more") is None
    git.configure_user("Global Name", "global@example.com")
    assert sandbox.process.exec("git config --global user.email").result == "global@example.com\n"
    git.remote_add("more", "origin", "https://example.com/x.git")
    git.remote_add("more", "origin", "https://example.com/y.git", overwrite=True)
    assert git.remote_get("more", "origin") == "https://example.com/y.git"
    with pytest.raises(DaytonaConflictError):
        git.remote_add("more", "origin", "https://example.com/z.git")
    with pytest.raises(DaytonaBadRequestError, match="password"):
        git.remote_add("more", "other", "https://user:secret@example.com/z.git")


def test_no_repository(sandbox):
    sandbox.fs.create_folder("/tmp/empty", "755")
    for path in ("/tmp/empty", "nowhere", "/usr/bin/env"):
        with pytest.raises(DaytonaGitRepoNotFoundError):
            sandbox.git.status(path)
    with pytest.raises(DaytonaGitRepoNotFoundError):
        sandbox.git.clone("/workspace/nowhere", "copy")


def test_clone_pull_and_push_inside_the_sandbox(sandbox):
    new_repository(sandbox, "/tmp/origin.git", bare=True)
    new_repository(sandbox, "first")
    git = sandbox.git
    git.remote_add("first", "origin", "file:///tmp/origin.git")
    git.push("first", branch="main", set_upstream=True)
    git.clone("/tmp/origin.git", "second")
    sandbox.fs.upload_file(b"two\n", "second/b.txt")
    git.add("second", ["b.txt"])
    git.commit("second", "b", *ME)
    status = git.status("second")
    assert (status.ahead, status.behind, status.branch_published, status.upstream) == (1, 0, True, "origin/main")
    git.push("second")
    git.pull("first")
    assert sandbox.fs.download_file("first/b.txt") == b"two\n"
    with pytest.raises(DaytonaConflictError):
        git.clone("/tmp/origin.git", "second")


def test_conflicts(sandbox):
    new_repository(sandbox, "/tmp/hub.git", bare=True)
    new_repository(sandbox, "left")
    git = sandbox.git
    git.configure_user(*ME)
    git.remote_add("left", "origin", "/tmp/hub.git")
    git.push("left", branch="main", set_upstream=True)
    git.clone("/tmp/hub.git", "right")
    for side in ("left", "right"):
        sandbox.fs.upload_file(side.encode(), f"{side}/a.txt")
        git.add(side, ["a.txt"])
        git.commit(side, side, *ME)
    git.push("left")
    with pytest.raises(DaytonaGitPushRejectedError):
        git.push("right")
    with pytest.raises(DaytonaGitMergeConflictError):
        git.pull("right")
    assert git.status("right").file_status[0].staging.value == "Updated but unmerged"
    sandbox.process.exec(
        "printf '#!/bin/sh\\nexit 1\\n' > /tmp/hub.git/hooks/pre-receive; chmod +x /tmp/hub.git/hooks/*"
    )
    git.create_branch("left", "refused")
    with pytest.raises(DaytonaGitRemoteRejectedError):
        git.push("left", branch="refused")


def test_clone_from_a_mounted_volume(client, make):
    volume = client.volume.create("git-volume")
    mounts = [VolumeMount(volume_id=volume.id, mount_path="/data")]
    writer = make(ephemeral=True, volumes=mounts)
    new_repository(writer, "/data/project")
    reader = make(ephemeral=True, volumes=mounts)
    reader.git.clone("/data/project", "copy")
    assert reader.fs.download_file("copy/a.txt") == b"one\n"
    assert reader.git.status("/data/project").current_branch == "main", "of another owner, but trusted here"
    writer.delete()
    reader.delete()
    client.volume.delete(volume)


def test_clone_over_http(online, hub):
    hub.repository("open.git")
    git = online.git
    with pytest.raises(DaytonaGitBranchNotFoundError):
        git.clone(hub.url("open.git"), ".", commit_id="0" * 40)
    assert online.fs.list_files(".") == []
    git.clone(hub.url("open.git"), "copy", branch="side", depth=1)
    assert git.status("copy").current_branch == "side"
    assert git.remote_get("copy", "origin") == hub.url("open.git"), "the relay is nowhere in the repository"
    git.clone(hub.url("moved/open.git"), "moved")
    head = online.process.exec("git -C moved rev-parse HEAD").result.strip()
    git.clone(hub.url("open.git"), "at", commit_id=head)
    assert git.status("at").detached
    with pytest.raises(DaytonaGitBranchNotFoundError):
        git.clone(hub.url("open.git"), "x", branch="nowhere")
    with pytest.raises(DaytonaGitBranchNotFoundError):
        git.clone(hub.url("open.git"), "x", commit_id="0" * 40)
    with pytest.raises(DaytonaGitRepoNotFoundError):
        git.clone(hub.url("missing.git"), "x")
    assert "x" not in {f.name for f in online.fs.list_files(".")}


def test_a_password_never_enters_the_sandbox(online, hub, server):
    hub.repository("private/p.git")
    git, url = online.git, hub.url("private/p.git")
    for wrong in ({}, {"username": "user", "password": "wrong"}):
        with pytest.raises(DaytonaGitAuthFailedError):
            git.clone(url, "copy", **wrong)
    spy = "while [ ! -e /tmp/stop ]; do cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline; done 2>/dev/null | tr '\\0' '\\n' > /tmp/seen"
    online.process.exec(f"({spy}) >/dev/null 2>&1 &")
    login = {"username": "user", "password": "secret word"}
    git.clone(url, "copy", **login)
    online.fs.upload_file(b"from inside", "copy/new.txt")
    git.add("copy", ["new.txt"])
    git.commit("copy", "new", *ME)
    with pytest.raises(DaytonaGitAuthFailedError):
        git.push("copy")
    git.push("copy", **login)
    hub.commit("private/p.git", "theirs.txt", "theirs")
    git.pull("copy", **login)
    assert online.fs.download_file("copy/theirs.txt") == b"theirs"
    git.clone(url.replace("://", "://user:secret%20word@"), "other")
    assert git.remote_get("other", "origin") == url, "the password in the URL was taken out"
    online.process.exec("touch /tmp/stop; sleep 0.5")
    found = online.process.exec(
        "grep -ral 'secret.word\\|c2VjcmV0\\|dXNlcjpz' /workspace /tmp/seen || echo nothing"
    ).result
    assert found == "nothing\n"
    assert "clone" in online.fs.download_file("/tmp/seen").decode(errors="replace"), "the spy saw something"
    assert "secret word" not in server.log.read_text()


def test_remembered_credentials(online, hub):
    hub.repository("private/r.git")
    online.git.dangerously_authenticate("user", "secret word", host="127.0.0.1", protocol="http")
    online.git.clone(hub.url("private/r.git"), "remembered")
    assert "secret" not in online.process.exec("cat ~/.git* 2>/dev/null; true").result


def test_the_network_policy_holds_for_git(make, hub, online):
    hub.repository("policy.git")
    offline = make(ephemeral=True)
    with pytest.raises(DaytonaForbiddenError, match="allow list"):
        offline.git.clone(hub.url("policy.git"), "copy")
    with pytest.raises(DaytonaForbiddenError, match="allow list"):
        online.git.clone("https://example.com/x.git", "copy")
    by_name = make(ephemeral=True, domain_allow_list=f"localhost:{hub.port}")
    before = len(hub.seen)
    with pytest.raises(DaytonaForbiddenError, match="not public"):
        by_name.git.clone(f"http://localhost:{hub.port}/policy.git", "copy")
    assert len(hub.seen) == before, "a name that leads to this machine is no way in"
    closed = make(ephemeral=True, network_allow_list="127.0.0.1/32:1")
    with pytest.raises(DaytonaGitTransportFailedError):
        closed.git.clone("http://127.0.0.1:1/x.git", "copy")


def test_async_clones_side_by_side(server, hub, online):
    hub.repository("async.git")

    async def run() -> None:
        async with server.async_sdk() as client:
            mine = await client.get(online.id)
            await asyncio.gather(*(mine.git.clone(hub.url("async.git"), f"c{n}") for n in range(3)))
            assert [(await mine.git.status(f"c{n}")).current_branch for n in range(3)] == ["main"] * 3

    asyncio.run(run())
