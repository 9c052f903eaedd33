"""The jail's file tree: an empty tmpfs, read-only pieces of the host's system, and the few writable places."""

# Kernel-level code: paths are relative to fds and stages, and pathlib would add only cost.
# ruff: noqa: PTH103, PTH110, PTH120, PTH123, PTH211

import os
import stat

from . import kernel
from .plan import Plan, System

DEVICES = ("null", "zero", "full", "random", "urandom")
_READ_ONLY = kernel.ATTR_RDONLY | kernel.ATTR_NOSUID | kernel.ATTR_NODEV
_WRITABLE = kernel.ATTR_NOSUID | kernel.ATTR_NODEV
_TMPFS = kernel.MS_NOSUID | kernel.MS_NODEV
_DEV_LINKS = {"fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2"}


def begin(system: System, tmp_mb: int) -> None:
    """Build what all jails have, on the stage. Runs as the first process of the new namespaces; `finish` may come
    much later: until then this process follows the mounts of a host that shares them, and keeps none busy."""
    kernel.mount("", "/", kernel.MS_REC | kernel.MS_SLAVE)
    trees = {target: kernel.clone_tree(source, _READ_ONLY) for source, target in system.binds.items()}
    devices = {name: kernel.clone_tree(f"/dev/{name}", kernel.ATTR_NOSUID) for name in DEVICES}
    kernel.mount("tmpfs", system.stage, _TMPFS, "mode=755,size=4m,nr_inodes=8192")
    os.chdir(system.stage)
    for name in ("tmp", "dev/shm", "proc", "workspace"):
        os.makedirs(name, exist_ok=True)
    # First the empty filesystems: a piece of the system may lie below them, say a data folder in /tmp.
    kernel.mount("tmpfs", "tmp", _TMPFS, f"mode=1777,size={tmp_mb}m,nr_inodes=16384")
    kernel.mount("tmpfs", "dev/shm", _TMPFS | kernel.MS_NOEXEC, f"mode=1777,size={tmp_mb}m,nr_inodes=4096")
    kernel.mount("proc", "proc", _TMPFS | kernel.MS_NOEXEC | kernel.MS_RDONLY)
    for target in sorted(trees):
        _attach_new(trees[target], target)
    _system_files(system)
    for name, tree in devices.items():
        _attach_new(tree, f"/dev/{name}")


def finish(system: System, plan: Plan, uid: int, gid: int) -> None:
    """Add what is this jail's own, and make the tree this process's root."""
    workspace = kernel.clone_tree(plan.workspace, _WRITABLE)
    mounts = [(kernel.clone_folder(s, _READ_ONLY if ro else _WRITABLE), t) for s, t, ro in plan.mounts]
    os.chdir(system.stage)
    _users(uid, gid)
    _attach_new(workspace, "/workspace")
    kernel.enter_root(system.stage)
    for tree, target in mounts:
        _attach_inside(tree, target, uid, gid)
    kernel.make_read_only("/")


def _attach_new(tree: int, target: str) -> None:
    """Attach below the stage, where nothing hostile has been yet."""
    path = target.lstrip("/")
    if stat.S_ISDIR(os.fstat(tree).st_mode):
        os.makedirs(path, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644))
    fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    kernel.attach(tree, fd)
    os.close(fd)


def _attach_inside(tree: int, target: str, uid: int, gid: int) -> None:
    """Attach in the finished root. Parts of the path may be the workspace's, left by hostile code: so no
    symlink is followed, and what is missing is made for the jail's own user."""
    here = os.open("/", os.O_PATH | os.O_CLOEXEC)
    for part in target.strip("/").split("/"):
        try:
            os.mkdir(part, 0o755, dir_fd=here)
        except FileExistsError:
            pass
        else:
            os.chown(part, uid, gid, dir_fd=here, follow_symlinks=False)
        below = os.open(part, os.O_PATH | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=here)
        os.close(here)
        here = below
    kernel.attach(tree, here)
    os.close(here)


def _users(uid: int, gid: int) -> None:
    shell = "/bin/bash" if os.path.exists("usr/bin/bash") or os.path.exists("bin/bash") else "/bin/sh"
    _write("etc/passwd", f"root:x:0:0:root:/nonexistent:/bin/false\nsandbox:x:{uid}:{gid}::/workspace:{shell}\n")
    _write("etc/group", f"root:x:0:\nsandbox:x:{gid}:\n")


def _system_files(system: System) -> None:
    os.makedirs("etc", exist_ok=True)
    os.makedirs("dev", exist_ok=True)
    _write("etc/hosts", "127.0.0.1 localhost sandbox\n::1 localhost\n")
    _write("etc/hostname", "sandbox\n")
    _write("etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n")
    for path, text in {**system.links, **{f"/dev/{k}": v for k, v in _DEV_LINKS.items()}}.items():
        os.makedirs(os.path.dirname(path).lstrip("/") or ".", exist_ok=True)
        os.symlink(text, path.lstrip("/"))


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
