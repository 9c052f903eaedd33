"""Workspaces are given to the uid of their jail, whatever shape code has left them in."""

from __future__ import annotations

import os
import resource
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet_rlm.sandboxd.disk import remove_tree
from fleet_rlm.sandboxd.jail.identity import own

UID = 1_900_000_123
DEPTH = 3_000
pytestmark = pytest.mark.as_root


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Path]:
    made = tmp_path / "workspace"
    made.mkdir()
    yield made
    remove_tree(made)


def nest(workspace: Path, depth: int) -> None:
    """`depth` folders in each other, each with a file and a link beside the next one."""
    here = os.open(workspace, os.O_RDONLY)
    for _ in range(depth):
        os.symlink("/etc/passwd", "link", dir_fd=here)
        os.close(os.open("file", os.O_CREAT | os.O_WRONLY, 0o600, dir_fd=here))
        os.mkdir("a folder", dir_fd=here)
        below = os.open("a folder", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)


def owners(workspace: Path) -> list[set[int]]:
    """Of what is in each of the nested folders."""
    found: list[set[int]] = []
    here = os.open(workspace, os.O_RDONLY)
    while names := os.listdir(here):
        found.append({os.stat(name, dir_fd=here, follow_symlinks=False).st_uid for name in names})
        below = os.open("a folder", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    return found


def test_a_workspace_nested_deeper_than_paths_and_open_files_reach(workspace: Path) -> None:
    nest(workspace, DEPTH)
    passwd, limits = os.stat("/etc/passwd").st_uid, resource.getrlimit(resource.RLIMIT_NOFILE)
    used = len(os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(int(name) for name in os.listdir("/proc/self/fd")) + 8, limits[1]))
    try:
        own(workspace, UID)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert owners(workspace) == [{UID}] * DEPTH
    assert os.stat("/etc/passwd").st_uid == passwd, "no link is followed"
    assert (workspace.stat().st_uid, workspace.stat().st_mode & 0o777) == (UID, 0o700)
    assert len(os.listdir("/proc/self/fd")) == used


def test_a_walk_that_breaks_starts_again(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("one/two", "three/four"):
        (workspace / name).mkdir(parents=True)
    real, left = os.chown, [2]

    def chown(*args: object, **options: object) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(5, "input/output error")
        real(*args, **options)  # type: ignore[arg-type]

    with monkeypatch.context() as broken:
        broken.setattr(os, "chown", chown)
        with pytest.raises(OSError, match="input/output"):
            own(workspace, UID)
    assert workspace.stat().st_uid != UID
    own(workspace, UID)
    assert {path.stat().st_uid for path in workspace.rglob("*")} == {UID}


def test_broken_links_and_special_files(workspace: Path) -> None:
    os.mkfifo(workspace / "pipe")
    (workspace / "link").symlink_to("nowhere")
    (workspace / "closed").mkdir(mode=0o000)
    own(workspace, UID)
    assert {path.lstat().st_uid for path in workspace.iterdir()} == {UID}
    shutil.rmtree(workspace / "closed")
